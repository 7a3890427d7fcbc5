//! Where the SDK meets the host: the imports of the contract in the sandbox, and the testing host outside of it.
//!
//! Both sides offer the same five items; nothing else in the crate knows which one it talks to.

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod sandbox;

#[cfg(not(target_family = "wasm"))]
pub(crate) use self::native::{Secret, log, record, secret, send};
#[cfg(target_family = "wasm")]
pub(crate) use self::sandbox::{Secret, log, record, secret, send};
