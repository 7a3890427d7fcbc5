//! How many runs a tenant has at a time, and whether the host takes any.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use clawhold_sandbox::{Allowance, Payer};
use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::Quota;
use tokio::sync::watch;

use crate::Problem;

/// Counts runs. Only tenants with a run are in it, so made-up ids cost nothing.
#[derive(Clone)]
pub(crate) struct Admission(Arc<Inner>);

struct Inner {
    running: Mutex<HashMap<TenantId, Running>>,
    /// All runs together; and whether new ones are taken.
    total: watch::Sender<u64>,
    closed: std::sync::atomic::AtomicBool,
}

impl Default for Admission {
    fn default() -> Self {
        let (total, _) = watch::channel(0);
        Self(Arc::new(Inner { running: Mutex::default(), total, closed: false.into() }))
    }
}

/// What a tenant's runs that are under way have in common.
struct Running {
    runs: u32,
    memory: Arc<Allowance>,
    payer: Payer,
}

/// The right to run, given back on drop.
pub(crate) struct Ticket {
    admission: Admission,
    tenant: TenantId,
    /// What the run's memory is drawn from.
    pub(crate) memory: Arc<Allowance>,
    /// Whose share of slots and processor it uses.
    pub(crate) payer: Payer,
}

impl Admission {
    pub(crate) fn enter(&self, tenant: &TenantId, quota: &Quota) -> Result<Ticket, Problem> {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed() {
            return Err(Problem::stopping());
        }
        let used = running.get(tenant).map_or(0, |running| running.runs);
        if used >= quota.max_concurrent_runs {
            return Err(Problem::Quota {
                dimension: "max_concurrent_runs",
                limit: quota.max_concurrent_runs.into(),
                used: used.into(),
            });
        }
        let entry = running.entry(tenant.clone()).or_insert_with(|| Running {
            runs: 0,
            memory: Allowance::new(quota.max_memory_bytes),
            payer: Payer { name: tenant.as_str().into(), weight: quota.weight },
        });
        entry.runs += 1;
        let (memory, payer) = (Arc::clone(&entry.memory), entry.payer.clone());
        self.0.total.send_modify(|total| *total += 1);
        Ok(Ticket { admission: self.clone(), tenant: tenant.clone(), memory, payer })
    }

    pub(crate) fn close(&self) {
        let _ordered = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.closed.store(true, std::sync::atomic::Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.load(std::sync::atomic::Ordering::Acquire)
    }

    pub(crate) fn running(&self) -> u64 {
        *self.0.total.borrow()
    }

    /// Waits until nothing runs.
    pub(crate) async fn empty(&self) {
        let mut total = self.0.total.subscribe();
        let _sender_lives = total.wait_for(|total| *total == 0).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut running = self.admission.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = running.get_mut(&self.tenant) {
            entry.runs -= 1;
            if entry.runs == 0 {
                running.remove(&self.tenant);
            }
        }
        self.admission.0.total.send_modify(|total| *total -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(max_concurrent_runs: u32) -> Quota {
        Quota { max_concurrent_runs, ..Quota::default() }
    }

    #[test]
    fn a_tenant_at_its_limit_is_refused_and_others_are_not() {
        let admission = Admission::default();
        let (acme, globex) = ("acme-corp".parse().unwrap(), "globex".parse().unwrap());
        let first = admission.enter(&acme, &quota(2)).unwrap();
        let _second = admission.enter(&acme, &quota(2)).unwrap();
        assert!(matches!(admission.enter(&acme, &quota(2)), Err(Problem::Quota { limit: 2, used: 2, .. })));
        let _other = admission.enter(&globex, &quota(2)).unwrap();
        drop(first);
        assert!(admission.enter(&acme, &quota(2)).is_ok());
    }

    #[test]
    fn hostile_08_tenants_without_a_run_take_no_room() {
        let admission = Admission::default();
        for i in 0..10_000 {
            drop(admission.enter(&format!("tenant-{i}").parse().unwrap(), &quota(1)));
        }
        assert!(admission.0.running.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_closed_host_takes_nothing_new_and_waits_for_the_rest() {
        let admission = Admission::default();
        let acme = "acme-corp".parse().unwrap();
        let ticket = admission.enter(&acme, &quota(2)).unwrap();
        admission.close();
        assert!(matches!(admission.enter(&acme, &quota(2)), Err(Problem::Unavailable(_))));
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.empty().await }
        });
        assert!(!waiting.is_finished());
        drop(ticket);
        waiting.await.unwrap();
    }
}
