//! The tenant's audit log: what a skill did, kept whether the run succeeds or not.
//!
//! ```
//! use clawhold_skill::audit::{self, Outcome};
//! use serde_json::json;
//!
//! # clawhold_skill::testing::Host::new().run(|_| {
//! audit::success("crm.account.read", "001A0000001AAAA")?;
//! audit::record("crm.case.list", "001A0000001AAAA", Outcome::Denied, &json!({"status": 403}))?;
//! # Ok::<(), clawhold_skill::Error>(())
//! # }).unwrap();
//! ```
//!
//! Each action must stand in the manifest's `[audit] actions`. Keep personal data out of action and resource: name
//! the thing by its id. Tenant, run, caller and time are added by the host, which does not take them from the skill.

use std::fmt;

use serde::Serialize;

use crate::wire;

/// How the thing ended that an entry tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was tried and did not work.
    Failure,
    /// It was refused.
    Denied,
}

/// Why an entry was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The action is not in the manifest's `[audit] actions`. Carries the action.
    UndeclaredAction(String),
    /// Action, resource or detail is too long, or the detail is not a JSON object. Says which and the limit.
    Invalid(String),
    /// The run has written as many entries as it may.
    Budget(String),
}

/// Adds an entry. `action` has 64 bytes at most, `resource` 256, and `detail` is a JSON object of 4 KiB at most, or
/// `&()` for none. A run may write 64 entries.
pub fn record(action: &str, resource: &str, outcome: Outcome, detail: &impl Serialize) -> Result<(), Error> {
    let detail = serde_json::to_string(detail).map_err(|error| Error::Invalid(format!("the detail: {error}")))?;
    // `()` and an empty `Option` read as "no detail", which the contract writes as an empty string.
    let detail = if detail == "null" { "" } else { &detail };
    wire::record(action, resource, outcome, detail)
}

/// Adds an entry for something that was done.
pub fn success(action: &str, resource: &str) -> Result<(), Error> {
    record(action, resource, Outcome::Success, &())
}

/// Adds an entry for something that was tried and did not work.
pub fn failure(action: &str, resource: &str) -> Result<(), Error> {
    record(action, resource, Outcome::Failure, &())
}

/// Adds an entry for something that was refused.
pub fn denied(action: &str, resource: &str) -> Result<(), Error> {
    record(action, resource, Outcome::Denied, &())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UndeclaredAction(action) => {
                write!(f, "the audit action `{action}` is not declared: add it to `[audit] actions` in skill.toml")
            }
            Self::Invalid(reason) => write!(f, "the audit entry is not valid: {reason}"),
            Self::Budget(reason) => write!(f, "the audit entry was not taken: {reason}"),
        }
    }
}

impl std::error::Error for Error {}
