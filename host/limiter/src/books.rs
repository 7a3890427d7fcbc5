//! One tenant's account.

mod elsewhere;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::{Account, Allowance, Amounts, Dimension, Lease, Over, Quota, RATES};

pub(crate) use elsewhere::Later;
use elsewhere::Pending;

use crate::watch::{Observed, Watch};

/// One tenant's books.
#[derive(Debug)]
pub struct Books {
    tenant: TenantId,
    /// The tenant's id, as those know it who only know names.
    name: Arc<str>,
    memory: Arc<Allowance>,
    state: Mutex<State>,
    /// Whether there is a shared place that must hear of what happens here.
    shared: bool,
    /// They are about to be forgotten, unless somebody has them in hand.
    going: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    account: Account,
    watch: Watch,
    /// Runs that wait for a place.
    queued: u64,
    /// The whole quota that was asked with last, for what happens while nobody asks.
    quota: Option<Arc<Quota>>,
    /// What other hosts' runs use of the tenant's memory, as they said last.
    elsewhere: u64,
    /// Runs under way on all hosts, as it was heard last.
    runs: u64,
    pending: Pending,
    /// Since hosts went apart: the last lease before that, and what was used since. The shared place has heard of nothing of it.
    apart: Option<(u64, Account)>,
}

/// What a tenant uses of a dimension now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// In what the host counts; of a rate, with what is reserved.
    pub used: u64,
    /// What of it is reserved and may be given back.
    pub reserved: u64,
    /// Microseconds until nothing of a rate is used.
    pub empty_in_us: u64,
}

