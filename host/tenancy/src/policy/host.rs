//! Host patterns of rules, read by the URL parser that also reads a guest's URLs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Hosts that a rule covers: one name or address, or every name below a suffix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPattern {
    any_below: bool,
    /// Lower case, without the `*.`.
    host: String,
    port: Option<u16>,
}

impl HostPattern {
    /// The one host and port of a URL; nothing for a host that a pattern cannot name.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let host = url.host_str()?.to_owned();
        // Left out only where a pattern without one means the same.
        let port = if url.scheme() == "https" { url.port() } else { url.port_or_known_default() };
        let exact = Self { any_below: false, host, port };
        // A policy is kept as text: what does not read back as itself would mean something else later.
        exact.to_string().parse().ok().filter(|read: &Self| *read == exact)
    }

    /// Whether this host is among those meant, whatever the port.
    pub(super) fn names(&self, host: &str) -> bool {
        if self.any_below {
            host.strip_suffix(&self.host).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        } else {
            host == self.host
        }
    }

    /// A host and port that it means; below a suffix, one that nobody names by accident.
    pub(super) fn sample(&self) -> String {
        let host = if self.any_below { format!("any-host-below.{}", self.host) } else { self.host.clone() };
        self.port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }

    /// Whether the other pattern means something that this one means as well, below its suffix.
    pub(super) fn has_below(&self, other: &Self) -> bool {
        self.any_below && self.names(&other.host)
    }

    /// Whether some host and port is meant by both.
    pub fn meets(&self, other: &Self) -> bool {
        // A pattern without a port means that of https.
        let port = |pattern: &Self| pattern.port.unwrap_or(443);
        let names = self.names(&other.host)
            || other.names(&self.host)
            || self.host == other.host && self.any_below == other.any_below;
        port(self) == port(other) && names
    }

    pub(super) fn covers(&self, host: &str, port: u16, default_port: u16) -> bool {
        port == self.port.unwrap_or(default_port) && self.names(host)
    }
}

impl FromStr for HostPattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let problem = || format!("{text:?} is no host pattern");
        let (any_below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // The port is read here: the URL parser drops one that is the scheme's own, and a rule for another scheme
        // would then mean another port than was written.
        let (name, port) = match rest.rsplit_once(':') {
            Some((name, digits)) if !digits.contains(']') => (name, Some(digits.parse().map_err(|_| problem())?)),
            _ => (rest, None),
        };
        // The URL parser is the one that later reads the guest's URL, so both agree on every spelling.
        let url = Url::parse(&format!("https://{name}/")).map_err(|_| problem())?;
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
        let host = url.host().ok_or_else(problem)?;
        let stands_alone = url.path() == "/" && url.username().is_empty() && url.query().is_none() && plain;
        let fits = match &host {
            Host::Domain(name) => name.len() <= 253 && (!any_below || name.trim_end_matches('.').contains('.')),
            _ => !any_below,
        };
        if !stands_alone || !fits || name.ends_with('.') || url.port().is_some() || port == Some(0) {
            return Err(problem());
        }
        Ok(Self { any_below, host: host.to_string(), port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.any_below {
            f.write_str("*.")?;
        }
        f.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Serialize for HostPattern {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}
