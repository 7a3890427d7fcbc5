//! `egress`: what skills may reach.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::bail;
use clawhold_capabilities::{AddressRule, EgressSettings, Roots};
use clawhold_tenancy::TenantId;
use clawhold_tenancy::policy::{HostCeiling, HostPattern};
use ipnet::IpNet;
use serde::Deserialize;

/// `egress`
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EgressConfig {
    /// Ranges of private addresses that skills may reach, such as `10.1.0.0/16`.
    pub open: Vec<IpNet>,
    /// What single tenants' skills may reach beside that.
    pub tenants: BTreeMap<TenantId, TenantEgress>,
    /// Hosts that skills may reach, and no others, unless this is empty: names, `*.` and a suffix, `:port` when it is not 443.
    pub allow: Vec<HostPattern>,
    /// Hosts that no skill may reach.
    pub deny: Vec<HostPattern>,
    /// DNS servers, such as `10.0.0.2` or `127.0.0.1:5353`; the system's if there are none.
    pub dns: Vec<DnsServer>,
    /// An HTTP proxy, `http://host:port`. The environment's is never used.
    pub proxy: Option<String>,
    /// Who certifies servers: `platform`, `bundled` or a PEM file.
    pub roots: Option<String>,
    /// Requests of one tenant at a time. 64.
    pub requests_at_once: Option<usize>,
    /// How long the first byte of an answer may take, in seconds. 30.
    pub first_byte_s: Option<u64>,
}

/// `egress.tenants.TENANT`
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantEgress {
    /// Ranges of private addresses that this tenant's skills may reach.
    pub open: Vec<IpNet>,
}

/// An address of a DNS server, with its port if that is not 53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DnsServer(SocketAddr);

impl TryFrom<String> for DnsServer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let with_port = |ip: IpAddr| SocketAddr::new(ip, 53);
        let read = text.parse().or_else(|_| text.parse().map(with_port));
        read.map(Self).map_err(|_| format!("{text:?} is no address of a DNS server; write 10.0.0.2 or 127.0.0.1:5353"))
    }
}

impl EgressConfig {
    /// The way out that this describes.
    ///
    /// # Errors
    ///
    /// When a value cannot be used; the error names its key.
    pub fn settings(&self) -> anyhow::Result<EgressSettings> {
        let defaults = EgressSettings::default();
        let proxy = self.proxy.as_deref().map(|text| {
            let uri: http::Uri = text.parse().ok().filter(|uri: &http::Uri| uri.scheme_str() == Some("http"))?;
            let is_plain = uri.authority().is_some_and(|of| !of.as_str().contains('@'));
            (uri.host().is_some() && is_plain).then_some(uri)
        });
        let proxy = match proxy {
            Some(None) => bail!("egress.proxy: write http://host:port; a proxy that asks for a password is not served"),
            other => other.flatten(),
        };
        let at_once = self.requests_at_once.unwrap_or(defaults.at_once);
        if !(1..=10_000).contains(&at_once) {
            bail!("egress.requests_at_once: use 1 to 10000");
        }
        let first_byte = self.first_byte_s.map_or(defaults.first_byte, Duration::from_secs);
        if !(1..=3_600).contains(&first_byte.as_secs()) {
            bail!("egress.first_byte_s: use 1 to 3600 seconds");
        }
        Ok(EgressSettings {
            rule: AddressRule { open: self.open.clone() },
            tenants: self.tenants.iter().map(|(tenant, egress)| (tenant.clone(), egress.open.clone())).collect(),
            dns: self.dns.iter().map(|server| server.0).collect(),
            proxy,
            roots: match self.roots.as_deref() {
                None | Some("platform") => Roots::Platform,
                Some("bundled") => Roots::Bundled,
                Some(path) => Roots::File(path.into()),
            },
            at_once,
            first_byte,
        })
    }

    /// The hosts that skills may reach at most.
    pub fn ceiling(&self) -> HostCeiling {
        HostCeiling { allow: self.allow.clone(), deny: self.deny.clone() }
    }
}
