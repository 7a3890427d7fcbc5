//! The table of dimensions: everything that a tenant's quota bounds. Configuration, API, command line, metrics and documentation are
//! read off it, so that a new dimension is one entry here and the place that asks for it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::{Asked, MIB};

/// How a dimension is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// So much in any minute on average, and so much at once.
    Rate,
    /// So much at a time.
    Held,
    /// So many that are kept in the database.
    Stored,
    /// A bound of a single thing, or a share: nothing is counted.
    Setting,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Which.
    pub dimension: Dimension,
    /// The key in `tenant_quotas` of clawhold.yaml and in the API.
    pub key: &'static str,
    /// What one of it is, for people.
    pub unit: &'static str,
    /// How many of what the host counts are in one of the unit: 1,048,576 bytes in a MiB.
    pub scale: u64,
    /// How it is counted.
    pub kind: Kind,
    /// In the unit; what a tenant has when nobody says otherwise.
    pub default: u64,
    /// In the unit; the least that makes sense.
    pub least: u64,
    /// In the unit; the most that an operator can allow.
    pub most: u64,
    /// What it protects.
    pub protects: &'static str,
    /// How to choose it.
    pub choose: &'static str,
}

impl Row {
    /// What is wrong with a value, and what to write.
    pub fn mistake(&self, value: u64) -> Option<String> {
        let range = self.least..=self.most;
        (!range.contains(&value)).then(|| format!("use {} to {} ({})", self.least, self.most, self.unit))
    }
}

