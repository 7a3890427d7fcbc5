//! `skill.toml`: what a package is and what it asks for.
//!
//! ```
//! let manifest = clawhold_tenancy::manifest::Manifest::parse(r#"
//!     [package]
//!     name = "northwind/crm"
//!     version = "1.4.0"
//!     description = "Look up accounts in the CRM"
//!     license = "Apache-2.0"
//! "#)?;
//! assert!(manifest.http.is_empty());
//! # Ok::<(), clawhold_tenancy::manifest::ManifestError>(())
//! ```

mod check;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{Asked, MIB};
use crate::policy::Method;
use crate::secret_kind::{KindName, SecretKind};
use crate::{PackageName, RunLimits, SecretName};

pub use check::is_action;

/// The custom section of a component that holds its manifest, so that one file, one digest and one signature
/// cover both.
pub const SECTION: &str = "clawhold:manifest";

/// Bytes of a manifest: far more than an honest one needs.
pub const MANIFEST_BYTES: usize = 64 * 1024;

/// Bytes of an error that an author is shown whole; in a longer one the manifest is quoted at length. A line and a few
/// names fit.
const ERROR_BYTES: usize = 1024;

/// What to do about what cannot be read.
const REMEDY: &str = "correct it and build again";

/// Characters of what the manifest says that an error quotes in any case.
const QUOTED_CHARS: usize = 200;

/// A manifest that cannot be used: where, what, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not TOML, a key that does not exist, or a value of the wrong type.
    #[error("skill.toml: {0}")]
    Syntax(String),
    /// The right type and a wrong value.
    #[error("skill.toml: {place}: {problem}; {remedy}")]
    Value {
        /// The key, for example `http[0].host`.
        place: String,
        /// What is wrong with it.
        problem: String,
        /// What to write.
        remedy: String,
    },
}

/// A checked manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What the package is.
    pub package: Package,
    /// The secrets it uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretAsk>,
    /// The hosts it talks to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpAsk>,
    /// The audit entries it writes.
    #[serde(default)]
    pub audit: AuditAsk,
    /// That it runs on WASI. Without it the skill is a pure one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasi: Option<WasiAsk>,
    /// What it needs.
    #[serde(default)]
    pub limits: Asked,
    /// What an install's settings must be like: a JSON Schema, draft 2020-12. Settings that do not fit are refused before anything is
    /// installed, upgraded or followed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<serde_json::Value>,
}

/// `[package]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ManifestPackage")]
pub struct Package {
    /// `publisher/name`.
    pub name: PackageName,
    /// Semantic version without build metadata.
    pub version: semver::Version,
    /// One line for people.
    pub description: String,
    /// An SPDX expression.
    pub license: String,
}

/// One `[[secrets]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretAsk {
    /// The tenant's secret of this name.
    pub name: SecretName,
    /// What for: the admin who consents reads it.
    pub purpose: String,
    /// Whether the skill may read the value itself.
    #[serde(default)]
    pub reveal: bool,
    /// What the host makes of it when it is put on a request.
    #[serde(default, skip_serializing_if = "KindName::is_value")]
    pub kind: KindName,
    /// With `aws-sigv4`: the service as AWS signs it, such as `s3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

impl SecretAsk {
    /// What the host makes of the value.
    pub fn kind(&self) -> SecretKind {
        match self.kind {
            KindName::Value => SecretKind::Value,
            KindName::Oauth2 => SecretKind::Oauth2,
            KindName::AwsSigv4 => SecretKind::AwsSigv4 { service: self.service.clone().unwrap_or_default() },
            KindName::HttpSignature => SecretKind::HttpSignature,
        }
    }
}

/// One `[[http]]`: requests to one host. Exactly one of `host` and `host_setting` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpAsk {
    /// A host name, or `*.` and a suffix; `:port` when it is not 443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The name of an install setting that holds an origin such as `https://acme.my.salesforce.com`: the rule is
    /// then bound to that origin, which the admin sees and accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_setting: Option<String>,
    /// Methods, for example `["GET"]`.
    pub methods: Vec<Method>,
    /// Paths: exact, or a prefix with a final `*`.
    pub paths: Vec<String>,
    /// The secrets that may be put on requests to this host, and to no other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<SecretName>,
    /// `false` to get a 3xx answer as it is, instead of what it leads to.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub follow_redirects: bool,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks for it")]
fn is_yes(answer: &bool) -> bool {
    *answer
}

/// `[audit]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditAsk {
    /// The actions that it may record.
    #[serde(default)]
    pub actions: Vec<String>,
}

/// `[wasi]`: the component imports WASI 0.2, and is given clocks, randomness, a log for what it prints, and no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WasiAsk {
    /// Mebibytes of files that a run may keep in `/tmp` until it ends. None when not set, and then there is no
    /// directory at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch_mb: Option<u32>,
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MANIFEST_BYTES {
            return Err(ManifestError::Syntax(format!(
                "it has {} bytes, {MANIFEST_BYTES} are allowed; shorten the descriptions",
                text.len()
            )));
        }
        let manifest: Self = toml::from_str(text).map_err(|e| syntax(text, &e))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The limits that it asks for, before any ceiling.
    pub fn limits(&self) -> RunLimits {
        let mut limits = self.limits.over(RunLimits::default());
        if let Some(mb) = self.wasi.as_ref().and_then(|wasi| wasi.scratch_mb) {
            limits.scratch_bytes = u64::from(mb) * MIB;
        }
        limits
    }
}

/// The parser's words with the line that they are about; without it when that is more than anybody reads.
fn syntax(text: &str, error: &toml::de::Error) -> ManifestError {
    let said = error.to_string();
    if said.len() <= ERROR_BYTES {
        return ManifestError::Syntax(format!("{}; {REMEDY}", said.trim_end()));
    }
    let before = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = 1 + text.bytes().take(before).filter(|byte| *byte == b'\n').count();
    ManifestError::Syntax(format!("line {line}: {}; {REMEDY}", quoted(error.message())))
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests;
