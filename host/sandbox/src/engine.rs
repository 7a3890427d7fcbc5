//! The engine, the threads that guests run on, and the clock that preempts them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clawhold_tenancy::limits::MIB;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::Linker;
use crate::artifacts::{Artifacts, Counts};

/// How often a computing guest is interrupted to look at its deadline and to let others run. 1 ms: ten times
/// rarer saves nothing that can be measured.
const TICK: Duration = Duration::from_millis(1);

/// The stack of guest code. 512 KiB, of a 2 MiB stack that it shares with the host functions it calls: what is
/// left is theirs, and running out of it there would end the process.
const GUEST_STACK_BYTES: usize = 512 << 10;
const ASYNC_STACK_BYTES: usize = 2 << 20;

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

/// How a sandbox is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where native code is kept.
    pub artifacts: PathBuf,
    /// The key under which this host vouches for its native code.
    pub artifact_key: [u8; 32],
    /// Bytes of native code kept in memory. 512 MiB.
    pub artifact_cache_bytes: u64,
    /// Runs at the same time, over all tenants. 64.
    pub slots: u32,
    /// Threads that guests run on. Twice the cores: a guest that waits for the processor must not keep a finished
    /// host call from being noticed.
    pub guest_threads: usize,
}

impl Settings {
    /// The defaults, with artifacts in this directory.
    pub fn in_directory(artifacts: PathBuf, artifact_key: [u8; 32]) -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        Self { artifacts, artifact_key, artifact_cache_bytes: 512 * MIB, slots: 64, guest_threads: cores * 2 }
    }
}

/// Runs components whose host functions work on a `T`.
pub struct Sandbox<T: Send + 'static> {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<T>,
    pub(crate) artifacts: Artifacts<T>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) runs: Arc<AtomicU64>,
    cut: watch::Sender<bool>,
    guests: Guests,
}

impl<T: Send + 'static> Sandbox<T> {
    /// Starts the guest threads and the ticker. `link` adds the host functions.
    pub fn new(settings: Settings, link: impl Fn(&mut Linker<T>) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let engine = Engine::new(&config(settings.slots)).map_err(anyhow::Error::from).context(
            "cannot set up the WebAssembly engine; it needs about 130 GiB of address space for each run slot",
        )?;
        let mut linker = Linker::new(&engine);
        link(&mut linker)?;
        let artifacts = Artifacts::open(&engine, &settings)?;
        let runs = Arc::new(AtomicU64::new(0));
        tick(&engine, &runs)?;
        let guests = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(settings.guest_threads.max(2))
            .thread_name("guest")
            .enable_all()
            .build()
            .context("cannot start the guest threads")?;
        let slots = Arc::new(Semaphore::new(settings.slots as usize));
        Ok(Self {
            engine,
            linker,
            artifacts,
            slots,
            runs,
            cut: watch::Sender::new(false),
            guests: Guests(Some(guests)),
        })
    }

    /// What the sandbox did outside of runs: a warm run adds nothing to it.
    pub fn counts(&self) -> Counts {
        self.artifacts.counts()
    }

    /// Ends every run that is under way, and every one that begins from now on.
    pub fn cut(&self) {
        self.cut.send_replace(true);
    }

    pub(crate) fn cut_signal(&self) -> watch::Receiver<bool> {
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

struct Guests(Option<Runtime>);

impl Drop for Guests {
    fn drop(&mut self) {
        // A runtime may not be dropped where it could block, which includes any async caller of ours.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

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
        // A slot that keeps pages for its next user must clear them by hand, which costs small skills more than
        // giving the pages back does.
        .linear_memory_keep_resident(0)
        // Tables are small and cheap to clear by hand. Giving their pages back interrupts every other processor that
        // runs this process, and so does the first write after that: together a quarter of a small run over HTTP.
        .table_keep_resident(TABLE_KEPT_BYTES)
        // On this line of the engine a swapped-out dirty page could reach the next user of the slot.
        .pagemap_scan(Enabled::No);

    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .async_stack_size(ASYNC_STACK_BYTES)
        // Component-model async is not part of the contract, and its bookkeeping costs two to three times the
        // rest of a small call.
        .concurrency_support(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false)
        // NaN bit patterns would otherwise differ between processors, and a replayed run with them.
        .cranelift_nan_canonicalization(true);
    config
}

/// Moves the engine's clock while anything runs. The thread ends with the engine.
fn tick(engine: &Engine, runs: &Arc<AtomicU64>) -> anyhow::Result<()> {
    let (weak, runs) = (engine.weak(), Arc::clone(runs));
    thread::Builder::new()
        .name("epoch-ticker".to_owned())
        .spawn(move || {
            let mut idle = 0_u32;
            loop {
                // Nobody has to wake this thread, so starting a run costs no system call; a run that starts
                // while the clock is slow gets its first tick at most 20 ms late.
                thread::sleep(if idle > 1000 { TICK * 20 } else { TICK });
                let Some(engine) = weak.upgrade() else { return };
                engine.increment_epoch();
                idle = if runs.load(Ordering::Relaxed) == 0 { idle.saturating_add(1) } else { 0 };
            }
        })
        .context("cannot start the epoch ticker")?;
    Ok(())
}
