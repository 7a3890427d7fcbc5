//! The three imports of a skill: secrets, HTTP, audit; and WASI for a skill that is not pure. Policy in, host function
//! out.
//!
//! A [`RunHost`] is made for one run and dropped with it. It holds the run's policy and its journal; whatever the
//! guest asks for is judged by these and by nothing that the guest says of itself. What a run did is in its
//! [`Journal`], which the runtime keeps hold of, so that a run that ends badly is recorded as well.

mod address;
mod audit;
mod credential;
mod egress;
mod exits;
mod explain;
mod http;
mod journal;
mod leaks;
mod redirect;
mod secrets;
mod wasi;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ::http::HeaderValue;
use clawhold_limiter::Meter;
use clawhold_sandbox::{Guest, Linker, Stop, contract};
use clawhold_secret_store::{SecretStore, Versioned};
use clawhold_tenancy::policy::{HostCeiling, Policy};
use clawhold_tenancy::run::Reason;
use clawhold_tenancy::{PackageName, RunId, RunLimits, SecretName, TenantId, TraceId};
use wasmtime::component::{HasSelf, ResourceTable};

use crate::wasi::Wasi;

pub use address::{AddressRule, RefusedAddress};
pub use credential::AccessTokens;
pub use egress::{Egress, EgressSettings, Roots};
pub use explain::{Explained, explain};
pub use http::{Applied, Bounds, Incoming, Outgoing, Transport, TransportError};
pub use journal::{Exposed, Journal, Note};
pub use leaks::{Form, Leak, Leaks};
pub use wasi::{ScratchRoot, add_wasi_to_linker};

/// What a run reaches the world through. One set serves the whole host.
#[derive(Clone)]
pub struct Backends {
    /// Where the tenants' secrets are.
    pub secrets: Arc<dyn SecretStore>,
    /// How requests leave.
    pub transport: Arc<dyn Transport>,
    /// Where to at most.
    pub ceiling: Arc<HostCeiling>,
    /// What becomes of an answer that holds the value of a secret.
    pub on_leak: OnLeak,
    /// Where the scratch files of runs are.
    pub scratch: Arc<ScratchRoot>,
    /// Access tokens that are still good.
    pub tokens: Arc<AccessTokens>,
}

/// What becomes of an answer that holds the value of a secret.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnLeak {
    /// The value is taken out of it.
    #[default]
    Redact,
    /// There is none.
    Refuse,
}

/// For whom a run is, and what it may do.
#[derive(Clone)]
pub struct Authority {
    /// The tenant.
    pub tenant: TenantId,
    /// The install's policy.
    pub policy: Arc<Policy>,
    /// When the run ends.
    pub deadline: Instant,
    /// What requests say of who asks: the host and the package.
    pub agent: HeaderValue,
    /// How many runs led to this one: [`clawhold_tenancy::Context::depth`].
    pub depth: u8,
    /// Charges the tenant for what the run does.
    pub meter: Meter,
    /// Secrets and network.
    pub backends: Backends,
    /// The run.
    pub run: RunId,
    /// The trace that it belongs to.
    pub trace: TraceId,
}

/// The host's side of one run.
pub struct RunHost {
    /// Nothing while a package describes itself.
    authority: Option<Authority>,
    limits: RunLimits,
    journal: Arc<Mutex<Journal>>,
    handles: ResourceTable,
    /// Bytes that host calls have lifted out of the guest, and handed to it.
    lifted: u64,
    lowered: u64,
    /// Values that this run has asked for: a rotation in the middle of a run does not mix two.
    values: BTreeMap<SecretName, Versioned>,
    /// Made when the guest first calls WASI, so that a pure skill pays nothing for it.
    wasi: Option<Box<Wasi>>,
}

impl RunHost {
    /// A host for a run of an install.
    pub fn new(authority: Authority, limits: RunLimits) -> Self {
        Self::with(Some(authority), limits)
    }

    /// A host that grants nothing, for asking a package what it offers.
    pub fn without_authority(limits: RunLimits) -> Self {
        Self::with(None, limits)
    }

    fn with(authority: Option<Authority>, limits: RunLimits) -> Self {
        let journal = Arc::new(Mutex::new(Journal::default()));
        let mut handles = ResourceTable::new();
        // Each handle costs a host call, so a run cannot have more of them than that.
        handles.set_max_capacity(limits.host_calls.min(limits.handles) as usize);
        Self { authority, limits, journal, handles, lifted: 0, lowered: 0, values: BTreeMap::new(), wasi: None }
    }

    /// What the run does, to be read when it has ended.
    pub fn journal(&self) -> Arc<Mutex<Journal>> {
        Arc::clone(&self.journal)
    }

    fn note(&self) -> MutexGuard<'_, Journal> {
        lock(&self.journal)
    }

    /// Counts a host call and the bytes that it lifted out of the guest. Host calls cost neither fuel nor epochs: without
    /// this a loop over a cheap one would be free, and so would copying. Every host function begins here.
    fn charge(&mut self, lifted: usize) -> wasmtime::Result<()> {
        let mut journal = lock(&self.journal);
        journal.host_calls += 1;
        if journal.host_calls > self.limits.host_calls {
            return Err(Stop(Reason::HostCalls).into());
        }
        drop(journal);
        spend(&mut self.lifted, lifted, self.limits.lifted_bytes)
    }

    /// Counts bytes before they are handed to the guest.
    fn lower(&mut self, lowered: usize) -> wasmtime::Result<()> {
        spend(&mut self.lowered, lowered, self.limits.lowered_bytes)
    }
}

fn spend(spent: &mut u64, bytes: usize, most: u64) -> wasmtime::Result<()> {
    *spent = spent.saturating_add(bytes as u64);
    if *spent > most { Err(Stop(Reason::HostBytes).into()) } else { Ok(()) }
}

fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    // The journal is only appended to, so it is whole even if a thread panicked while it held the lock.
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds the three interfaces to the sandbox's linker.
pub fn add_to_linker(linker: &mut Linker<RunHost>) -> wasmtime::Result<()> {
    contract::Skill::add_to_linker::<_, HasSelf<RunHost>>(linker, |guest: &mut Guest<RunHost>| &mut guest.host)
}

/// Types alone; there is nothing to serve.
impl contract::clawhold::skill::types::Host for RunHost {}

/// What the requests of a package's skills say of who asks.
pub fn agent_of(package: &PackageName, version: &semver::Version) -> HeaderValue {
    let said = format!(concat!("Clawhold/", env!("CARGO_PKG_VERSION"), " ({}/{})"), package, version);
    HeaderValue::try_from(said).expect("names and versions have no characters that a header cannot carry")
}
