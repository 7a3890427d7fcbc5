//! What a tenant used in one slot of time, as it is counted, kept and added up.

use std::collections::BTreeMap;

use clawhold_limiter::Observed;
use clawhold_tenancy::SkillName;
use clawhold_tenancy::quota::{DIMENSIONS, Dimension, TABLE};
use serde::{Deserialize, Serialize};

/// Skills of a tenant that are counted by themselves in a slot. 200: the others are counted together.
const SKILLS: usize = 200;
/// What those others are called.
const OTHERS: &str = "(others)";

/// Steps of an octave, as a power of two: 8, so that a time is known to within an eighth.
const STEPS_LOG2: u32 = 3;

/// One slot, or several added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The most that was used at a time, by dimension, in what the host counts.
    pub(crate) peaks: [u64; DIMENSIONS],
    /// How often somebody was refused.
    pub(crate) refused: [u64; DIMENSIONS],
    /// By skill.
    pub(crate) skills: BTreeMap<String, SkillUse>,
}

/// What a skill's runs used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SkillUse {
    /// Runs.
    pub(crate) calls: u64,
    /// Those that gave an answer.
    pub(crate) succeeded: u64,
    /// Fuel of all.
    pub(crate) fuel: u64,
    /// How long they took.
    pub(crate) times: Times,
}

/// How often what took about so long: by the number of a step on a logarithmic scale.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Times(BTreeMap<u32, u64>);

/// The form that is kept. What a newer host has counted and this one does not know is passed over.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(default)]
    peaks: BTreeMap<String, u64>,
    #[serde(default)]
    refused: BTreeMap<String, u64>,
    #[serde(default)]
    skills: BTreeMap<String, SkillUse>,
}

impl Times {
    pub(crate) fn note(&mut self, us: u64) {
        *self.0.entry(step(us)).or_default() += 1;
    }

    /// The time within which so many of a thousand were done, in microseconds; `None` if there is none.
    pub(crate) fn quantile(&self, permille: u64) -> Option<u64> {
        let all: u64 = self.0.values().sum();
        let wanted = (all * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let found = self.0.iter().find(|(_, count)| {
            seen += **count;
            seen >= wanted
        });
        found.map(|(step, _)| end(*step))
    }

    fn add(&mut self, other: &Self) {
        for (step, count) in &other.0 {
            *self.0.entry(*step).or_default() += count;
        }
    }
}

/// The octave, and the eighth of it.
fn step(us: u64) -> u32 {
    let us = us.max(1);
    let octave = us.ilog2();
    let eighths = if octave >= STEPS_LOG2 { us >> (octave - STEPS_LOG2) } else { us << (STEPS_LOG2 - octave) };
    // Between 8 and 15: the leading bit says nothing.
    (octave << STEPS_LOG2) + u32::try_from(eighths).unwrap_or(0).wrapping_sub(1 << STEPS_LOG2)
}

/// Where a step ends, in microseconds.
fn end(step: u32) -> u64 {
    let (octave, eighths) = (step >> STEPS_LOG2, u128::from(step & ((1 << STEPS_LOG2) - 1)) + (1 << STEPS_LOG2) + 1);
    u64::try_from(((eighths << octave.min(64)) >> STEPS_LOG2).max(1)).unwrap_or(u64::MAX)
}

impl Slot {
    /// A run has ended.
    pub(crate) fn run(&mut self, skill: &SkillName, succeeded: bool, fuel: u64, us: u64) {
        let known = self.skills.len() < SKILLS || self.skills.contains_key(skill.as_str());
        let name = if known { skill.as_str() } else { OTHERS };
        if !self.skills.contains_key(name) {
            self.skills.insert(name.to_owned(), SkillUse::default());
        }
        let Some(of_skill) = self.skills.get_mut(name) else { return };
        of_skill.calls += 1;
        of_skill.succeeded += u64::from(succeeded);
        of_skill.fuel = of_skill.fuel.saturating_add(fuel);
        of_skill.times.note(us);
    }

    /// The limiter has seen this.
    pub(crate) fn observed(&mut self, observed: &Observed) {
        self.add_counts(&observed.peaks, &observed.refused);
    }

