//! Properties of the round, in a simulation in which time is a number.

use std::collections::{BTreeMap, BinaryHeap};

use proptest::prelude::*;

use super::*;

/// Payers that always have so many runs waiting, each of the same length, on a number of slots.
struct Machine {
    drr: Drr<u32>,
    now: u64,
    next: Ticket,
    /// What ends when: the earliest first.
    running: BinaryHeap<std::cmp::Reverse<(u64, Ticket)>>,
    holders: BTreeMap<Ticket, (u32, Given, u64)>,
    used: BTreeMap<u32, u64>,
    waited: BTreeMap<Ticket, u64>,
    longest: BTreeMap<u32, u64>,
}

impl Machine {
    fn new(slots: u32) -> Self {
        Self {
            drr: Drr::new(slots),
            now: 0,
            next: 0,
            running: BinaryHeap::new(),
            holders: BTreeMap::new(),
            used: BTreeMap::new(),
            waited: BTreeMap::new(),
            longest: BTreeMap::new(),
        }
    }

    fn begin(&mut self, ticket: Ticket, payer: u32, given: Given, lasts: u64) {
        let waited = self.now - self.waited.remove(&ticket).unwrap_or(self.now);
        let longest = self.longest.entry(payer).or_default();
        *longest = (*longest).max(waited);
        self.running.push(std::cmp::Reverse((self.now + lasts, ticket)));
        self.holders.insert(ticket, (payer, given, self.now));
    }

    fn arrive(&mut self, payer: u32, weight: u32, lasts: u64) {
        self.next += 1;
        self.waited.insert(self.next, self.now);
        if let Some(given) = self.drr.arrive(payer, weight, self.next) {
            self.begin(self.next, payer, given, lasts);
        }
    }

    /// Goes on until a time; whoever ends comes again at once.
    fn run(&mut self, until: u64, of: &BTreeMap<u32, (u32, u64)>) {
        while let Some(std::cmp::Reverse((at, ticket))) = self.running.pop() {
            if at > until {
                self.running.push(std::cmp::Reverse((at, ticket)));
                break;
            }
            self.now = at;
            let (payer, given, since) = self.holders.remove(&ticket).expect("it runs");
            *self.used.entry(payer).or_default() += at - since;
            if let Some((weight, lasts)) = of.get(&payer) {
                self.next += 1;
                self.waited.insert(self.next, self.now);
                assert_eq!(self.drr.arrive(payer, *weight, self.next), None, "no slot is free");
                let _ = lasts;
            }
            if let Some((ticket, payer, given)) = self.drr.give_back(&payer, given, at - since) {
                let lasts = of.get(&payer).map_or(1_000, |(_, lasts)| *lasts);
                self.begin(ticket, payer, given, lasts);
            }
        }
        self.now = until;
    }
}

#[test]
fn slots_are_shared_by_weight_whatever_the_runs_length() {
    let of = BTreeMap::from([(1, (1, 50_000)), (2, (1, 1_000)), (3, (3, 10_000))]);
    let mut machine = Machine::new(4);
    for _ in 0..40 {
        for (payer, (weight, lasts)) in &of {
            machine.arrive(*payer, *weight, *lasts);
        }
    }
    machine.run(60_000_000, &of);
    for (payer, percent) in [(1, 20), (2, 20), (3, 60)] {
        let used = machine.used[&payer] * 100 / (4 * 60_000_000);
        assert!((percent - 2..=percent + 2).contains(&used), "payer {payer} had {used} % of the slots");
    }
}

#[test]
fn who_asks_for_little_does_not_wait_for_those_who_always_ask() {
    let of: BTreeMap<u32, (u32, u64)> = (1..=50).map(|payer| (payer, (1, 20_000))).collect();
    let mut machine = Machine::new(4);
    for _ in 0..10 {
        for payer in of.keys() {
            machine.arrive(*payer, 1, 20_000);
        }
    }
    for round in 1..200 {
        machine.run(round * 300_000, &of);
        machine.arrive(1000, 1, 1_000);
    }
    machine.run(61_000_000, &of);
    // Slots come back every 5 ms on average; the round of fifty would be 250 ms and more.
    assert!(machine.longest[&1000] <= 25_000, "{} us", machine.longest[&1000]);
}

