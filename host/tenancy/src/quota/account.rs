//! What one tenant uses: reserved before, settled after, given back by expiry if nobody settles. Pure: time is an argument.
//!
//! ```
//! use clawhold_tenancy::quota::{Account, Amounts, Dimension, Quota};
//! let (quota, mut account) = (Quota::default(), Account::default());
//! let ask = Amounts::of(Dimension::SkillCalls, 1).and(Dimension::Fuel, 1_000_000_000);
//! let lease = account.reserve(&quota, &ask, Some(10_000_000), 0).unwrap();
//! account.settle(lease, &Amounts::of(Dimension::SkillCalls, 1).and(Dimension::Fuel, 7_000));
//! assert_eq!(account.used(&quota, Dimension::Fuel, 0), 7_000);
//! ```

use super::Quota;
use super::dimension::{Dimension, RATE_COUNT, RATES};
use super::level::Level;

/// An amount of each rate, in what the host counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts([u64; RATE_COUNT]);

impl Amounts {
    /// So much of one rate. Of what is no rate, nothing.
    pub fn of(rate: Dimension, amount: u64) -> Self {
        Self::default().and(rate, amount)
    }

    /// And so much more of another.
    #[must_use]
    pub fn and(mut self, rate: Dimension, amount: u64) -> Self {
        if let Some(at) = rate.rate() {
            self.0[at] = self.0[at].saturating_add(amount);
        }
        self
    }

    /// How much of a rate.
    pub fn get(&self, rate: Dimension) -> u64 {
        rate.rate().map_or(0, |at| self.0[at])
    }

    /// Each rate of which there is something.
    pub fn some(&self) -> impl Iterator<Item = (Dimension, u64)> {
        RATES.iter().copied().zip(self.0).filter(|(_, amount)| *amount > 0)
    }

    /// All rates, in the order of [`RATES`].
    pub fn all(&self) -> [u64; RATE_COUNT] {
        self.0
    }
}

/// Why something was not reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// Which dimension is used up.
    pub dimension: Dimension,
    /// What it allows, in what the host counts.
    pub limit: u64,
    /// What is used of it.
    pub used: u64,
    /// Microseconds until the same may be asked again; `None` if time alone does not help.
    pub wait_us: Option<u64>,
}

/// A reservation. There is one of each, so that it cannot be settled twice; one that is lost ends by itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    number: u64,
    reserved: Amounts,
}

impl Lease {
    /// Its number, which no other of the account has.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What was reserved.
    pub fn reserved(&self) -> &Amounts {
        &self.reserved
    }
}

/// One tenant's account.
#[derive(Debug, Clone, Default)]
pub struct Account {
    levels: [Level; RATE_COUNT],
    /// Runs that are under way, and until when they count if nobody settles them.
    runs: Vec<(u64, u64)>,
    next: u64,
    /// What is reserved and not settled.
    open: [u64; RATE_COUNT],
}

impl Account {
    /// Reserves all that is asked for, or nothing. With `run_until_us` a run counts among those under way, until it is settled or
    /// that time has come.
    pub fn reserve(
        &mut self,
        quota: &Quota,
        ask: &Amounts,
        run_until_us: Option<u64>,
        now_us: u64,
    ) -> Result<Lease, Over> {
        if run_until_us.is_some() {
            let limit = quota.get(Dimension::ConcurrentRuns);
            let used = self.running(limit, now_us);
            if used >= limit {
                return Err(Over { dimension: Dimension::ConcurrentRuns, limit, used, wait_us: None });
            }
        }
        self.charge(quota, ask, now_us)?;
        let number = self.number();
        Ok(self.admit(number, ask, run_until_us))
    }

    /// A number for a lease that somebody else may admit: no other of this account has it.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Enters a reservation that was made elsewhere, where the levels are kept.
    pub fn admit(&mut self, number: u64, ask: &Amounts, run_until_us: Option<u64>) -> Lease {
        self.reserve_open(ask);
        if let Some(until) = run_until_us {
            self.runs.push((number, until));
        }
        Lease { number, reserved: *ask }
    }

    /// Enters more under the same lease that was reserved elsewhere.
    pub fn admit_more(&mut self, lease: &mut Lease, ask: &Amounts) {
        self.reserve_open(ask);
        lease.reserved = ask.some().fold(lease.reserved, |sum, (rate, amount)| sum.and(rate, amount));
    }

