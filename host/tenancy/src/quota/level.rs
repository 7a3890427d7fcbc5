//! Rates as GCRA, the generic cell rate algorithm (ITU-T I.371), in its form as a leaky bucket, which is exact in integers.
//!
//! A limit of so much a minute lets through so much at once and then as much as has leaked since. Over any stretch of `s` seconds
//! that is at most `limit × (1 + s / 60)`, and `limit` a minute on average. What turns out to be more than was reserved is added
//! all the same: the level is then above the limit, and nothing passes until that has leaked as well.
//!
//! ```
//! use clawhold_tenancy::quota::Level;
//! let mut calls = Level::default();
//! assert!((0..500).all(|_| calls.take(500, 1, 0).is_ok()));
//! assert_eq!(calls.take(500, 1, 0), Err(120_000), "the next one in 120 ms");
//! assert!(calls.take(500, 1, 120_000).is_ok());
//! ```

/// Microseconds in which a full bucket leaks: a minute.
pub const WINDOW_US: u64 = 60_000_000;

/// A clock that is set back by more than this is believed: one second. By less, it is taken for two readings that came in the wrong
/// order, and nothing leaks meanwhile.
pub const BACK_US: u64 = 1_000_000;

/// How full a bucket is. Amounts are in what the host counts: bytes, not MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Level {
    /// In amount × [`WINDOW_US`], so that what leaks in a microsecond is the limit itself and nothing is rounded.
    full: u128,
    at_us: u64,
}

impl Level {
    /// Lets leak what has leaked until now.
    fn leak(&mut self, limit: u64, now_us: u64) {
        if now_us >= self.at_us {
            let leaked = u128::from(now_us - self.at_us) * u128::from(limit);
            self.full = self.full.saturating_sub(leaked);
            self.at_us = now_us;
        } else if self.at_us - now_us > BACK_US {
            self.at_us = now_us;
        }
    }

    /// Adds an amount if it fits below the limit. Else gives the microseconds until it will.
    pub fn take(&mut self, limit: u64, amount: u64, now_us: u64) -> Result<(), u64> {
        match self.wait(limit, amount, now_us) {
            0 => {
                self.owe(amount);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Microseconds until an amount fits; 0 if it does now, and `u64::MAX` if it never will.
    pub fn wait(&mut self, limit: u64, amount: u64, now_us: u64) -> u64 {
        self.leak(limit, now_us);
        if amount > limit {
            return u64::MAX;
        }
        let room = u128::from(limit) * u128::from(WINDOW_US);
        let over = (self.full + u128::from(amount) * u128::from(WINDOW_US)).saturating_sub(room);
        // `limit` is at least 1 here unless the amount is 0, which always fits.
        if over == 0 { 0 } else { u64::try_from(over.div_ceil(u128::from(limit.max(1)))).unwrap_or(u64::MAX - 1) }
    }

    /// Adds an amount, whether it fits or not.
    pub fn owe(&mut self, amount: u64) {
        self.full = self.full.saturating_add(u128::from(amount) * u128::from(WINDOW_US));
    }

    /// Is as full as this now.
    pub(super) fn set(&mut self, used: u64, now_us: u64) {
        *self = Self { full: u128::from(used) * u128::from(WINDOW_US), at_us: now_us };
    }

    /// Takes back what was reserved and not used. What has leaked of it meanwhile is gone already: this never makes room beyond
    /// the limit.
    pub fn give_back(&mut self, amount: u64) {
        self.full = self.full.saturating_sub(u128::from(amount) * u128::from(WINDOW_US));
    }

    /// How much is used now, rounded up. More than the limit is debt.
    pub fn used(&mut self, limit: u64, now_us: u64) -> u64 {
        self.leak(limit, now_us);
        u64::try_from(self.full.div_ceil(u128::from(WINDOW_US))).unwrap_or(u64::MAX)
    }

    /// Microseconds until nothing is used.
    pub fn empty_in(&mut self, limit: u64, now_us: u64) -> u64 {
        self.leak(limit, now_us);
        u64::try_from(self.full.div_ceil(u128::from(limit.max(1)))).unwrap_or(u64::MAX)
    }
}