#[test]
fn one_long_run_does_not_keep_its_payer_out_for_longer_than_it_counts() {
    let of = BTreeMap::from([(2, (1, 10_000))]);
    let mut machine = Machine::new(1);
    machine.arrive(1, 1, 600_000_000);
    machine.arrive(2, 1, 10_000);
    machine.arrive(2, 1, 10_000);
    machine.run(600_000_000, &of);
    machine.arrive(1, 1, 1_000);
    machine.run(640_000_000, &of);
    assert!(machine.longest[&1] <= 2 * MOST_US as u64, "{} us", machine.longest[&1]);
}

#[derive(Debug, Clone)]
enum Step {
    Arrive { payer: u32, weight: u32 },
    GiveBack { which: usize, took: u64 },
    Cancel { which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..6_u32, 1..5_u32).prop_map(|(payer, weight)| Step::Arrive { payer, weight }),
        4 => (any::<usize>(), 0..100_000_u64).prop_map(|(which, took)| Step::GiveBack { which, took }),
        2 => any::<usize>().prop_map(|which| Step::Cancel { which }),
    ]
}

proptest! {
    #[test]
    fn slots_are_conserved_and_nobody_is_forgotten(slots in 1..5_u32, steps in prop::collection::vec(step(), 1..300)) {
        let mut drr = Drr::new(slots);
        let (mut holding, mut waiting, mut next) = (Vec::new(), Vec::new(), 0);
        for step in steps {
            match step {
                Step::Arrive { payer, weight } => {
                    next += 1;
                    match drr.arrive(payer, weight, next) {
                        Some(given) => holding.push((payer, given)),
                        None => waiting.push((payer, next)),
                    }
                }
                Step::GiveBack { which, took } if !holding.is_empty() => {
                    let (payer, given) = holding.swap_remove(which % holding.len());
                    if let Some((ticket, payer, given)) = drr.give_back(&payer, given, took) {
                        let at = waiting.iter().position(|(_, waits)| *waits == ticket);
                        prop_assert!(at.is_some(), "a slot was given to nobody who waits");
                        prop_assert_eq!(waiting.remove(at.unwrap()).0, payer);
                        holding.push((payer, given));
                    }
                }
                Step::Cancel { which } if !waiting.is_empty() => {
                    let (payer, ticket) = waiting.swap_remove(which % waiting.len());
                    drr.cancel(&payer, ticket);
                }
                _ => {}
            }
            prop_assert_eq!(drr.free() as usize + holding.len(), slots as usize);
            prop_assert!(waiting.is_empty() || drr.free() == 0, "a slot is free and somebody waits");
        }
        // All who wait are served in the end.
        while let Some((payer, given)) = holding.pop() {
            if let Some((ticket, payer, given)) = drr.give_back(&payer, given, 1_000) {
                waiting.retain(|(_, waits)| *waits != ticket);
                holding.push((payer, given));
            }
        }
        prop_assert!(waiting.is_empty());
    }
}

#[test]
fn those_who_come_again_at_once_do_not_keep_the_round_from_its_turn() {
    // One slot. Four ask for a millisecond, one at a time, again as soon as they have been served; a fifth always has runs waiting.
    let mut drr = Drr::new(1);
    let (mut next, mut used) = (0, BTreeMap::new());
    let mut arrive = |drr: &mut Drr<u32>, payer| {
        next += 1;
        drr.arrive(payer, 1, next)
    };
    let mut given = arrive(&mut drr, 1).expect("the slot is free");
    let mut holder = 1;
    for payer in [2, 4, 5] {
        assert_eq!(arrive(&mut drr, payer), None);
    }
    for _ in 0..10_000 {
        assert_eq!(arrive(&mut drr, 3), None);
    }
    for n in 0..6_000 {
        // At first they ask for nothing more, so that they are new when they come.
        if n == 3_000 {
            used.clear();
            for payer in [1, 2, 4, 5] {
                assert_eq!(arrive(&mut drr, payer), None);
            }
        }
        *used.entry(holder).or_insert(0_u64) += 1_000;
        let (_, payer, granted) = drr.give_back(&holder, given, 1_000).expect("somebody waits");
        if holder != 3 && n > 3_000 {
            assert_eq!(arrive(&mut drr, holder), None);
        }
        (holder, given) = (payer, granted);
    }
    let least = used.values().min().copied().unwrap_or(0);
    assert!(used.len() == 5 && least * 20 > used.values().sum::<u64>(), "{used:?}");
}
