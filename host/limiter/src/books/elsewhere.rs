//! What books have to do with other hosts: checks for the shared place, and going apart from it.

use std::sync::Arc;
use std::time::Duration;

use clawhold_tenancy::quota::{Account, Amounts, Dimension, Lease, Over, Quota, RATE_COUNT, RATES};

use super::{Books, Standing, State, begun};
use crate::shared::{Against, Answer, Check, Count, Runs, Shared, Verdict};

/// How long news may wait for a check to go along with, in microseconds.
const NEWS_WAIT_US: u64 = 25_000;

/// What the shared place does not know yet.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) changes: [i64; RATE_COUNT],
    /// Runs here, as the shared place has it.
    pub(super) runs: i64,
    /// Checks under way that may have added a run there.
    pub(super) asking: u64,
    /// Since when there are news; zero if there are none.
    pub(super) since_us: u64,
    /// It was said that there is something.
    pub(super) told: bool,
}

/// News are told later.
#[derive(Debug)]
pub(crate) struct Later;

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
        let by = here.cast_signed().saturating_sub(known);
        let count = if pending.asking == 0 { Count::Are { runs: here, by } } else { Count::Change(by) };
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

impl Pending {
    /// A check of a run was answered; `began` if it counts there now.
    pub(super) fn answered(&mut self, began: bool) {
        self.asking = self.asking.saturating_sub(1);
        self.runs += i64::from(began);
    }

    pub(super) fn change(&mut self, reserved: &Amounts, used: &Amounts) {
        for (change, (reserved, used)) in self.changes.iter_mut().zip(reserved.all().into_iter().zip(used.all())) {
            // Amounts are far below the ends of the type.
            *change = change.saturating_add_unsigned(used).saturating_sub_unsigned(reserved);
        }
    }
}
