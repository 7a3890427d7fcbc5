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

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::limits::{Asked, MIB};
use crate::policy::{HostPattern, Method};
use crate::secret_kind::{KindName, SecretKind};
use crate::{PackageName, RunLimits, SecretName};

/// The custom section of a component that holds its manifest, so that one file, one digest and one signature
/// cover both.
pub const SECTION: &str = "clawhold:manifest";

/// Bytes of a manifest: far more than an honest one needs.
pub const MANIFEST_BYTES: usize = 64 * 1024;

/// Bytes of an error that an author is shown whole; in a longer one the manifest is quoted at length. A line and a few
/// names fit.
const ERROR_BYTES: usize = 1024;

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

    fn check(&self) -> Result<(), ManifestError> {
        let package = &self.package;
        if !package.version.build.is_empty() {
            return Err(bad("package.version", "it has build metadata", "drop the part from `+` on"));
        }
        printable("package.description", &package.description, 512)?;
        printable("package.license", &package.license, 128)?;
        at_most("secrets", self.secrets.len(), 32)?;
        at_most("http", self.http.len(), 32)?;
        at_most("audit.actions", self.audit.actions.len(), 64)?;
        for (i, ask) in self.secrets.iter().enumerate() {
            printable(&format!("secrets[{i}].purpose"), &ask.purpose, 512)?;
            if self.secrets[..i].iter().any(|earlier| earlier.name == ask.name) {
                return Err(bad(format!("secrets[{i}].name"), format!("{:?} stands twice", ask.name), "remove one"));
            }
            check_kind(&format!("secrets[{i}]"), ask)?;
        }
        for (i, ask) in self.http.iter().enumerate() {
            self.check_http(&format!("http[{i}]"), ask)?;
        }
        for (i, action) in self.audit.actions.iter().enumerate() {
            if !is_action(action) {
                return Err(bad(
                    format!("audit.actions[{i}]"),
                    format!("{action:?} is no action"),
                    "write words of a-z, 0-9 and _ joined by dots, 64 bytes at most, such as `crm.account.read`",
                ));
            }
            let first = action.split('.').next().unwrap_or_default();
            if HOST_WORDS.contains(&first) {
                return Err(bad(
                    format!("audit.actions[{i}]"),
                    format!("{action:?} begins with {first:?}, as the host's own entries do"),
                    format!("put a word of your own in front, such as `crm.{action}`"),
                ));
            }
        }
        // Only what is no limit at all is an error: what is more than the operator allows is cut when it is installed.
        if let Some((limit, _)) = self.limits.set().find(|(_, value)| *value == 0) {
            return Err(bad(format!("limits.{}", limit.key), "it is 0", "use 1 or more, or leave the key out"));
        }
        if self.limits.scratch_mb.is_some() {
            return Err(bad("limits.scratch_mb", "a manifest asks for it elsewhere", "write it under [wasi]"));
        }
        if self.wasi.as_ref().and_then(|wasi| wasi.scratch_mb) == Some(0) {
            return Err(bad("wasi.scratch_mb", "it is 0", "use 1 or more, or leave the key out"));
        }
        Ok(())
    }

    fn check_http(&self, place: &str, ask: &HttpAsk) -> Result<(), ManifestError> {
        match (&ask.host, &ask.host_setting) {
            (Some(host), None) => {
                if let Err(problem) = host.parse::<HostPattern>() {
                    return Err(bad(
                        format!("{place}.host"),
                        problem,
                        "write `api.example.com`, `*.example.com` or `api.example.com:8443`",
                    ));
                }
            }
            (None, Some(setting)) => {
                let valid = (1..=64).contains(&setting.len())
                    && setting.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
                if !valid {
                    return Err(bad(
                        format!("{place}.host_setting"),
                        format!("{setting:?} is no setting's name"),
                        "use a-z, 0-9 and _, 64 bytes at most",
                    ));
                }
            }
            _ => {
                return Err(bad(
                    place,
                    "it needs exactly one of `host` and `host_setting`",
                    "write `host = \"api.example.com\"`",
                ));
            }
        }
        if ask.methods.is_empty() {
            return Err(bad(format!("{place}.methods"), "it is empty", "list the methods, such as [\"GET\"]"));
        }
        if ask.paths.is_empty() {
            return Err(bad(format!("{place}.paths"), "it is empty", "list the paths, such as [\"/v1/*\"]"));
        }
        at_most(&format!("{place}.paths"), ask.paths.len(), 64)?;
        for (i, path) in ask.paths.iter().enumerate() {
            let star = path.find('*');
            let valid = path.starts_with('/')
                && path.len() <= 512
                && reads_as_itself(path)
                && path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'\\' | b'%'))
                && star.is_none_or(|at| at + 1 == path.len())
                && !path.split('/').any(|segment| segment == "." || segment == "..");
            if !valid {
                return Err(bad(
                    format!("{place}.paths[{i}]"),
                    format!("{path:?} is no path pattern"),
                    "start with `/`, use `*` only as the last character, no `?`, `#`, `%`, `\\` or `..`, and \
                     nothing that a URL encodes",
                ));
            }
        }
        for (i, secret) in ask.credentials.iter().enumerate() {
            if !self.secrets.iter().any(|s| s.name == *secret) {
                return Err(bad(
                    format!("{place}.credentials[{i}]"),
                    format!("the secret {secret:?} is not declared"),
                    format!("add a [[secrets]] with name = \"{secret}\" and its purpose"),
                ));
            }
        }
        Ok(())
    }
}

