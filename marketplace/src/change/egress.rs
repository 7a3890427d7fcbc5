//! Ways out: which of them go further than others.

use std::collections::BTreeSet;

use clawhold_tenancy::SecretName;
use clawhold_tenancy::policy::{HttpRule, Method};

/// What `most` lets out and `least` does not.
///
/// A way is what one rule says with one method and one path. Hosts below a suffix and paths below a prefix are without
/// end, so some ways cover another between them only if one does it alone: to look at each by itself misses nothing.
pub(super) fn more(least: &[HttpRule], most: &[HttpRule]) -> Vec<String> {
    let (had, has): (Vec<Way>, Vec<Way>) = (ways(least), ways(most));
    let mut said = Vec::new();
    for way in &has {
        let carries = |secret: &SecretName| had.iter().any(|old| old.covers(way) && old.credentials.contains(secret));
        let more: Vec<&SecretName> = way.credentials.iter().filter(|secret| !carries(secret)).collect();
        if !had.iter().any(|old| old.covers(way)) {
            said.push(way.with(way.credentials));
        } else if !more.is_empty() {
            said.push(way.with(more));
        }
        if way.returns && !had.iter().any(|old| old.returns && old.covers(way)) {
            said.push(format!("see where {} redirects to", way.with([])));
        }
        // What an old way kept from being followed, where the new one lets the request out.
        let kept = |old: &&Way| old.returns && old.meets(way) && !has.iter().any(|new| new.returns && new.covers(old));
        if !way.returns && had.iter().any(|old| kept(&old)) {
            said.push(format!("follow redirects of {}", way.with([])));
        }
    }
    let mut seen = BTreeSet::new();
    said.retain(|line| seen.insert(line.clone()));
    said
}

struct Way<'a> {
    scheme: &'a str,
    hosts: Hosts,
    written: String,
    method: Method,
    path: &'a str,
    credentials: &'a BTreeSet<SecretName>,
    returns: bool,
}

fn ways(rules: &[HttpRule]) -> Vec<Way<'_>> {
    let mut ways = Vec::new();
    for rule in rules {
        for method in &rule.methods {
            for path in &rule.paths {
                ways.push(Way {
                    scheme: &rule.scheme,
                    hosts: Hosts::of(rule),
                    written: rule.host.to_string(),
                    method: *method,
                    path,
                    credentials: &rule.credentials,
                    returns: rule.returns_redirects,
                });
            }
        }
    }
    ways
}

impl Way<'_> {
    /// Whether every request that the other lets out is let out by this one.
    fn covers(&self, other: &Self) -> bool {
        self.scheme == other.scheme
            && self.method == other.method
            && self.hosts.cover(&other.hosts)
            && path_covers(self.path, other.path)
    }

    /// Whether there is a request that both let out.
    fn meets(&self, other: &Self) -> bool {
        let hosts = self.hosts.cover(&other.hosts) || other.hosts.cover(&self.hosts);
        let paths = path_covers(self.path, other.path) || path_covers(other.path, self.path);
        self.scheme == other.scheme && self.method == other.method && hosts && paths
    }

    fn with<'s>(&self, credentials: impl IntoIterator<Item = &'s SecretName>) -> String {
        let names: Vec<&str> = credentials.into_iter().map(SecretName::as_str).collect();
        let with = if names.is_empty() { String::new() } else { format!(" with {}", names.join(", ")) };
        format!("{} {}://{}{}{with}", self.method.as_str(), self.scheme, self.written, self.path)
    }
}

/// What a host pattern means: one host, or all below a suffix, at one port.
struct Hosts {
    any_below: bool,
    host: String,
    port: u16,
}

impl Hosts {
    fn of(rule: &HttpRule) -> Self {
        let written = rule.host.to_string();
        let (any_below, rest) = match written.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, &written[..]),
        };
        let port = rest.rsplit_once(':').filter(|(_, digits)| !digits.contains(']'));
        let (host, port) = match port.map(|(host, digits)| (host, digits.parse())) {
            Some((host, Ok(port))) => (host, port),
            _ => (rest, if rule.scheme == "http" { 80 } else { 443 }),
        };
        Self { any_below, host: host.to_owned(), port }
    }

    /// Of two that have a host in common, one covers the other: suffixes are nested or apart.
    fn cover(&self, other: &Self) -> bool {
        let below = || other.host.strip_suffix(&self.host).is_some_and(|more| more.ends_with('.'));
        let named = match (self.any_below, other.any_below) {
            (false, false) => self.host == other.host,
            (false, true) => false,
            (true, false) => below(),
            (true, true) => self.host == other.host || below(),
        };
        named && self.port == other.port
    }
}

/// Whether every path of the second pattern is one of the first. Of two with a path in common, one covers the other.
fn path_covers(pattern: &str, other: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => other.strip_suffix('*').unwrap_or(other).starts_with(prefix),
        None => pattern == other,
    }
}
