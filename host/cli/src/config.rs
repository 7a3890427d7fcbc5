//! `clawhold.yaml`: every key optional, every unknown one an error that names the line.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clawhold_capabilities::{AddressRule, EgressSettings, Roots};
use clawhold_tenancy::limits::{Asked, TABLE};
use clawhold_tenancy::policy::{HostCeiling, HostPattern};
use clawhold_tenancy::quota::{Entry, Quotas, Tier, Values};
use clawhold_tenancy::{RunLimits, TenantId};
use ipnet::IpNet;
use serde::Deserialize;

/// The configuration of a host.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the API listens. `127.0.0.1:8080`.
    pub listen: Option<SocketAddr>,
    /// Where clients reach this host when something stands before it, such as `https://clawhold.example.com`. OCI clients are told
    /// it as the place where they get their tokens.
    pub public_url: Option<String>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served; nowhere when not set.
    pub operations_listen: Option<SocketAddr>,
    /// The folder of the database, the keys and the artifacts.
    pub data_dir: Option<PathBuf>,
    /// A PostgreSQL database instead of the one in the data folder: `postgres://user:password@server/database`.
    pub database_url: Option<SecretUrl>,
    /// Connections to PostgreSQL that only read, and as many that may write. 8.
    pub database_connections: Option<u32>,
    /// The audit log's signed heads.
    pub audit: AuditConfig,
    /// What skills may reach.
    pub egress: EgressConfig,
    /// Secrets.
    pub secrets: SecretsConfig,
    /// The most that any run may use.
    pub limits: Asked,
    /// Runs at the same time, over all tenants. 64.
    pub run_slots: Option<u32>,
    /// What each tenant may use: `default`, and by tier and tenant.
    pub tenant_quotas: BTreeMap<String, Entry>,
    /// What no tenant gets more of, whatever is said of it elsewhere.
    pub quota_ceiling: Values,
    /// The tiers that tenants may be in. `standard`, `free`, `pro`, `enterprise`.
    pub tiers: Vec<Tier>,
    /// What is counted for those who watch.
    pub metrics: MetricsConfig,
    /// Where hosts share their quotas.
    pub limiter: LimiterConfig,
    /// The marketplace.
    pub market: MarketConfig,
    /// Whether only pure skills may be installed and run, for any tenant. `false`.
    pub require_pure: bool,
}

/// The address of a database. It may hold a password, and is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The address itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for SecretUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretUrl(…)")
    }
}

/// `audit`
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// The file that signed heads are added to; best on another disk, or one that is copied elsewhere. `audit-heads.ndjson` in the
    /// data folder.
    pub heads_file: Option<PathBuf>,
    /// Seconds between them. 60.
    pub heads_interval_s: Option<u64>,
}

/// `limiter`
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimiterConfig {
    /// A Redis of version 7 or newer that several hosts share their quotas through: `redis://server/` or `rediss://`. Each host counts
    /// for itself when not set.
    pub redis_url: Option<SecretUrl>,
    /// The same as a cluster: the addresses of some of its nodes.
    pub redis_cluster: Vec<SecretUrl>,
    /// How many hosts share their quotas, for a host that starts while Redis does not answer. 1.
    pub hosts: Option<u64>,
}

/// `metrics`
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Tenants that have series of their own because they run most; the others are `other`. 50.
    pub tenants: Option<usize>,
    /// Tenants that always have.
    pub always: Vec<TenantId>,
}

/// `market`
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MarketConfig {
    /// Whether packages must be signed by a key of their publisher's: `required`, or `optional`, where a signature that is there must be good.
    pub signatures: SignaturePolicy,
    /// Hours that a version must be old before an install follows it by itself. 72.
    pub cool_down_h: Option<u32>,
    /// Seconds that the signed index of packages is good: how long a host that cannot reach its database goes on running skills. 600.
    pub index_life_s: Option<u32>,
    /// The file that remembers the newest index that this host has seen, so that a database which is put back to an older state is not
    /// believed. `index-seen` in the data folder.
    pub seen_file: Option<PathBuf>,
}

/// `market.signatures`
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the key says what they mean")]
pub enum SignaturePolicy {
    #[default]
    Required,
    Optional,
}

/// `secrets`
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsConfig {
    /// What becomes of an output that holds the value of a secret: `redact` takes the value out, `refuse` keeps the output back.
    pub on_leak: LeakPolicy,
}

/// `secrets.on_leak`
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the key says what they mean")]
pub enum LeakPolicy {
    #[default]
    Redact,
    Refuse,
}

