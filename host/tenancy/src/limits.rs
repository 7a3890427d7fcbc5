//! Every limit of a run, in one place: unit, default, reason, and the most that an operator allows.
//!
//! A run's limits are what its manifest asks for (or the default), cut down to what its tenant may have, cut down to
//! the operator's ceiling:
//!
//! ```
//! use clawhold_tenancy::limits::{Asked, RunLimits};
//! let manifest = Asked { memory_mb: Some(96), ..Asked::default() };
//! let tenant = Asked { memory_mb: Some(32), ..Asked::default() };
//! let limits = manifest.over(RunLimits::default()).within(&tenant.cap()).within(&RunLimits::default_ceiling());
//! assert_eq!(limits.memory_bytes, 32 << 20);
//! ```

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One mebibyte in bytes.
pub const MIB: u64 = 1 << 20;
/// One kibibyte in bytes.
pub const KIB: u64 = 1 << 10;

/// One row of the table of limits.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The key in `[limits]` of skill.toml, in `limits` and in `tenant_quotas.*.limits` of clawhold.yaml.
    pub key: &'static str,
    /// What one of it is, for people.
    pub unit: &'static str,
    /// How many of what the host counts in one of the unit: 1,048,576 bytes in a MiB.
    pub scale: u64,
    /// In the unit; what a run has whose manifest asks for nothing else.
    pub default: u64,
    /// In the unit; the most that a manifest can get when the operator configured nothing.
    pub ceiling: u64,
    /// In the unit; the most that an operator can allow.
    pub most: u64,
    /// Why it is there.
    pub reason: &'static str,
}

impl Limit {
    /// In the unit; the least that makes sense. What a run has none of by default may also be forbidden.
    pub const fn least(&self) -> u64 {
        if self.default == 0 { 0 } else { 1 }
    }
}

macro_rules! in_its_type {
    ($type:ty, $value:expr) => {{
        let value: u64 = $value;
        <$type>::try_from(value).expect("the table's values fit their types")
    }};
}

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $key:ident in $unit:literal * $scale:expr,
        default $default:literal, ceiling $ceiling:literal, most $most:literal;)+) => {
        /// What one run may use.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct RunLimits {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        /// Limits as people write them, in the units of [`TABLE`]. A key that is not set asks for nothing.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Asked {
            $($(#[doc = $doc])+ #[serde(skip_serializing_if = "Option::is_none")] pub $key: Option<u64>,)+
        }

        /// Every limit, in the order in which people should read them.
        pub const TABLE: &[Limit] = &[$(Limit {
            key: stringify!($key),
            unit: $unit,
            scale: $scale,
            default: $default,
            ceiling: $ceiling,
            most: $most,
            reason: concat!($($doc),+).trim_ascii(),
        },)+];

        impl Default for RunLimits {
            fn default() -> Self {
                Self { $($field: in_its_type!($type, $default * $scale),)+ }
            }
        }

        impl RunLimits {
            /// The most that an operator allows when the configuration says nothing.
            pub fn default_ceiling() -> Self {
                Self { $($field: in_its_type!($type, $ceiling * $scale),)+ }
            }

            /// The smaller of each pair.
            #[must_use]
            pub fn within(&self, ceiling: &Self) -> Self {
                Self { $($field: self.$field.min(ceiling.$field),)+ }
            }
        }

        impl Asked {
            /// `limits`, with what is asked for in place of what stands there.
            #[must_use]
            pub fn over(&self, mut limits: RunLimits) -> RunLimits {
                $(if let Some(asked) = self.$key {
                    limits.$field = <$type>::try_from(asked.saturating_mul($scale)).unwrap_or(<$type>::MAX);
                })+
                limits
            }

            /// As a cap: what is not set caps nothing.
            pub fn cap(&self) -> RunLimits {
                self.over(RunLimits { $($field: <$type>::MAX,)+ })
            }

            /// Of each key the lower of two wishes; what only one of them sets, as that one sets it.
            #[must_use]
            pub fn lower(&self, other: &Self) -> Self {
                let lower = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
                Self { $($key: lower(self.$key, other.$key),)+ }
            }

            /// What each key says, with the key's row.
            pub fn set(&self) -> impl Iterator<Item = (&'static Limit, u64)> {
                [$(self.$key,)+].into_iter().zip(TABLE).filter_map(|(value, limit)| Some((limit, value?)))
            }

            /// Sets a key by its name; `None` when there is no such key.
            pub fn put(&mut self, key: &str, value: u64) -> Option<()> {
                match key {
                    $(stringify!($key) => self.$key = Some(value),)+
                    _ => return None,
                }
                Some(())
            }
        }
    };
}

