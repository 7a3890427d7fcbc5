//! The engine, the threads that guests run on, and the clock that preempts them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use anyhow::Context as _;
use clawhold_tenancy::Digest;
use clawhold_tenancy::limits::{GUEST_STACK_BYTES, MIB};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use wasmparser::WasmFeatures;
use wasmtime::{Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::Linker;
use crate::artifacts::{Artifacts, Counts};
use crate::compile::CompilerLimits;
use crate::gate::Gate;
use crate::linkers::Linkers;
use crate::run::Cuts;
use crate::slots::Slots;

/// How often a computing guest is interrupted to look at its deadline and to let others run. 1 ms: ten times
/// rarer saves nothing that can be measured.
const TICK: Duration = Duration::from_millis(1);

/// How far guests' threads stand back behind the host's own, which read requests and commit records. 10: a tenth of their
/// weight while both want a core.
#[cfg(target_os = "linux")]
const GUEST_NICENESS: i32 = 10;

/// How long Linux may let a guest's thread go on before it looks for another, in nanoseconds. 20 ms, against some 3 of other
/// threads: since Linux 6.12 a thread that wakes up with the shorter slice has the core at once.
#[cfg(target_os = "linux")]
const GUEST_SLICE: u64 = 20_000_000;

/// The stack that guest code and the host functions it calls share; see [`GUEST_STACK_BYTES`].
const ASYNC_STACK_BYTES: usize = 2 << 20;

/// What a slot keeps of each memory for its next user, cleared by hand. 256 KiB: what a small skill touches. Giving the
/// pages back instead makes every other core flush its address translations, and the next run fault them in again: with
/// two cores busy a call took 73 µs that way, 62 µs with this, 60 µs with 1 MiB. A component with 32 memories keeps 8 MiB
/// of its slot in memory at the most.
const KEPT_MEMORY_BYTES: usize = 256 << 10;

/// Core instances and memories in one component. A Python component has dozens of the first; both are only
/// numbers and address space until they are used.
const CORE_INSTANCES_PER_COMPONENT: u32 = 200;
const MEMORIES_PER_COMPONENT: u32 = 32;
const TABLES_PER_COMPONENT: u32 = 64;

/// The largest single memory. An operator's ceiling for the sum may be lower, never higher.
const MEMORY_BYTES: u64 = 128 * MIB;

/// Bytes of each table that are cleared and kept for the slot's next user. 16 KiB, 2,048 elements, more than a skill
/// in Rust has; what is beyond is given back.
const TABLE_KEPT_BYTES: usize = 16 << 10;

/// How long it takes to give back as much memory as a run may have. 100 ms: a gigabyte, with a few to spare.
const LONGEST_CLEARING: Duration = Duration::from_millis(100);

/// What a piece of the host's own work for a tenant may take; who asks for it bounds it. 2 s.
const LONGEST_CHORE: Duration = Duration::from_secs(2);

/// Places of the engine's pool beyond the run slots: an instance is taken down after its run has ended, and a pool that is full fails
/// the run that comes next instead of letting it wait. 2.
const SPARE_PLACES: u32 = 2;

/// How a sandbox is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where native code is kept.
    pub artifacts: PathBuf,
    /// The key under which this host vouches for its native code.
    pub artifact_key: [u8; 32],
    /// Bytes of native code kept in memory. 512 MiB.
    pub artifact_cache_bytes: u64,
    /// Bytes of native code kept on disk. 10 GiB: thousands of packages of a few MiB. What was not used for longest
    /// goes first, and is compiled again when it is called.
    pub artifact_disk_bytes: u64,
    /// Runs at the same time, over all tenants. 64.
    pub slots: u32,
    /// Runs that compute at the same time. As many as cores; one less leaves a core to everything else.
    pub permits: u32,
    /// Threads that guests run on. Twice the cores: a guest that waits for the processor must not keep a finished
    /// host call from being noticed.
    pub guest_threads: usize,
    /// What a compiler's process may use.
    pub compiler: CompilerLimits,
}

