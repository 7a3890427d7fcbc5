//! What a request with an `Idempotency-Key` wants kept: its answer, together with what it does.

use std::fmt;
use std::sync::Arc;

use crate::TokenId;

/// What a use-case keeps of what it did, in the transaction that does it. `T` is what it gives to its caller.
pub struct Keep<T>(Option<Kept<T>>);

type Render<T> = Box<dyn FnOnce(&T) -> Vec<u8> + Send + Sync>;

struct Kept<T> {
    slot: Slot,
    render: Render<T>,
    /// Whatever must last as long as the request is under way.
    under_way: Arc<dyn Send + Sync>,
}

/// Under what an answer is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Whose request it is.
    pub token: TokenId,
    /// The caller's key.
    pub key: String,
    /// Of the whole request: a repeat has the same.
    pub fingerprint: [u8; 32],
}

impl<T> Keep<T> {
    /// Nothing is kept: the request had no key.
    pub fn nothing() -> Self {
        Self(None)
    }

    /// Keeps what `render` makes of the result, as bytes of the caller's own form. `under_way` is dropped when the work is done or
    /// given up.
    pub fn new(
        slot: Slot,
        under_way: Arc<dyn Send + Sync>,
        render: impl FnOnce(&T) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Kept { slot, render: Box::new(render), under_way }))
    }

    /// What lasts as long as the request is under way: to be held until its work is committed.
    pub fn under_way(&self) -> Option<Arc<dyn Send + Sync>> {
        self.0.as_ref().map(|kept| Arc::clone(&kept.under_way))
    }

    /// The bytes to keep and where, if something is to be kept.
    pub fn of(self, done: &T) -> Option<(Slot, Vec<u8>)> {
        self.0.map(|kept| (kept.slot, (kept.render)(done)))
    }
}

impl<T> fmt::Debug for Keep<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keep").field(&self.0.as_ref().map(|kept| &kept.slot)).finish()
    }
}
