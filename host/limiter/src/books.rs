//! One tenant's account, and what holds a part of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::{Account, Allowance, Amounts, Dimension, Lease, Over, Quota, RATES};

use crate::Limiter;
use crate::watch::{Observed, Watch};

/// One tenant's books.
#[derive(Debug)]
pub struct Books {
    tenant: TenantId,
    /// The tenant's id, as those know it who only know names.
    name: Arc<str>,
    memory: Arc<Allowance>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    account: Account,
    watch: Watch,
    /// Runs that wait for a place.
    queued: u64,
    /// The quota that was asked with last, for what happens while nobody asks.
    quota: Option<Arc<Quota>>,
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
    pub(crate) fn new(tenant: &TenantId) -> Self {
        Self {
            tenant: tenant.clone(),
            name: tenant.as_str().into(),
            memory: Allowance::new(0),
            state: Mutex::default(),
        }
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
        quota: &Arc<Quota>,
        ask: &Amounts,
        run_until_us: Option<u64>,
        now_us: u64,
    ) -> Result<(Lease, Standing), Over> {
        self.memory.set_most(quota.amount(Dimension::Memory));
        let mut state = self.lock();
        let State { account, watch, .. } = &mut *state;
        match account.reserve(quota, ask, run_until_us, now_us) {
            Ok(lease) => {
                if run_until_us.is_some() {
                    let runs = Dimension::ConcurrentRuns;
                    watch.used(runs, account.used(quota, runs, now_us), quota.get(runs), now_us);
                }
                let calls = standing(account, quota, Dimension::SkillCalls, now_us);
                watch.used(Dimension::SkillCalls, calls.used, quota.amount(Dimension::SkillCalls), now_us);
                if state.quota.as_ref().is_none_or(|known| !Arc::ptr_eq(known, quota)) {
                    state.quota = Some(Arc::clone(quota));
                }
                Ok((lease, calls))
            }
            Err(over) => {
                watch.over(&over, now_us);
                Err(over)
            }
        }
    }

    fn reserve_more(&self, quota: &Quota, lease: &mut Lease, ask: &Amounts, now_us: u64) -> Result<(), Over> {
        let mut state = self.lock();
        let State { account, watch, .. } = &mut *state;
        account.reserve_more(quota, lease, ask, now_us).inspect_err(|over| watch.over(over, now_us))
    }

    fn settle(&self, quota: &Quota, lease: Lease, used: &Amounts, now_us: u64) {
        let mut state = self.lock();
        let State { account, watch, .. } = &mut *state;
        let reserved = *lease.reserved();
        account.settle(lease, used);
        see(account, watch, quota, &[reserved, *used], now_us);
    }

    fn charge(&self, quota: &Quota, ask: &Amounts, now_us: u64) -> Result<(), Over> {
        let mut state = self.lock();
        let State { account, watch, .. } = &mut *state;
        account.charge(quota, ask, now_us).inspect_err(|over| watch.over(over, now_us))?;
        see(account, watch, quota, &[*ask], now_us);
        Ok(())
    }

    fn owe(&self, quota: &Quota, used: &Amounts, now_us: u64) {
        let mut state = self.lock();
        let State { account, watch, .. } = &mut *state;
        account.owe(used);
        see(account, watch, quota, &[*used], now_us);
    }

    fn hold(&self, quota: &Quota, ask: &Amounts, now_us: u64) -> Result<Lease, Over> {
        let mut state = self.lock();
        let State { account, watch, .. } = &mut *state;
        account.reserve(quota, ask, None, now_us).inspect_err(|over| watch.over(over, now_us))
    }

