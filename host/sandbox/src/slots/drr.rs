//! Deficit round robin: whose run gets the next slot.
//!
//! Each payer that waits has a deficit, time on slots that it may still use in its turn. A turn goes to the next payer in the round,
//! which gets a quantum for each share it has, and gives up its place when the deficit is used up (Shreedhar and Varghese, 1995).
//! How long a run will hold its slot is not known before: the payer's usual time is taken, and put right when the slot comes back.
//! Payers that have just come are served before the round once, as in RFC 8290: who asks for little now and then does not wait for
//! those who always ask.
//!
//! What it will not do: keep time or wake anybody.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Names a run that waits.
pub(crate) type Ticket = u64;

/// Microseconds of a slot for a share and a turn. 10 ms: a few runs of a small skill.
const QUANTUM_US: i64 = 10_000;

/// The most that one run counts for, so that nobody waits for ever because of what it did: 10 s.
const MOST_US: i64 = 10_000_000;

/// Payers that are remembered while they neither wait nor hold a slot.
const REMEMBERED: usize = 10_000;

#[derive(Debug)]
struct Payer {
    weight: i64,
    deficit: i64,
    /// What its runs usually take. Until one has ended, a whole turn is thought of: a crowd that nobody knows gets a run each.
    usual: Option<i64>,
    waiting: VecDeque<Ticket>,
    holds: u32,
    /// It is in one of the two lists.
    listed: bool,
}

/// A slot that was given: what its holder is thought to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) expected_us: i64,
}

#[derive(Debug)]
pub(crate) struct Drr<K> {
    free: u32,
    payers: HashMap<K, Payer>,
    /// Payers with waiting runs: those that have just come, and the round.
    fresh: VecDeque<K>,
    round: VecDeque<K>,
}

impl<K: Clone + Eq + Hash> Drr<K> {
    pub(crate) fn new(slots: u32) -> Self {
        Self { free: slots, payers: HashMap::new(), fresh: VecDeque::new(), round: VecDeque::new() }
    }

    /// Whether no slot is free.
    pub(crate) fn is_full(&self) -> bool {
        self.free == 0
    }

    /// A run has come: it has a slot at once, or waits.
    pub(crate) fn arrive(&mut self, payer: K, weight: u32, ticket: Ticket) -> Option<Given> {
        if self.payers.len() > REMEMBERED {
            self.payers.retain(|_, payer| payer.holds > 0 || !payer.waiting.is_empty());
        }
        let account = self.payers.entry(payer.clone()).or_insert_with(|| Payer {
            weight: 1,
            deficit: 0,
            usual: None,
            waiting: VecDeque::new(),
            holds: 0,
            listed: false,
        });
        account.weight = i64::from(weight.max(1));
        if self.free > 0 {
            debug_assert!(self.fresh.is_empty() && self.round.is_empty(), "a slot is free and somebody waits");
            self.free -= 1;
            return Some(account.take());
        }
        account.waiting.push_back(ticket);
        if !account.listed {
            account.listed = true;
            // Who still owes for what it did comes into the round like everybody.
            let list = if account.deficit >= 0 && account.holds == 0 { &mut self.fresh } else { &mut self.round };
            if account.deficit >= 0 {
                account.deficit = QUANTUM_US * account.weight;
            }
            list.push_back(payer);
        }
        None
    }

    /// A slot comes back after so many microseconds. Gives who has it now.
    pub(crate) fn give_back(&mut self, payer: &K, given: Given, took_us: u64) -> Option<(Ticket, K, Given)> {
        if let Some(account) = self.payers.get_mut(payer) {
            let took = i64::try_from(took_us).unwrap_or(MOST_US).min(MOST_US);
            account.holds = account.holds.saturating_sub(1);
            account.deficit = (account.deficit + given.expected_us - took).max(-MOST_US * account.weight);
            account.usual = Some(account.usual.map_or(took, |usual| usual + (took - usual) / 8));
        }
        self.free += 1;
        self.grant()
    }

    /// A run does not wait any more.
    pub(crate) fn cancel(&mut self, payer: &K, ticket: Ticket) {
        if let Some(account) = self.payers.get_mut(payer) {
            // Its place in the round goes when its turn comes.
            account.waiting.retain(|waiting| *waiting != ticket);
        }
    }

    fn grant(&mut self) -> Option<(Ticket, K, Given)> {
        let mut without_turn = 0;
        loop {
            let from_fresh = !self.fresh.is_empty();
            let list = if from_fresh { &mut self.fresh } else { &mut self.round };
            let Some(payer) = list.pop_front() else {
                // Nobody waits, so nobody was kept waiting by what others did: debts are forgotten.
                self.payers.retain(|_, payer| {
                    payer.deficit = 0;
                    payer.holds > 0
                });
                return None;
            };
            let Some(account) = self.payers.get_mut(&payer) else { continue };
            if account.waiting.is_empty() && from_fresh {
                // As in RFC 8290: whoever comes again at once would be fresh each time, and the round would never have its turn.
                self.round.push_back(payer);
                continue;
            }
            if account.waiting.is_empty() {
                account.listed = false;
                account.deficit = account.deficit.min(0);
                continue;
            }
            if account.deficit <= 0 {
                // Its turn is over. It gets the next one's quantum, and stands at the end of the round.
                account.deficit += QUANTUM_US * account.weight;
                self.round.push_back(payer);
                without_turn += 1;
                if without_turn > self.round.len() + self.fresh.len() {
                    self.skip_rounds();
                    without_turn = 0;
                }
                continue;
            }
            let ticket = account.waiting.pop_front().expect("somebody waits");
            let given = account.take();
            self.free -= 1;
            // It goes on until its deficit is used up. Who was fresh has had its turn before the round.
            if from_fresh && account.deficit > 0 {
                self.fresh.push_front(payer.clone());
            } else if account.deficit > 0 {
                self.round.push_front(payer.clone());
            } else {
                account.deficit += QUANTUM_US * account.weight;
                self.round.push_back(payer.clone());
            }
            return Some((ticket, payer, given));
        }
    }

    /// Everybody owes: the rounds in which nobody would be served are gone through at once.
    fn skip_rounds(&mut self) {
        let owing =
            self.round.iter().filter_map(|payer| self.payers.get(payer)).filter(|payer| !payer.waiting.is_empty());
        let rounds = owing.map(|payer| (-payer.deficit).max(0) / (QUANTUM_US * payer.weight)).min().unwrap_or(0);
        for payer in &self.round {
            if let Some(payer) = self.payers.get_mut(payer) {
                payer.deficit += rounds * QUANTUM_US * payer.weight;
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn free(&self) -> u32 {
        self.free
    }
}

impl Payer {
    fn take(&mut self) -> Given {
        self.holds += 1;
        let expected_us = self.usual.unwrap_or(QUANTUM_US * self.weight).max(1);
        self.deficit -= expected_us;
        Given { expected_us }
    }
}

#[cfg(test)]
mod tests;
