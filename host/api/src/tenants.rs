//! `/v1/tenants`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use clawhold_runtime::{Host, Tenant};
use clawhold_tenancy::TenantId;
use clawhold_tenancy::permit::{CreateTenant, Host as HostResource, ListTenants, SetTenantTier, ShowTenant};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::{Answer, Asked, Sent};
use crate::gate::Allowed;
use crate::once::{Reply, once};
use crate::page::{Page, PageQuery, rfc3339};
use crate::problem::Failed;

/// A tenant, as the API shows it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tenant")]
pub(crate) struct TenantView {
    id: String,
    tier: String,
    state: &'static str,
    created: String,
}

fn view(tenant: &Tenant) -> TenantView {
    TenantView {
        id: tenant.id.to_string(),
        tier: tenant.tier.clone(),
        state: tenant.state.as_str(),
        created: rfc3339(tenant.created_us),
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTenant {
    id: TenantId,
    #[serde(default = "standard")]
    tier: String,
}

fn standard() -> String {
    "standard".to_owned()
}

pub(crate) async fn create(
    State(host): State<Arc<Host>>,
    allowed: Allowed<CreateTenant, HostResource>,
    Sent(new, body): Sent<NewTenant>,
) -> Result<Response, Failed> {
    let created = |tenant: &Tenant| Reply::json(StatusCode::CREATED, &view(tenant));
    let create = |keep| host.create_tenant(&allowed.cx, &allowed.permit, &new.id, &new.tier, keep);
    once(&host, &allowed, &body, created, create).await
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantChange {
    /// One of the operator's tiers.
    tier: String,
}

pub(crate) async fn change(
    State(host): State<Arc<Host>>,
    allowed: Allowed<SetTenantTier>,
    Sent(change, body): Sent<TenantChange>,
) -> Result<Response, Failed> {
    let changed = |tenant: &Tenant| Reply::json(StatusCode::OK, &view(tenant));
    let set = |keep| host.set_tenant_tier(&allowed.cx, &allowed.permit, &change.tier, keep);
    once(&host, &allowed, &body, changed, set).await
}

pub(crate) async fn list(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ListTenants, HostResource>,
    Asked(page): Asked<PageQuery>,
) -> Answer<Page<TenantView>> {
    let limit = page.limit()?;
    let tenants = host.tenants(&allowed.permit, page.after()?.as_ref(), limit).await?;
    Ok(Json(Page::of(&tenants, limit, |tenant| tenant.id.to_string(), view)))
}

pub(crate) async fn show(State(host): State<Arc<Host>>, allowed: Allowed<ShowTenant>) -> Answer<TenantView> {
    Ok(Json(view(&host.tenant(&allowed.permit).await?)))
}
