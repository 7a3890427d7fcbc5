//! The fair gate: who computes now. [`fair`] has the rules; here are the clock, the wakers and the preemption.
//!
//! A run holds a permit only while it executes guest code. It gives it up whenever its future is pending, which is
//! during every host call that waits, and when the engine's clock finds somebody with less use waiting.
//!
//! What it will not do: bound how many runs a tenant has (that is admission), or how long one lasts (its deadline).

pub mod fair;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use fair::{Arrival, Fair, Rules, Ticket};
use wasmtime::EngineWeak;

use crate::cores::{Cores, Whereabouts};

/// Whose use a run adds to, and its share.
#[derive(Debug, Clone)]
pub struct Payer {
    /// A tenant's id, or another name that stands for one account.
    pub name: Arc<str>,
    /// Its share against others': 2 gets twice as much as 1.
    pub weight: u32,
}

impl Payer {
    /// A payer with the usual weight of 1.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), weight: 1 }
    }
}

/// Hands out a fixed number of permits.
pub(crate) struct Gate {
    state: Mutex<State>,
    began: Instant,
    /// The engine whose clock is moved on when a run with less use than a computing one begins to wait. Without it
    /// the computing one notices at the next tick.
    preempts: Option<EngineWeak>,
    /// Where runs compute.
    cores: Cores,
    /// Whether computing runs were asked to look up and none has yet: then asking again would only cost them.
    asked: AtomicBool,
}

struct State {
    fair: Fair<Arc<str>>,
    waiting: HashMap<Ticket, Arc<Turn>>,
    next: Ticket,
}

/// One run's place at a gate.
pub(crate) struct Turn {
    gate: Arc<Gate>,
    payer: Payer,
    standing: AtomicU8,
    /// Valid while the run waits.
    ticket: AtomicU64,
    /// When the permit was given, and up to when its use is charged: nanoseconds since the gate began.
    granted: AtomicU64,
    charged: AtomicU64,
    /// The run computes on its caller's thread, which it must leave at the next tick.
    borrowed: AtomicBool,
    /// The run has let others go first and keeps its place; see [`Turn::let_others_go`].
    lets_go: AtomicBool,
    whereabouts: Whereabouts,
    waker: Mutex<Option<Waker>>,
}

const AWAY: u8 = 0;
const WAITS: u8 = 1;
const HOLDS: u8 = 2;

impl Gate {
    pub(crate) fn new(permits: u32, preempts: Option<EngineWeak>) -> Arc<Self> {
        Self::ruled(Rules { permits: permits.max(1), ..Rules::default() }, preempts, Cores::of_this_thread())
    }

    /// One turn at a time, which nobody takes away and which may last as long as `turn`: who had less goes first for many of
    /// them, and patience is as long.
    pub(crate) fn of_turns(turn: Duration) -> Arc<Self> {
        let turn = u64::try_from(turn.as_nanos()).unwrap_or(u64::MAX);
        let rules = Rules { window: turn.saturating_mul(5), patience: turn.saturating_mul(30), ..Rules::default() };
        Self::ruled(rules, None, Cores::default())
    }

    fn ruled(rules: Rules, preempts: Option<EngineWeak>, cores: Cores) -> Arc<Self> {
        let fair = Fair::new(rules);
        Arc::new(Self {
            state: Mutex::new(State { fair, waiting: HashMap::new(), next: 0 }),
            began: Instant::now(),
            preempts,
            cores,
            asked: AtomicBool::new(false),
        })
    }

    /// A place for one run.
    pub(crate) fn turn(self: &Arc<Self>, payer: Payer) -> Arc<Turn> {
        Arc::new(Turn {
            gate: Arc::clone(self),
            payer,
            standing: AtomicU8::new(AWAY),
            ticket: AtomicU64::new(0),
            granted: AtomicU64::new(0),
            charged: AtomicU64::new(0),
            borrowed: AtomicBool::new(false),
            lets_go: AtomicBool::new(false),
            whereabouts: Whereabouts::default(),
            waker: Mutex::new(None),
        })
    }

