//! What is seen of a tenant's use beside the account itself: peaks, refusals, and thresholds that were passed.

use clawhold_tenancy::quota::{DIMENSIONS, Dimension, Over};

/// Percent of a limit at which a tenant is warned.
const THRESHOLDS: [u8; 2] = [80, 100];

/// How long a warning is not repeated: an hour, in microseconds.
const WINDOW_US: u64 = 3_600_000_000;

/// A threshold that was passed for the first time within an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warning {
    /// Of which dimension.
    pub dimension: Dimension,
    /// 80 or 100.
    pub percent: u8,
    /// What was used, in what the host counts.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

/// What was observed since it was asked last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The most that was used at a time, of each dimension, in what the host counts.
    pub peaks: [u64; DIMENSIONS],
    /// How often somebody was refused because of each dimension.
    pub refused: [u64; DIMENSIONS],
    /// Thresholds that were passed.
    pub warnings: Vec<Warning>,
}

impl Default for Observed {
    fn default() -> Self {
        Self { peaks: [0; DIMENSIONS], refused: [0; DIMENSIONS], warnings: Vec::new() }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Watch {
    seen: Observed,
    something: bool,
    /// When each threshold was passed last, plus one.
    warned: [[u64; THRESHOLDS.len()]; DIMENSIONS],
}

impl Watch {
    /// So much is used now.
    pub(crate) fn used(&mut self, dimension: Dimension, used: u64, limit: u64, now_us: u64) {
        let at = dimension as usize;
        if used > self.seen.peaks[at] {
            self.seen.peaks[at] = used;
            self.something = true;
        }
        // Mostly it is below the first one.
        if u128::from(used) * 100 >= u128::from(limit) * u128::from(THRESHOLDS[0]) {
            self.warn(dimension, used, limit, now_us);
        }
    }

    fn warn(&mut self, dimension: Dimension, used: u64, limit: u64, now_us: u64) {
        for (percent, warned) in THRESHOLDS.into_iter().zip(&mut self.warned[dimension as usize]) {
            let passed = u128::from(used) * 100 >= u128::from(limit) * u128::from(percent);
            let again = *warned == 0 || now_us.saturating_sub(*warned - 1) >= WINDOW_US;
            if passed && limit > 0 && again {
                *warned = now_us + 1;
                self.something = true;
                self.seen.warnings.push(Warning { dimension, percent, used, limit });
            }
        }
    }

    /// Somebody wanted more than there is.
    pub(crate) fn over(&mut self, over: &Over, now_us: u64) {
        self.refused(over.dimension, 1);
        // Full, but for what one more would have taken.
        self.warn(over.dimension, over.used.max(over.limit), over.limit, now_us);
    }

    pub(crate) fn refused(&mut self, dimension: Dimension, times: u64) {
        self.seen.refused[dimension as usize] += times;
        self.something = true;
    }

    pub(crate) fn take(&mut self) -> Option<Observed> {
        std::mem::take(&mut self.something).then(|| std::mem::take(&mut self.seen))
    }

    /// Whether nobody would be warned twice if it were forgotten.
    pub(crate) fn is_idle(&self, now_us: u64) -> bool {
        !self.something
            && self
                .warned
                .iter()
                .flatten()
                .all(|warned| *warned == 0 || now_us.saturating_sub(*warned - 1) >= WINDOW_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_told_once_within_an_hour() {
        let mut watch = Watch::default();
        let mut told = |used, now| {
            watch.used(Dimension::SkillCalls, used, 100, now);
            watch.take().map_or(Vec::new(), |seen| seen.warnings.iter().map(|w| w.percent).collect::<Vec<_>>())
        };
        assert_eq!(told(79, 0), [0_u8; 0]);
        assert_eq!(told(80, 1), [80]);
        assert_eq!(told(99, 2), [0_u8; 0]);
        assert_eq!(told(100, 3), [100]);
        assert_eq!(told(350, WINDOW_US), [0_u8; 0]);
        assert_eq!(told(350, WINDOW_US + 2), [80]);
        assert_eq!(told(350, WINDOW_US + 3), [100]);
    }

    #[test]
    fn peaks_and_refusals_are_taken_once() {
        let mut watch = Watch::default();
        assert_eq!(watch.take(), None);
        watch.used(Dimension::Fuel, 5, 100, 0);
        watch.used(Dimension::Fuel, 3, 100, 0);
        watch.refused(Dimension::Fuel, 1);
        let seen = watch.take().unwrap();
        assert_eq!((seen.peaks[Dimension::Fuel as usize], seen.refused[Dimension::Fuel as usize]), (5, 1));
        assert_eq!(watch.take(), None);
    }
}
