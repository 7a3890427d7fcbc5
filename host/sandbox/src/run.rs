//! One run: a fresh instance, one call, an end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clawhold_tenancy::run::{Reason, Usage};
use clawhold_tenancy::{Digest, RunLimits};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::Component;
use wasmtime::{Store, Trap, UpdateDeadline, WasmBacktrace};

use crate::artifacts::LoadError;
use crate::contract::SkillPre;
use crate::contract::exports::clawhold::skill::handler::{Context, Descriptor, Error};
use crate::linkers::Linkers;
use crate::meter::{Guest, Meter, Stop};
use crate::{Refused, Sandbox};

/// A component that is linked and ready: making an instance of it does no lookup and no compiling.
pub struct Skill<T: Send + 'static> {
    /// The component's digest.
    pub digest: Digest,
    pub(crate) native_bytes: u64,
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
        let linked = linkers.of(component).instantiate_pre(component).and_then(SkillPre::new);
        let exports = linked.map_err(|e| Refused::Compile(format!("{e:#}")))?;
        Ok(Self { digest, native_bytes, exports })
    }
}

/// The right to one of the fixed number of runs at a time.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

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
    /// Compiles a component, keeps the result, and links it. For publishing.
    pub async fn publish(&self, wasm: Vec<u8>) -> Result<Arc<Skill<T>>, LoadError> {
        let digest = Digest::of(&wasm);
        self.load(digest, async move { Ok(wasm) }).await
    }

    /// A component that was published before; `wasm` is asked only if its native code is missing.
    pub async fn load(
        &self,
        digest: Digest,
        wasm: impl Future<Output = anyhow::Result<Vec<u8>>> + Send,
    ) -> Result<Arc<Skill<T>>, LoadError> {
        self.artifacts.load(&self.linkers, digest, wasm).await
    }

    /// Forgets a component that was published to this sandbox and then refused.
    pub async fn discard(&self, digest: Digest) {
        self.artifacts.discard(digest).await;
    }

    /// Waits for a slot, until the deadline at most.
    pub async fn slot(&self, deadline: Instant) -> Option<Slot> {
        let slot = tokio::time::timeout_at(deadline.into(), Arc::clone(&self.slots).acquire_owned()).await;
        Some(Slot(slot.ok()?.expect("the semaphore is never closed")))
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
        let store = self.store(&budget, host);
        let enter: Enter<T, Result<String, Error>> = Box::new(move |store| {
            Box::pin(async move {
                let guest = skill.exports.instantiate_async(&mut *store).await?;
                guest.clawhold_skill_handler().call_handle(store, &call.context, &call.input).await
            })
        });
        let mut finished = self.guarded(slot, budget, store, enter).await;
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
        let store = self.store(&budget, host);
        let enter: Enter<T, Vec<Descriptor>> = Box::new(move |store| {
            Box::pin(async move {
                let guest = skill.exports.instantiate_async(&mut *store).await?;
                guest.clawhold_skill_handler().call_describe(store).await
            })
        });
        self.guarded(slot, budget, store, enter).await
    }

    fn store(&self, budget: &Budget, host: T) -> Store<Guest<T>> {
        let limits = &budget.limits;
        let mut store = Store::new(
            &self.engine,
            Guest { meter: Meter::new(limits), stopped: None, engine: self.engine.clone(), host },
        );
        store.limiter(|guest| &mut guest.meter);
        store.set_fuel(limits.fuel).expect("the engine meters fuel");
        let most = limits.host_call_bytes.max(limits.output_bytes);
        store.set_hostcall_fuel(usize::try_from(most).unwrap_or(usize::MAX));
        store.set_max_component_handles(4096);
        let deadline = budget.deadline;
        store.epoch_deadline_callback(move |store| {
            if let Some(reason) = store.data().stopped {
                return Err(Stop(reason).into());
            }
            if Instant::now() >= deadline {
                return Err(Stop(Reason::Deadline).into());
            }
            // A plain yield would starve the timers of this runtime.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store.set_epoch_deadline(1);
        store
    }

    /// Runs `enter` on the guest threads and tells how it ended, whatever happens in it.
    async fn guarded<O: Send + 'static>(
        &self,
        slot: Slot,
        budget: Budget,
        mut store: Store<Guest<T>>,
        enter: Enter<T, O>,
    ) -> Finished<T, O> {
        let running = Running::begin(&self.runs);
        let (started, limits) = (budget.started, budget.limits);
        let mut cut = self.cut_signal();
        let task = self.guests().spawn(async move {
            let _held = (slot, running);
            // Epochs do not wake a guest that waits in a host call, so the clock is here too.
            let ended = tokio::select! {
                biased;
                ended = tokio::time::timeout_at(budget.deadline.into(), enter(&mut store)) => {
                    ended.map_err(|_elapsed| Reason::Deadline)
                }
                _ = cut.wait_for(|cut| *cut) => Err(Reason::Cancelled),
            };
            let fuel = limits.fuel.saturating_sub(store.get_fuel().unwrap_or(0));
            let outcome = match ended {
                Ok(Ok(output)) => store.data().stopped.map_or(Ok(output), |reason| Err(stopped(reason, None))),
                Ok(Err(error)) => Err(failure(&error, limits.output_bytes)),
                Err(reason) => Err(stopped(reason, None)),
            };
            let guest = store.into_data();
            let usage = Usage { fuel, memory_bytes: guest.meter.peak(), host_calls: 0, duration_us: elapsed(started) };
            Finished { outcome, usage, host: Some(guest.host) }
        });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a host function failed; the run was ended");
            let message = "the host failed while it served the skill; the operator's log has the reason".to_owned();
            Finished {
                outcome: Err(Failure { reason: Reason::Cancelled, message, backtrace: None }),
                usage: Usage { duration_us: elapsed(started), ..Usage::default() },
                host: None,
            }
        })
    }
}

/// What a run does with its store.
type Enter<T, O> = Box<dyn FnOnce(&mut Store<Guest<T>>) -> Entered<'_, O> + Send>;
type Entered<'s, O> = Pin<Box<dyn Future<Output = wasmtime::Result<O>> + Send + 's>>;

fn elapsed(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn failure(error: &wasmtime::Error, output_bytes: u64) -> Failure {
    let backtrace = error.downcast_ref::<WasmBacktrace>().filter(|trace| !trace.frames().is_empty());
    let backtrace = backtrace.map(ToString::to_string);
    if let Some(Stop(reason)) = error.downcast_ref::<Stop>() {
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

fn stopped(reason: Reason, backtrace: Option<String>) -> Failure {
    let what = match reason {
        Reason::OutOfFuel => "the run used up its fuel",
        Reason::Deadline => "the run's time was over",
        Reason::Memory => "the run asked for more memory than it may have",
        Reason::HostCalls => "the run made more host calls than it may",
        Reason::Cancelled => "the host stopped before the run ended",
        Reason::HostBytes => "the run passed too much data to one host call",
        _ => "the run was stopped",
    };
    Failure { reason, message: format!("{what}; {}", reason.remedy()), backtrace }
}

fn too_large(size: u64, most: u64) -> Failure {
    let reason = Reason::OutputTooLarge;
    let message = format!("the output has {size} bytes or more, {most} are allowed; {}", reason.remedy());
    Failure { reason, message, backtrace: None }
}

/// Counts a run while it lasts.
struct Running(Arc<AtomicU64>);

impl Running {
    fn begin(runs: &Arc<AtomicU64>) -> Self {
        runs.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(runs))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
