//! What an install may do: manifest ∩ consent ∩ operator ceiling.
//!
//! A policy is made once, at install, and asked at every host call. A denial says which rule said no and what
//! would allow it.

mod host;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::manifest::{HttpAsk, Manifest};
use crate::secret_kind::SecretKind;
use crate::{Digest, RunLimits, SecretName};

pub use host::HostPattern;

/// An HTTP method that a rule may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "RFC 9110 and RFC 5789 say what they mean")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// The method as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

/// One allowed way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpRule {
    /// `https`, or `http` for an origin that an install setting names.
    pub scheme: String,
    /// To which hosts.
    #[schemars(with = "String")]
    pub host: HostPattern,
    /// With which methods.
    pub methods: BTreeSet<Method>,
    /// To which paths.
    pub paths: Vec<String>,
    /// With which secrets.
    pub credentials: BTreeSet<SecretName>,
    /// Redirects are answers, and not followed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returns_redirects: bool,
}

/// What an install may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Policy {
    /// Secrets by name; the value says whether the skill may read it.
    pub secrets: BTreeMap<SecretName, bool>,
    /// What the host makes of those that are more than a value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kinds: BTreeMap<SecretName, SecretKind>,
    /// Ways out.
    pub http: Vec<HttpRule>,
    /// Actions that may be recorded.
    pub audit_actions: BTreeSet<String>,
    /// Whether the skill runs on WASI: clocks, randomness, and what it prints as log lines.
    #[serde(default)]
    pub wasi: bool,
    /// Limits of each run.
    pub limits: RunLimits,
}

/// Why a policy could not be made from a manifest and its settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "settings.{setting}: {problem}; the skill sends requests there, so set it to an origin such as https://acme.example.com"
)]
pub struct SettingProblem {
    /// The setting.
    pub setting: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Why a request was refused, and what would allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Who said no.
    pub by: By,
    /// The very rule.
    pub why: String,
    /// What would allow it, and who can do that.
    pub remedy: String,
}

/// Who says no to a request, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// The request itself, which cannot be read one way only.
    Request,
    /// What the package asks for, bound to the settings of the install.
    Manifest,
    /// What the package asks for that secret.
    Credential,
    /// The operator, for all tenants.
    Operator,
    /// The kind of address that the host's name leads to.
    Address,
    /// A limit or a quota.
    Bound,
}

impl By {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Manifest => "manifest",
            Self::Credential => "credential",
            Self::Operator => "operator",
            Self::Address => "address",
            Self::Bound => "bound",
        }
    }
}

/// The hosts that an operator lets any tenant's skills reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostCeiling {
    /// These and no others, unless there are none.
    pub allow: Vec<HostPattern>,
    /// None of these.
    pub deny: Vec<HostPattern>,
}

impl HostCeiling {
    /// Whether a request to this URL is below the ceiling.
    ///
    /// # Errors
    ///
    /// The key that says no.
    pub fn check(&self, url: &Url) -> Result<(), Denial> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(0);
        let default_port = if url.scheme() == "http" { 80 } else { 443 };
        let deny = |why: String, remedy: String| Err(Denial { by: By::Operator, why, remedy });
        if let Some(pattern) = self.deny.iter().find(|pattern| pattern.names(host)) {
            return deny(
                format!("the operator lets no skill reach {host} (`egress.deny` has {pattern})"),
                format!("ask the operator to take {pattern} out of `egress.deny` in clawhold.yaml"),
            );
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|pattern| pattern.covers(host, port, default_port)) {
            return deny(
                format!(
                    "the operator lets skills reach only what `egress.allow` names, and {host}:{port} is not there"
                ),
                format!("ask the operator to add {host} to `egress.allow` in clawhold.yaml"),
            );
        }
        Ok(())
    }
}

impl HostCeiling {
    /// What a rule asks for that no request under it would get: the key that says no. A rule for a suffix is forbidden if all below it is.
    pub fn forbids(&self, rule: &HttpRule) -> Option<Denial> {
        let below = self.allow.iter().any(|pattern| rule.host.has_below(pattern));
        let url = Url::parse(&format!("{}://{}/", rule.scheme, rule.host.sample())).ok()?;
        self.check(&url).err().filter(|_| !below)
    }
}

