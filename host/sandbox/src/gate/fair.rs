//! Who runs next: the rules alone, without clocks, threads or wakers.
//!
//! Each payer (a tenant) has an account of *weighted use*: nanoseconds that it held a permit, divided by its weight.
//! A free permit goes to the waiting payer whose account is lowest; among the runs of one payer, to the one that has
//! waited longest. This is the virtual-time idea of fair queueing (Demers, Keshav, Shenker 1989; start-time fair
//! queueing, Goyal 1996), with three rules against its known faults:
//!
//! - A payer that comes back from idle starts at the *floor*, the lowest account of those who are active. It cannot
//!   save up credit while it is away.
//! - Whoever has waited while others used the processor for [`Rules::patience`] goes first once, so that an endless
//!   stream of newcomers, each with an account at the floor, keeps nobody out.
//! - No account is ever more than [`Rules::window`] above the floor. What a payer used before anybody else wanted
//!   the processor is forgotten as far as it exceeds that, so nobody is kept out for long for having worked while
//!   the machine was idle.
//!
//! ```
//! # use clawhold_sandbox::fair::{Arrival, Fair, Rules};
//! let mut gate = Fair::new(Rules { permits: 1, ..Rules::default() });
//! assert_eq!(gate.arrive("acme", 1, 10), Arrival::Granted);
//! assert!(matches!(gate.arrive("acme", 1, 11), Arrival::Waits { .. }));
//! assert!(matches!(gate.arrive("globex", 1, 12), Arrival::Waits { .. }));
//! // Acme gives its permit back after a millisecond: globex has used less.
//! assert_eq!(gate.give_back(&"acme", 1_000_000), Some(12));
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

/// What a gate goes by.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Runs that hold a permit at a time.
    pub permits: u32,
    /// The most that an account may be above the floor, in nanoseconds of weighted use. 50 ms: a payer that was alone
    /// for a minute is served again after at most this much of others' use.
    pub window: u64,
    /// How long a run may hold a permit while another run of a payer that has not used more waits, in nanoseconds, and how
    /// much a payer may use from its first permit on before one that has used a little less takes it away.
    /// 2 ms: runs of one payer, and payers with about equal use, take turns instead of running to their end; and a short run is
    /// not cut in two because it has, with its own first microseconds, used more than one that has used the processor up to then.
    pub slice: u64,
    /// Use by all others after which a waiting payer goes first once, in nanoseconds. 200 ms.
    pub patience: u64,
    /// Accounts above the floor that are remembered while their payer is idle. 4,096: forgetting one gives its payer
    /// at most one window.
    pub remembered: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self { permits: 1, window: 50_000_000, slice: 2_000_000, patience: 200_000_000, remembered: 4096 }
    }
}

/// What comes of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The permit is there.
    Granted,
    /// The run waits.
    Waits {
        /// Whether somebody who has used more holds a permit, and should be asked to look up.
        preempts: bool,
    },
}

/// Runs are named by a number that the caller chooses and uses once at a time.
pub type Ticket = u64;

#[derive(Debug)]
struct Account {
    weight: u64,
    /// Weighted use in nanoseconds, on the gate's own scale.
    used: u64,
    holds: u32,
    /// Nanoseconds used since the payer held no permit last.
    burst: u64,
    waiting: VecDeque<Ticket>,
    /// What all together had used when the payer began to wait, or had its last turn.
    since: u64,
}

impl Account {
    fn is_active(&self) -> bool {
        self.holds > 0 || !self.waiting.is_empty()
    }

    fn take(&mut self) {
        if self.holds == 0 {
            self.burst = 0;
        }
        self.holds += 1;
    }

    /// Whether it has had its slice, or is a slice ahead of somebody who waits.
    fn is_ahead_of(&self, waiting: u64, slice: u64) -> bool {
        self.used > waiting && (self.burst >= slice || self.used - waiting >= slice)
    }
}