/// `egress`
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EgressConfig {
    /// Ranges of private addresses that skills may reach, such as `10.1.0.0/16`.
    pub open: Vec<IpNet>,
    /// What single tenants' skills may reach beside that.
    pub tenants: BTreeMap<TenantId, TenantEgress>,
    /// Hosts that skills may reach, and no others, unless this is empty: names, `*.` and a suffix, `:port` when it is not 443.
    pub allow: Vec<HostPattern>,
    /// Hosts that no skill may reach.
    pub deny: Vec<HostPattern>,
    /// DNS servers, such as `10.0.0.2` or `127.0.0.1:5353`; the system's if there are none.
    pub dns: Vec<DnsServer>,
    /// An HTTP proxy, `http://host:port`. The environment's is never used.
    pub proxy: Option<String>,
    /// Who certifies servers: `platform`, `bundled` or a PEM file.
    pub roots: Option<String>,
    /// Requests of one tenant at a time. 64.
    pub requests_at_once: Option<usize>,
    /// How long the first byte of an answer may take, in seconds. 30.
    pub first_byte_s: Option<u64>,
}

/// `egress.tenants.TENANT`
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantEgress {
    /// Ranges of private addresses that this tenant's skills may reach.
    pub open: Vec<IpNet>,
}

/// An address of a DNS server, with its port if that is not 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DnsServer(SocketAddr);

impl TryFrom<String> for DnsServer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let with_port = |ip: IpAddr| SocketAddr::new(ip, 53);
        let read = text.parse().or_else(|_| text.parse().map(with_port));
        read.map(Self).map_err(|_| format!("{text:?} is no address of a DNS server; write 10.0.0.2 or 127.0.0.1:5353"))
    }
}

impl EgressConfig {
    /// The way out that this describes.
    ///
    /// # Errors
    ///
    /// When a value cannot be used; the error names its key.
    pub fn settings(&self) -> anyhow::Result<EgressSettings> {
        let defaults = EgressSettings::default();
        let proxy = self.proxy.as_deref().map(|text| {
            let uri: http::Uri = text.parse().ok().filter(|uri: &http::Uri| uri.scheme_str() == Some("http"))?;
            let is_plain = uri.authority().is_some_and(|of| !of.as_str().contains('@'));
            (uri.host().is_some() && is_plain).then_some(uri)
        });
        let proxy = match proxy {
            Some(None) => bail!("egress.proxy: write http://host:port; a proxy that asks for a password is not served"),
            other => other.flatten(),
        };
        let at_once = self.requests_at_once.unwrap_or(defaults.at_once);
        if !(1..=10_000).contains(&at_once) {
            bail!("egress.requests_at_once: use 1 to 10000");
        }
        let first_byte = self.first_byte_s.map_or(defaults.first_byte, Duration::from_secs);
        if !(1..=3_600).contains(&first_byte.as_secs()) {
            bail!("egress.first_byte_s: use 1 to 3600 seconds");
        }
        Ok(EgressSettings {
            rule: AddressRule { open: self.open.clone() },
            tenants: self.tenants.iter().map(|(tenant, egress)| (tenant.clone(), egress.open.clone())).collect(),
            dns: self.dns.iter().map(|server| server.0).collect(),
            proxy,
            roots: match self.roots.as_deref() {
                None | Some("platform") => Roots::Platform,
                Some("bundled") => Roots::Bundled,
                Some(path) => Roots::File(path.into()),
            },
            at_once,
            first_byte,
        })
    }

    /// The hosts that skills may reach at most.
    pub fn ceiling(&self) -> HostCeiling {
        HostCeiling { allow: self.allow.clone(), deny: self.deny.clone() }
    }
}