    /// Another slot beside it, or the same slot of another process.
    pub(crate) fn add(&mut self, other: &Self) {
        self.add_counts(&other.peaks, &other.refused);
        for (name, more) in &other.skills {
            let sum = self.skills.entry(name.clone()).or_default();
            sum.calls += more.calls;
            sum.succeeded += more.succeeded;
            sum.fuel = sum.fuel.saturating_add(more.fuel);
            sum.times.add(&more.times);
        }
    }

    fn add_counts(&mut self, peaks: &[u64; DIMENSIONS], refused: &[u64; DIMENSIONS]) {
        for at in 0..DIMENSIONS {
            self.peaks[at] = self.peaks[at].max(peaks[at]);
            self.refused[at] = self.refused[at].saturating_add(refused[at]);
        }
    }

    /// As it is kept.
    pub(crate) fn text(&self) -> String {
        let by_key = |counts: &[u64; DIMENSIONS]| {
            let some = TABLE.iter().zip(counts).filter(|(_, count)| **count > 0);
            some.map(|(row, count)| (row.key.to_owned(), *count)).collect()
        };
        let kept = Kept { peaks: by_key(&self.peaks), refused: by_key(&self.refused), skills: self.skills.clone() };
        // Maps with text for keys, and numbers.
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// What was kept.
    pub(crate) fn read(text: &str) -> Result<Self, serde_json::Error> {
        let kept: Kept = serde_json::from_str(text)?;
        let counts = |by_key: &BTreeMap<String, u64>| {
            let mut counts = [0; DIMENSIONS];
            for (key, count) in by_key {
                if let Some(dimension) = Dimension::of_key(key) {
                    counts[dimension as usize] = *count;
                }
            }
            counts
        };
        Ok(Self { peaks: counts(&kept.peaks), refused: counts(&kept.refused), skills: kept.skills })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_known_to_within_an_eighth() {
        for us in (0..2_000).chain((0..60).map(|octave| (1_u64 << octave) + octave)) {
            let end = end(step(us));
            assert!(end >= us && end - us <= us / 8 + 1, "{us} us are told as {end}");
        }
        assert!(end(step(u64::MAX)) == u64::MAX);
        let mut times = Times::default();
        assert_eq!(times.quantile(500), None);
        (1..=100).for_each(|ms| times.note(ms * 1000));
        let (p50, p99) = (times.quantile(500).unwrap(), times.quantile(990).unwrap());
        assert!((50_000..=57_000).contains(&p50) && (99_000..=112_000).contains(&p99), "{p50} {p99}");
    }

    #[test]
    fn a_slot_reads_back_what_it_writes_and_slots_add_up() {
        let mut slot = Slot::default();
        slot.peaks[Dimension::Fuel as usize] = 7;
        slot.refused[Dimension::SkillCalls as usize] = 3;
        slot.run(&"echo".parse().unwrap(), true, 5, 1_000);
        slot.run(&"echo".parse().unwrap(), false, 6, 2_000);
        assert_eq!(Slot::read(&slot.text()).unwrap(), slot);
        let newer = r#"{"peaks":{"max_of_tomorrow":1},"skills":{"echo":{"calls":1,"cost":3}},"more":[]}"#;
        assert_eq!(Slot::read(newer).unwrap().skills["echo"].calls, 1);
        let mut sum = slot.clone();
        sum.add(&slot);
        assert_eq!((sum.peaks[Dimension::Fuel as usize], sum.refused[Dimension::SkillCalls as usize]), (7, 6));
        assert_eq!((sum.skills["echo"].calls, sum.skills["echo"].succeeded, sum.skills["echo"].fuel), (4, 2, 22));
    }

    #[test]
    fn skills_without_number_take_bounded_room() {
        let mut slot = Slot::default();
        for n in 0..1000 {
            slot.run(&format!("skill{n}").parse().unwrap(), true, 1, 1);
        }
        assert_eq!((slot.skills.len(), slot.skills[OTHERS].calls), (SKILLS + 1, 1000 - SKILLS as u64));
    }
}