macro_rules! dimensions {
    (
        rates { $($rates:tt)+ }
        others { $($others:tt)+ }
    ) => {
        dimensions!(@all $($rates)+ $($others)+);
        dimensions!(@rates $($rates)+);
    };
    (@rates $($(#[doc = $doc:literal])+ $variant:ident: $key:ident = $kind:ident $rest:tt;)+) => {
        /// The dimensions that are rates. They come first in [`Dimension`].
        pub const RATES: &[Dimension] = &[$(Dimension::$variant,)+];
    };
    (@all $($(#[doc = $doc:literal])+ $variant:ident: $key:ident = $kind:ident {
        $unit:literal * $scale:expr, default $default:literal, $least:literal to $most:literal, choose $choose:literal
    };)+) => {
        /// One thing that a tenant's quota bounds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Dimension {
            $($(#[doc = $doc])+ $variant,)+
        }

        /// Every dimension, in the order of [`Dimension`].
        pub const TABLE: &[Row] = &[$(Row {
            dimension: Dimension::$variant,
            key: stringify!($key),
            unit: $unit,
            scale: $scale,
            kind: Kind::$kind,
            default: $default,
            least: $least,
            most: $most,
            protects: concat!($($doc),+).trim_ascii(),
            choose: $choose,
        },)+];

        /// How many dimensions there are.
        pub const DIMENSIONS: usize = TABLE.len();

        /// Values of some dimensions, in their units. A key that is not set says nothing.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Values {
            $($(#[doc = $doc])+ #[serde(skip_serializing_if = "Option::is_none")] pub $key: Option<u64>,)+
        }

        impl Values {
            /// What is said of a dimension.
            pub fn get(&self, dimension: Dimension) -> Option<u64> {
                match dimension {
                    $(Dimension::$variant => self.$key,)+
                }
            }

            /// Says something else of a dimension, or nothing.
            pub fn set(&mut self, dimension: Dimension, value: Option<u64>) {
                match dimension {
                    $(Dimension::$variant => self.$key = value,)+
                }
            }
        }

        /// One entry of `tenant_quotas`; a key that is not set is inherited.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Entry {
            $($(#[doc = $doc])+ pub $key: Option<u64>,)+
            /// The most that one run of the tenant may use, below the operator's ceiling.
            pub limits: Asked,
            /// Whether only pure skills may run: none that import WASI.
            pub require_pure: Option<bool>,
        }

        impl Entry {
            /// What it says of the dimensions.
            pub fn values(&self) -> Values {
                Values { $($key: self.$key,)+ }
            }

            /// Says these values of the dimensions.
            pub fn put(&mut self, values: &Values) {
                $(self.$key = values.$key;)+
            }
        }
    };
}

dimensions! {
    rates {
        /// Calls of skills that are admitted. Protects the host's threads and the database, which keeps a record of each.
        SkillCalls: max_skill_calls_per_minute = Rate {
            "calls" * 1, default 500, 1 to 10_000_000,
            choose "Twice the calls of the tenant's busiest minute: agents call in bursts."
        };
        /// Instructions of the tenant's runs together. Protects the processor: a thousand million is about a second of one core.
        Fuel: max_fuel_per_minute = Rate {
            "fuel" * 1, default 120_000_000_000, 1_000_000 to 100_000_000_000_000,
            choose "60,000,000,000 for each core that the tenant may keep busy. A run reserves its own limit and gives back what it did not use, so allow at least that limit times the concurrent runs."
        };
        /// Bytes that the tenant's HTTP requests send and receive. Protects the network and what traffic costs.
        Egress: max_egress_mb_per_minute = Rate {
            "MiB" * MIB, default 512, 1 to 1_000_000,
            choose "The largest download of a skill, times how often it runs in a minute."
        };
        /// HTTP requests that skills send. Protects the services that they call from being flooded in the host's name.
        HttpRequests: max_http_requests_per_minute = Rate {
            "requests" * 1, default 3_000, 1 to 10_000_000,
            choose "The calls a minute, times the requests of a typical skill; less if the service has a limit of its own."
        };
        /// Entries of the tenant's audit log that its runs and skills write. Protects the database: nobody can take them back.
        AuditRecords: max_audit_records_per_minute = Rate {
            "entries" * 1, default 3_000, 2 to 10_000_000,
            choose "The calls a minute, times one more than a typical skill records."
        };
        /// Tokens of language models. Protects the bill.
        Tokens: max_tokens_per_minute = Rate {
            "tokens" * 1, default 100_000, 1 to 1_000_000_000_000,
            choose "What the tenant pays for; a model's answer counts when it is there."
        };
    }
    others {
        /// Runs at the same time, those that wait for a place included. Protects the run slots that all tenants share.
        ConcurrentRuns: max_concurrent_runs = Held {
            "runs" * 1, default 10, 1 to 100_000,
            choose "Calls a second, times the seconds that one takes, and some for bursts; below `run_slots`."
        };
        /// Runs that wait for a place at the same time. Protects callers from a queue that they cannot outlast.
        Queue: max_queue = Held {
            "runs" * 1, default 50, 0 to 10_000,
            choose "What can be done within the time that callers wait. It counts in `max_concurrent_runs`, so more than that is never reached."
        };
        /// Memory of the tenant's runs together. Protects the host's memory.
        Memory: max_memory_mb = Held {
            "MiB" * MIB, default 512, 1 to 1_048_576,
            choose "The concurrent runs, times what a skill uses: 2 MiB in Rust, tens of MiB in Python."
        };
        /// Packages that are installed. Protects the database and the caches.
        Installs: max_installs = Stored {
            "installs" * 1, default 100, 0 to 10_000,
            choose "More than the tenant needs; it guards against a script that has gone wrong."
        };
        /// Secrets that are kept. Protects the secret store.
        Secrets: max_secrets = Stored {
            "secrets" * 1, default 200, 0 to 100_000,
            choose "Two or three for each service that the tenant's skills call."
        };
        /// Bytes of one secret's value. Protects the secret store, and runs that hold values in memory.
        SecretBytes: max_secret_bytes = Setting {
            "bytes" * 1, default 65_536, 16 to 65_536,
            choose "Leave it, unless a policy wants short values: a private key has 4 KiB, a service account's JSON 3 KiB."
        };
        /// Days that entries of the audit log are kept. Protects the tenant's evidence, and the disk.
        AuditRetention: audit_retention_days = Setting {
            "days" * 1, default 36_500, 30 to 36_500,
            choose "What your auditors ask for: a year or seven are usual. Older entries go within six hours on SQLite, and on PostgreSQL when `clawhold db maintain --config` runs."
        };
        /// The tenant's share of run slots and processor when several want them: 2 gets twice as much as 1.
        Weight: weight = Setting {
            "shares" * 1, default 1, 1 to 1_000,
            choose "The ratio of what tenants pay: 1, 3 and 10 for three tiers."
        };
    }
}

/// How many rates there are.
pub const RATE_COUNT: usize = RATES.len();

impl Dimension {
    /// Its row of the table.
    pub const fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// Its key.
    pub const fn key(self) -> &'static str {
        self.row().key
    }

    /// The dimension with this key.
    pub fn of_key(key: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.key == key).map(|row| row.dimension)
    }

    /// Its place among [`RATES`], if it is one.
    pub const fn rate(self) -> Option<usize> {
        if (self as usize) < RATE_COUNT { Some(self as usize) } else { None }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

impl Values {
    /// What is said, with the rows.
    pub fn said(&self) -> impl Iterator<Item = (&'static Row, u64)> {
        TABLE.iter().filter_map(|row| Some((row, self.get(row.dimension)?)))
    }

    /// The first key with a value that cannot be used or is above the ceiling, and what to write.
    pub fn mistake(&self, ceiling: &Self) -> Option<(&'static str, String)> {
        self.said().find_map(|(row, value)| {
            let above = || {
                let most = ceiling.get(row.dimension).filter(|most| value > *most)?;
                Some(format!("{value} is above the operator's ceiling of {most} ({})", row.unit))
            };
            Some((row.key, row.mistake(value).or_else(above)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_makes_sense_and_says_why() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.dimension as usize, at, "{}", row.key);
            assert!(row.least <= row.default && row.default <= row.most, "{}", row.key);
            assert!(row.protects.ends_with('.') && row.choose.ends_with('.'), "{}", row.key);
            assert_eq!(Dimension::of_key(row.key), Some(row.dimension));
            assert_eq!(row.dimension.rate().is_some(), row.kind == Kind::Rate, "{}", row.key);
            assert_eq!(row.key.ends_with("_per_minute"), row.kind == Kind::Rate, "{}", row.key);
            // An amount must fit with room for debt, and be exact where it is reckoned with 53 bits.
            assert!(row.most.checked_mul(row.scale).is_some_and(|most| most <= 1 << 50), "{}", row.key);
            let mut values = Values::default();
            values.set(row.dimension, Some(row.most));
            assert_eq!(values.mistake(&Values::default()), None);
            values.set(row.dimension, Some(row.most + 1));
            assert_eq!(values.mistake(&Values::default()).map(|(key, _)| key), Some(row.key));
        }
        assert_eq!(Dimension::of_key("max_runs"), None);
    }

    #[test]
    fn a_value_above_the_operators_ceiling_is_a_mistake() {
        let value = |n| Values { max_concurrent_runs: Some(n), ..Values::default() };
        assert_eq!(value(20).mistake(&value(20)), None);
        let (key, said) = value(21).mistake(&value(20)).unwrap();
        assert_eq!((key, said.as_str()), ("max_concurrent_runs", "21 is above the operator's ceiling of 20 (runs)"));
    }
}
