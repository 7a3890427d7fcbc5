//! The use-cases: what the API, the command line and the console can ask of a host.
//!
//! Each is a method of [`Host`] that takes the caller's [`Context`](clawhold_tenancy::Context) and a
//! [`Permit`](clawhold_tenancy::Permit), so none can be reached without the check that mints one.

mod admission;
mod audit;
mod auth;
mod authentic;
mod details;
mod failures;
mod fit;
mod fresh;
mod grants;
mod heads;
mod index;
mod installs;
mod invoke;
mod kept;
mod keys;
mod leaks;
mod market;
mod marks;
pub mod oci;
mod packages;
mod problem;
mod publishers;
mod pure;
mod quickest;
mod quotas;
mod recording;
mod refused;
mod resolve;
mod rows;
mod runs;
mod secrets;
mod status;
mod sums;
mod tampered;
mod tenants;
mod tokens;
mod upgrades;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use clawhold_capabilities::{Backends, RunHost};
use clawhold_limiter::{Held, Limiter};
use clawhold_sandbox::{Counts, Sandbox};
use clawhold_store::{RunWriter, Store};
use clawhold_telemetry::{HostLevel, Level, Metrics};
use clawhold_tenancy::RunLimits;
use clawhold_tenancy::quota::Quotas;
use tokio::sync::Semaphore;

pub use admission::Calls;
pub use audit::Export;
pub use auth::BearerToken;
pub use authentic::Authentic;
pub use clawhold_capabilities::Explained;
pub use clawhold_marketplace as marketplace;
pub use clawhold_marketplace::{Plan, SecretPlan, SkillSpec};
pub use clawhold_store::audit::{Entry, Verification};
pub use clawhold_store::{
    Counts as StoreCounts, GrantRow, Install, InstalledSkill, Package, SecretInfo, Tenant, TenantState, Token, Version,
};
pub use details::{Detail, Details};
pub use heads::{HeadFile, HeadSink, Heads};
pub use index::{INDEX_LIFE, IndexKeeping};
pub use installs::{InstallAsk, PlanView};
pub use invoke::Invoked;
pub use kept::Once;
pub use keys::Rotated;
pub use market::{About, DeletedPackage, Installed, StatusAsk, Summary, VersionStatus};
pub use packages::{PublicationPlace, PublishedPackage, Stage, Upload};
pub use problem::Problem;
pub use publishers::{KeyAsk, PublisherView};
pub use quotas::QuotaView;
pub use rows::{StoreKeys, StoreRows};
pub use status::Status;
pub use tokens::{MadeToken, TokenAsk};
pub use usage::{DimensionUse, SkillUsage, UsageView, retained_since};

/// How long a host that stops waits for access tokens that are being fetched, though nobody waits for them any more.
const EXCHANGES: Duration = Duration::from_secs(10);

/// How long a check of health waits for the database.
const READY: Duration = Duration::from_secs(2);

/// What a host is made of. Only the composition root chooses the drivers.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Seals the detail of audit entries.
    pub details: Arc<Details>,
    /// Signs the heads of audit chains.
    pub heads: Heads,
    /// Runs components.
    pub sandbox: Sandbox<RunHost>,
    /// Secrets and network.
    pub backends: Backends,
    /// The most that any run may use.
    pub ceiling: RunLimits,
    /// What each tenant may use.
    pub quotas: Quotas,
    /// Keeps the tenants' accounts: this host's own, or those that several hosts share.
    pub limiter: Arc<Limiter>,
    /// What is counted for those who watch.
    pub metrics: Metrics,
    /// Whether no tenant may run skills on WASI.
    pub require_pure: bool,
    /// What the marketplace asks for.
    pub market: MarketRules,
    /// How the index of packages is kept.
    pub index: IndexKeeping,
    /// What authenticates rows that decide what runs.
    pub authentic: Authentic,
    /// Packages for OCI clients.
    pub registry: oci::RegistrySettings,
}

/// What the marketplace asks for.
#[derive(Debug, Clone)]
pub struct MarketRules {
    /// Whether packages must be signed.
    pub signatures: Signatures,
    /// How old a version must be before an install follows it by itself.
    pub cool_down: Duration,
}

/// Whether packages must be signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Signatures {
    /// By a key of their publisher's.
    #[default]
    Required,
    /// A signature that is there must be good, and there need not be one.
    Optional,
}

/// One Clawhold host.
pub struct Host {
    store: Store,
    details: Arc<Details>,
    heads: Heads,
    writer: RunWriter,
    sandbox: Sandbox<RunHost>,
    backends: Backends,
    ceiling: RunLimits,
    quotas: quotas::Effective,
    require_pure: bool,
    market: MarketRules,
    index: index::KeptIndex,
    authentic: Authentic,
    tampered: tampered::Tampered,
    changes: market::Changes,
    fresh: Arc<fresh::Fresh>,
    auth: auth::Tokens,
    resolved: resolve::Resolved,
    admission: admission::Admission,
    quickest: quickest::Quickest,
    usage: usage::Usage,
    metrics: Metrics,
    publications: packages::Publications,
    registry: oci::Registry,
    under_way: kept::UnderWay,
    exports: audit::Exports,
    /// One verification of a chain at a time.
    verifying: Semaphore,
}