    /// Waits for a permit.
    pub(crate) async fn pass(self: &Arc<Self>, payer: Payer) -> Pass {
        let pass = Pass(self.turn(payer));
        poll_fn(|cx| pass.0.poll_acquire(cx)).await;
        pass
    }

    #[cfg(test)]
    pub(crate) fn is_quiet(&self) -> bool {
        !self.lock().fair.is_contended()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock would be a broken rule of `fair`; refusing all work for ever would be worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn ask_to_look_up(&self) {
        if let Some(engine) = self.preempts.as_ref().and_then(EngineWeak::upgrade)
            && !self.asked.swap(true, Ordering::AcqRel)
        {
            engine.increment_epoch();
        }
    }
}

impl Turn {
    /// Ready when the run holds a permit.
    pub(crate) fn poll_acquire(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.standing.load(Ordering::Acquire) {
            HOLDS => return Poll::Ready(()),
            WAITS => {
                self.keep(cx.waker());
                // The permit may have come between the two.
                return if self.holds() { Poll::Ready(()) } else { Poll::Pending };
            }
            _ => {}
        }
        let mut state = self.gate.lock();
        state.next += 1;
        let ticket = state.next;
        match state.fair.arrive(Arc::clone(&self.payer.name), self.payer.weight, ticket) {
            Arrival::Granted => {
                self.granted_at(self.gate.now());
                Poll::Ready(())
            }
            Arrival::Waits { preempts } => {
                self.ticket.store(ticket, Ordering::Relaxed);
                self.keep(cx.waker());
                self.standing.store(WAITS, Ordering::Release);
                state.waiting.insert(ticket, Arc::clone(self));
                drop(state);
                if preempts {
                    self.gate.ask_to_look_up();
                }
                Poll::Pending
            }
        }
    }

    pub(crate) fn holds(&self) -> bool {
        self.standing.load(Ordering::Acquire) == HOLDS
    }

    /// Asked at each tick of a run that computes: whether it should let others go first.
    pub(crate) fn should_yield(&self) -> bool {
        let now = self.gate.now();
        let used = now.saturating_sub(self.charged.swap(now, Ordering::Relaxed));
        let held = now.saturating_sub(self.granted.load(Ordering::Relaxed));
        let mut state = self.gate.lock();
        // Under the lock: whoever arrives after this asks again.
        self.gate.asked.store(false, Ordering::Release);
        state.fair.goes_on(&self.payer.name, used, held) || self.is_borrowed()
    }

    /// Gives the permit up and waits for the next one, in one step.
    ///
    /// In one step because a run that only gave it up would come back to the gate when its thread gets to it, and its thread
    /// may have begun with the very run that was let in: it would wait behind that one where the gate does not see it.
    pub(crate) fn let_others_go(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let (turn, mut asked) = (Arc::clone(self), false);
        poll_fn(move |cx| {
            if asked {
                // The gate lets nobody in that has no permit. The run before on this thread has just woken up whoever waits for
                // its end, perhaps on this very core.
                std::thread::yield_now();
                return Poll::Ready(());
            }
            asked = true;
            turn.lets_go.store(true, Ordering::Relaxed);
            // On its caller's thread a run keeps its permit while it moves to the guests' threads, where it is looked at anew.
            if !turn.is_borrowed() {
                turn.queue_again(cx.waker());
            }
            Poll::Pending
        })
    }

    fn queue_again(self: &Arc<Self>, waker: &Waker) {
        self.keep(waker);
        let mut state = self.gate.lock();
        state.next += 1;
        let ticket = state.next;
        let waits = state.fair.arrive(Arc::clone(&self.payer.name), self.payer.weight, ticket) != Arrival::Granted;
        if waits {
            self.ticket.store(ticket, Ordering::Relaxed);
            self.standing.store(WAITS, Ordering::Release);
            state.waiting.insert(ticket, Arc::clone(self));
        }
        let waker = self.hand_on(&mut state);
        drop(state);
        let own = if waits {
            None
        } else {
            // It was charged up to now, and goes on.
            self.charged.store(self.gate.now(), Ordering::Relaxed);
            self.waker()
        };
        own.into_iter().chain(waker).for_each(Waker::wake);
    }

