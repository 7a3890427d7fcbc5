//! A fixed number of run slots, fewer than the engine's pool has places, so that the pool never has to refuse. [`drr`] says whose
//! turn it is; here are the waiting and the giving back.

mod drr;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use drr::{Drr, Given, Ticket};
use tokio::sync::oneshot;

use crate::gate::Payer;

/// All slots of a sandbox.
pub(crate) struct Slots(Mutex<State>);

struct State {
    drr: Drr<Arc<str>>,
    /// Who waits, and where its slot is sent to.
    waiting: HashMap<Ticket, oneshot::Sender<Slot>>,
    next: Ticket,
}

/// The right to one of the fixed number of runs at a time.
pub struct Slot {
    of: Arc<Slots>,
    payer: Arc<str>,
    given: Given,
    since: Instant,
    /// It was given back already.
    moved: bool,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Slot").field(&self.payer).finish()
    }
}

/// What is given at once to whoever wants a slot.
#[derive(Debug)]
pub enum Place {
    /// The slot.
    Slot(Slot),
    /// A place in the queue: all slots are in use.
    Queue(Waiting),
}

/// A place in the queue, which is left when it is dropped.
pub struct Waiting {
    receive: oneshot::Receiver<Slot>,
    in_queue: InQueue,
}

struct InQueue {
    slots: Arc<Slots>,
    payer: Arc<str>,
    ticket: Ticket,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Waiting").field(&self.in_queue.payer).finish()
    }
}

impl Slots {
    pub(crate) fn new(slots: u32) -> Arc<Self> {
        let drr = Drr::new(slots.max(1));
        Arc::new(Self(Mutex::new(State { drr, waiting: HashMap::new(), next: 0 })))
    }

    /// A slot, or a place in the queue.
    pub(crate) fn place(self: &Arc<Self>, payer: &Payer) -> Place {
        let mut state = self.lock();
        state.next += 1;
        let ticket = state.next;
        if let Some(given) = state.drr.arrive(Arc::clone(&payer.name), payer.weight, ticket) {
            return Place::Slot(self.slot(Arc::clone(&payer.name), given));
        }
        let (send, receive) = oneshot::channel();
        state.waiting.insert(ticket, send);
        let in_queue = InQueue { slots: Arc::clone(self), payer: Arc::clone(&payer.name), ticket };
        Place::Queue(Waiting { receive, in_queue })
    }

    /// Whether all slots are in use, a moment ago.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().drr.is_full()
    }

    fn slot(self: &Arc<Self>, payer: Arc<str>, given: Given) -> Slot {
        Slot { of: Arc::clone(self), payer, given, since: Instant::now(), moved: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock would be a broken rule of `drr`; refusing all work for ever would be worse.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The slot, at the deadline at the latest.
    pub async fn until(self, deadline: Instant) -> Option<Slot> {
        match self {
            Self::Slot(slot) => Some(slot),
            Self::Queue(waiting) => {
                let mut waiting = waiting;
                tokio::time::timeout_at(deadline.into(), &mut waiting.receive).await.ok()?.ok()
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.moved {
            return;
        }
        let mut took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let (mut payer, mut given) = (Arc::clone(&self.payer), self.given);
        loop {
            let mut state = self.of.lock();
            let Some((ticket, next, expected)) = state.drr.give_back(&payer, given, took) else { return };
            let send = state.waiting.remove(&ticket);
            drop(state);
            // Whoever has just gone away does not take it, and it goes to the one after.
            if let Some(send) = send {
                match send.send(self.of.slot(Arc::clone(&next), expected)) {
                    Ok(()) => return,
                    Err(mut slot) => slot.moved = true,
                }
            }
            (payer, given, took) = (next, expected, 0);
        }
    }
}

impl Drop for InQueue {
    fn drop(&mut self) {
        let mut state = self.slots.lock();
        // With a slot on its way there is nothing to cancel: the slot comes back when the channel is dropped.
        if state.waiting.remove(&self.ticket).is_some() {
            state.drr.cancel(&self.payer, self.ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn place(slots: &Arc<Slots>, payer: &str) -> Place {
        slots.place(&Payer::named(payer))
    }

    async fn soon(place: Place) -> Slot {
        place.until(Instant::now() + Duration::from_secs(10)).await.expect("it waits for ever")
    }

    #[tokio::test]
    async fn a_slot_that_is_given_back_goes_to_who_waits() {
        let slots = Slots::new(1);
        let first = soon(place(&slots, "a")).await;
        let second = place(&slots, "b");
        assert!(matches!(second, Place::Queue(_)));
        drop(first);
        drop(soon(second).await);
        assert!(matches!(place(&slots, "a"), Place::Slot(_)));
    }

    #[tokio::test]
    async fn whoever_goes_away_takes_no_slot_along() {
        let slots = Slots::new(1);
        let first = soon(place(&slots, "a")).await;
        let (gone, last) = (place(&slots, "b"), place(&slots, "c"));
        // One that was given its slot and has not looked at it yet, and one before that.
        let given = place(&slots, "d");
        drop(gone);
        drop(first);
        drop(given);
        drop(soon(last).await);
        assert!(matches!(place(&slots, "a"), Place::Slot(_)));
        assert!(slots.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn waiting_ends_at_the_deadline() {
        let slots = Slots::new(1);
        let _first = soon(place(&slots, "a")).await;
        assert!(place(&slots, "b").until(Instant::now()).await.is_none());
        assert!(slots.lock().waiting.is_empty());
    }

    #[test]
    fn a_long_line_of_those_who_have_gone_does_not_exhaust_the_stack() {
        let slots = Slots::new(1);
        let Place::Slot(first) = place(&slots, "a") else { panic!("it is free") };
        let mut receivers = Vec::new();
        for _ in 0..100_000 {
            let Place::Queue(mut waiting) = place(&slots, "b") else { panic!("it is taken") };
            waiting.receive.close();
            receivers.push(waiting);
        }
        drop(first);
        assert!(matches!(place(&slots, "a"), Place::Slot(_)));
    }
}
