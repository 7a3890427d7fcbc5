//! Runs one component for one call under fixed limits, and drops everything that it touched.
//!
//! The sandbox knows limits and not tenants: who may run what, and what a host call is allowed to do, is decided
//! by the layers above. What it promises them:
//!
//! - an instance serves one run and is dropped, whatever happened to it;
//! - a run ends at its deadline, whether it computes or waits in a host call;
//! - memory over all memories and tables of a run stays below its cap;
//! - nothing is compiled and no file is read once a component has been loaded;
//! - native code is mapped only if this host made it.
//!
//! ```no_run
//! # async fn example(link: impl Fn(&mut clawhold_sandbox::Linker<()>) -> anyhow::Result<()>) -> anyhow::Result<()> {
//! use clawhold_sandbox::{Sandbox, Settings};
//! let sandbox = Sandbox::<()>::new(Settings::in_directory("/var/lib/clawhold/artifacts".into(), [7; 32]), link)?;
//! # Ok(()) }
//! ```

mod artifacts;
mod compile;
pub mod contract;
mod cores;
mod engine;
mod gate;
mod linkers;
mod meter;
mod prescan;
mod run;
mod shelf;
mod slots;

pub use artifacts::{Counts, LoadError};
pub use compile::{CompilerLimits, compiler_process};
pub use engine::{Sandbox, Settings};
pub use gate::{Payer, fair};
pub use meter::{Guest, Stop};
pub use prescan::{Prescan, Refused, limits as prescan_limits, prescan};
pub use run::{Budget, Call, Failure, Finished, Skill};
pub use slots::{Place, Slot, Waiting};

/// The linker that the layers above add their host functions to.
pub type Linker<T> = wasmtime::component::Linker<Guest<T>>;

/// This crate's test binary is its own compiler process, as `clawhold` is.
#[cfg(test)]
#[ctor::ctor(unsafe)]
fn compiler_process_of_tests() {
    compile::probe_confinement();
    compiler_process();
}
