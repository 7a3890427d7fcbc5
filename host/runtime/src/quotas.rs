//! What each tenant's quota is: the operator's rules and what was said of the tenant alone.

use std::sync::Arc;
use std::time::Duration;

use clawhold_tenancy::audit::{Chain, Event, Outcome};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::{SetQuota, ShowQuota};
use clawhold_tenancy::quota::{Dimension, Quota, Quotas, Values};
use clawhold_tenancy::{Context, Permit, TenantId};
use moka::future::Cache;

use crate::fresh::{Believed, Fresh, Seen};
use crate::{Host, Problem};

/// Tenants whose quota is kept, those that do not exist included.
const KEPT: u64 = 100_000;

pub(crate) struct Effective {
    rules: Quotas,
    known: Cache<TenantId, Seen<Quota>>,
    /// As of within a minute, for what must not be seen by whether it asks the database.
    lately: Cache<TenantId, Arc<Quota>>,
    fresh: Arc<Fresh>,
}

impl Effective {
    pub(crate) fn new(rules: Quotas, fresh: Arc<Fresh>) -> Self {
        let believed = Believed(Arc::clone(&fresh));
        let lately = Cache::builder().max_capacity(KEPT).time_to_live(Duration::from_mins(1)).build();
        Self { rules, known: Cache::builder().max_capacity(KEPT).expire_after(believed).build(), lately, fresh }
    }

    pub(crate) fn rules(&self) -> &Quotas {
        &self.rules
    }

    pub(crate) async fn forget(&self, tenant: &TenantId) {
        self.known.invalidate(tenant).await;
    }

    pub(crate) fn forget_all(&self) {
        self.known.invalidate_all();
    }
}

/// A tenant's quota, and what it is made of.
#[derive(Debug)]
pub struct QuotaView {
    /// The tenant.
    pub tenant: TenantId,
    /// Its tier.
    pub tier: String,
    /// What was said of it alone.
    pub own: Values,
    /// What holds, and why.
    pub quota: Quota,
}

impl Host {
    /// A tenant's quota, and where each value comes from.
    pub async fn show_quota(&self, permit: &Permit<ShowQuota>) -> Result<QuotaView, Problem> {
        let found = self.store.system("look up a quota").await?.tenant(permit.tenant()).await?;
        Ok(self.view(found.ok_or(Problem::NotFound("tenant"))?))
    }

    /// Says something else of some dimensions, for this tenant alone; `None` takes back what was said. Holds on every node within a
    /// second.
    pub async fn set_quota(
        &self,
        cx: &Context,
        permit: &Permit<SetQuota>,
        changes: &[(Dimension, Option<u64>)],
        keep: Keep<QuotaView>,
    ) -> Result<QuotaView, Problem> {
        let id = permit.tenant();
        let mut asked = Values::default();
        for (dimension, value) in changes {
            asked.set(*dimension, *value);
        }
        if let Some((key, mistake)) = asked.mistake(&self.quotas.rules().ceiling) {
            return Err(Problem::invalid(key, mistake));
        }
        let said: serde_json::Map<_, _> =
            changes.iter().map(|(dimension, value)| (dimension.to_string(), serde_json::json!(value))).collect();
        let event =
            Event::by(cx, permit.action(), format!("tenant:{id}"), Outcome::Success).with(&serde_json::json!(said));
        let event = self.details.seal(Chain::Tenant(id), event).await?;
        let mut tx = self.store.tenant_write(id).await?;
        let mut tenant = tx.locked_tenant().await?.ok_or(Problem::NotFound("tenant"))?;
        for (dimension, value) in changes {
            tenant.quota.set(*dimension, *value);
        }
        tx.set_tier_and_quota(&tenant.tier, &tenant.quota).await?;
        let view = self.view(tenant);
        self.keep_in(&mut tx, keep, &view).await?;
        tx.commit(event).await?;
        self.quotas.forget(id).await;
        Ok(view)
    }

    fn view(&self, tenant: crate::Tenant) -> QuotaView {
        let quota = self.quotas.rules.of(&tenant.id, &tenant.tier, &tenant.quota);
        QuotaView { tenant: tenant.id, tier: tenant.tier, own: tenant.quota, quota }
    }

    /// A tenant's quota as of within the last minute.
    pub(crate) async fn quota_lately(&self, tenant: &TenantId) -> Result<Arc<Quota>, Problem> {
        if let Some(known) = self.quotas.lately.get(tenant).await {
            return Ok(known);
        }
        let quota = self.quota_of(tenant).await?;
        self.quotas.lately.insert(tenant.clone(), Arc::clone(&quota)).await;
        Ok(quota)
    }

    /// A tenant's effective quota.
    pub(crate) async fn quota_of(&self, tenant: &TenantId) -> Result<Arc<Quota>, Problem> {
        if let Some(known) = self.quotas.known.get(tenant).await {
            return known.value.ok_or(Problem::NotFound("tenant"));
        }
        // Boxed: the rare way must not make every call's future large.
        let look_up = Box::pin(async {
            let seen = self.quotas.fresh.begin();
            let found = self.store.system("look up a quota").await?.tenant(tenant).await?;
            let quota = found.map(|found| Arc::new(self.quotas.rules.of(tenant, &found.tier, &found.quota)));
            Ok::<_, Problem>(seen(quota))
        });
        let found = self.quotas.known.try_get_with(tenant.clone(), look_up).await;
        let found = found.map_err(|shared: Arc<Problem>| match &*shared {
            Problem::Unavailable(why) => Problem::Unavailable(why.clone()),
            _ => Problem::Internal,
        })?;
        found.value.ok_or(Problem::NotFound("tenant"))
    }
}
