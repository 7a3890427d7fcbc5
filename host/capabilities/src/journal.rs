//! What one run did, as the run record and the audit chain will tell it.

use std::collections::BTreeMap;

use clawhold_secret_store::SecretValue;
use clawhold_tenancy::SecretName;
use clawhold_tenancy::audit::Outcome;
use clawhold_tenancy::run::Egress;

use crate::Leak;

/// An audit entry that a run made, before it has a place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What was done.
    pub action: String,
    /// To what.
    pub resource: String,
    /// How it ended.
    pub outcome: Outcome,
    /// A JSON object, or nothing.
    pub detail: String,
    /// The host says it, and not the skill.
    pub of_host: bool,
}

/// A secret, or a field of one.
pub type Exposed = (SecretName, Option<String>);

/// Everything that a run did outside of its own memory. Bounded by the run's limits.
#[derive(Debug, Default)]
pub struct Journal {
    /// Calls of host functions.
    pub host_calls: u32,
    /// Calls of WASI functions.
    pub wasi_calls: u32,
    /// HTTP requests, sent and refused.
    pub requests: u32,
    /// Those beyond the limit that are not in `egress`.
    pub requests_not_listed: u32,
    /// The others. One that was cut off with the run has neither status nor rule.
    pub egress: Vec<Egress>,
    /// Secrets that were used, with the version of each.
    pub secrets: BTreeMap<String, i64>,
    /// Log lines.
    pub log: Vec<String>,
    /// Log lines that were not kept.
    pub log_dropped: u64,
    /// What the skill said when it gave up.
    pub fatal: Option<String>,
    /// Audit entries.
    pub notes: Vec<Note>,
    /// Audit entries beyond the limit.
    pub notes_refused: u64,
    /// Secrets that the run was shown, or that were put on its requests: what the leak guard looks for.
    pub exposed: BTreeMap<Exposed, SecretValue>,
    /// Values that were found where they should not be.
    pub leaks: Vec<Leak>,
}

impl Journal {
    /// Adds a log line, or counts it when there are `most` already.
    pub(crate) fn line(&mut self, most: u32, line: String) {
        if self.log.len() < most as usize {
            self.log.push(line);
        } else {
            self.log_dropped += 1;
        }
    }
}
