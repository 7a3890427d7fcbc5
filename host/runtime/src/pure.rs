//! Where only pure skills may run.

use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::Quota;

use crate::Host;

impl Host {
    /// Why a skill on WASI may not be installed or run for this tenant, if it may not.
    pub(crate) fn refuses_wasi(&self, tenant: &TenantId, quota: &Quota) -> Option<String> {
        let (whose, key) = if self.require_pure {
            ("this host", "require_pure".to_owned())
        } else if quota.require_pure {
            ("this tenant", format!("tenant_quotas.{tenant}.require_pure"))
        } else {
            return None;
        };
        Some(format!(
            "{whose} runs pure skills only, and the package runs on WASI; use a version that is built without [wasi], or ask the operator about `{key}`"
        ))
    }
}
