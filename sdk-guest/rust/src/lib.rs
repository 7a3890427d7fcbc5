//! Write Clawhold skills as plain Rust functions.
//!
//! A skill is a function that an agent calls. It runs in a sandbox that can use its tenant's secrets, make the HTTP
//! requests that its tenant allowed, and write its tenant's audit log, and nothing else. Everything the host needs to
//! know is derived from the function: parameters become the JSON Schema of the input, the return type that of the
//! output, and doc comments the descriptions.
//!
//! ```
//! use clawhold_skill::{Context, Error, audit, data, http, secret, skill};
//!
//! /// An account of the CRM.
//! #[data]
//! struct Account {
//!     id: String,
//!     name: String,
//! }
//!
//! /// Finds a CRM account by its id.
//! #[skill(name = "crm.get_account")]
//! fn get_account(cx: &Context, id: String) -> Result<Account, Error> {
//!     let account: Account = http::get("https://crm.example/accounts")
//!         .query("id", &id)
//!         .bearer(&secret("crm")?)
//!         .send()?
//!         .error_for_status()?
//!         .json()?;
//!     audit::success("crm.account.read", &account.id)?;
//!     clawhold_skill::log::debug!("{} asked for an account", cx.caller());
//!     Ok(account)
//! }
//!
//! // `cargo test` runs the same function natively:
//! use clawhold_skill::testing::{Exchange, Host};
//! use serde_json::json;
//!
//! let host = Host::new()
//!     .secret("crm", "test-token")
//!     .respond(Exchange::get("https://crm.example/accounts?id=7").json(200, json!({"id": "7", "name": "Acme"})));
//! let answer = host.call("crm.get_account", json!({"id": "7"})).unwrap();
//! assert_eq!(answer["name"], "Acme");
//! assert_eq!(host.audits()[0].action, "crm.account.read");
//! ```
//!
//! A skill's `Cargo.toml` names this crate and `crate-type = ["cdylib"]`. All `#[skill]` functions of the package are
//! collected when it is linked; there is no list to keep.
//!
//! It also brings pure skills an allocator for the first 64 KiB, which spares the host work. A skill that has a `#[global_allocator]`
//! of its own takes this crate with `default-features = false`.
//!
//! The crate offers no clock, randomness, files or environment: a run sees its input, its [`Context`] and the answers
//! to its host calls, which is what makes it possible to run it again bit for bit.
#![deny(missing_docs)]
// The expansions of `#[skill]` and `#[data]` name this crate; its own tests and doctests use them too.
extern crate self as clawhold_skill;

pub mod audit;
mod context;
mod error;
#[cfg(any(test, all(target_family = "wasm", target_os = "unknown", feature = "heap")))]
mod heap;
pub mod http;
mod input;
pub mod log;
mod registry;
mod schema;
pub mod secrets;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod wire;

pub use clawhold_skill_macros::{data, skill};
pub use {serde, serde_json};

pub use crate::context::Context;
pub use crate::error::Error;
pub use crate::secrets::{Secret, secret};

/// What the macros' expansions name. Not for authors: it changes with the macros.
#[doc(hidden)]
pub mod __private {
    pub use {inventory, schemars, serde};

    pub use crate::input::{Input, answer};
    pub use crate::log::write;
    pub use crate::registry::{Parameter, Skill};
    pub use crate::schema::of as schema;
}