/// The gate. Nothing here blocks: whoever waits is named by its ticket, and told by the caller.
#[derive(Debug)]
pub struct Fair<K> {
    rules: Rules,
    free: u32,
    floor: u64,
    accounts: HashMap<K, Account>,
    /// Waiting payers, lowest account first. A payer is here once, however many of its runs wait.
    queue: BTreeSet<(u64, K)>,
    /// The same payers, the one that has waited longest first.
    oldest: BTreeSet<(u64, K)>,
    /// Use of all payers since the beginning: the clock that patience goes by.
    served: u64,
    /// Payers that hold a permit; as long as there are permits at most.
    holders: BTreeSet<K>,
    /// Accounts of active payers, with how many payers stand at each: the lowest is the floor.
    active: BTreeMap<u64, usize>,
    /// Idle payers whose account is above the floor, lowest first.
    idle: BTreeSet<(u64, K)>,
}

impl<K: Clone + Eq + Hash + Ord> Fair<K> {
    /// A gate with all its permits.
    pub fn new(rules: Rules) -> Self {
        Self {
            free: rules.permits,
            rules,
            floor: 0,
            accounts: HashMap::new(),
            queue: BTreeSet::new(),
            oldest: BTreeSet::new(),
            served: 0,
            holders: BTreeSet::new(),
            active: BTreeMap::new(),
            idle: BTreeSet::new(),
        }
    }

    /// A run wants a permit. A `weight` of 2 gets twice the share of a weight of 1; 0 counts as 1.
    pub fn arrive(&mut self, payer: K, weight: u32, ticket: Ticket) -> Arrival {
        let floor = self.floor;
        let weight = u64::from(weight.max(1));
        let account = self.accounts.entry(payer.clone()).or_insert_with(|| Account {
            weight,
            used: floor,
            holds: 0,
            burst: 0,
            waiting: VecDeque::new(),
            since: 0,
        });
        account.weight = weight;
        if !account.is_active() {
            self.idle.remove(&(account.used, payer.clone()));
            account.used = account.used.clamp(floor, floor.saturating_add(self.rules.window));
            *self.active.entry(account.used).or_default() += 1;
        }
        if self.free > 0 {
            debug_assert!(self.queue.is_empty(), "a permit is free and somebody waits");
            account.take();
            self.free -= 1;
            self.holders.insert(payer);
            self.raise_floor();
            return Arrival::Granted;
        }
        account.waiting.push_back(ticket);
        let used = account.used;
        if account.waiting.len() == 1 {
            self.wait(payer.clone());
        }
        self.raise_floor();
        // A holder has used something since it was charged last, which is not known here: equal use is enough to ask.
        let asks = |holder: &K| self.accounts[holder].is_ahead_of(used.saturating_sub(1), self.rules.slice);
        let preempts = self.holders.iter().any(|holder| *holder != payer && asks(holder));
        Arrival::Waits { preempts }
    }

    /// A run that holds a permit has used it for so many nanoseconds more, `held` since it was granted, and goes on. Gives whether
    /// it should let go: somebody with less use waits and the payer has had its slice, or the run has and somebody with no more
    /// use waits.
    pub fn goes_on(&mut self, payer: &K, used: u64, held: u64) -> bool {
        self.charge(payer, used);
        let (Some((lowest, _)), Some(own)) = (self.queue.first(), self.accounts.get(payer)) else { return false };
        own.is_ahead_of(*lowest, self.rules.slice) || (*lowest <= own.used && held >= self.rules.slice)
    }

    /// A run has used its permit for so many nanoseconds more and gives it back. Gives who has it now.
    #[must_use = "the next run must be told"]
    pub fn give_back(&mut self, payer: &K, used: u64) -> Option<Ticket> {
        self.charge(payer, used);
        let account = self.accounts.get_mut(payer)?;
        debug_assert!(account.holds > 0, "a permit is given back that was not held");
        account.holds = account.holds.saturating_sub(1);
        if account.holds == 0 {
            self.holders.remove(payer);
        }
        self.free += 1;
        // The next one first: the floor must not drop because nobody is active for a moment.
        let next = self.grant();
        self.rest(payer);
        next
    }

