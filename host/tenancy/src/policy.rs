//! What an install may do: manifest ∩ consent ∩ operator ceiling.
//!
//! A policy is made once, at install, and asked at every host call. A denial says which rule said no and what
//! would allow it.

mod ceiling;
mod host;
mod path;
mod rule;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::manifest::Manifest;
use crate::secret_kind::SecretKind;
use crate::{Digest, RunLimits, SecretName};

use path::{dot_segments, path_matches};
use rule::rule;

pub use ceiling::HostCeiling;
pub use host::HostPattern;
pub use rule::{HttpRule, Method};

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

#[cfg(test)]
mod tests;