    /// The numbers of the runs under way, and until when each counts.
    pub fn runs(&self) -> &[(u64, u64)] {
        &self.runs
    }

    /// Reserves more under the same lease, all of it or nothing.
    pub fn reserve_more(&mut self, quota: &Quota, lease: &mut Lease, ask: &Amounts, now_us: u64) -> Result<(), Over> {
        self.charge(quota, ask, now_us)?;
        self.admit_more(lease, ask);
        Ok(())
    }

    fn reserve_open(&mut self, ask: &Amounts) {
        for (open, amount) in self.open.iter_mut().zip(ask.0) {
            *open = open.saturating_add(amount);
        }
    }

    /// Uses all of this at once, or nothing.
    pub fn charge(&mut self, quota: &Quota, ask: &Amounts, now_us: u64) -> Result<(), Over> {
        self.check(quota, ask, now_us)?;
        for (dimension, amount) in ask.some() {
            self.levels[dimension as usize].owe(amount);
        }
        Ok(())
    }

    /// Whether all of this could be used at once.
    pub fn check(&mut self, quota: &Quota, ask: &Amounts, now_us: u64) -> Result<(), Over> {
        for (dimension, amount) in ask.some() {
            let limit = quota.amount(dimension);
            let level = &mut self.levels[dimension as usize];
            match level.wait(limit, amount, now_us) {
                0 => {}
                wait => {
                    let used = level.used(limit, now_us);
                    return Err(Over { dimension, limit, used, wait_us: (wait < u64::MAX).then_some(wait) });
                }
            }
        }
        Ok(())
    }

    /// Ends a reservation: what was used more than reserved is owed, what was not used is given back.
    pub fn settle(&mut self, lease: Lease, used: &Amounts) {
        self.runs.retain(|(number, _)| *number != lease.number);
        for (open, reserved) in self.open.iter_mut().zip(lease.reserved.0) {
            *open = open.saturating_sub(reserved);
        }
        self.correct(&lease.reserved, used);
    }

    /// Adds what was used and not reserved.
    pub fn owe(&mut self, used: &Amounts) {
        self.correct(&Amounts::default(), used);
    }

    /// Takes what was used for what was reserved.
    pub fn correct(&mut self, reserved: &Amounts, used: &Amounts) {
        for (level, (reserved, used)) in self.levels.iter_mut().zip(reserved.0.into_iter().zip(used.0)) {
            if used >= reserved {
                level.owe(used - reserved);
            } else {
                level.give_back(reserved - used);
            }
        }
    }

    /// How much of a dimension is used now: of a rate, or runs under way.
    pub fn used(&mut self, quota: &Quota, dimension: Dimension, now_us: u64) -> u64 {
        match dimension.rate() {
            Some(at) => self.levels[at].used(quota.amount(dimension), now_us),
            None if dimension == Dimension::ConcurrentRuns => self.running(0, now_us),
            None => 0,
        }
    }

    /// How much of what is used now is reserved only.
    pub fn reserved(&self, dimension: Dimension) -> u64 {
        dimension.rate().map_or(0, |at| self.open[at])
    }

    /// Microseconds until nothing of a rate is used.
    pub fn empty_in(&mut self, quota: &Quota, rate: Dimension, now_us: u64) -> u64 {
        rate.rate().map_or(0, |at| self.levels[at].empty_in(quota.amount(rate), now_us))
    }

    /// Takes over how full a rate is from who knows better.
    pub fn set_used(&mut self, rate: Dimension, used: u64, now_us: u64) {
        if let Some(at) = rate.rate() {
            self.levels[at].set(used, now_us);
        }
    }

    /// Whether forgetting it changes nothing: no run, and nothing that has not leaked.
    pub fn is_idle(&mut self, quota: &Quota, now_us: u64) -> bool {
        self.running(0, now_us) == 0 && RATES.iter().all(|rate| self.used(quota, *rate, now_us) == 0)
    }

    /// Runs under way. Those whose time is over are looked for only when there are so many that it matters.
    fn running(&mut self, limit: u64, now_us: u64) -> u64 {
        if self.runs.len() as u64 >= limit {
            self.runs.retain(|(_, until)| *until > now_us);
        }
        self.runs.len() as u64
    }
}

#[cfg(test)]
mod tests;