impl Policy {
    /// Everything that the manifest asks for, bound to the tenant's settings and cut down to the ceiling.
    /// `reveal` names the secrets whose value the admin lets the skill read.
    pub fn from_manifest(
        manifest: &Manifest,
        settings: &serde_json::Value,
        reveal: &BTreeSet<SecretName>,
        ceiling: &RunLimits,
    ) -> Result<Self, SettingProblem> {
        let http = manifest.http.iter().map(|ask| rule(ask, settings)).collect::<Result<_, _>>()?;
        Ok(Self {
            secrets: manifest
                .secrets
                .iter()
                .map(|ask| (ask.name.clone(), ask.reveal && reveal.contains(&ask.name)))
                .collect(),
            kinds: manifest
                .secrets
                .iter()
                .filter(|ask| !ask.kind.is_value())
                .map(|ask| (ask.name.clone(), ask.kind()))
                .collect(),
            http,
            audit_actions: manifest.audit.actions.iter().cloned().collect(),
            wasi: manifest.wasi.is_some(),
            limits: manifest.limits().within(ceiling),
        })
    }

    /// What the host makes of a secret.
    pub fn kind(&self, secret: &SecretName) -> &SecretKind {
        self.kinds.get(secret).unwrap_or(&SecretKind::Value)
    }

    /// A digest of all that the policy allows: what an admin consented to, in one word.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a policy has only string keys"))
    }

    /// Whether this request may go out, and if a secret is to be put on it, whether that may.
    pub fn allows(&self, method: Method, url: &Url, credential: Option<&SecretName>) -> Result<(), Denial> {
        let unreadable =
            |why: &str, remedy: &str| Err(Denial { by: By::Request, why: why.to_owned(), remedy: remedy.to_owned() });
        let Some(host) = url.host_str() else {
            return unreadable("the URL has no host", "write https://host/path");
        };
        if dot_segments(url.path()) {
            return unreadable("the path has an encoded `.` or `..` segment", "write the path that you mean");
        }
        let covering: Vec<&HttpRule> = self.covering(method, url, host).collect();
        if covering.is_empty() {
            let remedy = "its author adds an [[http]] with this method, host and path to skill.toml and publishes a new \
                          version; or, if the host comes from a setting, install it again with other `--settings`";
            let why = self.explain(method, url, host);
            return Err(Denial { by: By::Manifest, why, remedy: remedy.to_owned() });
        }
        match credential {
            Some(secret) if !covering.iter().any(|rule| rule.credentials.contains(secret)) => {
                let why = format!("the secret {secret} may not be sent to {host}");
                let remedy = format!("its author lists {secret} under `credentials` of that [[http]] in skill.toml");
                Err(Denial { by: By::Credential, why, remedy })
            }
            _ => Ok(()),
        }
    }

    fn covering<'a>(&'a self, method: Method, url: &'a Url, host: &'a str) -> impl Iterator<Item = &'a HttpRule> {
        let port = url.port_or_known_default().unwrap_or(0);
        let default_port = if url.scheme() == "http" { 80 } else { 443 };
        self.http.iter().filter(move |rule| {
            rule.scheme == url.scheme()
                && rule.host.covers(host, port, default_port)
                && rule.methods.contains(&method)
                && rule.paths.iter().any(|pattern| path_matches(pattern, url.path()))
        })
    }

    /// Whether a redirect is followed that answers this request. Where several rules allow it and one of them says no, it is not.
    pub fn follows(&self, method: Method, url: &Url) -> bool {
        let host = url.host_str().unwrap_or_default();
        !self.covering(method, url, host).any(|rule| rule.returns_redirects)
    }

    fn explain(&self, method: Method, url: &Url, host: &str) -> String {
        let origin = url.origin().ascii_serialization();
        if self.http.is_empty() {
            return format!(
                "the install allows no HTTP at all; {method} {origin} needs an [[http]] in skill.toml",
                method = method.as_str()
            );
        }
        let same_host = self.http.iter().any(|rule| rule.host.names(host));
        let what = if same_host { "this method, scheme, port or path" } else { "this host" };
        let allowed: Vec<String> = self
            .http
            .iter()
            .take(8)
            .map(|rule| {
                let methods: Vec<_> = rule.methods.iter().map(|m| m.as_str()).collect();
                format!("{} {}://{}{}", methods.join("|"), rule.scheme, rule.host, rule.paths.join("|"))
            })
            .collect();
        format!(
            "no rule of the install allows {what}: {} {origin}{}; allowed: {}",
            method.as_str(),
            url.path(),
            allowed.join(", ")
        )
    }
}

