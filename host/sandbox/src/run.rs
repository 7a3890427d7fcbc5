//! One run: a fresh instance, one call, an end.

use std::collections::HashSet;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Instant;

use clawhold_tenancy::quota::Allowance;
use clawhold_tenancy::run::{Reason, Usage};
use clawhold_tenancy::{Digest, RunLimits};
use tokio::sync::watch;
use wasmtime::component::Component;
use wasmtime::{Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::artifacts::LoadError;
use crate::contract::SkillPre;
use crate::contract::exports::clawhold::skill::handler::{Context, Descriptor, Error};
use crate::engine::Running;
use crate::gate::{Gated, Payer, Turn};
use crate::linkers::Linkers;
use crate::meter::{Exhausted, Guest, Meter, Stop};
use crate::slots::{Place, Slot};
use crate::{Refused, Sandbox};

/// A component that is linked and ready: making an instance of it does no lookup and no compiling.
pub struct Skill<T: Send + 'static> {
    /// The component's digest.
    pub digest: Digest,
    pub(crate) native_bytes: u64,
    /// Microseconds that a call takes once it has its permit: a moving average.
    typical_us: AtomicU32,
    /// Its calls may begin on their caller's thread. Never on WASI, whose files are read and written where the guest runs.
    may_be_quick: bool,
    exports: SkillPre<Guest<T>>,
}

impl<T: Send + 'static> std::fmt::Debug for Skill<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Skill").field(&self.digest).finish()
    }
}

impl<T: Send + 'static> Skill<T> {
    pub(crate) fn link(
        linkers: &Linkers<T>,
        digest: Digest,
        component: &Component,
        native_bytes: u64,
    ) -> Result<Self, Refused> {
        let linker = linkers.of(component);
        let may_be_quick = std::ptr::eq(linker, &raw const linkers.pure);
        let linked = linker.instantiate_pre(component).and_then(SkillPre::new);
        let exports = linked.map_err(|e| Refused::Compile(format!("{e:#}")))?;
        Ok(Self { digest, native_bytes, typical_us: AtomicU32::new(QUICK_US + 1), may_be_quick, exports })
    }
}

/// A skill that usually takes no longer begins on its caller's thread, its first call never. A quarter of a tick: then most of
/// its calls never need another.
const QUICK_US: u32 = 250;

/// Memory that is given back within a fraction of a tick. 4 MiB: some 1,000 pages, a quarter of a millisecond.
const QUICKLY_CLEARED: u64 = 4 << 20;

/// What is called.
#[derive(Debug)]
pub struct Call {
    /// Who it runs for.
    pub context: Context,
    /// The input, JSON.
    pub input: String,
}

/// What a run may use.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Everything but time.
    pub limits: RunLimits,
    /// When the run began: at admission, so that waiting counts.
    pub started: Instant,
    /// When it ends, finished or not.
    pub deadline: Instant,
    /// Whose share of the processor it uses.
    pub payer: Payer,
    /// What its memory is drawn from.
    pub memory: Arc<Allowance>,
}

/// What is not to go on.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    /// Nothing at all.
    pub(crate) all: bool,
    /// These components.
    pub(crate) withdrawn: HashSet<Digest>,
}

impl Cuts {
    fn cut(&self, component: Digest) -> bool {
        self.all || (!self.withdrawn.is_empty() && self.withdrawn.contains(&component))
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Finished<T, O> {
    /// The answer, or what the host stopped the run for.
    pub outcome: Result<O, Failure>,
    /// What it used, without the host calls: those are counted where they are served.
    pub usage: Usage,
    /// The host's side of the run; gone when a host function panicked.
    pub host: Option<T>,
}

/// A run without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// The guest's stack, if it was in guest code.
    pub backtrace: Option<String>,
}

impl<T: Send + 'static> Sandbox<T> {
    /// Compiles a component, keeps the result, and links it. For publishing, on behalf of `payer`, who waits for the compiler
    /// behind payers that used it less.
    pub async fn publish(&self, payer: Payer, wasm: Vec<u8>) -> Result<Arc<Skill<T>>, LoadError> {
        self.artifacts.publish(&self.linkers, payer, wasm).await
    }

    /// A component that was published before; `wasm` is asked only if its native code is missing. Then it is compiled, on
    /// behalf of `payer`, in turns of their own: not behind publications.
    pub async fn load(
        &self,
        payer: Payer,
        digest: Digest,
        wasm: impl Future<Output = anyhow::Result<Vec<u8>>> + Send,
    ) -> Result<Arc<Skill<T>>, LoadError> {
        self.artifacts.load(&self.linkers, payer, digest, wasm).await
    }

