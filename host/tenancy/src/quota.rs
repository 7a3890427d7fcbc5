//! What a tenant may use at a time: the default, then its own entry.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::limits::{Asked, MIB};
use crate::{RunLimits, TenantId};

/// One tenant's quota; a key that is not set is inherited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaOverride {
    /// Runs at the same time.
    pub max_concurrent_runs: Option<u32>,
    /// Mebibytes of memory over all runs of the tenant that are under way.
    pub max_memory_mb: Option<u64>,
    /// The tenant's share of processor and run slots when several want them.
    pub weight: Option<u32>,
    /// The most that one run of the tenant may use, below the operator's ceiling.
    pub limits: Asked,
    /// Whether only pure skills may run: none that import WASI.
    pub require_pure: Option<bool>,
}

/// The effective quota of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// Runs at the same time. Another one is answered with 429. 10.
    pub max_concurrent_runs: u32,
    /// Bytes of memory over all runs of the tenant that are under way; a run that wants more is ended. 512 MiB.
    pub max_memory_bytes: u64,
    /// The tenant's share of processor and run slots when several want them: 2 gets twice as much as 1. 1.
    pub weight: u32,
    /// The most that one run may use.
    pub limits: RunLimits,
    /// Whether only pure skills may be installed and run.
    pub require_pure: bool,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            max_concurrent_runs: 10,
            max_memory_bytes: 512 * MIB,
            weight: 1,
            require_pure: false,
            limits: Asked::default().cap(),
        }
    }
}

/// The largest weight. More than a thousand to one is a mistake.
const MOST_WEIGHT: u32 = 1000;

/// The configuration's `tenant_quotas`: the entry `default`, and one for each tenant that differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Quotas(BTreeMap<String, QuotaOverride>);

impl Quotas {
    /// The tenant's own value, else the default's, else the built-in one.
    pub fn of(&self, tenant: &TenantId) -> Quota {
        fn pick<T>(own: &[Option<&QuotaOverride>], key: fn(&QuotaOverride) -> Option<T>) -> Option<T> {
            own.iter().flatten().find_map(|quota| key(quota))
        }
        let own = [tenant.as_str(), "default"].map(|name| self.0.get(name));
        let built_in = Quota::default();
        // The default's first, the tenant's own over it: key by key, as with the other quotas.
        let limits = own.iter().rev().flatten().fold(built_in.limits, |limits, quota| quota.limits.over(limits));
        Quota {
            max_concurrent_runs: pick(&own, |q| q.max_concurrent_runs).unwrap_or(built_in.max_concurrent_runs),
            max_memory_bytes: pick(&own, |q| q.max_memory_mb)
                .map_or(built_in.max_memory_bytes, |mb| mb.saturating_mul(MIB)),
            weight: pick(&own, |q| q.weight).unwrap_or(built_in.weight),
            require_pure: pick(&own, |q| q.require_pure).unwrap_or(built_in.require_pure),
            limits,
        }
    }

    /// Names that are neither `default` nor a tenant's, and values that would stop all work.
    pub fn mistakes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, quota) in &self.0 {
            if let Err(invalid) = name.parse::<TenantId>() {
                found.push(format!("tenant_quotas: {invalid}; use `default` or a tenant's id"));
            }
            if quota.max_concurrent_runs == Some(0) {
                found.push(format!(
                    "tenant_quotas.{name}.max_concurrent_runs is 0, which stops all work; use 1 or more"
                ));
            }
            if quota.max_memory_mb == Some(0) {
                found.push(format!("tenant_quotas.{name}.max_memory_mb is 0, which stops all work; use 1 or more"));
            }
            if quota.weight.is_some_and(|weight| !(1..=MOST_WEIGHT).contains(&weight)) {
                found.push(format!("tenant_quotas.{name}.weight: use 1 to {MOST_WEIGHT}"));
            }
            found.extend(quota.limits.mistake().map(|mistake| format!("tenant_quotas.{name}.{mistake}")));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_own_value_wins_over_the_default() {
        let set = |n: Option<u32>| QuotaOverride {
            max_concurrent_runs: n,
            require_pure: n.map(|n| n == 100),
            ..QuotaOverride::default()
        };
        let quotas = Quotas(BTreeMap::from([
            ("default".to_owned(), set(Some(7))),
            ("acme-corp".to_owned(), set(Some(100))),
            ("globex".to_owned(), set(None)),
        ]));
        let of = |t: &str| quotas.of(&t.parse().unwrap()).max_concurrent_runs;
        assert_eq!((of("acme-corp"), of("globex"), of("initech")), (100, 7, 7));
        let pure = |t: &str| quotas.of(&t.parse().unwrap()).require_pure;
        assert_eq!((pure("acme-corp"), pure("globex"), pure("initech")), (true, false, false));
        assert_eq!(Quotas::default().of(&"acme-corp".parse().unwrap()), Quota::default());
    }

    #[test]
    fn limits_are_inherited_key_by_key() {
        let limits = |fuel, memory_mb| QuotaOverride {
            limits: Asked { fuel, memory_mb, ..Asked::default() },
            ..QuotaOverride::default()
        };
        let quotas = Quotas(BTreeMap::from([
            ("default".to_owned(), limits(Some(7), Some(8))),
            ("acme-corp".to_owned(), limits(Some(9), None)),
        ]));
        let cap = quotas.of(&"acme-corp".parse().unwrap()).limits;
        assert_eq!((cap.fuel, cap.memory_bytes, cap.wall_ms), (9, 8 * MIB, u64::MAX));
        let mut wrong = quotas;
        wrong.0.insert("globex".to_owned(), QuotaOverride { weight: Some(0), ..limits(Some(0), None) });
        let said = wrong.mistakes().join("; ");
        assert!(said.contains("globex.weight: use 1 to 1000") && said.contains("globex.limits.fuel"), "{said}");
    }
}
