//! A whole host, asked over HTTP. One binary: linking the engine costs more than all of these tests.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod artifacts;
mod audit;
mod bad_input;
mod capabilities;
mod conforms;
mod credentials;
mod hostile;
mod isolation;
mod keys;
mod market;
mod oci;
mod once;
mod openapi;
mod publish;
mod quotas;
mod refused;
mod roles;
mod shown;
mod stop;
mod support;
mod unrecorded;
mod warm;
mod wasi;

/// This binary is its own compiler process, as `clawhold` is.
#[ctor::ctor(unsafe)]
fn compiler_process() {
    clawhold_cli::compiler_process();
}
