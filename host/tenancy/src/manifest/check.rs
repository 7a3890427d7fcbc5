//! What a manifest may say, beyond what its types take.

use url::Url;

use super::{HttpAsk, Manifest, ManifestError, SecretAsk, quoted};
use crate::policy::HostPattern;
use crate::secret_kind::KindName;

impl Manifest {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
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
pub(super) const HOST_WORDS: [&str; 14] = [
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

fn bad(place: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> ManifestError {
    ManifestError::Value { place: place.into(), problem: quoted(&problem.into()), remedy: remedy.into() }
}
