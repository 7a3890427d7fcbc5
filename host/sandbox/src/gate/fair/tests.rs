//! Properties of the gate, over random schedules: a simulation in which time is a number.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{Arrival, Fair, Rules, Ticket};

const TICK: u64 = 1_000_000;

/// Runs of payers on a gate. Whoever holds a permit is asked at each tick whether to go on, as a guest is.
struct Machine {
    gate: Fair<u32>,
    /// Runs that hold a permit: payer, ticket, nanoseconds held since it was granted.
    holding: Vec<(u32, Ticket, u64)>,
    weights: BTreeMap<u32, u32>,
    /// Who a waiting ticket belongs to, and since when it waits.
    waiting: BTreeMap<Ticket, (u32, u64)>,
    used: BTreeMap<u32, u64>,
    next: Ticket,
    now: u64,
    longest_wait: u64,
}

impl Machine {
    fn new(rules: Rules) -> Self {
        Self {
            gate: Fair::new(rules),
            holding: Vec::new(),
            weights: BTreeMap::new(),
            waiting: BTreeMap::new(),
            used: BTreeMap::new(),
            next: 0,
            now: 0,
            longest_wait: 0,
        }
    }

    fn arrive(&mut self, payer: u32) -> Ticket {
        self.next += 1;
        let ticket = self.next;
        let weight = self.weights.get(&payer).copied().unwrap_or(1);
        match self.gate.arrive(payer, weight, ticket) {
            Arrival::Granted => self.holding.push((payer, ticket, 0)),
            Arrival::Waits { .. } => {
                self.waiting.insert(ticket, (payer, self.now));
            }
        }
        ticket
    }

    fn give_back(&mut self, index: usize, used: u64) -> (u32, Ticket) {
        let (payer, ticket, _) = self.holding.remove(index);
        if let Some(next) = self.gate.give_back(&payer, used) {
            let (who, since) = self.waiting.remove(&next).expect("a granted ticket was waiting");
            self.longest_wait = self.longest_wait.max(self.now - since);
            self.holding.push((who, next, 0));
        }
        (payer, ticket)
    }

    /// One tick in which every run that holds a permit computes. Those that are asked to let go queue up again.
    fn tick(&mut self) {
        self.now += TICK;
        let mut again = Vec::new();
        for (payer, ticket, _) in self.holding.clone() {
            let Some(index) = self.holding.iter().position(|(_, held, _)| *held == ticket) else { continue };
            *self.used.entry(payer).or_default() += TICK;
            self.holding[index].2 += TICK;
            let held = self.holding[index].2;
            if self.gate.goes_on(&payer, TICK, held) {
                again.push(self.give_back(index, 0).0);
            }
        }
        for payer in again {
            self.arrive(payer);
        }
    }

    fn of(&self, payer: u32) -> u64 {
        self.used.get(&payer).copied().unwrap_or(0)
    }
}

fn rules(permits: u32) -> Rules {
    Rules { permits, ..Rules::default() }
}

#[test]
fn a_newcomer_goes_before_whoever_burns_and_asks_it_to_look_up() {
    let mut machine = Machine::new(rules(2));
    for _ in 0..10 {
        machine.arrive(1);
    }
    for _ in 0..500 {
        machine.tick();
    }
    assert_eq!(machine.gate.arrive(2, 1, 9999), Arrival::Waits { preempts: true });
    let (payer, _, held) = machine.holding[0];
    assert!(machine.gate.goes_on(&payer, 1, held), "the burner was not asked to let go");
    assert_eq!(machine.gate.give_back(&payer, 0), Some(9999));
}

#[test]
fn a_short_run_is_not_cut_in_two_by_who_burns() {
    let mut machine = Machine::new(rules(2));
    for _ in 0..10 {
        machine.arrive(1);
    }
    for _ in 0..500 {
        machine.tick();
    }
    machine.arrive(2);
    assert_eq!(machine.give_back(0, 1).0, 1);
    machine.arrive(1);
    assert!(machine.holding.iter().any(|(payer, _, _)| *payer == 2), "the newcomer came in");
    // It began where the other stood, so it is the one with more use from now on, and has its slice all the same.
    assert!(!machine.gate.goes_on(&2, TICK * 9 / 10, TICK * 9 / 10));
    assert!(!machine.gate.goes_on(&2, TICK, TICK * 19 / 10));
    assert!(machine.gate.goes_on(&2, TICK, TICK * 29 / 10), "a longer one takes turns");
}

