//! From the operator's rules and a tenant's own values to its effective quota.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dimension::{DIMENSIONS, Dimension, Entry, TABLE, Values};
use crate::limits::Asked;
use crate::{RunLimits, TenantId};

/// The entry of `tenant_quotas` that holds for everybody.
const DEFAULT: &str = "default";

/// The tiers that there are when the configuration names none.
const TIERS: [&str; 4] = ["standard", "free", "pro", "enterprise"];

/// The most tiers that a configuration may name.
const MOST_TIERS: usize = 64;

/// A tier's name: 1 to 32 of a-z, 0-9 and -.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Tier(String);

impl Tier {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Tier {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(plain) && text != DEFAULT {
            return Ok(Self(text));
        }
        Err("a tier is 1 to 32 of a-z, 0-9 and -, and not `default`".to_owned())
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// `tenant set-quota`, or the API.
    Override,
    /// The tenant's own entry of `tenant_quotas`.
    Tenant,
    /// Its tier's entry.
    Tier,
    /// The entry `default`.
    Default,
    /// Nobody has said anything.
    BuiltIn,
    /// One of the others said more than `quota_ceiling` allows.
    Ceiling,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Override => "override",
            Self::Tenant => "tenant",
            Self::Tier => "tier",
            Self::Default => "default",
            Self::BuiltIn => "built-in",
            Self::Ceiling => "ceiling",
        })
    }
}

/// The effective quota of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    values: [(u64, Source); DIMENSIONS],
    /// The most that one run may use.
    pub limits: RunLimits,
    /// Whether only pure skills may be installed and run.
    pub require_pure: bool,
}

impl Quota {
    /// A dimension's value, in its unit.
    pub const fn get(&self, dimension: Dimension) -> u64 {
        self.values[dimension as usize].0
    }

    /// A dimension's value in what the host counts: bytes, not MiB.
    pub const fn amount(&self, dimension: Dimension) -> u64 {
        self.get(dimension).saturating_mul(dimension.row().scale)
    }

    /// Where a dimension's value comes from.
    pub const fn source(&self, dimension: Dimension) -> Source {
        self.values[dimension as usize].1
    }

    /// The tenant's share of slots and processor.
    pub fn weight(&self) -> u32 {
        u32::try_from(self.get(Dimension::Weight)).unwrap_or(1)
    }

    /// The same with another value: for tests, and for a host's share of a fleet's.
    #[must_use]
    pub fn with(mut self, dimension: Dimension, value: u64) -> Self {
        self.values[dimension as usize].0 = value;
        self
    }
}

impl Default for Quota {
    fn default() -> Self {
        let mut values = [(0, Source::BuiltIn); DIMENSIONS];
        for row in TABLE {
            values[row.dimension as usize].0 = row.default;
        }
        Self { values, limits: Asked::default().cap(), require_pure: false }
    }
}

/// The operator's rules: `tenant_quotas`, `quota_ceiling` and `tiers` of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quotas {
    /// The entry `default`, and those of tiers and of tenants.
    pub entries: BTreeMap<String, Entry>,
    /// What no tenant gets more of.
    pub ceiling: Values,
    /// The tiers that tenants may be in; if none are named, `standard`, `free`, `pro` and `enterprise`.
    pub tiers: Vec<Tier>,
}

impl Quotas {
    /// The quota of a tenant of this tier, for which these values are stored.
    pub fn of(&self, tenant: &TenantId, tier: &str, stored: &Values) -> Quota {
        let stored = Entry::of(stored);
        // A name that is a tier's is never read as a tenant's.
        let tenant = (!self.is_tier(tenant.as_str())).then(|| self.entries.get(tenant.as_str())).flatten();
        let tier = self.is_tier(tier).then(|| self.entries.get(tier)).flatten();
        let said = [
            (Source::Override, Some(&stored)),
            (Source::Tenant, tenant),
            (Source::Tier, tier),
            (Source::Default, self.entries.get(DEFAULT)),
        ];
        let built_in = Quota::default();
        let mut quota = built_in.clone();
        for row in TABLE {
            let first =
                said.iter().find_map(|(source, entry)| Some((entry.as_ref()?.values().get(row.dimension)?, *source)));
            let (value, source) = first.unwrap_or((row.default, Source::BuiltIn));
            quota.values[row.dimension as usize] = match self.ceiling.get(row.dimension) {
                Some(most) if value > most => (most, Source::Ceiling),
                _ => (value, source),
            };
        }
        let entries = || said.iter().filter_map(|(_, entry)| *entry);
        // The default's first, the tenant's own over it: key by key, as with the dimensions.
        quota.limits = entries().rev().fold(built_in.limits, |limits, entry| entry.limits.over(limits));
        quota.require_pure = entries().find_map(|entry| entry.require_pure).unwrap_or(built_in.require_pure);
        quota
    }

    /// Whether this is the name of a tier.
    pub fn is_tier(&self, name: &str) -> bool {
        if self.tiers.is_empty() { TIERS.contains(&name) } else { self.tiers.iter().any(|tier| tier.as_str() == name) }
    }

    /// The tiers that there are, for people.
    pub fn tiers(&self) -> String {
        let own: Vec<&str> = self.tiers.iter().map(Tier::as_str).collect();
        if own.is_empty() { TIERS.join(", ") } else { own.join(", ") }
    }

