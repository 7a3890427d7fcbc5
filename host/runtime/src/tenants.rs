//! Creating and showing tenants.

use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::{CreateTenant, Host as HostResource, ListTenants, ShowTenant};
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
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=32).contains(&tier.len()) || !tier.bytes().all(plain) {
            return Err(Problem::invalid("tier", "write 1 to 32 of a-z, 0-9 and -"));
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

    /// For an operator, whose token is on every tenant's door: a permit does not say that the tenant exists.
    pub(crate) async fn require_tenant(&self, id: &TenantId) -> Result<(), Problem> {
        let found = self.store.system("look up a tenant").await?.tenant(id).await?;
        found.map(|_| ()).ok_or(Problem::NotFound("tenant"))
    }
}