#[test]
fn runs_of_one_payer_take_turns() {
    let mut machine = Machine::new(rules(1));
    let first = machine.arrive(1);
    let second = machine.arrive(1);
    for _ in 0..2 {
        machine.tick();
    }
    assert!(machine.holding.iter().all(|(_, ticket, _)| *ticket == second), "{first} still holds the permit");
}

#[test]
fn what_was_used_while_nobody_wanted_the_processor_is_forgotten() {
    // 1 has a weight of 100 and 2 of 1: side by side on two permits, 2's account runs away from 1's.
    let mut machine = Machine::new(rules(2));
    machine.weights.insert(1, 100);
    machine.arrive(1);
    machine.arrive(2);
    for _ in 0..60_000 {
        machine.tick();
    }
    assert!(machine.gate.above_floor(&2) <= Rules::default().window);
    // Now a third wants a permit for ever as well. 2 is not shut out for the minute that it worked.
    machine.weights.insert(3, 100);
    machine.arrive(3);
    let before = machine.of(2);
    for _ in 0..12_000 {
        machine.tick();
    }
    assert!(machine.of(2) > before, "2 was shut out");
}

#[test]
fn a_stream_of_newcomers_shuts_nobody_out() {
    let mut machine = Machine::new(rules(1));
    machine.arrive(1);
    for _ in 0..100 {
        machine.tick();
    }
    let before = machine.of(1);
    let mut arrivals: VecDeque<u32> = (10..2010).collect();
    machine.arrive(arrivals.pop_front().unwrap());
    machine.arrive(arrivals.pop_front().unwrap());
    while let Some(newcomer) = arrivals.pop_front() {
        machine.arrive(newcomer);
        machine.tick();
        // Newcomers have short runs: whoever holds the permit and is not 1 is done after a tick.
        if let Some(index) = machine.holding.iter().position(|(payer, _, _)| *payer != 1) {
            machine.give_back(index, 0);
        }
    }
    // 2,000 ms of others' use, 200 ms of patience.
    assert!(machine.of(1) - before >= 8 * TICK, "{} ns", machine.of(1) - before);
}

#[test]
fn payers_that_come_and_go_leave_no_accounts_behind() {
    let mut gate = Fair::new(Rules { permits: 1, remembered: 16, ..Rules::default() });
    for payer in 0..10_000_u32 {
        assert_eq!(gate.arrive(payer, 1, 1), Arrival::Granted);
        assert_eq!(gate.give_back(&payer, 5 * TICK), None);
    }
    assert!(gate.accounts() <= 16, "{} accounts", gate.accounts());
}

