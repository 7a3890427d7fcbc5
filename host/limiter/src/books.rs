//! One tenant's account.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::{Account, Allowance, Amounts, Dimension, Lease, Over, Quota, RATE_COUNT, RATES};

use crate::shared::{Against, Answer, Check, Count, Runs, Shared, Verdict};
use crate::watch::{Observed, Watch};

/// How long news may wait for a check to go along with, in microseconds.
const NEWS_WAIT_US: u64 = 25_000;

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

/// What the shared place does not know yet.
#[derive(Debug, Default)]
struct Pending {
    changes: [i64; RATE_COUNT],
    /// Runs here, as the shared place has it.
    runs: i64,
    /// Checks under way that may have added a run there.
    asking: u64,
    /// Since when there are news; zero if there are none.
    since_us: u64,
    /// It was said that there is something.
    told: bool,
}

/// News are told later.
#[derive(Debug)]
pub(crate) struct Later;

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
        let State { account, watch, apart, .. } = &mut *state;
        match account.reserve(quota, ask, run_until_us, now_us) {
            Ok(lease) => {
                if let Some((_, since)) = apart {
                    since.owe(ask);
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
        let State { account, watch, apart, .. } = &mut *state;
        account.reserve_more(quota, lease, ask, now_us).inspect_err(|over| watch.over(over, now_us))?;
        if let Some((_, since)) = apart {
            since.owe(ask);
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

/// The part that has to do with other hosts.
impl Books {
    /// What can be refused without asking: calls that are used up here are used up everywhere, since nobody gives any back.
    pub(crate) fn refused_here(&self, quota: &Arc<Quota>, ask: &Amounts, now_us: u64) -> Option<Over> {
        let calls = Dimension::SkillCalls;
        let mut state = self.lock();
        let State { account, watch, .. } = &mut *state;
        let over = account.check(quota, &Amounts::of(calls, ask.get(calls)), now_us).err()?;
        watch.over(&over, now_us);
        Some(over)
    }

    /// Asks the shared place, and tells it everything that it does not know yet. With `run_until_us` a run is to begin; gives its number.
    pub(crate) fn check(
        &self,
        place: &dyn Shared,
        quota: &Arc<Quota>,
        ask: &Amounts,
        run_until_us: Option<u64>,
        now_us: u64,
    ) -> (Answer, u64) {
        let mut state = self.lock();
        self.asked(&mut state, quota, quota);
        let number = state.account.number();
        (self.checked(&mut state, place, quota, *ask, run_until_us, now_us), number)
    }

    /// Only to be called while hosts are together. Asks under the lock, so that checks come in the order in which things happened.
    fn checked(
        &self,
        state: &mut State,
        place: &dyn Shared,
        quota: &Quota,
        ask: Amounts,
        run_until_us: Option<u64>,
        now_us: u64,
    ) -> Answer {
        let State { account, pending, apart, .. } = state;
        if let Some((_, mut since)) = apart.take() {
            // What was used apart, as far as it has not run off.
            for (change, rate) in pending.changes.iter_mut().zip(RATES) {
                *change = change.saturating_add_unsigned(since.used(quota, *rate, now_us));
            }
        }
        let here = account.used(quota, Dimension::ConcurrentRuns, now_us);
        let known = std::mem::replace(&mut pending.runs, here.cast_signed());
        let count = match pending.asking {
            0 => Count::Are(here),
            _ => Count::Change(here.cast_signed().saturating_sub(known)),
        };
        pending.asking += u64::from(run_until_us.is_some());
        pending.since_us = 0;
        let last = account.runs().iter().map(|(_, until)| *until).chain(run_until_us).max().unwrap_or(now_us);
        place.check(Check {
            tenant: self.tenant.clone(),
            limits: RATES.iter().map(|rate| quota.amount(*rate)).collect::<Vec<_>>().try_into().unwrap_or_default(),
            ask,
            changes: std::mem::take(&mut pending.changes),
            runs: Runs {
                count,
                wants: run_until_us.is_some(),
                most: quota.get(Dimension::ConcurrentRuns),
                last: Duration::from_micros(last.saturating_sub(now_us)),
            },
        })
    }

    /// Tells the shared place what it does not know, unless that is so new that a check may still take it along: then it is to be
    /// asked again.
    pub(crate) fn flush(&self, place: &dyn Shared, now_us: u64) -> Option<Result<Answer, Later>> {
        let mut state = self.lock();
        state.pending.told = false;
        let quota = state.quota.clone()?;
        if !state.has_news() {
            return None;
        }
        if state.pending.since_us + NEWS_WAIT_US > now_us {
            state.pending.told = true;
            return Some(Err(Later));
        }
        Some(Ok(self.checked(&mut state, place, &quota, Amounts::default(), None, now_us)))
    }

    /// There was no answer to a check of a run: whether it counts there nobody knows, and the next one says how many there are. What
    /// else was told is lost, or was heard; told again it could count twice.
    pub(crate) fn lost(&self) {
        self.lock().pending.answered(false);
    }

    /// Takes over how the shared place says that things are. What it does not know comes on top.
    pub(crate) fn hear(&self, verdict: &Verdict, now_us: u64) {
        let mut state = self.lock();
        let State { account, pending, runs, .. } = &mut *state;
        for ((rate, used), change) in RATES.iter().zip(verdict.used).zip(pending.changes) {
            account.set_used(*rate, used.saturating_add_signed(change), now_us);
        }
        *runs = verdict.runs;
    }

    /// The shared place has admitted a lease.
    pub(crate) fn admit(
        &self,
        quota: &Quota,
        number: u64,
        ask: &Amounts,
        run_until_us: Option<u64>,
        now_us: u64,
    ) -> (Lease, Standing) {
        let mut state = self.lock();
        if run_until_us.is_some() {
            state.pending.answered(true);
        }
        let lease = state.account.admit(number, ask, run_until_us);
        let calls = begun(&mut state, quota, run_until_us.is_some(), now_us);
        (lease, calls)
    }

    pub(crate) fn admit_more(&self, lease: &mut Lease, ask: &Amounts) {
        self.lock().account.admit_more(lease, ask);
    }

    /// The shared place has refused, a run or something else.
    pub(crate) fn refuse(&self, quota: &Quota, against: Against, verdict: &Verdict, is_run: bool, now_us: u64) -> Over {
        let over = match against {
            Against::Runs => {
                let dimension = Dimension::ConcurrentRuns;
                Over { dimension, limit: quota.get(dimension), used: verdict.runs, wait_us: None }
            }
            Against::Rate(at, wait_us) => {
                let dimension = RATES[at.min(RATE_COUNT - 1)];
                Over { dimension, limit: quota.amount(dimension), used: verdict.used[at.min(RATE_COUNT - 1)], wait_us }
            }
        };
        let mut state = self.lock();
        if is_run {
            state.pending.answered(false);
        }
        state.watch.over(&over, now_us);
        over
    }

    /// Whether somebody must be told that there is something to flush.
    pub(crate) fn becomes_dirty(&self, now_us: u64) -> bool {
        if !self.shared {
            return false;
        }
        let mut state = self.lock();
        if !state.has_news() {
            return false;
        }
        if state.pending.since_us == 0 {
            state.pending.since_us = now_us;
        }
        !std::mem::replace(&mut state.pending.told, true)
    }

    /// The hosts go on apart: of what is used, a part counts here.
    pub(crate) fn part(&self, hosts: u64, now_us: u64) {
        let mut state = self.lock();
        let number = state.account.number();
        let State { account, apart, quota, elsewhere, runs, .. } = &mut *state;
        apart.get_or_insert_with(|| (number, Account::default()));
        (*elsewhere, *runs) = (0, 0);
        let Some(quota) = quota else { return };
        for rate in RATES {
            let used = account.used(quota, *rate, now_us);
            account.set_used(*rate, used / hosts.max(1), now_us);
        }
    }

    /// The hosts are together again: tells of what was used apart, and of the runs under way.
    pub(crate) fn join(&self, place: &dyn Shared, now_us: u64) -> Option<Answer> {
        let mut state = self.lock();
        // What was dirty while there was nobody to tell is told now.
        state.pending.told = false;
        let quota = state.quota.clone()?;
        Some(self.checked(&mut state, place, &quota, Amounts::default(), None, now_us))
    }

    /// What other hosts' runs use of the tenant's memory.
    pub(crate) fn set_elsewhere(&self, bytes: u64) {
        let mut state = self.lock();
        state.elsewhere = bytes;
        if let Some(quota) = state.quota.clone() {
            self.asked(&mut state, &quota, &quota);
        }
    }

    /// Whether it matters to others how much memory is used, or to this one how much others use.
    pub(crate) fn shares_memory(&self) -> bool {
        let state = self.lock();
        self.memory.used() > 0 || state.elsewhere > 0 || !state.account.runs().is_empty()
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

impl Pending {
    /// A check of a run was answered; `began` if it counts there now.
    fn answered(&mut self, began: bool) {
        self.asking = self.asking.saturating_sub(1);
        self.runs += i64::from(began);
    }

    fn change(&mut self, reserved: &Amounts, used: &Amounts) {
        for (change, (reserved, used)) in self.changes.iter_mut().zip(reserved.all().into_iter().zip(used.all())) {
            // Amounts are far below the ends of the type.
            *change = change.saturating_add_unsigned(used).saturating_sub_unsigned(reserved);
        }
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
