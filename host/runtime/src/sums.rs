//! What happens often is told in sum: the first at once, the next ones together after a minute, so that nobody can fill a log.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often it is looked whether there is something to tell. The first is told then, outside of the request, whose time must not show
/// whether there was something.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// How long the next ones of the same kind are summed up.
pub(crate) const SUM: Duration = Duration::from_mins(1);

/// Counts by whom it is told to (`S`) and of what (`K`), with what is known of the last one (`L`).
pub(crate) struct Sums<S, K, L>(Mutex<HashMap<S, HashMap<K, Count<L>>>>);

struct Count<L> {
    times: u64,
    last: L,
    told: Option<Instant>,
}

/// What is to be told.
#[derive(Debug)]
pub(crate) struct Sum<S, K, L> {
    pub(crate) scope: S,
    pub(crate) key: K,
    pub(crate) times: u64,
    pub(crate) last: L,
}

impl<S, K, L> Default for Sums<S, K, L> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S: Clone + Eq + Hash, K: Clone + Eq + Hash, L: Clone> Sums<S, K, L> {
    /// Counts. `choose` is told how many keys the scope has and whether it has this one, and gives the key that is counted: so a
    /// scope's keys can be bounded.
    pub(crate) fn note(&self, sum: Sum<S, K, L>, choose: impl FnOnce(usize, bool, K) -> K) {
        let mut counts = self.lock();
        let of_scope = counts.entry(sum.scope).or_default();
        let key = choose(of_scope.len(), of_scope.contains_key(&sum.key), sum.key);
        let count = of_scope.entry(key).or_insert_with(|| Count { times: 0, last: sum.last.clone(), told: None });
        count.times += sum.times;
        count.last = sum.last;
    }

    /// What could not be told is due again.
    pub(crate) fn put_back(&self, sum: Sum<S, K, L>) {
        let mut counts = self.lock();
        let of_scope = counts.entry(sum.scope).or_default();
        let count = of_scope.entry(sum.key).or_insert(Count { times: 0, last: sum.last, told: None });
        count.times += sum.times;
        count.told = None;
    }

    /// What is due, or everything.
    pub(crate) fn take(&self, now: Instant, all: bool) -> Vec<Sum<S, K, L>> {
        let mut counts = self.lock();
        let fresh = |count: &Count<L>| count.told.is_some_and(|told| now.duration_since(told) < SUM);
        counts.retain(|_, of_scope| {
            of_scope.retain(|_, count| count.times > 0 || fresh(count));
            !of_scope.is_empty()
        });
        let mut due = Vec::new();
        for (scope, of_scope) in counts.iter_mut() {
            for (key, count) in of_scope.iter_mut().filter(|(_, count)| count.times > 0 && (all || !fresh(count))) {
                count.told = Some(now);
                let times = std::mem::take(&mut count.times);
                due.push(Sum { scope: scope.clone(), key: key.clone(), times, last: count.last.clone() });
            }
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<S, HashMap<K, Count<L>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}