    /// A run begins to wait for a place, if the queue has one.
    fn queue(&self, quota: &Quota, now_us: u64) -> Result<(), Over> {
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

    fn leave_queue(&self) {
        let mut state = self.lock();
        state.queued = state.queued.saturating_sub(1);
    }

    pub(crate) fn standing(&self, quota: &Quota, dimension: Dimension, now_us: u64) -> Standing {
        match dimension {
            Dimension::Memory => Standing { used: self.memory.used(), ..Standing::default() },
            Dimension::Queue => Standing { used: self.lock().queued, ..Standing::default() },
            _ => standing(&mut self.lock().account, quota, dimension, now_us),
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
        if refused > 0 {
            let over = Over { dimension: Dimension::Memory, limit: self.memory.most(), used: peak, wait_us: None };
            state.watch.over(&over, now_us);
            state.watch.refused(Dimension::Memory, refused - 1);
        }
        if peak > 0 {
            state.watch.used(Dimension::Memory, peak, self.memory.most(), now_us);
        }
        state.watch.take()
    }

    pub(crate) fn is_idle(&self, now_us: u64) -> bool {
        let mut state = self.lock();
        let State { account, watch, quota, queued } = &mut *state;
        self.memory.used() == 0
            && *queued == 0
            && watch.is_idle(now_us)
            && quota.as_ref().is_none_or(|quota| account.is_idle(quota, now_us))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of an account is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

/// A reservation. Settled when it is known what was used; dropped before that, it gives back everything but the calls.
#[derive(Debug)]
pub struct Grant {
    meter: Meter,
    lease: Option<Lease>,
    /// How the tenant's calls stood when it was given.
    calls: Standing,
}

impl Grant {
    pub(crate) fn new(
        limiter: Arc<Limiter>,
        books: Arc<Books>,
        quota: Arc<Quota>,
        lease: Lease,
        calls: Standing,
    ) -> Self {
        Self { meter: Meter { limiter, books, quota }, lease: Some(lease), calls }
    }

    /// The tenant's books.
    pub fn books(&self) -> &Books {
        &self.meter.books
    }

    /// The quota that it was given under.
    pub fn quota(&self) -> &Arc<Quota> {
        &self.meter.quota
    }

    /// How the tenant's calls stood when it was given.
    pub fn calls(&self) -> Standing {
        self.calls
    }

    /// For what the run does meanwhile.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Reserves more, all of it or nothing.
    #[expect(clippy::unused_async, reason = "a limiter of several hosts asks over the network")]
    pub async fn reserve_more(&mut self, ask: Amounts) -> Result<(), Over> {
        let Meter { limiter, books, quota } = &self.meter;
        match &mut self.lease {
            Some(lease) => books.reserve_more(quota, lease, &ask, limiter.now()),
            None => Ok(()),
        }
    }

    /// What was used takes the place of what was reserved.
    pub fn settle(mut self, used: &Amounts) {
        self.end(used);
    }

    fn end(&mut self, used: &Amounts) {
        if let Some(lease) = self.lease.take() {
            let Meter { limiter, books, quota } = &self.meter;
            books.settle(quota, lease, used, limiter.now());
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let calls = self.lease.as_ref().map_or(0, |lease| lease.reserved().get(Dimension::SkillCalls));
        self.end(&Amounts::of(Dimension::SkillCalls, calls));
    }
}

/// Charges a tenant for what a run does, as it does it.
#[derive(Debug, Clone)]
pub struct Meter {
    limiter: Arc<Limiter>,
    books: Arc<Books>,
    quota: Arc<Quota>,
}

impl Meter {
    /// The quota that it charges under.
    pub fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    /// Charges all of this, or nothing.
    pub fn charge(&self, ask: &Amounts) -> Result<(), Over> {
        self.books.charge(&self.quota, ask, self.limiter.now())
    }

    /// Charges what has been used already, whether it fits or not.
    pub fn owe(&self, used: &Amounts) {
        self.books.owe(&self.quota, used, self.limiter.now());
    }

    /// Reserves for something of which it is known only afterwards what it took. All of it or nothing.
    pub fn hold(&self, ask: &Amounts) -> Result<Deposit, Over> {
        let lease = self.books.hold(&self.quota, ask, self.limiter.now())?;
        Ok(Deposit { meter: self.clone(), lease: Some(lease) })
    }

    /// A place in the tenant's queue, until it is dropped.
    pub fn queue(&self) -> Result<Queued, Over> {
        self.books.queue(&self.quota, self.limiter.now())?;
        Ok(Queued(Arc::clone(&self.books)))
    }

    /// A meter of a tenant that has everything: for tests.
    pub fn unlimited() -> Self {
        let limiter = Arc::<Limiter>::default();
        let tenant = "unlimited".parse().expect("it is an id");
        let quota = RATES.iter().fold(Quota::default(), |quota, rate| quota.with(*rate, rate.row().most));
        Self { books: limiter.books(&tenant), limiter, quota: Arc::new(quota) }
    }
}

/// A reservation of a part of a run. Dropped before it is settled, all of it counts as used: what was done meanwhile is not known.
#[derive(Debug)]
pub struct Deposit {
    meter: Meter,
    lease: Option<Lease>,
}

impl Deposit {
    /// What was used takes the place of what was reserved.
    pub fn settle(mut self, used: &Amounts) {
        self.end(Some(used));
    }

    fn end(&mut self, used: Option<&Amounts>) {
        if let Some(lease) = self.lease.take() {
            let Meter { limiter, books, quota } = &self.meter;
            let used = used.copied().unwrap_or(*lease.reserved());
            books.settle(quota, lease, &used, limiter.now());
        }
    }
}

impl Drop for Deposit {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// A run that waits for a place.
#[derive(Debug)]
pub struct Queued(Arc<Books>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.leave_queue();
    }
}