fn check_kind(place: &str, ask: &SecretAsk) -> Result<(), ManifestError> {
    let signs = matches!(ask.kind, KindName::AwsSigv4);
    match &ask.service {
        None if signs => {
            return Err(bad(format!("{place}.service"), "it is missing", "write the service that signs, such as `s3`"));
        }
        Some(_) if !signs => {
            let remedy = "leave it out, or write `kind = \"aws-sigv4\"`";
            return Err(bad(format!("{place}.service"), "only aws-sigv4 has one", remedy));
        }
        Some(service)
            if !(1..=64).contains(&service.len())
                || !service.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') =>
        {
            let remedy = "use a-z, 0-9 and `-`, as AWS names it: `s3`, `execute-api`";
            return Err(bad(format!("{place}.service"), format!("{service:?} is no service"), remedy));
        }
        _ => {}
    }
    if ask.reveal && !ask.kind.is_value() {
        let remedy = "leave `reveal` out: the host makes what is sent, and the skill needs nothing of it";
        return Err(bad(format!("{place}.reveal"), "a secret of this kind is never shown", remedy));
    }
    Ok(())
}

/// What the host's own actions begin with: a skill's entry must never look like one of them.
const HOST_WORDS: [&str; 14] = [
    "audit",
    "host",
    "install",
    "key",
    "package",
    "publisher",
    "quota",
    "run",
    "secret",
    "skill",
    "tenant",
    "token",
    "usage",
    "clawhold",
];

/// Whether this can be the action of an audit entry.
pub fn is_action(text: &str) -> bool {
    text.len() <= 64
        && text.split('.').all(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        })
}

/// Whether the URL parser leaves a path as it is: what it encodes is never in a request, so the rule would allow nothing.
fn reads_as_itself(path: &str) -> bool {
    Url::parse(&format!("https://host{path}")).is_ok_and(|url| url.path() == path)
}

/// The parser's words with the line that they are about; without it when that is more than anybody reads.
fn syntax(text: &str, error: &toml::de::Error) -> ManifestError {
    let said = error.to_string();
    if said.len() <= ERROR_BYTES {
        return ManifestError::Syntax(said.trim_end().to_owned());
    }
    let before = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = 1 + text.bytes().take(before).filter(|byte| *byte == b'\n').count();
    ManifestError::Syntax(format!("line {line}: {}", quoted(error.message())))
}

