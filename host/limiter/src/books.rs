//! One tenant's account.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::{Account, Allowance, Amounts, Dimension, Lease, Over, Quota, RATE_COUNT, RATES};

use crate::shared::{Against, Check, Run, Verdict};
use crate::watch::{Observed, Watch};

/// Ended runs that are told to the shared place at a time.
const ENDED: usize = 1_000;

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
    /// Runs of later leases than this began apart, and the shared place does not know them.
    began_apart: Option<u64>,
}

/// What the shared place does not know yet.
#[derive(Debug, Default)]
struct Pending {
    changes: [i64; RATE_COUNT],
    ended: Vec<u64>,
    /// It was said that there is something.
    told: bool,
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

    /// Somebody asks under this quota, of which so much holds here.
    fn asked(&self, state: &mut State, whole: &Arc<Quota>, here: &Quota) {
        self.memory.set_most(here.amount(Dimension::Memory).saturating_sub(state.elsewhere));
        if state.quota.as_ref().is_none_or(|known| !Arc::ptr_eq(known, whole)) {
            state.quota = Some(Arc::clone(whole));
        }
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
        let is_run = self.shared && state.account.runs().iter().any(|(run, _)| *run == number);
        if is_run && state.apart.as_ref().is_none_or(|(before, _)| number <= *before) {
            state.pending.ended.push(number);
        }
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
        let State { account, watch, quota, queued, pending, apart, .. } = &mut *state;
        let told = pending.ended.is_empty() && pending.changes.iter().all(|change| *change == 0);
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

    /// A check for the shared place, with everything that it does not know yet. With `lasts` a run begins; gives its number.
    pub(crate) fn check(
        &self,
        host: &str,
        quota: &Arc<Quota>,
        ask: &Amounts,
        lasts: Option<Duration>,
        now_us: u64,
    ) -> (Check, u64) {
        let mut state = self.lock();
        self.asked(&mut state, quota, quota);
        let number = state.account.number();
        let most = quota.get(Dimension::ConcurrentRuns);
        let run = lasts.map(|lasts| Run { name: run_name(host, number), most, lasts });
        (self.checked(&mut state, host, quota, *ask, run, now_us), number)
    }

    /// Only to be called while hosts are together.
    fn checked(
        &self,
        state: &mut State,
        host: &str,
        quota: &Quota,
        ask: Amounts,
        run: Option<Run>,
        now_us: u64,
    ) -> Check {
        let State { pending, apart, began_apart, .. } = state;
        if let Some((before, mut since)) = apart.take() {
            began_apart.get_or_insert(before);
            // What was used apart, as far as it has not run off.
            for (change, rate) in pending.changes.iter_mut().zip(RATES) {
                *change = change.saturating_add_unsigned(since.used(quota, *rate, now_us));
            }
        }
        let left = pending.ended.split_off(pending.ended.len().min(ENDED));
        let ended = std::mem::replace(&mut pending.ended, left);
        Check {
            tenant: self.tenant.clone(),
            limits: RATES.iter().map(|rate| quota.amount(*rate)).collect::<Vec<_>>().try_into().unwrap_or_default(),
            ask,
            run,
            changes: std::mem::take(&mut pending.changes),
            ended: ended.into_iter().map(|number| run_name(host, number)).collect(),
        }
    }

    /// A check that asks for nothing, if the shared place does not know everything.
    pub(crate) fn flush(&self, host: &str, now_us: u64) -> Option<Check> {
        let mut state = self.lock();
        state.pending.told = false;
        let quota = state.quota.clone()?;
        state.has_news().then(|| self.checked(&mut state, host, &quota, Amounts::default(), None, now_us))
    }

    /// There was no answer to a check: whether the run began there nobody knows, so that it is to end there. What else was told is
    /// lost, or was heard; told again it could count twice.
    pub(crate) fn lost(&self, number: u64) {
        self.lock().pending.ended.push(number);
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
        let lease = state.account.admit(number, ask, run_until_us);
        let calls = begun(&mut state, quota, run_until_us.is_some(), now_us);
        (lease, calls)
    }

    pub(crate) fn admit_more(&self, lease: &mut Lease, ask: &Amounts) {
        self.lock().account.admit_more(lease, ask);
    }

    /// The shared place has refused.
    pub(crate) fn refuse(&self, quota: &Quota, against: Against, verdict: &Verdict, now_us: u64) -> Over {
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
        self.lock().watch.over(&over, now_us);
        over
    }

    /// Whether somebody must be told that there is something to flush.
    pub(crate) fn becomes_dirty(&self) -> bool {
        if !self.shared {
            return false;
        }
        let mut state = self.lock();
        state.has_news() && !std::mem::replace(&mut state.pending.told, true)
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

    /// The hosts are together again. Gives the checks that tell of what was used apart, and of the runs that began then.
    pub(crate) fn join(&self, host: &str, now_us: u64) -> Vec<Check> {
        let mut state = self.lock();
        // What was dirty while there was nobody to tell is told now.
        state.pending.told = false;
        let Some(quota) = state.quota.clone() else { return Vec::new() };
        let mut checks = vec![self.checked(&mut state, host, &quota, Amounts::default(), None, now_us)];
        let Some(before) = state.began_apart.take() else { return checks };
        let runs = state.account.runs().iter().copied();
        let began: Vec<(u64, u64)> = runs.filter(|(number, until)| *number > before && *until > now_us).collect();
        for (number, until) in began {
            let lasts = Duration::from_micros(until - now_us);
            let run = Run { name: run_name(host, number), most: u64::MAX >> 12, lasts };
            checks.push(self.checked(&mut state, host, &quota, Amounts::default(), Some(run), now_us));
        }
        checks
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
    /// Whether there is something that the shared place has not heard.
    fn has_news(&self) -> bool {
        !self.pending.ended.is_empty() || self.pending.changes.iter().any(|change| *change != 0) || self.apart.is_some()
    }
}

impl Pending {
    fn change(&mut self, reserved: &Amounts, used: &Amounts) {
        for (change, (reserved, used)) in self.changes.iter_mut().zip(reserved.all().into_iter().zip(used.all())) {
            // Amounts are far below the ends of the type.
            *change = change.saturating_add_unsigned(used).saturating_sub_unsigned(reserved);
        }
    }
}

fn run_name(host: &str, number: u64) -> String {
    format!("{host}-{number}")
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
