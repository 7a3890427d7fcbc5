//! What a limiter of several hosts asks of the place that they share.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::{Amounts, Quota, RATE_COUNT};

/// One check of a tenant: what is wanted, and what has changed since the last one.
#[derive(Debug, Clone)]
pub struct Check {
    /// The tenant.
    pub tenant: TenantId,
    /// What each rate allows, in the order of the rates.
    pub limits: [u64; RATE_COUNT],
    /// What is to be reserved: all of it or nothing.
    pub ask: Amounts,
    /// What was used and not reserved, or reserved and not used.
    pub changes: [i64; RATE_COUNT],
    /// Runs under way on this host.
    pub runs: Runs,
}

/// What a host says of a tenant's runs.
#[derive(Debug, Clone)]
pub struct Runs {
    /// How many there are.
    pub count: Count,
    /// Whether one more is to begin.
    pub wants: bool,
    /// How many there may be on all hosts.
    pub most: u64,
    /// How long they count if nothing is heard of this host: until the last of them must have ended.
    pub last: Duration,
}

/// How many runs a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// So many, which is so many more or less than it said last.
    Are { runs: u64, by: i64 },
    /// So many more or less than it said last: while checks are under way that may add one.
    Change(i64),
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How full each rate is now, rounded up.
    pub used: [u64; RATE_COUNT],
    /// Runs under way on all hosts.
    pub runs: u64,
    /// What stood against it.
    pub against: Option<Against>,
}

/// What stood against a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// A rate, by its place, and microseconds until there is room; `None` if there never is.
    Rate(usize, Option<u64>),
    /// The number of runs.
    Runs,
}

/// What the answer to a check is waited for with.
pub type Answer = Pin<Box<dyn Future<Output = Result<Verdict, Unreachable>> + Send>>;

/// The shared place did not answer in time, or not as it should.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the shared limiter did not answer: {0}")]
pub struct Unreachable(pub String);

/// A place that several hosts share. Each call is one atomic step there, by its clock.
#[async_trait]
pub trait Shared: Send + Sync + fmt::Debug {
    /// Checks and reserves, in the order of the calls: it is asked before this returns, and goes on if nobody waits for the answer.
    fn check(&self, check: Check) -> Answer;

    /// Says that this host lives, and tells how many do.
    async fn beat(&self) -> Result<u64, Unreachable>;

    /// Says how much memory a tenant's runs use on this host, and tells how much they use on the others.
    async fn memory(&self, tenant: &TenantId, own: u64) -> Result<u64, Unreachable>;

    /// This host's own name among the others.
    fn name(&self) -> &str;
}

/// A host's part of a tenant's quota, while hosts cannot ask one another: at least one of each thing.
pub(crate) fn part_of(quota: &Quota, hosts: u64) -> Quota {
    use clawhold_tenancy::quota::{Kind, TABLE};
    let parts = TABLE.iter().filter(|row| matches!(row.kind, Kind::Rate | Kind::Held));
    parts.fold(quota.clone(), |quota, row| {
        let part = (quota.get(row.dimension) / hosts.max(1)).max(row.least.min(1));
        quota.with(row.dimension, part)
    })
}
