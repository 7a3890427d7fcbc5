//! `clawhold.yaml`: every key optional, every unknown one an error that names the line.

mod egress;
mod environment;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clawhold_tenancy::limits::Asked;
use clawhold_tenancy::quota::{Entry, Quotas, Tier, Values};
use clawhold_tenancy::{RunLimits, TenantId};
use serde::Deserialize;

pub use egress::{DnsServer, EgressConfig, TenantEgress};

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
    /// Runs that compute at the same time, over all tenants; the others take turns. As many as the machine has cores.
    pub compute_slots: Option<u32>,
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

    fn check(&self) -> anyhow::Result<()> {
        self.egress.settings()?;
        self.public_url()?;
        if self.run_slots.is_some_and(|slots| !(1..=512).contains(&slots)) {
            bail!("run_slots: use 1 to 512; each slot reserves address space");
        }
        if self.compute_slots.is_some_and(|slots| !(1..=1024).contains(&slots)) {
            bail!("compute_slots: use 1 to 1024; more than there are cores gains nothing");
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

#[cfg(test)]
mod tests;
