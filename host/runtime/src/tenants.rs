//! Creating and showing tenants.

use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::{CreateTenant, Host as HostResource, ListTenants, SetTenantTier, ShowTenant};
use clawhold_tenancy::{Context, Permit, TenantId};

use crate::{Host, Problem, Tenant};

impl Host {
    /// Creates a tenant. Its chain begins with this.
    pub async fn create_tenant(
        &self,
        cx: &Context,
        permit: &Permit<CreateTenant, HostResource>,
        id: &TenantId,
        tier: &str,
        keep: Keep<Tenant>,
    ) -> Result<Tenant, Problem> {
        self.require_tier(tier)?;
        if self.quotas.rules().is_tier(id.as_str()) {
            return Err(Problem::invalid(
                "id",
                "a tier has this name, and `tenant_quotas` could not tell them apart; choose another",
            ));
        }
        let event = Event::by(cx, permit.action(), format!("tenant:{id}"), Outcome::Success)
            .with(&serde_json::json!({ "tier": tier }));
        let told = self.details.seal(Chain::Tenant(id), event.clone()).await?;
        let event = self.details.seal(Chain::Host, event).await?;
        let mut tx = self.store.system_write("create a tenant").await?;
        tx.create_tenant(id, tier, now_us()).await?;
        tx.append(id, &[told]).await?;
        let tenant = tx.tenant(id).await?.ok_or(Problem::NotFound("tenant"))?;
        self.keep_on_the_host(&mut tx, keep, &tenant).await?;
        tx.commit(event).await?;
        Ok(tenant)
    }

    /// Tenants behind `after`, by id.
    pub async fn tenants(
        &self,
        _permit: &Permit<ListTenants, HostResource>,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<Tenant>, Problem> {
        Ok(self.store.system("list tenants").await?.tenants(after, limit).await?)
    }

    /// One tenant.
    pub async fn tenant(&self, permit: &Permit<ShowTenant>) -> Result<Tenant, Problem> {
        let found = self.store.system("show a tenant").await?.tenant(permit.tenant()).await?;
        found.ok_or(Problem::NotFound("tenant"))
    }

    /// Puts a tenant into another tier. Its quota follows, on every node within a second.
    pub async fn set_tenant_tier(
        &self,
        cx: &Context,
        permit: &Permit<SetTenantTier>,
        tier: &str,
        keep: Keep<Tenant>,
    ) -> Result<Tenant, Problem> {
        self.require_tier(tier)?;
        let id = permit.tenant();
        let event = Event::by(cx, permit.action(), format!("tenant:{id}"), Outcome::Success);
        let event = event.with(&serde_json::json!({ "tier": tier }));
        let event = self.details.seal(Chain::Tenant(id), event).await?;
        let mut tx = self.store.tenant_write(id).await?;
        let mut tenant = tx.locked_tenant().await?.ok_or(Problem::NotFound("tenant"))?;
        tenant.tier = tier.to_owned();
        tx.set_tier_and_quota(tier, &tenant.quota).await?;
        self.keep_in(&mut tx, keep, &tenant).await?;
        tx.commit(event).await?;
        self.quotas.forget(id).await;
        Ok(tenant)
    }

    pub(crate) fn require_tier(&self, tier: &str) -> Result<(), Problem> {
        let rules = self.quotas.rules();
        if rules.is_tier(tier) {
            return Ok(());
        }
        Err(Problem::invalid("tier", format!("there is no such tier; use one of {}", rules.tiers())))
    }

    /// For an operator, whose token is on every tenant's door: a permit does not say that the tenant exists.
    pub(crate) async fn require_tenant(&self, id: &TenantId) -> Result<(), Problem> {
        let found = self.store.system("look up a tenant").await?.tenant(id).await?;
        found.map(|_| ()).ok_or(Problem::NotFound("tenant"))
    }
}