#[test]
fn a_ticket_that_is_cancelled_twice_changes_nothing() {
    let mut gate = Fair::new(rules(1));
    assert_eq!(gate.arrive(1, 1, 1), Arrival::Granted);
    assert!(matches!(gate.arrive(2, 1, 2), Arrival::Waits { .. }));
    gate.cancel(&2, 2);
    gate.cancel(&2, 2);
    gate.cancel(&3, 7);
    assert_eq!(gate.give_back(&1, 1), None);
    assert!(gate.has_free() && !gate.is_contended());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Payers that always want the processor share it by weight, within a bound that does not grow with time.
    #[test]
    fn weights_are_respected_within_a_bound(
        permits in 1_u32..4,
        payers in proptest::collection::vec((1_u32..8, 4_usize..8), 2..6),
        ticks in 2_000_u64..6_000,
    ) {
        // With as many runs each as permits and more, nobody's share is capped by having too few.
        let mut machine = Machine::new(rules(permits));
        for (payer, (weight, _)) in payers.iter().enumerate() {
            machine.weights.insert(u32::try_from(payer).unwrap(), *weight);
        }
        for (payer, (_, runs)) in payers.iter().enumerate() {
            for _ in 0..*runs {
                machine.arrive(u32::try_from(payer).unwrap());
            }
        }
        for _ in 0..ticks {
            machine.tick();
        }
        let weights: u64 = payers.iter().map(|(weight, _)| u64::from(*weight)).sum();
        let total = ticks * TICK * u64::from(permits);
        for (payer, (weight, _)) in payers.iter().enumerate() {
            let fair = total / weights * u64::from(*weight);
            let got = machine.of(u32::try_from(payer).unwrap());
            // A tick of each permit for each unit of weight, and one turn for each time that patience ran out.
            let turns = total / Rules::default().patience + 1;
            let bound = (u64::from(*weight) + 2) * TICK * u64::from(permits) + turns * TICK;
            prop_assert!(got.abs_diff(fair) <= bound, "payer {payer}: {got} of {fair}, bound {bound}");
        }
    }

    /// A run that waits is served in the end, whatever the others do.
    #[test]
    fn nobody_starves(
        permits in 1_u32..4,
        schedule in proptest::collection::vec((0_u32..12, 0_u8..4), 500..3_000),
    ) {
        let mut machine = Machine::new(rules(permits));
        for (payer, what) in schedule {
            match what {
                0 => { machine.arrive(payer); }
                1 => if let Some(index) = machine.holding.iter().position(|(who, _, _)| *who == payer) {
                    machine.give_back(index, 0);
                },
                _ => machine.tick(),
            }
        }
        // From here on nobody new comes, and each run that gets a permit ends after a tick: all must be served.
        let waiting = machine.waiting.len() as u64;
        for _ in 0..=waiting {
            machine.now += TICK;
            for _ in 0..machine.holding.len() {
                machine.give_back(0, TICK);
            }
        }
        prop_assert!(machine.waiting.is_empty(), "{} runs were never served", machine.waiting.len());
        // While it lasted, a payer waited for its turn no longer than patience for each other payer.
        let bound = (Rules::default().patience * 13) + waiting * TICK + 3_000 * TICK;
        prop_assert!(machine.longest_wait <= bound);
    }

    /// However long a payer stays away, it gets no more than its share when it is back.
    #[test]
    fn credit_cannot_be_hoarded(away in 100_u64..20_000, burst in 100_u64..2_000) {
        let mut machine = Machine::new(rules(1));
        for _ in 0..3 { machine.arrive(1); }
        machine.arrive(2);
        for _ in 0..100 { machine.tick(); }
        // 2 goes away, 1 works on.
        while let Some(index) = machine.holding.iter().position(|(payer, _, _)| *payer == 2) { machine.give_back(index, 0); }
        let theirs: Vec<Ticket> =
            machine.waiting.iter().filter(|(_, (payer, _))| *payer == 2).map(|(ticket, _)| *ticket).collect();
        for ticket in theirs { machine.gate.cancel(&2, ticket); machine.waiting.remove(&ticket); }
        for _ in 0..away { machine.tick(); }
        let (one, two) = (machine.of(1), machine.of(2));
        for _ in 0..3 { machine.arrive(2); }
        for _ in 0..burst { machine.tick(); }
        let (one, two) = (machine.of(1) - one, machine.of(2) - two);
        prop_assert!(two <= one + 4 * TICK, "2 got {two}, 1 got {one}");
    }

    /// Permits are neither lost nor made, whatever the order of events.
    #[test]
    fn permits_are_conserved(
        permits in 1_u32..4,
        schedule in proptest::collection::vec((0_u32..6, 0_u8..5), 1..800),
    ) {
        let mut machine = Machine::new(rules(permits));
        for (payer, what) in schedule {
            match what {
                0 | 1 => { machine.arrive(payer); }
                2 => if !machine.holding.is_empty() {
                    let index = payer as usize % machine.holding.len();
                    machine.give_back(index, 100);
                },
                3 => if let Some((&ticket, &(who, _))) = machine.waiting.iter().nth(payer as usize) {
                    machine.gate.cancel(&who, ticket);
                    machine.waiting.remove(&ticket);
                },
                _ => machine.tick(),
            }
            prop_assert!(machine.holding.len() <= permits as usize);
            prop_assert!(machine.waiting.is_empty() || machine.holding.len() == permits as usize);
            prop_assert_eq!(machine.gate.is_contended(), !machine.waiting.is_empty());
        }
    }
}