impl Config {
    /// Reads a file, then what the environment says: each key as `CLAWHOLD_` and its path in capitals.
    pub fn load(file: Option<&Path>, environment: &HashMap<String, String>) -> anyhow::Result<Self> {
        let mut config = match file {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                Self::parse(&text).with_context(|| format!("{} cannot be used", path.display()))?
            }
            None => Self::default(),
        };
        config.overlay(environment)?;
        config.check()?;
        Ok(config)
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        from_yaml(text).map_err(|e| anyhow::anyhow!("{e}"))
    }

    /// The ceiling that the limits make.
    pub fn ceiling(&self) -> RunLimits {
        self.limits.over(RunLimits::default_ceiling())
    }

    /// Where clients reach this host, without a slash at the end.
    ///
    /// # Errors
    ///
    /// When it is more than a scheme and a host.
    pub fn public_url(&self) -> anyhow::Result<Option<String>> {
        let Some(text) = &self.public_url else { return Ok(None) };
        let plain = text.parse::<url::Url>().ok().filter(|url| {
            let whole = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
            let nobody = url.username().is_empty() && url.password().is_none();
            matches!(url.scheme(), "http" | "https") && url.has_host() && whole && nobody
        });
        let Some(url) = plain else {
            bail!("public_url: write https:// and a host, such as https://clawhold.example.com")
        };
        Ok(Some(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// The rules that quotas follow from.
    pub fn quotas(&self) -> Quotas {
        Quotas { entries: self.tenant_quotas.clone(), ceiling: self.quota_ceiling, tiers: self.tiers.clone() }
    }

    fn overlay(&mut self, environment: &HashMap<String, String>) -> anyhow::Result<()> {
        fn set<T: std::str::FromStr>(
            to: &mut Option<T>,
            name: &str,
            env: &HashMap<String, String>,
        ) -> anyhow::Result<()>
        where
            T::Err: std::fmt::Display,
        {
            if let Some(text) = env.get(name) {
                *to = Some(text.parse().map_err(|e| anyhow::anyhow!("{name}: {text:?} cannot be used: {e}"))?);
            }
            Ok(())
        }
        set(&mut self.listen, "CLAWHOLD_LISTEN", environment)?;
        set(&mut self.public_url, "CLAWHOLD_PUBLIC_URL", environment)?;
        set(&mut self.operations_listen, "CLAWHOLD_OPERATIONS_LISTEN", environment)?;
        set(&mut self.data_dir, "CLAWHOLD_DATA_DIR", environment)?;
        set(&mut self.database_url, "CLAWHOLD_DATABASE_URL", environment)?;
        set(&mut self.database_connections, "CLAWHOLD_DATABASE_CONNECTIONS", environment)?;
        set(&mut self.audit.heads_file, "CLAWHOLD_AUDIT_HEADS_FILE", environment)?;
        set(&mut self.audit.heads_interval_s, "CLAWHOLD_AUDIT_HEADS_INTERVAL_S", environment)?;
        set(&mut self.limiter.redis_url, "CLAWHOLD_LIMITER_REDIS_URL", environment)?;
        set(&mut self.limiter.hosts, "CLAWHOLD_LIMITER_HOSTS", environment)?;
        set(&mut self.metrics.tenants, "CLAWHOLD_METRICS_TENANTS", environment)?;
        set(&mut self.run_slots, "CLAWHOLD_RUN_SLOTS", environment)?;
        for limit in TABLE {
            let mut value = None;
            set(&mut value, &format!("CLAWHOLD_LIMITS_{}", limit.key.to_uppercase()), environment)?;
            if let Some(value) = value {
                self.limits.put(limit.key, value).expect("the table names keys that there are");
            }
        }
        let mut pure = None;
        set(&mut pure, "CLAWHOLD_REQUIRE_PURE", environment)?;
        self.require_pure = pure.unwrap_or(self.require_pure);
        if let Some(text) = environment.get("CLAWHOLD_EGRESS_OPEN") {
            let ranges = text.split(',').map(str::trim).filter(|range| !range.is_empty());
            self.egress.open = ranges
                .map(|range| range.parse().with_context(|| format!("CLAWHOLD_EGRESS_OPEN: {range:?} is no range")))
                .collect::<anyhow::Result<_>>()?;
        }
        set(&mut self.egress.proxy, "CLAWHOLD_EGRESS_PROXY", environment)?;
        set(&mut self.egress.roots, "CLAWHOLD_EGRESS_ROOTS", environment)?;
        set(&mut self.egress.requests_at_once, "CLAWHOLD_EGRESS_REQUESTS_AT_ONCE", environment)?;
        set(&mut self.egress.first_byte_s, "CLAWHOLD_EGRESS_FIRST_BYTE_S", environment)?;
        yaml(&mut self.egress.tenants, "CLAWHOLD_EGRESS_TENANTS", environment)?;
        yaml(&mut self.egress.allow, "CLAWHOLD_EGRESS_ALLOW", environment)?;
        yaml(&mut self.egress.deny, "CLAWHOLD_EGRESS_DENY", environment)?;
        yaml(&mut self.egress.dns, "CLAWHOLD_EGRESS_DNS", environment)?;
        yaml(&mut self.tenant_quotas, "CLAWHOLD_TENANT_QUOTAS", environment)?;
        yaml(&mut self.quota_ceiling, "CLAWHOLD_QUOTA_CEILING", environment)?;
        yaml(&mut self.tiers, "CLAWHOLD_TIERS", environment)?;
        Ok(())
    }

    fn check(&self) -> anyhow::Result<()> {
        self.egress.settings()?;
        self.public_url()?;
        if self.run_slots.is_some_and(|slots| !(1..=512).contains(&slots)) {
            bail!("run_slots: use 1 to 512; each slot reserves address space");
        }
        if self.database_connections.is_some_and(|connections| !(1..=200).contains(&connections)) {
            bail!("database_connections: use 1 to 200; the server must allow twice as many and one");
        }
        if self.audit.heads_interval_s.is_some_and(|seconds| !(1..=86_400).contains(&seconds)) {
            bail!("audit.heads_interval_s: use 1 to 86400 seconds");
        }
        if self.limiter.redis_url.is_some() && !self.limiter.redis_cluster.is_empty() {
            bail!("limiter: set redis_url or redis_cluster, not both");
        }
        if self.limiter.hosts.is_some_and(|hosts| !(1..=10_000).contains(&hosts)) {
            bail!("limiter.hosts: use 1 to 10000");
        }
        if self.metrics.tenants.is_some_and(|tenants| tenants > 1_000) || self.metrics.always.len() > 1_000 {
            bail!("metrics: name and count at most 1000 tenants; each has some sixty series");
        }
        if let Some(mistake) = self.limits.mistake() {
            bail!("{mistake}");
        }
        if let Some(mistake) = self.quotas().mistakes().first() {
            bail!("{mistake}");
        }
        Ok(())
    }
}

/// Reads YAML; an error says the place and does not quote the lines around it, where there may be a password.
fn from_yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    serde_saphyr::from_str_with_options(text, serde_saphyr::options! { with_snippet: false })
}

fn yaml<T: serde::de::DeserializeOwned>(to: &mut T, name: &str, env: &HashMap<String, String>) -> anyhow::Result<()> {
    if let Some(text) = env.get(name) {
        *to = from_yaml(text).map_err(|e| anyhow::anyhow!("{name}: {e}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: &[&str]) {
        let loaded = Config::parse(text).and_then(|config| config.check().map(|()| config));
        let said = format!("{:#}", loaded.expect_err(text));
        for part in expected {
            assert!(said.contains(part), "{said:?} does not say {part:?}");
        }
    }

    #[test]
    fn hostile_45_a_configuration_with_a_mistake_is_refused_and_the_place_is_named() {
        refused("listn: 127.0.0.1:1\n", &["listn", "line 1", "listen"]);
        refused("listen: 127.0.0.1:1\negress:\n  opne: []\n", &["opne", "line 3"]);
        refused("listen: everywhere\n", &["line 1"]);
        refused("egress:\n  open: [10.0.0.0/33]\n", &["line 2"]);
        refused("egress:\n  tenants: {Acme: {open: []}}\n", &["line 2"]);
        refused("egress:\n  tenants:\n    acme-corp:\n      opne: []\n", &["opne", "line 4"]);
        refused("egress:\n  allow: ['https://x.com/']\n", &["https://x.com/", "line 2"]);
        refused("egress:\n  deny: ['*.com.*']\n", &["*.com.*", "line 2"]);
        refused("egress:\n  dns: [resolver]\n", &["resolver", "10.0.0.2", "line 2"]);
        for proxy in ["https://proxy:3128", "proxy:3128", "http://user:hunter2@proxy:3128", "http://"] {
            refused(&format!("egress:\n  proxy: {proxy}\n"), &["egress.proxy", "http://host:port"]);
        }
        refused("egress:\n  requests_at_once: 0\n", &["egress.requests_at_once", "1 to 10000"]);
        refused("egress:\n  first_byte_s: 0\n", &["egress.first_byte_s", "1 to 3600"]);
        refused("secrets:\n  on_leak: shout\n", &["line 2"]);
        refused("tenant_quotas:\n  acme-corp:\n    max_runs: 1\n", &["max_runs", "line 3", "max_concurrent_runs"]);
        refused("tenant_quotas:\n  acme-corp:\n    max_concurrent_runs: -1\n", &["line 3"]);
        refused(
            "tenant_quotas:\n  acme-corp:\n    max_concurrent_runs: 0\n",
            &["max_concurrent_runs", "use 1 to 100000 (runs)"],
        );
        refused("tenant_quotas:\n  Acme:\n    max_concurrent_runs: 1\n", &["Acme", "tenant's id"]);
        refused("tenant_quotas:\n  acme-corp:\n    max_fuel_per_minute: 99999999999999999999\n", &["line 3"]);
        refused("tenant_quotas:\n  acme-corp:\n    max_memory_mb: 512 MiB\n", &["line 3"]);
        refused("tenant_quotas:\n  default:\n    max_queue: 10001\n", &["default.max_queue", "0 to 10000"]);
        refused("quota_ceiling:\n  max_runs: 3\n", &["max_runs", "line 2"]);
        let above = "quota_ceiling:\n  max_installs: 5\ntenant_quotas:\n  pro:\n    max_installs: 6\n";
        refused(above, &["tenant_quotas.pro.max_installs", "above the operator's ceiling of 5"]);
        refused("tiers: [Gold]\n", &["line 1", "a-z"]);
        refused("limiter:\n  hosts: 0\n", &["limiter.hosts", "1 to 10000"]);
        let both = "limiter:\n  redis_url: redis://a\n  redis_cluster: [redis://b]\n";
        refused(both, &["limiter", "redis_url or redis_cluster"]);
        refused("metrics:\n  tenants: 1001\n", &["metrics", "1000"]);
        refused("limits:\n  memory_mb: 4096\n", &["limits.memory_mb", "1 to 128"]);
        refused("limits:\n  memory_mb: 64 MiB\n", &["line 2"]);
        refused("limits:\n  scratch_mb: 4096\n", &["limits.scratch_mb", "0 to 1024"]);
        refused("require_pure: sometimes\n", &["line 1"]);
        refused("tenant_quotas:\n  acme-corp:\n    require_pur: true\n", &["require_pur", "line 3", "require_pure"]);
        refused("run_slots: 0\n", &["run_slots"]);
        refused("database_connections: 0\n", &["database_connections"]);
        refused("audit:\n  heads_interval_s: 0\n", &["audit.heads_interval_s"]);
        refused("audit:\n  heads_fil: x\n", &["heads_fil", "line 2"]);
        refused("listen: [\n", &["line"]);
    }

    #[test]
    fn each_key_of_egress_is_what_skills_meet() {
        let text = "egress:\n  open: [10.20.0.0/16]\n  tenants: {acme-corp: {open: [10.30.5.7/32]}}\n  \
                    allow: ['*.salesforce.com']\n  deny: [pastebin.com]\n  dns: [10.0.0.2, '127.0.0.1:5353', '::1']\n  \
                    proxy: http://10.0.0.3:3128\n  roots: bundled\n  requests_at_once: 7\n  first_byte_s: 9\n";
        let config = Config::parse(text).unwrap();
        let settings = config.egress.settings().unwrap();
        assert_eq!(settings.rule.open, ["10.20.0.0/16".parse().unwrap()]);
        assert_eq!(settings.tenants[&"acme-corp".parse().unwrap()], ["10.30.5.7/32".parse().unwrap()]);
        let dns: Vec<String> = settings.dns.iter().map(ToString::to_string).collect();
        assert_eq!(dns, ["10.0.0.2:53", "127.0.0.1:5353", "[::1]:53"]);
        assert_eq!(settings.proxy.unwrap().to_string(), "http://10.0.0.3:3128/");
        assert!(matches!(settings.roots, Roots::Bundled));
        assert_eq!((settings.at_once, settings.first_byte), (7, Duration::from_secs(9)));
        let ceiling = config.egress.ceiling();
        let reaches = |url: &str| ceiling.check(&url.parse().unwrap()).is_ok();
        assert!(reaches("https://acme.salesforce.com/") && !reaches("https://example.com/"));
        assert!(!reaches("https://pastebin.com/"));
        let usual = Config::parse("").unwrap().egress.settings().unwrap();
        assert!(matches!(usual.roots, Roots::Platform) && usual.proxy.is_none() && usual.dns.is_empty());
        assert_eq!((usual.at_once, usual.first_byte), (64, Duration::from_secs(30)));
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "listen: 127.0.0.1:1\nlimits:\n  fuel: 5\n").unwrap();
        let env = HashMap::from([
            ("CLAWHOLD_LISTEN".to_owned(), "127.0.0.1:2".to_owned()),
            ("CLAWHOLD_EGRESS_OPEN".to_owned(), "10.0.0.0/8, fd00::/8".to_owned()),
            ("CLAWHOLD_TENANT_QUOTAS".to_owned(), "{default: {max_concurrent_runs: 3}}".to_owned()),
        ]);
        let config = Config::load(Some(file.path()), &env).unwrap();
        assert_eq!(config.listen, Some("127.0.0.1:2".parse().unwrap()));
        assert_eq!((config.ceiling().fuel, config.egress.open.len()), (5, 2));
        assert_eq!(config.tenant_quotas["default"].max_concurrent_runs, Some(3));
        let wrong = HashMap::from([("CLAWHOLD_RUN_SLOTS".to_owned(), "many".to_owned())]);
        assert!(Config::load(None, &wrong).unwrap_err().to_string().contains("CLAWHOLD_RUN_SLOTS"));
    }
}