fn rule(ask: &HttpAsk, settings: &serde_json::Value) -> Result<HttpRule, SettingProblem> {
    let (scheme, host) = match (&ask.host, &ask.host_setting) {
        (_, Some(setting)) => {
            let fail = |problem: &str| SettingProblem { setting: setting.clone(), problem: problem.to_owned() };
            let text = settings.get(setting).and_then(|v| v.as_str()).ok_or_else(|| fail("it is not set"))?;
            let url = Url::parse(text).map_err(|e| fail(&format!("{text:?} is no URL ({e})")))?;
            if !matches!(url.scheme(), "https" | "http")
                || !matches!(url.path(), "" | "/")
                || url.query().is_some()
                || url.fragment().is_some()
                || !url.username().is_empty()
                || url.password().is_some()
            {
                return Err(fail(&format!("{text:?} is more, or other, than scheme, host and port")));
            }
            let host =
                HostPattern::of(&url).ok_or_else(|| fail(&format!("{text:?} has no plain host name or address")))?;
            (url.scheme().to_owned(), host)
        }
        (Some(host), None) => {
            let pattern = host.parse().map_err(|problem| SettingProblem { setting: host.clone(), problem })?;
            ("https".to_owned(), pattern)
        }
        (None, None) => unreachable!("a checked manifest has one of the two"),
    };
    Ok(HttpRule {
        scheme,
        host,
        methods: ask.methods.iter().copied().collect(),
        paths: ask.paths.clone(),
        credentials: ask.credentials.iter().cloned().collect(),
        returns_redirects: !ask.follow_redirects,
    })
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    }
}

/// Whether a server that decodes the path once could see `.` or `..` as a segment. The URL parser has already
/// resolved the plain ones.
fn dot_segments(path: &str) -> bool {
    if !path.contains(['%', '\\']) {
        return false;
    }
    let decoded: Vec<u8> = percent_decode(path);
    decoded.split(|b| matches!(b, b'/' | b'\\')).any(|segment| segment == b"." || segment == b"..")
}

fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits fit a byte"));
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        let manifest = Manifest::parse(
            r#"
[package]
name = "northwind/crm"
version = "1.0.0"
description = "x"
license = "MIT"
[[secrets]]
name = "salesforce"
purpose = "x"
reveal = true
[[secrets]]
name = "other"
purpose = "x"
[[http]]
host = "*.my.salesforce.com"
methods = ["GET", "POST"]
paths = ["/services/data/*", "/exact"]
credentials = ["salesforce"]
[[http]]
host_setting = "crm_url"
methods = ["GET"]
paths = ["/*"]
"#,
        )
        .unwrap();
        let settings = serde_json::json!({"crm_url": "http://127.0.0.1:8099"});
        Policy::from_manifest(&manifest, &settings, &BTreeSet::new(), &RunLimits::default_ceiling()).unwrap()
    }

    #[track_caller]
    fn check(method: Method, url: &str, secret: Option<&str>, expected: Result<(), &str>) {
        let secret = secret.map(|s| s.parse().unwrap());
        let said =
            policy().allows(method, &Url::parse(url).unwrap(), secret.as_ref()).map_err(|denial| match denial.by {
                By::Request => "url",
                By::Manifest => "rule",
                other => other.as_str(),
            });
        assert_eq!(said, expected, "{url}");
    }

    #[test]
    fn a_request_goes_out_only_under_a_rule() {
        use Method::{Delete, Get, Post};
        let sf = Some("salesforce");
        check(Get, "https://acme.my.salesforce.com/services/data/v59.0/query", sf, Ok(()));
        check(Post, "https://a.b.my.salesforce.com/exact", sf, Ok(()));
        check(Get, "https://ACME.MY.SALESFORCE.COM/exact", sf, Ok(()));
        check(Delete, "https://acme.my.salesforce.com/services/data/x", sf, Err("rule"));
        check(Get, "https://acme.my.salesforce.com/exact/more", sf, Err("rule"));
        check(Get, "https://acme.my.salesforce.com/services/database", sf, Err("rule"));
        check(Get, "https://acme.my.salesforce.com:8443/services/data/x", sf, Err("rule"));
        check(Get, "http://acme.my.salesforce.com/services/data/x", sf, Err("rule"));
        check(Get, "https://my.salesforce.com/services/data/x", sf, Err("rule"));
        check(Get, "https://evilmy.salesforce.com/services/data/x", sf, Err("rule"));
        check(Get, "https://acme.my.salesforce.com.evil.com/services/data/x", sf, Err("rule"));
        check(Get, "https://acme.my.salesforce.com/services/data/../../admin", sf, Err("rule"));
        check(Get, "https://acme.my.salesforce.com/services/data/%2e%2e/%2e%2e/admin", sf, Err("rule"));
        check(Get, "https://acme.my.salesforce.com/services/data/..%2f..%2fadmin", sf, Err("url"));
        check(Get, "https://acme.my.salesforce.com/services/data/..%5Cadmin", sf, Err("url"));
        check(Get, "https://acme.my.salesforce.com/services/data/group%2Fproject", sf, Ok(()));
        check(Get, "http://127.0.0.1:8099/anything", None, Ok(()));
        check(Get, "http://127.0.0.1:8100/anything", None, Err("rule"));
        check(Get, "https://127.0.0.1:8099/anything", None, Err("rule"));
    }

    #[test]
    fn a_secret_goes_only_where_its_rule_says() {
        check(Method::Get, "http://127.0.0.1:8099/x", Some("salesforce"), Err("credential"));
        check(Method::Get, "https://acme.my.salesforce.com/exact", Some("other"), Err("credential"));
    }

    #[test]
    fn what_the_operator_forbids_is_known_before_a_request() {
        let patterns = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<HostPattern>>();
        let forbidden = |allow: &[&str], deny: &[&str]| -> Vec<String> {
            let ceiling = HostCeiling { allow: patterns(allow), deny: patterns(deny) };
            policy()
                .http
                .iter()
                .filter(|rule| ceiling.forbids(rule).is_some())
                .map(|rule| rule.host.to_string())
                .collect()
        };
        let (salesforce, local) = ("*.my.salesforce.com".to_owned(), "127.0.0.1:8099".to_owned());
        let all: Vec<String> = vec![salesforce.clone(), local.clone()];
        assert_eq!(forbidden(&[], &[]), Vec::<String>::new());
        assert_eq!(forbidden(&["other.example.com"], &[]), all);
        assert_eq!(forbidden(&["*.salesforce.com"], &[]), std::slice::from_ref(&local));
        assert_eq!(forbidden(&["acme.my.salesforce.com"], &[]), std::slice::from_ref(&local), "some of it is allowed");
        assert_eq!(forbidden(&[], &["*.salesforce.com"]), [salesforce]);
        assert_eq!(forbidden(&[], &["acme.my.salesforce.com"]), Vec::<String>::new(), "some of it is allowed");
        assert_eq!(forbidden(&[], &["127.0.0.1"]), [local]);
    }

    #[test]
    fn reveal_needs_both_the_manifest_and_the_admin() {
        let sf: SecretName = "salesforce".parse().unwrap();
        assert!(!policy().secrets[&sf], "the manifest alone is not enough");
    }

    #[test]
    fn a_setting_that_names_a_host_must_be_an_origin() {
        let ask = HttpAsk {
            host: None,
            host_setting: Some("u".to_owned()),
            methods: vec![Method::Get],
            paths: vec!["/*".to_owned()],
            credentials: vec![],
            follow_redirects: true,
        };
        for bad in [
            "",
            "acme",
            "ftp://x.com",
            "https://x.com/path",
            "https://u:p@x.com",
            "https://x.com?q",
            "https://",
            "https://*.example.com",
            "https://my_host.example.com",
            "https://acme.com.",
            "https://a!b.com",
        ] {
            assert!(rule(&ask, &serde_json::json!({"u": bad})).is_err(), "{bad:?}");
        }
        assert!(rule(&ask, &serde_json::json!({})).unwrap_err().to_string().contains("it is not set"));
        assert!(rule(&ask, &serde_json::json!({"u": "https://x.com/"})).is_ok());
    }

    #[test]
    fn a_setting_is_bound_to_its_very_port() {
        for (origin, port) in [
            ("http://127.0.0.1", 80),
            ("http://127.0.0.1:443", 443),
            ("http://127.0.0.1:80", 80),
            ("https://x.com", 443),
            ("https://x.com:443", 443),
            ("https://x.com:80", 80),
            ("https://[::1]:8443", 8443),
        ] {
            let ask = HttpAsk {
                host: None,
                host_setting: Some("u".to_owned()),
                methods: vec![Method::Get],
                paths: vec!["/*".to_owned()],
                credentials: vec![],
                follow_redirects: true,
            };
            let made = rule(&ask, &serde_json::json!({"u": origin})).unwrap();
            let kept: HttpRule = serde_json::from_str(&serde_json::to_string(&made).unwrap()).unwrap();
            let url = Url::parse(origin).unwrap();
            let default = if url.scheme() == "http" { 80 } else { 443 };
            for other in [80, 443, 8443, 9] {
                assert_eq!(
                    kept.host.covers(url.host_str().unwrap(), other, default),
                    other == port,
                    "{origin} {other}"
                );
            }
        }
    }

    #[test]
    fn a_policy_reads_back_what_it_writes() {
        let text = serde_json::to_string(&policy()).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy());
    }
}