impl Host {
    /// Puts a host together and starts its writer. Must be called on a tokio runtime.
    pub fn new(parts: Parts) -> Arc<Self> {
        if let Some(tampered) = parts.sandbox.tampered() {
            tokio::spawn(packages::note_tampering(parts.store.clone(), Arc::clone(&parts.details), tampered));
        }
        let fresh = Arc::<fresh::Fresh>::default();
        let changes = parts.store.changes();
        let host = Arc::new(Self {
            writer: RunWriter::start(parts.store.clone()),
            store: parts.store,
            details: parts.details,
            heads: parts.heads,
            sandbox: parts.sandbox,
            backends: parts.backends,
            ceiling: parts.ceiling,
            quotas: quotas::Effective::new(parts.quotas, Arc::clone(&fresh)),
            require_pure: parts.require_pure,
            market: parts.market,
            index: index::KeptIndex::new(parts.index),
            authentic: parts.authentic,
            tampered: tampered::Tampered::default(),
            changes: market::Changes::default(),
            auth: auth::Tokens::new(Arc::clone(&fresh)),
            resolved: resolve::Resolved::new(Arc::clone(&fresh)),
            fresh,
            admission: admission::Admission::new(parts.limiter),
            quickest: quickest::Quickest::default(),
            usage: usage::Usage::default(),
            metrics: parts.metrics,
            publications: packages::Publications::default(),
            registry: oci::Registry::new(parts.registry),
            under_way: kept::UnderWay::default(),
            exports: audit::Exports::default(),
            verifying: Semaphore::new(1),
        });
        tokio::spawn(heads::keep(Arc::downgrade(&host)));
        tokio::spawn(auth::keep_uses(Arc::downgrade(&host)));
        tokio::spawn(refused::keep_telling(Arc::downgrade(&host)));
        tokio::spawn(usage::keep(Arc::downgrade(&host)));
        tokio::spawn(index::keep(Arc::downgrade(&host)));
        tokio::spawn(index::keep_telling(Arc::downgrade(&host)));
        tokio::spawn(upgrades::keep(Arc::downgrade(&host)));
        tokio::spawn(oci::keep(Arc::downgrade(&host)));
        if let Some(changes) = changes {
            tokio::spawn(fresh::listen(Arc::downgrade(&host), changes));
        }
        host
    }

    /// Whether the host can do its work: the database answers and the host is not stopping.
    pub async fn ready(&self) -> Result<(), Problem> {
        if self.admission.is_closed() {
            return Err(Problem::stopping());
        }
        if self.writer.is_down() {
            return Err(Problem::Unavailable("the audit log cannot be written".to_owned()));
        }
        let answered = tokio::time::timeout(READY, self.store.ready()).await;
        answered
            .map_err(|_late| Problem::Unavailable("the database does not answer".to_owned()))?
            .map_err(Problem::from)
    }

    /// What the sandbox and the store have done: for tests that count, and for metrics.
    pub fn counts(&self) -> (Counts, StoreCounts) {
        (self.sandbox.counts(), self.store.counts())
    }

    /// What is counted for those who watch, as Prometheus reads it.
    pub fn metrics(&self) -> String {
        let limiter = self.admission.limiter();
        let host = HostLevel {
            slots: u64::from(self.sandbox.run_slots()),
            limiter_tenants: limiter.tenants() as u64,
            limiter_hosts: limiter.hosts().map_or(1, |(hosts, _)| hosts),
            limiter_apart: limiter.hosts().is_some_and(|(_, apart)| apart),
        };
        let levels = limiter.levels();
        let level = |of: &Held| Level { runs: of.runs, queued: of.queued, memory_bytes: of.memory_bytes };
        self.metrics.set_levels(&host, levels.iter().map(|(tenant, held)| (tenant.as_str(), level(held))));
        self.metrics.text()
    }

    /// Runs that are under way.
    pub fn running(&self) -> u64 {
        self.admission.running()
    }

    /// Takes no new runs, lets the running ones finish until `patience` is over, cuts the rest, and commits what
    /// they have done.
    pub async fn stop(self: &Arc<Self>, patience: Duration) {
        self.admission.close();
        if tokio::time::timeout(patience, self.admission.empty()).await.is_err() {
            tracing::warn!("runs were still going when the time to stop was over; they are cut");
            self.sandbox.cut();
            // What is cut ends within a tick; a schema check that has begun can outlast that, and nobody waits for it.
            if tokio::time::timeout(Duration::from_secs(2), self.admission.empty()).await.is_err() {
                tracing::warn!("runs could not be cut; their callers get no answer");
            }
        }
        if tokio::time::timeout(EXCHANGES, self.backends.tokens.idle()).await.is_err() {
            tracing::warn!(
                "an access token was being fetched when the host stopped; a refresh token may have to be put anew"
            );
        }
        self.tell_refused_at_the_end().await;
        self.write_usage_at_the_end().await;
        self.writer.close().await;
        self.write_uses().await;
        self.heads.put(&self.store).await;
        self.store.close().await;
    }
}
