//! Who may begin a run: what the tenant's quota says, and whether the host takes any.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clawhold_limiter::{Grant, Limiter, Meter};
use clawhold_sandbox::Payer;
use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::{Allowance, Amounts, Dimension, Quota};
use std::time::Instant;
use tokio::sync::Notify;

use crate::Problem;

/// Asks the limiter, and counts the runs of this host.
#[derive(Clone, Default)]
pub(crate) struct Admission(Arc<Inner>);

#[derive(Default)]
struct Inner {
    limiter: Arc<Limiter>,
    running: AtomicU64,
    closed: AtomicBool,
    emptied: Notify,
}

/// The right to run, given back on drop.
pub(crate) struct Ticket {
    grant: Grant,
    /// Whose share of slots and processor it uses.
    pub(crate) payer: Payer,
    _one: One,
}

/// One of the host's runs.
struct One(Arc<Inner>);

impl Ticket {
    /// What the run's memory is drawn from.
    pub(crate) fn memory(&self) -> &Arc<Allowance> {
        self.grant.books().memory()
    }

    /// What the tenant's runs may use of memory together, on all hosts.
    pub(crate) fn memory_limit(&self) -> u64 {
        self.grant.quota().amount(Dimension::Memory)
    }

    /// For what the run does meanwhile.
    pub(crate) fn meter(&self) -> &Meter {
        self.grant.meter()
    }

    /// How much of its calls the tenant has left.
    pub(crate) fn calls(&self) -> Calls {
        let (limit, calls) = (self.grant.quota().get(Dimension::SkillCalls), self.grant.calls());
        Calls { limit, left: limit.saturating_sub(calls.used), reset_s: calls.empty_in_us.div_ceil(1_000_000) }
    }

    /// Reserves the fuel that the run may use. More than the tenant's quota has there never is: what such a run uses beyond it is owed.
    pub(crate) async fn reserve_fuel(&mut self, fuel: u64) -> Result<(), Problem> {
        let ask = fuel_within(&self.grant.quota(), fuel);
        Ok(self.grant.reserve_more(Amounts::of(Dimension::Fuel, ask)).await?)
    }

    /// The run is recorded, and this is what it used.
    pub(crate) fn settle(self, fuel: u64) {
        let used = Amounts::of(Dimension::SkillCalls, 1).and(Dimension::AuditRecords, 1);
        self.grant.settle(&used.and(Dimension::Fuel, fuel));
    }
}

/// How a tenant's calls stand, for whoever paces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// `max_skill_calls_per_minute`
    pub limit: u64,
    /// How many more may be made at once.
    pub left: u64,
    /// Seconds until all of the limit may be.
    pub reset_s: u64,
}

fn fuel_within(quota: &Quota, fuel: u64) -> u64 {
    fuel.min(quota.amount(Dimension::Fuel))
}

impl Admission {
    pub(crate) fn new(limiter: Arc<Limiter>) -> Self {
        Self(Arc::new(Inner { limiter, ..Inner::default() }))
    }

    pub(crate) fn limiter(&self) -> &Arc<Limiter> {
        &self.0.limiter
    }

    /// Admits a call, with the fuel that it may use if that is known already.
    pub(crate) async fn enter(
        &self,
        tenant: &TenantId,
        quota: &Arc<Quota>,
        fuel: Option<u64>,
        until: Instant,
    ) -> Result<Ticket, Problem> {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        let one = One(Arc::clone(&self.0));
        // Looked at after it was counted: whoever closes and then finds nothing running has seen everybody who got past here.
        if self.is_closed() {
            return Err(Problem::stopping());
        }
        let ask = Amounts::of(Dimension::SkillCalls, 1).and(Dimension::AuditRecords, 1);
        let ask = fuel.map_or(ask, |fuel| ask.and(Dimension::Fuel, fuel_within(quota, fuel)));
        let grant = self.0.limiter.reserve(tenant, quota, ask, Some(until)).await?;
        let payer = Payer { name: Arc::clone(grant.books().name()), weight: quota.weight() };
        Ok(Ticket { grant, payer, _one: one })
    }

    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::SeqCst)
    }

    pub(crate) fn running(&self) -> u64 {
        self.0.running.load(Ordering::SeqCst)
    }

    /// Waits until nothing runs.
    pub(crate) async fn empty(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.running() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Drop for One {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn quota(runs: u64) -> Arc<Quota> {
        Arc::new(Quota::default().with(Dimension::ConcurrentRuns, runs))
    }

    async fn enter(admission: &Admission, tenant: &str, runs: u64) -> Result<Ticket, Problem> {
        let until = Instant::now() + Duration::from_mins(1);
        admission.enter(&tenant.parse().unwrap(), &quota(runs), Some(1), until).await
    }

    #[tokio::test]
    async fn a_tenant_at_its_limit_is_refused_and_others_are_not() {
        let admission = Admission::default();
        let first = enter(&admission, "acme-corp", 2).await.unwrap();
        let _second = enter(&admission, "acme-corp", 2).await.unwrap();
        let refused = enter(&admission, "acme-corp", 2).await;
        assert!(matches!(refused, Err(Problem::Quota { limit: 2, used: 2, .. })));
        let _other = enter(&admission, "globex", 2).await.unwrap();
        drop(first);
        assert!(enter(&admission, "acme-corp", 2).await.is_ok());
    }

    #[tokio::test]
    async fn a_closed_host_takes_nothing_new_and_waits_for_the_rest() {
        let admission = Admission::default();
        let ticket = enter(&admission, "acme-corp", 2).await.unwrap();
        admission.close();
        assert!(matches!(enter(&admission, "acme-corp", 2).await, Err(Problem::Unavailable(_))));
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.empty().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(ticket);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_run_that_may_use_more_than_the_quota_has_reserves_the_quota_and_owes_the_rest() {
        let admission = Admission::default();
        let quota = Arc::new(Quota::default().with(Dimension::Fuel, 1_000_000));
        let (tenant, until) = ("acme-corp".parse().unwrap(), Instant::now() + Duration::from_mins(1));
        let ticket = admission.enter(&tenant, &quota, Some(1_000_000_000), until).await.unwrap();
        assert!(admission.enter(&tenant, &quota, Some(1_000_000_000), until).await.is_err());
        ticket.settle(2_000_000);
        let refused = admission.enter(&tenant, &quota, Some(1), until).await;
        let Err(Problem::Quota { dimension: "max_fuel_per_minute", reset_s: Some(reset), .. }) = refused else {
            panic!("it owes a minute's fuel")
        };
        assert!((59..=61).contains(&reset), "{reset}");
    }
}