    /// Does the host's own work for a payer: behind payers that had less such work done, one at a time, at guests' priority.
    /// Whoever waits for it waits until the deadline or the cut at most; what was begun is done to its end, and keeps its turn so long.
    pub async fn on_behalf<R: Send + 'static>(
        &self,
        payer: Payer,
        deadline: Instant,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Reason> {
        let done = async {
            let pass = self.chores.pass(payer).await;
            let work = move || {
                // Nobody would take what comes of it.
                let done = (Instant::now() < deadline).then(work);
                drop(pass);
                done
            };
            self.guests().spawn_blocking(work).await
        };
        let mut cut = self.cut_signal();
        tokio::select! {
            biased;
            done = tokio::time::timeout_at(deadline.into(), done) => match done {
                Ok(Ok(Some(done))) => Ok(done),
                Ok(Ok(None)) | Err(_) => Err(Reason::Deadline),
                Ok(Err(error)) => {
                    tracing::error!(%error, "work on behalf of a run failed; the run was ended");
                    Err(Reason::Cancelled)
                }
            },
            _ = cut.wait_for(|cuts| cuts.all) => Err(Reason::Cancelled),
        }
    }

    /// Forgets a component that was published to this sandbox and then refused.
    pub async fn discard(&self, digest: Digest) {
        self.artifacts.discard(digest).await;
    }

    /// Whether whoever wants a slot now would have to wait.
    pub fn is_full(&self) -> bool {
        self.slots.is_full()
    }

    /// A slot, or a place in the payer's queue for one.
    pub fn place(&self, payer: &Payer) -> Place {
        self.slots.place(payer)
    }

    /// Calls a skill.
    pub async fn invoke(
        &self,
        slot: Slot,
        skill: Arc<Skill<T>>,
        call: Call,
        budget: Budget,
        host: T,
    ) -> Finished<T, Result<String, Error>> {
        let most = budget.limits.output_bytes;
        let pace = Arc::clone(&skill);
        let enter: Enter<T, Result<String, Error>> = Box::new(move |store| {
            Box::pin(async move {
                let guest = skill.exports.instantiate_async(&mut *store).await?;
                guest.clawhold_skill_handler().call_handle(store, &call.context, &call.input).await
            })
        });
        let never = AtomicU32::new(u32::MAX);
        let typical_us = if pace.may_be_quick { &pace.typical_us } else { &never };
        let mut finished = self.guarded(slot, budget, host, (pace.digest, typical_us), enter).await;
        if let Ok(Ok(output)) = &finished.outcome
            && output.len() as u64 > most
        {
            finished.outcome = Err(too_large(output.len() as u64, most));
        }
        finished
    }

    /// Asks a component for its skills. For publishing: `host` should have no authority.
    pub async fn describe(
        &self,
        slot: Slot,
        skill: Arc<Skill<T>>,
        budget: Budget,
        host: T,
    ) -> Finished<T, Vec<Descriptor>> {
        let digest = skill.digest;
        let enter: Enter<T, Vec<Descriptor>> = Box::new(move |store| {
            Box::pin(async move {
                let guest = skill.exports.instantiate_async(&mut *store).await?;
                guest.clawhold_skill_handler().call_describe(store).await
            })
        });
        // Nobody waits for this one, and it is the first time that the code runs at all.
        self.guarded(slot, budget, host, (digest, &AtomicU32::new(u32::MAX)), enter).await
    }