impl Settings {
    /// The defaults, with artifacts in this directory.
    pub fn in_directory(artifacts: PathBuf, artifact_key: [u8; 32]) -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Self {
            artifacts,
            artifact_key,
            artifact_cache_bytes: 512 * MIB,
            artifact_disk_bytes: 10 << 30,
            slots: 64,
            permits: u32::try_from(cores).unwrap_or(u32::MAX),
            guest_threads: cores * 2,
            compiler: CompilerLimits::default(),
        }
    }
}

/// Runs components whose host functions work on a `T`.
pub struct Sandbox<T: Send + 'static> {
    pub(crate) engine: Engine,
    pub(crate) linkers: Linkers<T>,
    pub(crate) artifacts: Artifacts<T>,
    pub(crate) slots: Arc<Slots>,
    run_slots: u32,
    pub(crate) gate: Arc<Gate>,
    /// Turns at the host's own work for tenants, such as checking large values.
    pub(crate) chores: Arc<Gate>,
    /// Turns at giving back much memory, which the kernel does in one go.
    pub(crate) clearings: Arc<Gate>,
    pub(crate) clock: Arc<Clock>,
    cut: watch::Sender<Cuts>,
    guests: Guests,
}

impl<T: Send + 'static> Sandbox<T> {
    /// Starts the guest threads and the ticker. `link` adds the host functions.
    pub fn new(settings: Settings, link: impl Fn(&mut Linker<T>) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let engine = Engine::new(&config(settings.slots + SPARE_PLACES)).map_err(anyhow::Error::from).context(
            "cannot set up the WebAssembly engine; it needs about 130 GiB of address space for each run slot",
        )?;
        let mut linker = Linker::new(&engine);
        link(&mut linker)?;
        let artifacts = Artifacts::open(&engine, &settings)?;
        let clock = Clock::start(&engine)?;
        let guests = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.guest_threads.max(settings.permits as usize + 1))
            .thread_name("guest")
            .on_thread_start(stand_back)
            .enable_all()
            .build()
            .context("cannot start the guest threads")?;
        let slots = Slots::new(settings.slots);
        let gate = Gate::new(settings.permits, Some(engine.weak()));
        Ok(Self {
            engine,
            linkers: Linkers { pure: linker, wasi: None },
            artifacts,
            slots,
            run_slots: settings.slots,
            gate,
            chores: Gate::of_turns(LONGEST_CHORE),
            clearings: Gate::of_turns(LONGEST_CLEARING),
            clock,
            cut: watch::Sender::default(),
            guests: Guests(Some(guests)),
        })
    }

    /// Serves components that import WASI as well: `link` adds its functions beside those that pure components have.
    pub fn with_wasi(mut self, link: impl Fn(&mut Linker<T>) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let mut linker = self.linkers.pure.clone();
        link(&mut linker)?;
        self.linkers.wasi = Some(linker);
        Ok(self)
    }

    /// Runs that can go on at the same time.
    pub fn run_slots(&self) -> u32 {
        self.run_slots
    }

    /// What the sandbox did outside of runs: a warm run adds nothing to it.
    pub fn counts(&self) -> Counts {
        self.artifacts.counts()
    }

    /// Names each component whose native code on disk was changed by somebody else; it was not run and is made again.
    /// Can be taken once, by whoever keeps the audit log.
    pub fn tampered(&self) -> Option<UnboundedReceiver<Digest>> {
        self.artifacts.tampered()
    }

    /// Ends every run that is under way, and every one that begins from now on.
    pub fn cut(&self) {
        self.cut.send_modify(|cuts| cuts.all = true);
    }

    /// Ends the runs of these components, and lets none of them begin; those that were withdrawn before and are not among them may run again.
    pub fn withdraw(&self, components: impl IntoIterator<Item = Digest>) {
        let withdrawn = components.into_iter().collect();
        self.cut.send_modify(|cuts| cuts.withdrawn = withdrawn);
    }

    pub(crate) fn cut_signal(&self) -> watch::Receiver<Cuts> {
        self.cut.subscribe()
    }

    pub(crate) fn guests(&self) -> &Runtime {
        self.guests.0.as_ref().expect("the runtime is taken only when the sandbox is dropped")
    }
}

impl<T: Send + 'static> std::fmt::Debug for Sandbox<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").finish_non_exhaustive()
    }
}

