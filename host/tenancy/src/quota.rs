//! What a tenant may use at a time: the default, then its own entry.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::TenantId;

/// One tenant's quota; a key that is not set is inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaOverride {
    /// Runs at the same time.
    pub max_concurrent_runs: Option<u32>,
    /// Whether only pure skills may run: none that import WASI.
    pub require_pure: Option<bool>,
}

/// The effective quota of one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Runs at the same time. Another one is answered with 429.
    pub max_concurrent_runs: u32,
    /// Whether only pure skills may be installed and run.
    pub require_pure: bool,
}

impl Default for Quota {
    fn default() -> Self {
        Self { max_concurrent_runs: 10, require_pure: false }
    }
}

/// The configuration's `tenant_quotas`: the entry `default`, and one for each tenant that differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Quotas(BTreeMap<String, QuotaOverride>);

impl Quotas {
    /// The tenant's own value, else the default's, else the built-in one.
    pub fn of(&self, tenant: &TenantId) -> Quota {
        let built_in = Quota::default();
        Quota {
            max_concurrent_runs: self.pick(tenant, |q| q.max_concurrent_runs).unwrap_or(built_in.max_concurrent_runs),
            require_pure: self.pick(tenant, |q| q.require_pure).unwrap_or(built_in.require_pure),
        }
    }

    fn pick<T>(&self, tenant: &TenantId, key: impl Fn(&QuotaOverride) -> Option<T>) -> Option<T> {
        [tenant.as_str(), "default"].into_iter().find_map(|name| self.0.get(name).and_then(&key))
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
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_own_value_wins_over_the_default() {
        let set = |n| QuotaOverride { max_concurrent_runs: n, require_pure: n.map(|n| n == 100) };
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
}
