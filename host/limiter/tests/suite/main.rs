//! Limiters, alone and together.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod alone;
#[cfg(feature = "redis")]
mod scripts;
#[cfg(feature = "redis")]
mod together;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clawhold_limiter::{Grant, Limiter};
use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::{Amounts, Dimension, Over, Quota};

pub(crate) fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

pub(crate) fn quota(values: &[(Dimension, u64)]) -> Arc<Quota> {
    Arc::new(values.iter().fold(Quota::default(), |quota, (dimension, value)| quota.with(*dimension, *value)))
}

/// A call, with a run that lasts no longer than this.
pub(crate) async fn call(limiter: &Arc<Limiter>, quota: &Arc<Quota>, lasts: Duration) -> Result<Grant, Over> {
    let ask = Amounts::of(Dimension::SkillCalls, 1);
    limiter.reserve(&tenant("acme-corp"), quota, ask, Some(Instant::now() + lasts)).await
}
