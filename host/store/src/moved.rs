//! The heads of chains that this process has moved, for whoever signs them: what was written is known here, whatever the database
//! says later.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use clawhold_tenancy::audit::Head;

/// Chains to their newest heads.
#[derive(Debug, Default)]
pub(crate) struct Moved(Mutex<BTreeMap<String, Head>>);

impl Moved {
    /// Notes heads that are committed.
    pub(crate) fn note<'a>(&self, heads: impl IntoIterator<Item = (&'a str, Head)>) {
        let mut moved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (chain, head) in heads {
            match moved.get_mut(chain) {
                // Two commits may be noted in another order than they were made.
                Some(known) if known.seq >= head.seq => {}
                Some(known) => *known = head,
                None => _ = moved.insert(chain.to_owned(), head),
            }
        }
    }

    /// All that were noted since the last call.
    pub(crate) fn take(&self) -> BTreeMap<String, Head> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