/// What a tenant holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Runs under way, those that wait included.
    pub runs: u64,
    /// Runs that wait for a place.
    pub queued: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl Books {
    pub(crate) fn new(tenant: &TenantId, shared: bool) -> Self {
        Self {
            tenant: tenant.clone(),
            name: tenant.as_str().into(),
            memory: Allowance::new(0),
            state: Mutex::default(),
            shared,
            going: false.into(),
        }
    }

    /// Whether they may be forgotten now. Whoever takes them in hand afterwards sees that they go; whoever did before is seen here.
    pub(crate) fn may_go(self: &Arc<Self>, now_us: u64) -> bool {
        if !self.is_idle(now_us) {
            return false;
        }
        self.going.store(true, Ordering::SeqCst);
        // The map's is the only one.
        let alone = Arc::strong_count(self) == 1 && self.is_idle(now_us);
        if !alone {
            self.going.store(false, Ordering::SeqCst);
        }
        alone
    }

    /// Whether what was taken in hand may be written in.
    pub(crate) fn stays(&self) -> bool {
        !self.going.load(Ordering::SeqCst)
    }

    /// Whose they are.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The same as a name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What the tenant's runs draw their memory from.
    pub fn memory(&self) -> &Arc<Allowance> {
        &self.memory
    }

    pub(crate) fn reserve(
        &self,
        (whole, quota): (&Arc<Quota>, &Quota),
        ask: &Amounts,
        run_until_us: Option<u64>,
        now_us: u64,
    ) -> Result<(Lease, Standing), Over> {
        let mut state = self.lock();
        self.asked(&mut state, whole, quota);
        let State { account, watch, apart, pending, .. } = &mut *state;
        match account.reserve(quota, ask, run_until_us, now_us) {
            Ok(lease) => {
                match apart {
                    Some((_, since)) => since.owe(ask),
                    // The tenant came when hosts were apart already: nobody has heard of this.
                    None if self.shared => pending.change(&Amounts::default(), ask),
                    None => {}
                }
                Ok((lease, begun(&mut state, quota, run_until_us.is_some(), now_us)))
            }
            Err(over) => {
                watch.over(&over, now_us);
                Err(over)
            }
        }
    }

    /// Something is going to be charged under this quota, without asking before.
    pub(crate) fn know(&self, quota: &Arc<Quota>) {
        self.lock().know(quota);
    }

    /// Somebody asks under this quota, of which so much holds here.
    fn asked(&self, state: &mut State, whole: &Arc<Quota>, here: &Quota) {
        self.memory.set_most(here.amount(Dimension::Memory).saturating_sub(state.elsewhere));
        state.know(whole);
    }

    pub(crate) fn reserve_more(
        &self,
        quota: &Quota,
        lease: &mut Lease,
        ask: &Amounts,
        now_us: u64,
    ) -> Result<(), Over> {
        let mut state = self.lock();
        let State { account, watch, apart, pending, .. } = &mut *state;
        account.reserve_more(quota, lease, ask, now_us).inspect_err(|over| watch.over(over, now_us))?;
        match apart {
            Some((_, since)) => since.owe(ask),
            None if self.shared => pending.change(&Amounts::default(), ask),
            None => {}
        }
        Ok(())
    }

    pub(crate) fn settle(&self, quota: &Quota, lease: Lease, used: &Amounts, now_us: u64) {
        let mut state = self.lock();
        let (reserved, number) = (*lease.reserved(), lease.number());
        self.changed(&mut state, number, &reserved, used);
        let State { account, watch, .. } = &mut *state;
        account.settle(lease, used);
        see(account, watch, quota, &[reserved, *used], now_us);
    }

    pub(crate) fn charge(&self, quota: &Quota, ask: &Amounts, now_us: u64) -> Result<(), Over> {
        let mut state = self.lock();
        let State { account, watch, .. } = &mut *state;
        account.charge(quota, ask, now_us).inspect_err(|over| watch.over(over, now_us))?;
        self.changed(&mut state, u64::MAX, &Amounts::default(), ask);
        let State { account, watch, .. } = &mut *state;
        see(account, watch, quota, &[*ask], now_us);
        Ok(())
    }

    pub(crate) fn hold(&self, quota: &Quota, ask: &Amounts, now_us: u64) -> Result<Lease, Over> {
        let mut state = self.lock();
        let State { account, watch, .. } = &mut *state;
        let lease = account.reserve(quota, ask, None, now_us).inspect_err(|over| watch.over(over, now_us))?;
        self.changed(&mut state, u64::MAX, &Amounts::default(), ask);
        Ok(lease)
    }

    pub(crate) fn owe(&self, quota: &Quota, used: &Amounts, now_us: u64) {
        let mut state = self.lock();
        self.changed(&mut state, u64::MAX, &Amounts::default(), used);
        let State { account, watch, .. } = &mut *state;
        account.owe(used);
        see(account, watch, quota, &[*used], now_us);
    }

    /// A run begins to wait for a place, if the queue has one.
    pub(crate) fn queue(&self, quota: &Quota, now_us: u64) -> Result<(), Over> {
        let limit = quota.get(Dimension::Queue);
        let mut state = self.lock();
        let used = state.queued;
        if used >= limit {
            let over = Over { dimension: Dimension::Queue, limit, used, wait_us: None };
            state.watch.over(&over, now_us);
            return Err(over);
        }
        state.queued += 1;
        state.watch.used(Dimension::Queue, used + 1, limit, now_us);
        Ok(())
    }

    pub(crate) fn leave_queue(&self) {
        let mut state = self.lock();
        state.queued = state.queued.saturating_sub(1);
    }

    pub(crate) fn standing(&self, quota: &Quota, dimension: Dimension, now_us: u64) -> Standing {
        let mut state = self.lock();
        match dimension {
            Dimension::Memory => Standing { used: self.memory.used() + state.elsewhere, ..Standing::default() },
            Dimension::Queue => Standing { used: state.queued, ..Standing::default() },
            Dimension::ConcurrentRuns => {
                let here = state.account.used(quota, dimension, now_us);
                Standing { used: here.max(state.runs), ..Standing::default() }
            }
            _ => standing(&mut state.account, quota, dimension, now_us),
        }
    }

    pub(crate) fn held(&self, now_us: u64) -> Held {
        let mut state = self.lock();
        let runs = state.account.used(&Quota::default(), Dimension::ConcurrentRuns, now_us);
        Held { runs, queued: state.queued, memory_bytes: self.memory.used() }
    }

    pub(crate) fn note_refused(&self, dimension: Dimension) {
        self.lock().watch.refused(dimension, 1);
    }

    /// A limit that is checked elsewhere has this much in use.
    pub(crate) fn note_used(&self, dimension: Dimension, used: u64, limit: u64, now_us: u64) {
        self.lock().watch.used(dimension, used, limit, now_us);
    }

    pub(crate) fn take_observed(&self, now_us: u64) -> Option<Observed> {
        let (refused, peak) = (self.memory.take_refused(), self.memory.take_peak());
        let mut state = self.lock();
        let limit = state.quota.as_ref().map_or(0, |quota| quota.amount(Dimension::Memory));
        if refused > 0 {
            let over = Over { dimension: Dimension::Memory, limit, used: peak, wait_us: None };
            state.watch.over(&over, now_us);
            state.watch.refused(Dimension::Memory, refused - 1);
        }
        if peak > 0 {
            state.watch.used(Dimension::Memory, peak, limit, now_us);
        }
        state.watch.take()
    }

    pub(crate) fn is_idle(&self, now_us: u64) -> bool {
        let mut state = self.lock();
        let told = !state.has_news();
        let State { account, watch, quota, queued, apart, .. } = &mut *state;
        let is_idle = |account: &mut Account| quota.as_ref().is_none_or(|quota| account.is_idle(quota, now_us));
        self.memory.used() == 0
            && *queued == 0
            && told
            && watch.is_idle(now_us)
            && apart.as_mut().is_none_or(|(_, since)| is_idle(since))
            && is_idle(account)
    }

    /// Something was used under a lease, or under none. What the shared place knows of goes on there, also when it comes while hosts
    /// are apart.
    fn changed(&self, state: &mut State, lease: u64, reserved: &Amounts, used: &Amounts) {
        match &mut state.apart {
            Some((before, since)) if lease > *before => since.correct(reserved, used),
            _ if self.shared => state.pending.change(reserved, used),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of an account is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn know(&mut self, quota: &Arc<Quota>) {
        if self.quota.as_ref().is_none_or(|known| !Arc::ptr_eq(known, quota)) {
            self.quota = Some(Arc::clone(quota));
        }
    }

    /// Whether there is something that the shared place has not heard.
    fn has_news(&self) -> bool {
        let Self { account, pending, apart, .. } = self;
        let runs = i64::try_from(account.runs().len()).unwrap_or(i64::MAX);
        pending.runs != runs || pending.changes.iter().any(|change| *change != 0) || apart.is_some()
    }
}

/// A lease was admitted: how the tenant's calls stand now.
fn begun(state: &mut State, quota: &Quota, is_run: bool, now_us: u64) -> Standing {
    let State { account, watch, .. } = state;
    if is_run {
        let runs = Dimension::ConcurrentRuns;
        watch.used(runs, account.used(quota, runs, now_us), quota.get(runs), now_us);
    }
    let calls = standing(account, quota, Dimension::SkillCalls, now_us);
    watch.used(Dimension::SkillCalls, calls.used, quota.amount(Dimension::SkillCalls), now_us);
    calls
}

/// Only when something is settled is it known what was used; what others have reserved is not.
fn see(account: &mut Account, watch: &mut Watch, quota: &Quota, amounts: &[Amounts], now_us: u64) {
    for rate in RATES.iter().copied().filter(|rate| amounts.iter().any(|amounts| amounts.get(*rate) > 0)) {
        let really = account.used(quota, rate, now_us).saturating_sub(account.reserved(rate));
        watch.used(rate, really, quota.amount(rate), now_us);
    }
}

fn standing(account: &mut Account, quota: &Quota, dimension: Dimension, now_us: u64) -> Standing {
    Standing {
        used: account.used(quota, dimension, now_us),
        reserved: account.reserved(dimension),
        empty_in_us: account.empty_in(quota, dimension, now_us),
    }
}