    /// A run that waits does not want its permit any more.
    pub fn cancel(&mut self, payer: &K, ticket: Ticket) {
        let Some(account) = self.accounts.get_mut(payer) else { return };
        let before = account.waiting.len();
        account.waiting.retain(|waiting| *waiting != ticket);
        if account.waiting.len() == before {
            return;
        }
        if account.waiting.is_empty() {
            self.wait_no_more(payer);
        }
        self.rest(payer);
    }

    /// Whether anybody waits.
    pub fn is_contended(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether there is a permit to be had now.
    pub fn has_free(&self) -> bool {
        self.free > 0
    }

    /// Accounts that are kept: those of active payers, and of at most [`Rules::remembered`] idle ones.
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// A payer's weighted use above the floor, in nanoseconds.
    pub fn above_floor(&self, payer: &K) -> u64 {
        self.accounts.get(payer).map_or(0, |account| account.used.saturating_sub(self.floor))
    }

    fn grant(&mut self) -> Option<Ticket> {
        if self.free == 0 {
            return None;
        }
        let overdue = self.oldest.first().filter(|(since, _)| self.served - since >= self.rules.patience);
        let (_, payer) = overdue.or(self.queue.first())?.clone();
        self.wait_no_more(&payer);
        let account = self.accounts.get_mut(&payer).expect("who waits has an account");
        let ticket = account.waiting.pop_front().expect("a payer in the queue has a run that waits");
        account.take();
        self.free -= 1;
        self.holders.insert(payer.clone());
        if !account.waiting.is_empty() {
            self.wait(payer);
        }
        Some(ticket)
    }

    fn wait(&mut self, payer: K) {
        let account = self.accounts.get_mut(&payer).expect("who waits has an account");
        account.since = self.served;
        self.queue.insert((account.used, payer.clone()));
        self.oldest.insert((self.served, payer));
    }

    fn wait_no_more(&mut self, payer: &K) {
        let account = &self.accounts[payer];
        self.queue.remove(&(account.used, payer.clone()));
        self.oldest.remove(&(account.since, payer.clone()));
    }

    fn charge(&mut self, payer: &K, used: u64) {
        let Some(account) = self.accounts.get_mut(payer) else { return };
        account.burst = account.burst.saturating_add(used);
        let (before, weight, waits) = (account.used, account.weight, !account.waiting.is_empty());
        self.served = self.served.saturating_add(used);
        // At least one: two payers with equal use must not hold each other up for ever.
        self.put(payer, before.saturating_add((used / weight).max(1)), waits);
        self.raise_floor();
        let most = self.floor.saturating_add(self.rules.window);
        if self.accounts[payer].used > most {
            self.put(payer, most, waits);
        }
    }

    /// Moves an active payer's account, and its places in the two orders.
    fn put(&mut self, payer: &K, to: u64, waits: bool) {
        let account = self.accounts.get_mut(payer).expect("an active payer has an account");
        let from = std::mem::replace(&mut account.used, to);
        leave(&mut self.active, from);
        *self.active.entry(to).or_default() += 1;
        if waits && self.queue.remove(&(from, payer.clone())) {
            self.queue.insert((to, payer.clone()));
        }
    }

    fn raise_floor(&mut self) {
        if let Some((lowest, _)) = self.active.first_key_value() {
            self.floor = self.floor.max(*lowest);
        }
    }

    /// Takes a payer that neither runs nor waits out of the active ones.
    fn rest(&mut self, payer: &K) {
        let Some(account) = self.accounts.get(payer) else { return };
        if account.is_active() {
            return;
        }
        let used = account.used;
        leave(&mut self.active, used);
        self.raise_floor();
        self.idle.insert((used, payer.clone()));
        while let Some((lowest, _)) = self.idle.first() {
            if *lowest > self.floor && self.idle.len() <= self.rules.remembered {
                break;
            }
            if let Some((_, forgotten)) = self.idle.pop_first() {
                self.accounts.remove(&forgotten);
            }
        }
    }
}

#[cfg(test)]
mod tests;

fn leave(active: &mut BTreeMap<u64, usize>, at: u64) {
    if let Some(count) = active.get_mut(&at) {
        *count -= 1;
        if *count == 0 {
            active.remove(&at);
        }
    }
}
