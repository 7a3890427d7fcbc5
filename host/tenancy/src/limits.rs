//! Every limit of a run, in one place: unit, default, reason. An operator's ceiling has the same fields.
//!
//! A run's limits are what the manifest asks for, or the default, cut down to the operator's ceiling.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One mebibyte in bytes.
pub const MIB: u64 = 1 << 20;

/// What one run may use.
///
/// A policy that was stored before a limit existed has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunLimits {
    /// Fuel, in wasmtime's units: about one per executed instruction. 1,000,000,000 is roughly a second of a busy
    /// core, and is the deterministic meter that quotas rest on.
    pub fuel: u64,
    /// Milliseconds from admission to answer: one deadline for queueing, guest time and host time. 10,000.
    pub wall_ms: u64,
    /// Bytes over all memories and tables of the run together: a cap on each alone would let 32 memories take 32
    /// times as much. 64 MiB.
    pub memory_bytes: u64,
    /// Calls to host functions, all imports together. They cost neither fuel nor epochs, so only this bounds
    /// them. 256.
    pub host_calls: u32,
    /// Bytes that one host call may lift out of the guest. 8 MiB: the largest request body and its headers.
    pub host_call_bytes: u64,
    /// Bytes of the output's JSON. 4 MiB.
    pub output_bytes: u64,
    /// Lines that are kept of a run's log. 256; the rest is counted.
    pub log_lines: u32,
    /// Bytes that are kept of one log line. 4 KiB.
    pub log_line_bytes: u32,
    /// Entries that a run may add to the audit log. 64.
    pub audit_entries: u32,
    /// HTTP requests. 32.
    pub http_requests: u32,
    /// Bytes of one HTTP request's body. 4 MiB.
    pub http_request_bytes: u64,
    /// Bytes of one HTTP answer, headers and body. 8 MiB.
    pub http_response_bytes: u64,
    /// Milliseconds for one HTTP request, within the run's own deadline. 30,000.
    pub http_timeout_ms: u64,
    /// Calls to WASI functions, all interfaces together. 8,192: a program on WASI makes many small ones where a pure
    /// skill makes one large one (each printed line is two, each file that is read ten), so `host_calls` would stop
    /// honest programs; and none of them leaves the host but an HTTP request, which has a limit of its own. That many
    /// take some ten milliseconds.
    pub wasi_calls: u32,
    /// Bytes of the files in the run's scratch directory, as long as they are (a hole counts). 0, so none: the manifest
    /// must ask for it.
    pub scratch_bytes: u64,
    /// Files and directories in the run's scratch directory. 256: each takes the host a system call to remove.
    pub scratch_files: u32,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            fuel: 1_000_000_000,
            wall_ms: 10_000,
            memory_bytes: 64 * MIB,
            host_calls: 256,
            host_call_bytes: 8 * MIB,
            output_bytes: 4 * MIB,
            log_lines: 256,
            log_line_bytes: 4096,
            audit_entries: 64,
            http_requests: 32,
            http_request_bytes: 4 * MIB,
            http_response_bytes: 8 * MIB,
            http_timeout_ms: 30_000,
            wasi_calls: 8192,
            scratch_bytes: 0,
            scratch_files: 256,
        }
    }
}

impl RunLimits {
    /// The most that an operator allows when the configuration says nothing.
    pub fn default_ceiling() -> Self {
        Self {
            fuel: 10_000_000_000,
            wall_ms: 60_000,
            memory_bytes: 128 * MIB,
            scratch_bytes: 64 * MIB,
            ..Self::default()
        }
    }

    /// How long a run may last.
    pub fn wall(&self) -> Duration {
        Duration::from_millis(self.wall_ms)
    }

    /// The smaller of each pair.
    #[must_use]
    pub fn within(&self, ceiling: &Self) -> Self {
        Self {
            fuel: self.fuel.min(ceiling.fuel),
            wall_ms: self.wall_ms.min(ceiling.wall_ms),
            memory_bytes: self.memory_bytes.min(ceiling.memory_bytes),
            host_calls: self.host_calls.min(ceiling.host_calls),
            host_call_bytes: self.host_call_bytes.min(ceiling.host_call_bytes),
            output_bytes: self.output_bytes.min(ceiling.output_bytes),
            log_lines: self.log_lines.min(ceiling.log_lines),
            log_line_bytes: self.log_line_bytes.min(ceiling.log_line_bytes),
            audit_entries: self.audit_entries.min(ceiling.audit_entries),
            http_requests: self.http_requests.min(ceiling.http_requests),
            http_request_bytes: self.http_request_bytes.min(ceiling.http_request_bytes),
            http_response_bytes: self.http_response_bytes.min(ceiling.http_response_bytes),
            http_timeout_ms: self.http_timeout_ms.min(ceiling.http_timeout_ms),
            wasi_calls: self.wasi_calls.min(ceiling.wasi_calls),
            scratch_bytes: self.scratch_bytes.min(ceiling.scratch_bytes),
            scratch_files: self.scratch_files.min(ceiling.scratch_files),
        }
    }
}

/// Bytes of a call's input: JSON. 1 MiB; larger data belongs into storage that the skill fetches from.
pub const INPUT_BYTES: u64 = MIB;

/// Bytes of a component that may be published. 64 MiB: a Python runtime is 18 MB, and a compiler's work grows
/// with what it is given.
pub const COMPONENT_BYTES: u64 = 64 * MIB;

/// Bytes of an install's settings. 64 KiB: they are passed to every run.
pub const SETTINGS_BYTES: u64 = 64 * 1024;

/// Bytes of a secret's value. 64 KiB, which holds a private key or a service account's JSON.
pub const SECRET_BYTES: u64 = 64 * 1024;

/// Bytes of any other request's body. 256 KiB.
pub const REQUEST_BYTES: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_cut_down_to_the_ceiling_and_never_raised() {
        let ceiling = RunLimits { fuel: 10, host_calls: 1000, ..RunLimits::default() };
        let cut = RunLimits::default().within(&ceiling);
        assert_eq!((cut.fuel, cut.host_calls), (10, 256));
    }
}
