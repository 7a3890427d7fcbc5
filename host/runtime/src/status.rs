//! How the host fares, for its operator.

use clawhold_tenancy::Permit;
use clawhold_tenancy::permit::{Host as HostResource, ShowHost};

use crate::Host;

/// How a host fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Why it cannot do its work now, if it cannot.
    pub problem: Option<String>,
    /// Runs under way.
    pub runs: u64,
    /// Runs that can go on at the same time.
    pub run_slots: u64,
    /// Hosts that share their quotas, this one included; `None` if quotas are this host's alone.
    pub limiter_hosts: Option<u64>,
    /// Whether quotas should be shared and cannot be: each host goes on with its part.
    pub limiter_apart: bool,
}

impl Host {
    /// How the host fares.
    pub async fn status(&self, _permit: &Permit<ShowHost, HostResource>) -> Status {
        let hosts = self.admission.limiter().hosts();
        Status {
            problem: self.ready().await.err().map(|problem| problem.to_string()),
            runs: self.running(),
            run_slots: u64::from(self.sandbox.run_slots()),
            limiter_hosts: hosts.map(|(hosts, _)| hosts),
            limiter_apart: hosts.is_some_and(|(_, apart)| apart),
        }
    }
}