    fn store(&self, budget: &Budget, digest: Digest, host: T, turn: &Arc<Turn>) -> Store<Guest<T>> {
        let limits = &budget.limits;
        let meter = Meter::new(limits, Arc::clone(&budget.memory));
        let mut store = Store::new(&self.engine, Guest { meter, stopped: None, engine: self.engine.clone(), host });
        store.limiter(|guest| &mut guest.meter);
        store.set_fuel(limits.fuel).expect("the engine meters fuel");
        let most = limits.host_call_bytes.max(limits.output_bytes);
        store.set_hostcall_fuel(usize::try_from(most).unwrap_or(usize::MAX));
        store.set_max_component_handles(limits.handles as usize);
        let (deadline, turn, cut) = (budget.deadline, Arc::clone(turn), self.cut_signal());
        store.epoch_deadline_callback(move |store| {
            if cut.borrow().cut(digest) {
                return Err(Stop(Reason::Cancelled).into());
            }
            if let Some(reason) = store.data().stopped {
                return Err(Stop(reason).into());
            }
            if Instant::now() >= deadline {
                return Err(Stop(Reason::Deadline).into());
            }
            if turn.should_yield() {
                return Ok(UpdateDeadline::YieldCustom(1, Box::pin(turn.let_others_go())));
            }
            turn.settle();
            // Letting other runs go first when none waits would cost every run that computes. Another thread of the host
            // may wait for the core, though, and Linux lets a busy one keep it for up to 4 ms.
            std::thread::yield_now();
            Ok(UpdateDeadline::Continue(1))
        });
        store.set_epoch_deadline(1);
        store
    }

    /// Runs `enter` and tells how it ended, whatever happens in it. `typical_us` is how long this skill computes.
    ///
    /// The permit is taken here, on the caller's side: a task that has to reach a guest thread first would wait for
    /// the system's scheduler behind guests that compute. A skill that is usually done within a fraction of a tick
    /// begins right here as well, which saves handing it over and back; at the first tick it moves to the guest
    /// threads like any other.
    async fn guarded<O: Send + 'static>(
        &self,
        slot: Slot,
        budget: Budget,
        host: T,
        (digest, typical_us): (Digest, &AtomicU32),
        enter: Enter<T, O>,
    ) -> Finished<T, O> {
        let started = budget.started;
        let turn = self.gate.turn(budget.payer.clone());
        let mut cut = self.cut_signal();
        // Left on drop, so that a permit is given back by whoever drops the run last.
        let place = AtGate(Arc::clone(&turn));
        let waited = tokio::select! {
            biased;
            // First: a component that was withdrawn does not begin, however free the processor is.
            _ = cut.wait_for(|cuts| cuts.cut(digest)) => Err(Reason::Cancelled),
            waited = tokio::time::timeout_at(budget.deadline.into(), poll_fn(|cx| turn.poll_acquire(cx))) => {
                waited.map_err(|_elapsed| Reason::Deadline)
            }
        };
        if let Err(reason) = waited {
            let usage = Usage { duration_us: elapsed(started), ..Usage::default() };
            return Finished { outcome: Err(stopped(reason, None)), usage, host: Some(host) };
        }
        let quick = typical_us.load(Ordering::Relaxed) <= QUICK_US;
        let mut run = Box::pin(self.run(slot, place, budget, host, (digest, cut), enter));
        let began = Instant::now();
        let first = if quick {
            turn.borrow(true);
            let first = poll_fn(|cx| Poll::Ready(catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))))).await;
            turn.borrow(false);
            first
        } else {
            Ok(Poll::Pending)
        };
        let finished = match first {
            Ok(Poll::Ready(finished)) => Ok(finished),
            Ok(Poll::Pending) => self.guests().spawn(run).await.map_err(|error| error.to_string()),
            Err(_panic) => Err("a host function panicked".to_owned()),
        };
        let took = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
        let typical = typical_us.load(Ordering::Relaxed);
        typical_us.store(typical - typical / 8 + took / 8, Ordering::Relaxed);
        finished.unwrap_or_else(|error| {
            tracing::error!(%error, "a host function failed; the run was ended");
            let message = "the host failed while it served the skill; the operator's log has the reason".to_owned();
            Finished {
                outcome: Err(Failure { reason: Reason::Cancelled, message, backtrace: None }),
                usage: Usage { duration_us: elapsed(started), ..Usage::default() },
                host: None,
            }
        })
    }

    /// The run itself, from a permit in hand to an instance taken down.
    fn run<O: Send + 'static>(
        &self,
        slot: Slot,
        place: AtGate,
        budget: Budget,
        host: T,
        (digest, mut cut): (Digest, watch::Receiver<Cuts>),
        enter: Enter<T, O>,
    ) -> impl Future<Output = Finished<T, O>> + Send + use<T, O> {
        let mut store = self.store(&budget, digest, host, &place.0);
        let clearings = Arc::clone(&self.clearings);
        let running = Running::begin(&self.clock);
        async move {
            let _held = (slot, running);
            // Epochs do not wake a guest that waits in a host call, so the clock is here too.
            let ended = tokio::select! {
                biased;
                ended = tokio::time::timeout_at(
                    budget.deadline.into(),
                    Gated::new(Arc::clone(&place.0), enter(&mut store)),
                ) => ended.map_err(|_elapsed| Reason::Deadline),
                _ = cut.wait_for(|cuts| cuts.cut(digest)) => Err(Reason::Cancelled),
            };
            let limits = &budget.limits;
            let fuel = limits.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
            // Before anything of it is turned into an answer: taking the instance down is part of the run. No clock interrupts
            // that. One permit at most is kept so long, and the others can be had at once by whoever is let in first.
            let clearing = if store.data().meter.peak() > QUICKLY_CLEARED {
                place.0.leave();
                let clearing = clearings.pass(budget.payer.clone()).await;
                poll_fn(|cx| place.0.poll_acquire(cx)).await;
                Some(clearing)
            } else {
                None
            };
            let computes = place.0.computes();
            let guest = store.into_data();
            drop(computes);
            drop((place, clearing));
            let outcome = match ended {
                Ok(Ok(output)) => guest.stopped.map_or(Ok(output), |reason| Err(stopped(reason, None))),
                Ok(Err(error)) => Err(failure(&error, limits.output_bytes, guest.meter.exhausted)),
                Err(reason) => Err(stopped(reason, None)),
            };
            let usage =
                Usage { fuel, memory_bytes: guest.meter.peak(), host_calls: 0, duration_us: elapsed(budget.started) };
            Finished { outcome, usage, host: Some(guest.host) }
        }
    }
}