/// Lets the host's other threads go before the one that calls this. Without the right to it they only compete.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn stand_back() {
    /// The kernel's `sched_attr`, in its first version.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        slice: u64,
        deadline: u64,
        period: u64,
    }
    // The host itself may have been started with some. Of this thread alone, on Linux.
    let Ok(nice) = rustix::process::nice(GUEST_NICENESS) else { return };
    let (size, slice) = (48, GUEST_SLICE);
    let attributes = Attributes { size, policy: 0, flags: 0, nice, priority: 0, slice, deadline: 0, period: 0 };
    // SAFETY: the kernel reads 48 bytes, as `size` says, and changes how this thread is scheduled. An older one ignores the
    // slice.
    let _as_it_was = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}

#[cfg(not(target_os = "linux"))]
fn stand_back() {}

struct Guests(Option<Runtime>);

impl Drop for Guests {
    fn drop(&mut self) {
        // A runtime may not be dropped where it could block, which includes any async caller of ours.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What serves runs: compiled code, and a pool of slots for instances.
fn config(slots: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_stacks(slots)
        .total_core_instances(slots * CORE_INSTANCES_PER_COMPONENT)
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .total_memories(slots * MEMORIES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .total_tables(slots * TABLES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_memory_size(usize::try_from(MEMORY_BYTES).expect("the host has 64-bit addresses"))
        .linear_memory_keep_resident(KEPT_MEMORY_BYTES)
        .table_keep_resident(TABLE_KEPT_BYTES)
        // On this line of the engine a swapped-out dirty page could reach the next user of the slot.
        .pagemap_scan(Enabled::No);

    let mut config = compiler_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool)).async_stack_size(ASYNC_STACK_BYTES);
    config
}

/// What decides how code is compiled. The compiler's process uses this alone: a pool reserves more address space than
/// it may have.
pub(crate) fn compiler_config() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(usize::try_from(GUEST_STACK_BYTES).expect("it is 512 KiB"))
        // Component-model async is not part of the contract, and its bookkeeping costs two to three times the
        // rest of a small call.
        .concurrency_support(false)
        .wasm_memory64(false)
        .wasm_features(WasmFeatures::FUNCTION_REFERENCES, false)
        .wasm_relaxed_simd(false)
        // Several memories in a module are left on: what the engine writes itself to copy between two components has two.
        // The prescan refuses them in anybody else's module.
        // NaN bit patterns would otherwise differ between processors, and a replayed run with them.
        .cranelift_nan_canonicalization(true);
    config
}

/// Moves the engine's epoch on while anything runs. Its thread ends with the engine.
pub(crate) struct Clock {
    runs: AtomicU64,
    slow: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Clock {
    fn start(engine: &Engine) -> anyhow::Result<Arc<Self>> {
        let clock = Arc::new(Self { runs: AtomicU64::new(0), slow: AtomicBool::new(false), thread: OnceLock::new() });
        let (weak, ticking) = (engine.weak(), Arc::clone(&clock));
        let ticker = thread::Builder::new().name("epoch-ticker".to_owned()).spawn(move || ticking.tick(&weak));
        let ticker = ticker.context("cannot start the epoch ticker")?;
        clock.thread.get_or_init(|| ticker.thread().clone());
        Ok(clock)
    }

    fn tick(&self, engine: &EngineWeak) {
        let mut idle = 0_u32;
        loop {
            if idle < 1000 {
                thread::sleep(TICK);
            } else {
                self.slow.store(true, Ordering::SeqCst);
                // A run that began before this line was counted, so it is seen here; one that begins later wakes us.
                if self.runs.load(Ordering::SeqCst) == 0 {
                    thread::park_timeout(TICK * 100);
                }
                self.slow.store(false, Ordering::SeqCst);
            }
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
            idle = if self.runs.load(Ordering::SeqCst) == 0 { idle.saturating_add(1) } else { 0 };
        }
    }
}

/// Counts a run while it lasts.
pub(crate) struct Running(Arc<Clock>);

impl Running {
    pub(crate) fn begin(clock: &Arc<Clock>) -> Self {
        clock.runs.fetch_add(1, Ordering::SeqCst);
        if clock.slow.load(Ordering::SeqCst)
            && let Some(thread) = clock.thread.get()
        {
            thread.unpark();
        }
        Self(Arc::clone(clock))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.runs.fetch_sub(1, Ordering::SeqCst);
    }
}
