//! What was read of something, and whether it has been forgotten since.
//!
//! A cache can drop what it has, and not what a look-up that is under way will put there: begun before a change, it would bring back
//! what was installed before, and calls that came after the change would wait for it and get that. Dropping by a rule has a hole of
//! its own besides: moka's housekeeping can take a rule for done before it has seen the newest entry. So whatever is read carries a
//! mark of its owner that was taken before reading, and is looked at with it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Marks that nobody holds are cleared away when there are this many, or twice as many as were held the last time.
const CLEARED: usize = 1024;

/// Whether what was read under it has been forgotten.
#[derive(Debug, Clone)]
pub(crate) struct Mark(Arc<AtomicBool>);

impl Mark {
    pub(crate) fn is_forgotten(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The marks that are held, by owner.
pub(crate) struct Marks<K>(Mutex<Held<K>>);

struct Held<K> {
    marks: HashMap<K, Weak<AtomicBool>>,
    clears_at: usize,
}

impl<K: Clone + Eq + Hash> Marks<K> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Held { marks: HashMap::new(), clears_at: CLEARED }))
    }

    /// To be taken before reading: what is changed after it forgets what was read.
    pub(crate) fn take(&self, owner: &K) -> Mark {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = held.marks.get(owner).and_then(Weak::upgrade) {
            return Mark(mark);
        }
        if held.marks.len() >= held.clears_at {
            held.marks.retain(|_, mark| mark.strong_count() > 0);
            held.clears_at = CLEARED.max(2 * held.marks.len());
        }
        let mark = Arc::new(AtomicBool::new(false));
        held.marks.insert(owner.clone(), Arc::downgrade(&mark));
        Mark(mark)
    }

    /// Forgets all that was read, or is being read, of this owner.
    pub(crate) fn forget(&self, owner: &K) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = held.marks.remove(owner).and_then(|mark| mark.upgrade()) {
            mark.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_forgotten_and_what_is_read_after_it_is_not() {
        let marks = Marks::new();
        let (before, other) = (marks.take(&"acme"), marks.take(&"globex"));
        let same = marks.take(&"acme");
        marks.forget(&"acme");
        assert!(before.is_forgotten() && same.is_forgotten() && !other.is_forgotten());
        let after = marks.take(&"acme");
        assert!(!after.is_forgotten());
        marks.forget(&"acme");
        marks.forget(&"initech");
        assert!(after.is_forgotten() && !other.is_forgotten());
    }

    #[test]
    fn marks_that_nobody_holds_take_no_room() {
        let marks = Marks::new();
        let held = marks.take(&0);
        for owner in 1..100_000 {
            marks.take(&owner);
        }
        assert!(marks.0.lock().unwrap().marks.len() <= CLEARED);
        marks.forget(&0);
        assert!(held.is_forgotten());
    }
}
