//! What a run has used, and where it stops.

use std::fmt;
use std::sync::Arc;

use clawhold_tenancy::RunLimits;
use clawhold_tenancy::quota::Allowance;
use clawhold_tenancy::run::Reason;
use wasmtime::{Engine, ResourceLimiter};

/// A run that the host ended. Raised as a trap, found again in the error by type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop(pub Reason);

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the run was stopped: {}", self.0)
    }
}

impl std::error::Error for Stop {}

/// A table's entry is a pointer and the room the engine keeps beside it.
const TABLE_ENTRY_BYTES: usize = 16;

/// Why a run may have no more memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Run,
    /// The tenant's runs together have all that they may.
    Tenant,
}

/// Counts memory over all memories and tables of a run, and draws it from the tenant's allowance until the run ends.
#[derive(Debug)]
pub(crate) struct Meter {
    most: u64,
    used: u64,
    allowance: Arc<Allowance>,
    pub(crate) exhausted: Option<Exhausted>,
}

impl Meter {
    pub(crate) fn new(limits: &RunLimits, allowance: Arc<Allowance>) -> Self {
        Self { most: limits.memory_bytes, used: 0, allowance, exhausted: None }
    }

    /// Memories and tables never shrink while a run lives, so what is used now is also the most that was.
    pub(crate) fn peak(&self) -> u64 {
        self.used
    }

    fn grow(&mut self, by: usize) -> wasmtime::Result<bool> {
        let by = by as u64;
        let used = self.used.checked_add(by).filter(|used| *used <= self.most);
        let refused = match used {
            Some(used) if self.allowance.draw(by) => {
                self.used = used;
                return Ok(true);
            }
            Some(_) => Exhausted::Tenant,
            None => Exhausted::Run,
        };
        self.exhausted = Some(refused);
        // A trap and not a failed `memory.grow`: guests turn the latter into an `unreachable` that explains nothing.
        Err(Stop(Reason::Memory).into())
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.allowance.give_back(self.used);
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Stop(Reason::Memory).into())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current).saturating_mul(TABLE_ENTRY_BYTES))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Stop(Reason::Memory).into())
    }
}

/// The state of one run: the sandbox's own meter, and what the host functions need.
#[derive(Debug)]
pub struct Guest<T> {
    pub(crate) meter: Meter,
    /// Why the run must end, once a host function that cannot raise a trap has said so.
    pub(crate) stopped: Option<Reason>,
    /// To make guest code look at `stopped` at once.
    pub(crate) engine: Engine,
    /// What the host functions work on.
    pub host: T,
}

impl<T> Guest<T> {
    /// Ends the run as soon as it is in guest code again, at its next loop or call. For host functions that have no
    /// way to raise a trap; others return [`Stop`].
    pub fn stop(&mut self, reason: Reason) {
        if self.stopped.is_none() {
            self.stopped = Some(reason);
            // The guest's own check comes at the next epoch. Once a run, so no guest can disturb others with it.
            self.engine.increment_epoch();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(bytes: u64) -> Meter {
        Meter::new(&RunLimits { memory_bytes: bytes, ..RunLimits::default() }, Allowance::new(u64::MAX))
    }

    #[test]
    fn runs_of_a_tenant_share_its_allowance_and_give_it_back() {
        let allowance = Allowance::new(1500);
        let limits = RunLimits { memory_bytes: 1000, ..RunLimits::default() };
        let (mut first, mut second) =
            (Meter::new(&limits, Arc::clone(&allowance)), Meter::new(&limits, Arc::clone(&allowance)));
        assert!(first.memory_growing(0, 1000, None).unwrap());
        assert!(second.memory_growing(0, 600, None).is_err());
        assert_eq!(second.exhausted, Some(Exhausted::Tenant));
        assert!(second.memory_growing(0, 500, None).unwrap());
        assert!(first.memory_growing(1000, 1001, None).is_err());
        assert_eq!(first.exhausted, Some(Exhausted::Run));
        drop(first);
        assert!(second.memory_growing(500, 1000, None).unwrap());
        drop(second);
        assert_eq!(allowance.used(), 0);
    }

    #[test]
    fn memories_and_tables_share_one_cap() {
        let mut meter = meter(1000);
        assert!(meter.memory_growing(0, 400, None).unwrap());
        assert!(meter.memory_growing(0, 400, None).unwrap());
        let refused = meter.table_growing(0, 13, None).unwrap_err();
        assert_eq!(refused.downcast_ref::<Stop>(), Some(&Stop(Reason::Memory)));
        assert!(meter.table_growing(0, 12, None).unwrap());
        assert_eq!(meter.peak(), 992);
    }

    #[test]
    fn an_absurd_growth_does_not_wrap_around() {
        let mut meter = meter(1000);
        assert!(meter.memory_growing(0, 10, None).unwrap());
        assert!(meter.memory_growing(0, usize::MAX, None).is_err());
        assert!(meter.table_growing(0, usize::MAX, None).is_err());
        assert_eq!(meter.peak(), 10);
    }
}