/// A run's place at the gate for the processor.
struct AtGate(Arc<Turn>);

impl Drop for AtGate {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// What a run does with its store.
type Enter<T, O> = Box<dyn FnOnce(&mut Store<Guest<T>>) -> Entered<'_, O> + Send>;
type Entered<'s, O> = Pin<Box<dyn Future<Output = wasmtime::Result<O>> + Send + 's>>;

fn elapsed(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn failure(error: &wasmtime::Error, output_bytes: u64, exhausted: Option<Exhausted>) -> Failure {
    let backtrace = error.downcast_ref::<WasmBacktrace>().filter(|trace| !trace.frames().is_empty()).map(told);
    if let Some(Stop(reason)) = error.downcast_ref::<Stop>() {
        if exhausted == Some(Exhausted::Tenant) && *reason == Reason::Memory {
            let message = "the tenant's runs together use all of its max_memory_mb; let fewer run at a time, or ask the \
                           operator for more";
            return Failure { reason: *reason, message: message.to_owned(), backtrace };
        }
        return stopped(*reason, backtrace);
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => return stopped(Reason::OutOfFuel, backtrace),
        Some(Trap::Interrupt) => return stopped(Reason::Deadline, backtrace),
        _ => {}
    }
    // The engine has no public type for this one; a test holds the text.
    if error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted") {
        return match backtrace {
            None => too_large(output_bytes + 1, output_bytes),
            some => stopped(Reason::HostBytes, some),
        };
    }
    Failure { reason: Reason::Trap, message: error.root_cause().to_string(), backtrace }
}

/// Frames of a backtrace that are told, and characters of a function's name in it.
const FRAMES: usize = 31;
const NAME_CHARS: usize = 200;

/// A guest's stack in lines. Names are the guest's own, so they are cut and shown as they are: the engine's `Display` would
/// demangle them, and a C++ name of two hundred bytes can stand for gigabytes.
fn told(trace: &WasmBacktrace) -> String {
    let frames = trace.frames().iter().take(FRAMES).enumerate().map(|(depth, frame)| {
        let at = frame.module_offset().map_or_else(|| "?".to_owned(), |offset| format!("{offset:#x}"));
        match frame.func_name() {
            Some(name) => format!("\n{depth:>5}: {at} - {}", name.chars().take(NAME_CHARS).collect::<String>()),
            None => format!("\n{depth:>5}: {at} - <function {}>", frame.func_index()),
        }
    });
    frames.fold("wasm backtrace:".to_owned(), |text, frame| text + &frame)
}

fn stopped(reason: Reason, backtrace: Option<String>) -> Failure {
    Failure { reason, message: format!("{}; {}", reason.what(), reason.remedy()), backtrace }
}

fn too_large(size: u64, most: u64) -> Failure {
    let reason = Reason::OutputTooLarge;
    let message = format!("the output has {size} bytes or more, {most} are allowed; {}", reason.remedy());
    Failure { reason, message, backtrace: None }
}