limits! {
    /// Instructions, in the engine's units of about one each: the deterministic meter that quotas rest on. A thousand
    /// million is roughly a second of a busy core.
    fuel: u64 = fuel in "fuel" * 1, default 1_000_000_000, ceiling 10_000_000_000, most 1_000_000_000_000;
    /// From admission to answer: one deadline for queueing, guest time and host time.
    wall_ms: u64 = timeout_ms in "ms" * 1, default 10_000, ceiling 60_000, most 600_000;
    /// Over all memories and tables of the run together: a cap on each alone would let 32 memories take 32 times as
    /// much. Drawn from the tenant's `max_memory_mb` while the run lives.
    memory_bytes: u64 = memory_mb in "MiB" * MIB, default 64, ceiling 128, most 128;
    /// Calls of host functions, all imports together. They cost neither fuel nor epochs, so only this bounds them.
    host_calls: u32 = host_calls in "calls" * 1, default 256, ceiling 4_096, most 1_000_000;
    /// What one host call may lift out of the guest: the largest request body with its headers fits. The engine counts
    /// it before it allocates.
    host_call_bytes: u64 = host_call_mb in "MiB" * MIB, default 8, ceiling 8, most 64;
    /// What all calls of Clawhold's own interfaces may lift out of the guest in a run: copying is work that costs it no fuel.
    /// WASI calls are counted by `wasi_calls` instead.
    lifted_bytes: u64 = lifted_mb in "MiB" * MIB, default 32, ceiling 64, most 1_024;
    /// What all calls of Clawhold's own interfaces may hand to the guest in a run: answers of services, mostly.
    lowered_bytes: u64 = lowered_mb in "MiB" * MIB, default 64, ceiling 256, most 1_024;
    /// Handles that a run may hold at a time, its own and the host's: each is a row of a table in the host's memory.
    handles: u32 = handles in "handles" * 1, default 4_096, ceiling 4_096, most 65_536;
    /// The output's JSON, which the host holds, checks and sends.
    output_bytes: u64 = output_kb in "KiB" * KIB, default 4_096, ceiling 4_096, most 32_768;
    /// Lines that are kept of a run's log; the rest is counted.
    log_lines: u32 = log_lines in "lines" * 1, default 256, ceiling 256, most 4_096;
    /// What is kept of one log line.
    log_line_bytes: u32 = log_line_bytes in "bytes" * 1, default 4_096, ceiling 4_096, most 16_384;
    /// Entries that a run may add to the tenant's audit log, which nobody can take back.
    audit_entries: u32 = audit_entries in "entries" * 1, default 64, ceiling 64, most 1_024;
    /// HTTP requests of a run.
    http_requests: u32 = http_requests in "requests" * 1, default 32, ceiling 256, most 4_096;
    /// The body of one HTTP request.
    http_request_bytes: u64 = http_request_kb in "KiB" * KIB, default 4_096, ceiling 4_096, most 32_768;
    /// One HTTP answer, headers and body: the host holds it whole before the guest gets it.
    http_response_bytes: u64 = http_response_kb in "KiB" * KIB, default 8_192, ceiling 8_192, most 65_536;
    /// One HTTP request, within the run's own deadline.
    http_timeout_ms: u64 = http_timeout_ms in "ms" * 1, default 30_000, ceiling 30_000, most 600_000;
    /// Calls of WASI functions, which are many where a pure skill makes one large one: each printed line is two, each
    /// file that is read ten. None of them leaves the host but an HTTP request, which has a limit of its own.
    wasi_calls: u32 = wasi_calls in "calls" * 1, default 8_192, ceiling 8_192, most 1_000_000;
    /// The files in a run's scratch directory, as long as they are (a hole counts). None unless the manifest asks for
    /// it under `[wasi]`.
    scratch_bytes: u64 = scratch_mb in "MiB" * MIB, default 0, ceiling 64, most 1_024;
    /// Files and directories in the run's scratch directory: each takes the host a system call to remove.
    scratch_files: u32 = scratch_files in "files" * 1, default 256, ceiling 256, most 4_096;
}

