//! Properties of accounts over random interleavings, in which time is a number.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{BACK_US, WINDOW_US};
use super::*;

const HOUR_US: u64 = 60 * WINDOW_US;
const START_US: u64 = 10 * HOUR_US;

fn quota(rate: u64, runs: u64) -> Quota {
    Quota::default()
        .with(Dimension::SkillCalls, rate)
        .with(Dimension::Tokens, rate)
        .with(Dimension::ConcurrentRuns, runs)
}

fn calls(amount: u64) -> Amounts {
    Amounts::of(Dimension::SkillCalls, amount)
}

/// What GCRA lets through in a stretch of time.
fn most_within(limit: u64, stretch_us: u64) -> u128 {
    u128::from(limit) + (u128::from(limit) * u128::from(stretch_us)).div_ceil(u128::from(WINDOW_US))
}

/// That no stretch between two of these passages has let through more than it may.
fn hold_to(limit: u64, passed: &[(u64, u64)], slack_us: u64) -> Result<(), TestCaseError> {
    for (from, (began, _)) in passed.iter().enumerate() {
        let mut sum = 0_u128;
        for (at, amount) in &passed[from..] {
            sum += u128::from(*amount);
            let most = most_within(limit, at - began + slack_us);
            prop_assert!(sum <= most, "{sum} passed from {began} to {at}, {most} may");
        }
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    /// Some reserve, and the time goes on by so many microseconds.
    Reserve { amount: u64, run: bool, after_us: u64 },
    /// One that is under way is settled with so many percent of what was reserved.
    Settle { which: usize, percent: u64 },
    /// One that is under way is never settled.
    Crash { which: usize },
}

fn steps(after_us: u64) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..40_u64, any::<bool>(), 0..=after_us).prop_map(|(amount, run, after_us)| Step::Reserve { amount, run, after_us }),
        3 => (any::<usize>(), 0..300_u64).prop_map(|(which, percent)| Step::Settle { which, percent }),
        1 => any::<usize>().prop_map(|which| Step::Crash { which }),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #[test]
    fn no_stretch_of_time_lets_through_more_than_the_limit_says(
        limit in 1..200_u64, asked in prop::collection::vec((1..60_u64, 0..8_000_000_u64), 1..150),
    ) {
        let (quota, mut account, mut now) = (quota(limit, 1), Account::default(), START_US);
        let mut passed = Vec::new();
        for (amount, after_us) in asked {
            now += after_us;
            match account.reserve(&quota, &calls(amount), None, now) {
                Ok(_) => passed.push((now, amount)),
                Err(over) => {
                    prop_assert_eq!((over.dimension, over.limit), (Dimension::SkillCalls, limit));
                    prop_assert_eq!(over.wait_us.is_none(), amount > limit);
                    // After the time that it names, and not before, there is room.
                    if let Some(wait) = over.wait_us {
                        prop_assert!(account.clone().reserve(&quota, &calls(amount), None, now + wait - 1).is_err());
                        prop_assert!(account.clone().reserve(&quota, &calls(amount), None, now + wait).is_ok());
                    }
                }
            }
        }
        hold_to(limit, &passed, 0)?;
    }

    #[test]
    fn readings_of_a_clock_that_come_in_the_wrong_order_let_nothing_more_through(
        limit in 1..200_u64, asked in prop::collection::vec((1..30_u64, 0..2_000_000_u64, 0..=BACK_US), 1..150),
    ) {
        let (quota, mut account, mut now) = (quota(limit, 1), Account::default(), START_US);
        let mut passed = Vec::new();
        for (amount, after_us, late_us) in asked {
            now += after_us;
            if account.reserve(&quota, &calls(amount), None, now - late_us).is_ok() {
                passed.push((now, amount));
            }
        }
        hold_to(limit, &passed, BACK_US)?;
    }

    #[test]
    fn nothing_is_lost_and_nothing_given_back_twice(limit in 1..500_u64, steps in steps(0)) {
        // Time stands still, so that nothing leaks and the sum must be exact.
        let (quota, mut account, now) = (quota(limit, u64::MAX), Account::default(), START_US);
        let (mut under_way, mut lost, mut settled) = (Vec::new(), 0_u64, 0_u64);
        for step in steps {
            match step {
                Step::Reserve { amount, run, .. } => {
                    let until = run.then_some(now + 1);
                    under_way.extend(account.reserve(&quota, &calls(amount), until, now).ok().map(|lease| (lease, amount)));
                }
                Step::Settle { which, percent } if !under_way.is_empty() => {
                    let (lease, reserved) = under_way.swap_remove(which % under_way.len());
                    let used = reserved * percent / 100;
                    settled += used;
                    account.settle(lease, &calls(used));
                }
                Step::Crash { which } if !under_way.is_empty() => {
                    lost += under_way.swap_remove(which % under_way.len()).1;
                }
                Step::Settle { .. } | Step::Crash { .. } => {}
            }
            let expected = settled + lost + under_way.iter().map(|(_, reserved)| reserved).sum::<u64>();
            prop_assert_eq!(account.used(&quota, Dimension::SkillCalls, now), expected);
            // What is owed beyond the limit keeps the next one out.
            if expected >= limit {
                prop_assert!(account.clone().reserve(&quota, &calls(1), None, now).is_err());
            }
        }
    }

    #[test]
    fn runs_are_never_more_than_may_be_and_a_crash_gives_its_place_back(most in 1..8_u64, steps in steps(3_000_000)) {
        const LASTS_US: u64 = 10_000_000;
        let (quota, mut account, mut now) = (quota(u64::MAX >> 20, most), Account::default(), START_US);
        let (mut under_way, mut crashed): (Vec<(Lease, u64)>, BTreeMap<u64, u64>) = (Vec::new(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Reserve { run: true, after_us, .. } => {
                    now += after_us;
                    let live = under_way.iter().map(|(_, until)| *until).chain(crashed.values().copied()).filter(|until| *until > now);
                    let live = live.count() as u64;
                    let got = account.reserve(&quota, &Amounts::default(), Some(now + LASTS_US), now);
                    prop_assert_eq!(got.is_ok(), live < most, "{} of {} are under way", live, most);
                    under_way.extend(got.ok().map(|lease| (lease, now + LASTS_US)));
                }
                Step::Settle { which, .. } if !under_way.is_empty() => {
                    let (lease, _) = under_way.swap_remove(which % under_way.len());
                    account.settle(lease, &Amounts::default());
                }
                Step::Crash { which } if !under_way.is_empty() => {
                    let (lease, until) = under_way.swap_remove(which % under_way.len());
                    crashed.insert(lease.number, until);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn all_of_a_request_is_reserved_or_nothing(first in 1..100_u64, second in 1..100_u64) {
        let (quota, mut account) = (quota(50, 1), Account::default());
        let ask = calls(first).and(Dimension::Tokens, second);
        let got = account.reserve(&quota, &ask, Some(START_US + 1), START_US);
        let used = |account: &mut Account, dimension| account.used(&quota, dimension, START_US);
        let expected = if first <= 50 && second <= 50 { (first, second, 1) } else { (0, 0, 0) };
        prop_assert_eq!(got.is_ok(), expected.2 == 1);
        prop_assert_eq!(
            (
                used(&mut account, Dimension::SkillCalls),
                used(&mut account, Dimension::Tokens),
                used(&mut account, Dimension::ConcurrentRuns),
            ),
            expected
        );
    }
}

#[test]
fn a_clock_that_jumps_an_hour_either_way_frees_one_limit_at_the_most_and_locks_nobody_out() {
    let (quota, mut account) = (quota(100, 1), Account::default());
    let mut full = |now| (0..1000).filter(|_| account.reserve(&quota, &calls(1), None, now).is_ok()).count();
    assert_eq!(full(START_US), 100);
    assert_eq!(full(START_US + HOUR_US), 100, "forward: what an idle hour would have freed");
    assert_eq!(full(START_US), 0, "back: nothing leaks by that");
    assert_eq!(full(START_US + WINDOW_US / 2), 50, "and it goes on from there");
}

#[test]
fn what_was_used_beyond_the_reservation_is_owed() {
    let (quota, mut account) = (quota(100, 1), Account::default());
    let lease = account.reserve(&quota, &calls(10), None, START_US).unwrap();
    account.settle(lease, &calls(350));
    assert_eq!(account.used(&quota, Dimension::SkillCalls, START_US), 350);
    let over = account.reserve(&quota, &calls(1), None, START_US).unwrap_err();
    assert_eq!((over.used, over.wait_us), (350, Some(WINDOW_US * 251 / 100)));
    assert!(!account.is_idle(&quota, START_US + 3 * WINDOW_US));
    assert!(account.is_idle(&quota, START_US + 4 * WINDOW_US));
}

#[test]
fn a_limit_that_is_lowered_holds_for_what_is_used_already() {
    let mut account = Account::default();
    let _unsettled = account.reserve(&quota(100, 1), &calls(100), None, START_US).unwrap();
    let lower = quota(10, 1);
    assert_eq!(account.used(&lower, Dimension::SkillCalls, START_US), 100);
    assert!(account.reserve(&lower, &calls(1), None, START_US + 9 * WINDOW_US).is_err());
    assert!(account.reserve(&lower, &calls(1), None, START_US + 10 * WINDOW_US).is_ok());
}
