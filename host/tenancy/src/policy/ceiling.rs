//! What the operator lets any tenant's skills reach.

use url::Url;

use super::{By, Denial, HostPattern, HttpRule};

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
