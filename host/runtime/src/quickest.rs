//! The quickest run of each skill so far: by it a run is refused that waits and could not end in time any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clawhold_tenancy::{Digest, SkillName, TenantId};
use moka::sync::Cache;

/// Skills that are remembered. What is forgotten waits until its deadline.
const SKILLS: u64 = 100_000;

/// Each tenant's own, and each component's: settings differ, and what another tenant's runs take is not to be seen.
pub(crate) struct Quickest(Cache<(TenantId, SkillName, Digest), Arc<AtomicU64>>);

impl Default for Quickest {
    fn default() -> Self {
        Self(Cache::new(SKILLS))
    }
}

impl Quickest {
    /// A run that gave an answer took so long.
    pub(crate) fn note(&self, tenant: &TenantId, skill: &SkillName, code: Digest, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let known = self.0.get_with((tenant.clone(), skill.clone(), code), || Arc::new(AtomicU64::new(u64::MAX)));
        // Mostly it is not the quickest, and then nothing is written.
        if us < known.load(Ordering::Relaxed) {
            known.fetch_min(us, Ordering::Relaxed);
        }
    }

    /// What the quickest took; nothing if there was none.
    pub(crate) fn of(&self, tenant: &TenantId, skill: &SkillName, code: Digest) -> Duration {
        let known = self.0.get(&(tenant.clone(), skill.clone(), code));
        known.map_or(Duration::ZERO, |us| Duration::from_micros(us.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_counts_and_only_for_the_tenant_and_the_code() {
        let (quickest, skill) = (Quickest::default(), "echo".parse().unwrap());
        let (acme, globex) = ("acme-corp".parse().unwrap(), "globex".parse().unwrap());
        let (old, new) = (Digest::of(b"old"), Digest::of(b"new"));
        assert_eq!(quickest.of(&acme, &skill, old), Duration::ZERO);
        for ms in [7, 3, 5] {
            quickest.note(&acme, &skill, old, Duration::from_millis(ms));
        }
        assert_eq!(quickest.of(&acme, &skill, old), Duration::from_millis(3));
        assert_eq!(quickest.of(&acme, &skill, new), Duration::ZERO, "an upgrade may be quicker or slower");
        assert_eq!(quickest.of(&globex, &skill, old), Duration::ZERO);
    }
}