fn bad(place: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> ManifestError {
    ManifestError::Value { place: place.into(), problem: quoted(&problem.into()), remedy: remedy.into() }
}

fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn at_most(place: &str, count: usize, most: usize) -> Result<(), ManifestError> {
    if count <= most {
        return Ok(());
    }
    Err(bad(place, format!("it has {count} entries"), format!("use {most} at most")))
}

fn printable(place: &str, text: &str, longest: usize) -> Result<(), ManifestError> {
    if text.trim().is_empty() {
        return Err(bad(place, "it is empty", "write a line for the people who will read it"));
    }
    if text.len() > longest || text.chars().any(char::is_control) {
        return Err(bad(
            place,
            "it is too long or has control characters",
            format!("write one line of {longest} bytes at most"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[package]
name = "northwind/crm"
version = "1.4.0"
description = "Look up accounts"
license = "Apache-2.0"

[[secrets]]
name = "salesforce"
purpose = "Bearer token for the CRM API"

[[http]]
host = "*.my.salesforce.com"
methods = ["GET"]
paths = ["/services/data/*"]
credentials = ["salesforce"]

[audit]
actions = ["crm.account.read"]

[limits]
memory_mb = 32
timeout_ms = 5000
"#;

    #[track_caller]
    fn check(from: &str, to: &str, expected: &[&str]) {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "the case changes nothing");
        let error = Manifest::parse(&text).expect_err(to).to_string();
        for part in expected {
            assert!(error.contains(part), "{error:?} does not say {part:?}");
        }
    }

    #[test]
    fn a_good_manifest_says_what_it_needs() {
        let manifest = Manifest::parse(GOOD).unwrap();
        assert_eq!(manifest.limits().memory_bytes, 32 * MIB);
        assert_eq!(manifest.limits().wall_ms, 5000);
        assert_eq!(manifest.limits().fuel, RunLimits::default().fuel);
    }

    #[test]
    fn a_manifest_asks_for_wasi_and_for_scratch_files() {
        assert_eq!((Manifest::parse(GOOD).unwrap().wasi, RunLimits::default().scratch_bytes), (None, 0));
        let bare = Manifest::parse(&format!("{GOOD}\n[wasi]\n")).unwrap();
        assert_eq!((bare.wasi.clone(), bare.limits().scratch_bytes), (Some(WasiAsk::default()), 0));
        let with_files = Manifest::parse(&format!("{GOOD}\n[wasi]\nscratch_mb = 3\n")).unwrap();
        assert_eq!(with_files.limits().scratch_bytes, 3 * MIB);
    }

    #[test]
    fn a_refusal_quotes_no_more_than_people_read() {
        let long = "x".repeat(50_000);
        for (from, to, place) in [
            ("northwind/crm", long.as_str(), "line 3"),
            ("version = ", &format!("{long} = "), "line 4"),
            ("crm.account.read", &"\u{200b}".repeat(10_000), "audit.actions[0]"),
            ("/services/data/*", &format!("/{long}"), "http[0].paths[0]"),
            ("*.my.salesforce.com", &long, "http[0].host"),
        ] {
            let error = Manifest::parse(&GOOD.replacen(from, to, 1)).expect_err(place).to_string();
            assert!(error.contains(place) && error.len() <= ERROR_BYTES, "{} bytes: {error:.300}", error.len());
        }
    }

    #[test]
    fn a_bad_manifest_is_refused_with_place_and_remedy() {
        check("license", "licence", &["line 6", "unknown field `licence`", "expected one of"]);
        check("[audit]", "[audits]", &["unknown field `audits`"]);
        check("northwind/crm", "Northwind CRM", &["line 3", "not a package name", "publisher/name"]);
        check("1.4.0", "1.4", &["line 4", "unexpected end of input"]);
        check("1.4.0", "1.4.0+deadbeef", &["package.version", "build metadata", "drop"]);
        check("\"GET\"", "\"FETCH\"", &["FETCH", "GET"]);
        check("[\"GET\"]", "[]", &["http[0].methods", "is empty"]);
        check("/services/data/*", "/services/*/data", &["http[0].paths[0]", "last character"]);
        check("/services/data/*", "/services/../admin", &["http[0].paths[0]"]);
        for odd in ["{id}", "a b", "`", "\"quoted\"", "<>"] {
            check("/services/data/*", &format!("/{}", odd.replace('"', "\\\"")), &["http[0].paths[0]", "URL encodes"]);
        }
        check("*.my.salesforce.com", "*.com", &["http[0].host", "*.com"]);
        check("*.my.salesforce.com", "https://x.example.com/", &["http[0].host"]);
        check("host = ", "host_setting = \"instance_url\"\nhost = ", &["http[0]", "exactly one"]);
        check("credentials = [\"salesforce\"]", "credentials = [\"jira\"]", &["http[0].credentials[0]", "[[secrets]]"]);
        check("crm.account.read", "Read Account", &["audit.actions[0]", "joined by dots"]);
        check("crm.account.read", "token.create", &["audit.actions[0]", "the host's own", "crm.token.create"]);
        check("crm.account.read", "secret.reveal", &["audit.actions[0]", "the host's own"]);
        check("memory_mb = 32", "memory_mb = 0", &["limits.memory_mb", "1 or more"]);
        check("memory_mb = 32", "memory_mb = -1", &["line 22"]);
        check("[limits]", "[wasi]\nscratch_mb = 0\n[limits]", &["wasi.scratch_mb", "1 or more"]);
        check("[limits]", "[wasi]\nscratch = 1\n[limits]", &["unknown field `scratch`", "scratch_mb"]);
        check("[limits]", "[wasi]\nenvironment = []\n[limits]", &["unknown field `environment`"]);
        check("description = \"Look up accounts\"", "description = \"\"", &["package.description", "is empty"]);
    }

    #[test]
    fn no_action_of_the_host_can_be_a_skills() {
        for row in crate::permit::TABLE {
            let first = row.name.split(['.', '-']).next().unwrap();
            assert!(HOST_WORDS.contains(&first), "{} can be declared by a skill", row.name);
        }
    }

    #[test]
    fn a_huge_manifest_is_refused_before_it_is_parsed() {
        let text = format!("{GOOD}\n# {}", "x".repeat(MANIFEST_BYTES));
        assert!(Manifest::parse(&text).unwrap_err().to_string().contains("are allowed"));
    }
}