impl RunLimits {
    /// How long a run may last.
    pub fn wall(&self) -> Duration {
        Duration::from_millis(self.wall_ms)
    }
}

impl Asked {
    /// The first key with a value that cannot be used, and what to write.
    pub fn mistake(&self) -> Option<String> {
        let (limit, _) = self.set().find(|(limit, value)| *value < limit.least() || *value > limit.most)?;
        Some(format!("limits.{}: use {} to {} ({})", limit.key, limit.least(), limit.most, limit.unit))
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

/// Bytes of the stack of guest code. 512 KiB, of a 2 MiB stack that it shares with the host functions it calls: what
/// is left is theirs, and running out of it there would end the process.
pub const GUEST_STACK_BYTES: u64 = 512 * KIB;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_cut_down_to_the_ceiling_and_never_raised() {
        let ceiling = RunLimits { fuel: 10, host_calls: 1000, ..RunLimits::default() };
        let cut = RunLimits::default().within(&ceiling);
        assert_eq!((cut.fuel, cut.host_calls), (10, 256));
    }

    #[test]
    fn a_manifest_a_tenant_and_an_operator_each_cut_what_the_others_allow() {
        let manifest =
            Asked { fuel: Some(5_000_000_000), memory_mb: Some(100), host_calls: Some(9), ..Asked::default() };
        let tenant = Asked { memory_mb: Some(32), host_calls: Some(500), ..Asked::default() };
        let ceiling = Asked { fuel: Some(2_000_000_000), ..Asked::default() }.over(RunLimits::default_ceiling());
        let limits = manifest.over(RunLimits::default()).within(&tenant.cap()).within(&ceiling);
        assert_eq!((limits.fuel, limits.memory_bytes, limits.host_calls), (2_000_000_000, 32 * MIB, 9));
        assert_eq!(limits.wall_ms, 10_000);
    }

    #[test]
    fn the_table_makes_sense_and_says_why() {
        for limit in TABLE {
            assert!(limit.default <= limit.ceiling && limit.ceiling <= limit.most, "{}", limit.key);
            assert!(limit.reason.len() > 20 && limit.reason.ends_with('.'), "{}", limit.key);
            let mut asked = Asked::default();
            asked.put(limit.key, limit.most).unwrap();
            assert_eq!(asked.mistake(), None);
            asked.put(limit.key, limit.most + 1).unwrap();
            assert!(asked.mistake().unwrap().contains(limit.key));
            asked.put(limit.key, 0).unwrap();
            assert_eq!(asked.mistake().is_some(), limit.default > 0, "{}", limit.key);
        }
        assert_eq!(Asked::default().put("no_such_key", 1), None);
    }

    #[test]
    fn limits_that_were_stored_before_a_key_existed_have_its_default() {
        let stored: RunLimits = serde_json::from_str(r#"{"fuel": 5}"#).unwrap();
        assert_eq!(stored, RunLimits { fuel: 5, ..RunLimits::default() });
    }

    #[test]
    fn of_two_wishes_the_lower_counts() {
        let one = Asked { memory_mb: Some(32), timeout_ms: Some(100), ..Asked::default() };
        let other = Asked { memory_mb: Some(8), fuel: Some(5), ..Asked::default() };
        let both = Asked { memory_mb: Some(8), timeout_ms: Some(100), fuel: Some(5), ..Asked::default() };
        assert_eq!((one.lower(&other), other.lower(&one)), (both, both));
    }

    #[test]
    fn an_absurd_wish_does_not_wrap_around() {
        let asked = Asked { memory_mb: Some(u64::MAX), host_calls: Some(u64::MAX), ..Asked::default() };
        let limits = asked.over(RunLimits::default());
        assert_eq!((limits.memory_bytes, limits.host_calls), (u64::MAX, u32::MAX));
    }
}
