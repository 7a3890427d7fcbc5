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
    /// This host alone, as the URL parser writes it.
    pub(super) fn exactly(host: String, port: Option<u16>) -> Self {
        Self { any_below: false, host, port }
    }

    /// Whether this host is among those meant, whatever the port.
    pub(super) fn names(&self, host: &str) -> bool {
        if self.any_below {
            host.strip_suffix(&self.host).is_some_and(|below| below.len() > 1 && below.ends_with('.'))
        } else {
            host == self.host
        }
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
        // The URL parser is the one that later reads the guest's URL, so both agree on every spelling.
        let url = Url::parse(&format!("https://{rest}/")).map_err(|_| problem())?;
        let plain = rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
        let host = url.host().ok_or_else(problem)?;
        let stands_alone = url.path() == "/" && url.username().is_empty() && url.query().is_none() && plain;
        let fits = match &host {
            Host::Domain(name) => name.len() <= 253 && (!any_below || name.trim_end_matches('.').contains('.')),
            _ => !any_below,
        };
        if !stands_alone || !fits || rest.ends_with('.') {
            return Err(problem());
        }
        Ok(Self { any_below, host: host.to_string(), port: url.port() })
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