    /// Names that are nobody's, values that cannot be used, and values above the ceiling.
    pub fn mistakes(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.tiers.len() > MOST_TIERS {
            found.push(format!("tiers: name at most {MOST_TIERS}"));
        }
        if let Some((key, mistake)) = self.ceiling.mistake(&Values::default()) {
            found.push(format!("quota_ceiling.{key}: {mistake}"));
        }
        for (name, entry) in &self.entries {
            if let Err(invalid) = name.parse::<TenantId>()
                && name != DEFAULT
            {
                found.push(format!("tenant_quotas: {invalid}; use `default`, a tier or a tenant's id"));
            }
            if let Some((key, mistake)) = entry.values().mistake(&self.ceiling) {
                found.push(format!("tenant_quotas.{name}.{key}: {mistake}"));
            }
            found.extend(entry.limits.mistake().map(|mistake| format!("tenant_quotas.{name}.{mistake}")));
        }
        found
    }
}

impl Entry {
    /// An entry that says these values and nothing else.
    pub fn of(values: &Values) -> Self {
        let mut entry = Self::default();
        entry.put(values);
        entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MIB;

    const ACME: &str = "acme-corp";

    fn entry(runs: Option<u64>) -> Entry {
        Entry { max_concurrent_runs: runs, ..Entry::default() }
    }

    fn quotas(entries: &[(&str, Entry)]) -> Quotas {
        let entries = entries.iter().map(|(name, entry)| ((*name).to_owned(), *entry)).collect();
        Quotas { entries, ..Quotas::default() }
    }

    #[track_caller]
    fn check(quotas: &Quotas, tenant: &str, tier: &str, stored: Option<u64>, expected: (u64, Source)) {
        let stored = Values { max_concurrent_runs: stored, ..Values::default() };
        let quota = quotas.of(&tenant.parse().unwrap(), tier, &stored);
        let got = (quota.get(Dimension::ConcurrentRuns), quota.source(Dimension::ConcurrentRuns));
        assert_eq!(got, expected, "{tenant} of tier {tier}");
    }

    #[test]
    fn an_override_wins_over_the_tenants_entry_and_that_over_its_tiers_and_the_default() {
        let mut quotas = quotas(&[
            ("default", entry(Some(7))),
            ("pro", entry(Some(50))),
            (ACME, entry(Some(100))),
            ("globex", entry(None)),
        ]);
        check(&quotas, ACME, "pro", Some(3), (3, Source::Override));
        check(&quotas, ACME, "pro", None, (100, Source::Tenant));
        check(&quotas, "globex", "pro", None, (50, Source::Tier));
        check(&quotas, "globex", "standard", None, (7, Source::Default));
        check(&quotas, "globex", "a-tier-that-was-removed", None, (7, Source::Default));
        quotas.ceiling.max_concurrent_runs = Some(40);
        check(&quotas, ACME, "pro", None, (40, Source::Ceiling));
        check(&quotas, "globex", "standard", None, (7, Source::Default));
        quotas.entries.clear();
        check(&quotas, "globex", "standard", None, (10, Source::BuiltIn));
    }

    #[test]
    fn a_tenant_that_is_called_like_a_tier_does_not_get_its_quota() {
        let mut quotas = quotas(&[("pro", entry(Some(50)))]);
        check(&quotas, "pro", "standard", None, (10, Source::BuiltIn));
        quotas.tiers = vec![Tier("gold".to_owned())];
        check(&quotas, "pro", "gold", None, (50, Source::Tenant));
        check(&quotas, ACME, "pro", None, (10, Source::BuiltIn));
    }

    #[test]
    fn limits_are_inherited_key_by_key() {
        let limits = |fuel, memory_mb| Entry {
            limits: Asked { fuel, memory_mb, ..Asked::default() },
            require_pure: fuel.map(|fuel| fuel == 9),
            ..Entry::default()
        };
        let quotas = quotas(&[("default", limits(Some(7), Some(8))), (ACME, limits(Some(9), None))]);
        let of = |tenant: &str| quotas.of(&tenant.parse().unwrap(), "standard", &Values::default());
        let cap = of(ACME).limits;
        assert_eq!((cap.fuel, cap.memory_bytes, cap.wall_ms), (9, 8 * MIB, u64::MAX));
        assert_eq!((of(ACME).require_pure, of("globex").require_pure), (true, false));
        assert_eq!(Quotas::default().of(&ACME.parse().unwrap(), "standard", &Values::default()), Quota::default());
    }

    #[test]
    fn mistakes_name_the_entry_and_the_key() {
        let mut wrong = quotas(&[
            ("default", entry(Some(0))),
            ("globex", Entry { weight: Some(1001), ..Entry::default() }),
            ("Acme", entry(None)),
            ("initech", Entry { limits: Asked { fuel: Some(0), ..Asked::default() }, ..Entry::default() }),
            ("hooli", entry(Some(101))),
        ]);
        wrong.ceiling = Values { max_concurrent_runs: Some(100), max_memory_mb: Some(0), ..Values::default() };
        let said = wrong.mistakes().join("; ");
        for part in [
            "tenant_quotas.default.max_concurrent_runs: use 1 to 100000 (runs)",
            "tenant_quotas.globex.weight: use 1 to 1000 (shares)",
            "Acme",
            "tenant_quotas.initech.limits.fuel",
            "tenant_quotas.hooli.max_concurrent_runs: 101 is above the operator's ceiling of 100 (runs)",
            "quota_ceiling.max_memory_mb: use 1 to 1048576 (MiB)",
        ] {
            assert!(said.contains(part), "{said:?} does not say {part:?}");
        }
    }
}