    /// Gives a permit back. Gives whom to wake, now that it has one.
    fn hand_on(&self, state: &mut State) -> Option<Waker> {
        let now = self.gate.now();
        let used = now.saturating_sub(self.charged.load(Ordering::Relaxed));
        let next = state.fair.give_back(&self.payer.name, used)?;
        let next = state.waiting.remove(&next)?;
        next.granted_at(now);
        next.waker()
    }

    fn waker(&self) -> Option<Waker> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Gives the permit back if it is held, or leaves the queue.
    pub(crate) fn leave(&self) {
        // Only the run itself ends its being away.
        if self.standing.load(Ordering::Acquire) == AWAY {
            return;
        }
        let mut state = self.gate.lock();
        match self.standing.swap(AWAY, Ordering::AcqRel) {
            HOLDS => {
                let waker = self.hand_on(&mut state);
                drop(state);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            WAITS => {
                let ticket = self.ticket.load(Ordering::Relaxed);
                state.fair.cancel(&self.payer.name, ticket);
                state.waiting.remove(&ticket);
            }
            _ => {}
        }
    }

    /// The run computes on this thread until what is given is dropped, on a core where no other run does, if there is one.
    pub(crate) fn computes(&self) -> Computes<'_> {
        self.settle();
        Computes(self)
    }

    /// The run still computes, perhaps on another core than before.
    pub(crate) fn settle(&self) {
        // Its caller's thread has other things to do as well, and is not the guests' to move.
        if !self.is_borrowed() {
            self.gate.cores.settle(&self.whereabouts);
        }
    }

    /// Marks that the run computes on its caller's thread, which has other things to do.
    pub(crate) fn borrow(&self, borrowed: bool) {
        self.borrowed.store(borrowed, Ordering::Relaxed);
    }

    pub(crate) fn is_borrowed(&self) -> bool {
        self.borrowed.load(Ordering::Relaxed)
    }

    fn granted_at(&self, now: u64) {
        self.granted.store(now, Ordering::Relaxed);
        self.charged.store(now, Ordering::Relaxed);
        self.standing.store(HOLDS, Ordering::Release);
    }

    fn keep(&self, waker: &Waker) {
        let mut kept = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *kept {
            Some(same) if same.will_wake(waker) => {}
            kept => *kept = Some(waker.clone()),
        }
    }
}

/// A run that computes; dropped when it ends or waits.
pub(crate) struct Computes<'t>(&'t Turn);

impl Drop for Computes<'_> {
    fn drop(&mut self) {
        self.0.gate.cores.leave(&self.0.whereabouts);
    }
}

/// A permit, given back on drop.
pub(crate) struct Pass(Arc<Turn>);

impl std::fmt::Debug for Pass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pass").field(&self.0.payer.name).finish()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A future that is polled only while its turn holds a permit. It gives the permit up whenever it is pending, but
/// not when it ends: what follows, taking the instance down, is part of the run.
pub(crate) struct Gated<F: ?Sized> {
    turn: Arc<Turn>,
    inner: Pin<Box<F>>,
}

impl<F: ?Sized> Gated<F> {
    pub(crate) fn new(turn: Arc<Turn>, inner: Pin<Box<F>>) -> Self {
        Self { turn, inner }
    }
}

impl<F: Future + ?Sized> Future for Gated<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { turn, inner } = &mut *self;
        if turn.poll_acquire(cx).is_pending() {
            return Poll::Pending;
        }
        let computes = turn.computes();
        let polled = inner.as_mut().poll(cx);
        drop(computes);
        let lets_go = turn.lets_go.swap(false, Ordering::Relaxed);
        if polled.is_pending() && !lets_go && !turn.is_borrowed() {
            turn.leave();
        }
        polled
    }
}

#[cfg(test)]
mod tests;
