//! What is recorded of a run, and why a run ended.

use std::fmt;

use crate::policy::{By, Denial};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, PackageName, RunId, SkillName};

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It gave an answer.
    Ok,
    /// The skill itself said that it failed.
    SkillError,
    /// The run used up its fuel.
    OutOfFuel,
    /// The run's time was over.
    Deadline,
    /// The run asked for more memory than it may have.
    Memory,
    /// The run made more host calls than it may.
    HostCalls,
    /// The run passed more bytes to host calls than it may, or had more passed to it.
    HostBytes,
    /// The output is larger than allowed.
    OutputTooLarge,
    /// The output is not JSON, or does not fit the skill's schema.
    OutputInvalid,
    /// The guest broke a rule of WebAssembly or gave up: a panic, an unreachable, a bad memory access.
    Trap,
    /// The host stopped before the run ended.
    Cancelled,
    /// A rule of the operator or the tenant forbids the run, which did not begin.
    Denied,
}

impl Reason {
    /// Every reason, in the order in which people look for them.
    pub const ALL: [Self; 12] = [
        Self::Ok,
        Self::SkillError,
        Self::OutOfFuel,
        Self::Deadline,
        Self::Memory,
        Self::HostCalls,
        Self::HostBytes,
        Self::OutputTooLarge,
        Self::OutputInvalid,
        Self::Trap,
        Self::Denied,
        Self::Cancelled,
    ];

    /// The word that the API, the run record and the audit entry carry.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::SkillError => "skill_error",
            Self::OutOfFuel => "out_of_fuel",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::HostCalls => "host_calls",
            Self::HostBytes => "host_bytes",
            Self::OutputTooLarge => "output_too_large",
            Self::OutputInvalid => "output_invalid",
            Self::Trap => "trap",
            Self::Cancelled => "cancelled",
            Self::Denied => "denied",
        }
    }

    /// What happened, in a few words.
    pub const fn what(self) -> &'static str {
        match self {
            Self::Ok => "the run gave an answer",
            Self::SkillError => "the skill itself said that it failed",
            Self::OutOfFuel => "the run used up its fuel",
            Self::Deadline => "the run's time was over",
            Self::Memory => "the run asked for more memory than it may have",
            Self::HostCalls => "the run made more host calls than it may",
            Self::HostBytes => "the run passed more data through host calls than it may",
            Self::OutputTooLarge => "the output is larger than it may be",
            Self::OutputInvalid => "the output is not JSON, or does not fit its schema",
            Self::Trap => "the guest crashed or gave up",
            Self::Cancelled => "the host stopped before the run ended",
            Self::Denied => "a rule forbids the run, which did not begin",
        }
    }

    /// What would help: for people who read a failed run.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Ok => "",
            Self::SkillError => "see the skill's own message",
            Self::OutOfFuel => "make the skill do less work, or raise `fuel` under [limits] in skill.toml",
            Self::Deadline => {
                "make the skill or the service it calls faster, or raise `timeout_ms` under [limits] in skill.toml"
            }
            Self::Memory => "make the skill use less memory, or raise `memory_mb` under [limits] in skill.toml",
            Self::HostCalls => {
                "make fewer host calls in one run, or raise `host_calls`, on WASI `wasi_calls`, under [limits] in skill.toml"
            }
            Self::HostBytes => {
                "pass less data through host calls, or raise `host_call_mb`, `lifted_mb` or `lowered_mb` under [limits]"
            }
            Self::OutputTooLarge => "return less, for example a page at a time",
            Self::OutputInvalid => "the skill must return JSON that fits the output schema it declares",
            Self::Trap => "the skill crashed; its log has the message and place",
            Self::Cancelled => "call again, unless the message says that the version was revoked",
            Self::Denied => "the message names the rule: keep to it, or ask the operator to lift it",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request was not sent, for whoever may change that. The skill itself is not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Denied {
    /// Who said no.
    pub by: By,
    /// The very rule.
    pub why: String,
    /// What would allow it, and who can do that.
    pub remedy: String,
}

impl From<Denial> for Denied {
    fn from(Denial { by, why, remedy }: Denial) -> Self {
        Self { by, why, remedy }
    }
}

/// One HTTP request that a run made or wanted to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Egress {
    /// The method.
    pub method: String,
    /// Scheme, host and port: no path and no query, which may hold personal data.
    pub origin: String,
    /// The secret that was put on the request, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The answer's status, or nothing when there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The rule that ended the request without an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Who said no, by which rule, and what would allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied: Option<Denied>,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
}

/// What a run used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Fuel.
    pub fuel: u64,
    /// The most bytes of memory and tables at a time.
    pub memory_bytes: u64,
    /// Calls to host functions.
    pub host_calls: u32,
    /// Microseconds from admission to the guest's end.
    pub duration_us: u64,
}

/// A finished run.
#[derive(Debug, Clone)]
pub struct Record {
    /// The run.
    pub id: RunId,
    /// The skill.
    pub skill: SkillName,
    /// The package and version it came from.
    pub package: PackageName,
    /// The version, as text.
    pub version: String,
    /// The component that ran.
    pub digest: Digest,
    /// Who called.
    pub caller: String,
    /// Microseconds since 1970, at admission.
    pub started_us: i64,
    /// Why it ended.
    pub reason: Reason,
    /// The skill's error kind or the trap's message, for people.
    pub message: String,
    /// What it used.
    pub usage: Usage,
    /// The HTTP requests.
    pub egress: Vec<Egress>,
    /// The secrets it used, with the version of each.
    pub secrets: Vec<(String, i64)>,
    /// The version of the policy under which it ran: the install's revision.
    pub policy_version: i64,
    /// What it logged: `level message`, bounded.
    pub log: Vec<String>,
    /// Log lines that were counted and not kept.
    pub log_dropped: u64,
    /// Values of secrets that were found in what the run gave away, and where.
    pub leaks: Vec<String>,
}
