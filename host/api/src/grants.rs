//! `/v1/market/packages/{publisher}/{name}/grants`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use clawhold_runtime::marketplace::grant::{Grantee, VersionRange};
use clawhold_runtime::{GrantRow, Host, Problem};
use clawhold_tenancy::PackageName;
use clawhold_tenancy::permit::{GrantPackage, ListGrants};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::{Answer, BodyHash, Named, Sent};
use crate::gate::Allowed;
use crate::once::{Reply, once};
use crate::page::{Page, rfc3339};
use crate::problem::Failed;

/// Which versions are granted.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewGrant {
    /// `*` for every release, or as Cargo writes it: `^1.2`, `>=1.2, <3`.
    #[serde(default = "every")]
    range: String,
}

fn every() -> String {
    VersionRange::ALL.to_string()
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Grant")]
pub(crate) struct GrantView {
    /// `tenant:` and a tenant's id, or `tier:` and a tier's name.
    to: String,
    range: String,
    created: String,
    by: String,
}

/// `{grantee}` of a path.
#[derive(Deserialize)]
pub(crate) struct GranteePath {
    grantee: String,
}

impl GranteePath {
    fn parse(&self) -> Result<Grantee, Problem> {
        let invalid = |detail| Problem::Invalid { place: "grantee".to_owned(), detail };
        self.grantee.parse().map_err(|e: clawhold_runtime::marketplace::grant::BadGrantee| invalid(e.to_string()))
    }
}

pub(crate) async fn list(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ListGrants, PackageName>,
) -> Answer<Page<GrantView>> {
    let all = host.grants(&allowed.permit).await?;
    Ok(Json(Page::with(all.iter().map(view).collect(), None)))
}

pub(crate) async fn put(
    State(host): State<Arc<Host>>,
    allowed: Allowed<GrantPackage, PackageName>,
    Named(path): Named<GranteePath>,
    Sent(new, body): Sent<NewGrant>,
) -> Result<Response, Failed> {
    let to = path.parse()?;
    let range: VersionRange = new.range.parse().map_err(|e: clawhold_runtime::marketplace::grant::BadRange| {
        Problem::Invalid { place: "range".to_owned(), detail: e.to_string() }
    })?;
    let grant = |keep| host.grant(&allowed.cx, &allowed.permit, &to, &range, keep);
    once(&host, &allowed, &body, |done| Reply::json(StatusCode::OK, &view(done)), grant).await
}

pub(crate) async fn remove(
    State(host): State<Arc<Host>>,
    allowed: Allowed<GrantPackage, PackageName>,
    Named(path): Named<GranteePath>,
) -> Result<Response, Failed> {
    let to = path.parse()?;
    let remove = |keep| host.take_grant_back(&allowed.cx, &allowed.permit, &to, keep);
    once(&host, &allowed, &BodyHash::none(), |()| Reply::empty(), remove).await
}

fn view(grant: &GrantRow) -> GrantView {
    GrantView {
        to: grant.grantee.clone(),
        range: grant.range.clone(),
        created: rfc3339(grant.created_us),
        by: grant.created_by.clone(),
    }
}
