//! `/v1/tenants/{tenant}/secrets`: values go in and never come out.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use clawhold_runtime::{Host, Problem};
use clawhold_secret_store::{SecretInfo, SecretValue};
use clawhold_tenancy::SecretName;
use clawhold_tenancy::limits::REQUEST_BYTES;
use clawhold_tenancy::permit::{DeleteSecret, ListSecrets, PutSecret, RollBackSecret};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::{Answer, Asked, BodyHash, Named, Sent, whole};
use crate::gate::Allowed;
use crate::once::{Reply, once};
use crate::page::{Page, PageQuery, rfc3339};
use crate::problem::Failed;

/// A value: a text, or named fields.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Value {
    Text(String),
    Fields(BTreeMap<String, String>),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewValue {
    value: Value,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StoredSecret")]
pub(crate) struct Stored {
    name: String,
    version: i64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Secret")]
pub(crate) struct SecretView {
    name: String,
    version: i64,
    updated: String,
    by: String,
}

#[derive(Deserialize)]
pub(crate) struct Name {
    #[serde(rename = "secret")]
    name: String,
}

impl Name {
    fn parse(&self) -> Result<SecretName, Problem> {
        self.name.parse().map_err(|e| Problem::Invalid { place: "name".to_owned(), detail: format!("{e}") })
    }
}

pub(crate) async fn put(
    State(host): State<Arc<Host>>,
    allowed: Allowed<PutSecret>,
    Named(name): Named<Name>,
    request: Request,
) -> Result<Response, Response> {
    let bytes = whole(request, REQUEST_BYTES).await?;
    put_value(&host, &allowed, &name, &bytes).await.map_err(IntoResponse::into_response)
}

async fn put_value(
    host: &Arc<Host>,
    allowed: &Allowed<PutSecret>,
    name: &Name,
    bytes: &[u8],
) -> Result<Response, Failed> {
    let name = name.parse()?;
    // The reader's own message would repeat what was sent, which is a secret.
    let new: NewValue = serde_json::from_slice(bytes).map_err(|_| Problem::Invalid {
        place: "value".to_owned(),
        detail: "send {\"value\": \"…\"}, or {\"value\": {\"field\": \"…\"}} for named fields".to_owned(),
    })?;
    let text = match new.value {
        Value::Text(text) => text,
        Value::Fields(fields) => serde_json::to_string(&fields).map_err(|_| Problem::Internal)?,
    };
    let called = name.to_string();
    let stored = move |version: &i64| Reply::json(StatusCode::OK, &Stored { name: called.clone(), version: *version });
    let put = |keep| host.put_secret(&allowed.cx, &allowed.permit, &name, SecretValue::from(text), keep);
    once(host, allowed, &BodyHash::of(bytes), stored, put).await
}

pub(crate) async fn list(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ListSecrets>,
    Asked(page): Asked<PageQuery>,
) -> Answer<Page<SecretView>> {
    let limit = page.limit()?;
    let secrets = host.secrets(&allowed.permit, page.after()?.as_ref(), limit).await?;
    Ok(Json(Page::of(&secrets, limit, |secret| secret.name.to_string(), view)))
}

fn view(secret: &SecretInfo) -> SecretView {
    SecretView {
        name: secret.name.to_string(),
        version: secret.version,
        updated: rfc3339(secret.created_us),
        by: secret.by.clone(),
    }
}

/// The versions of a secret: never more than a page.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SecretVersions")]
pub(crate) struct Versions {
    /// Newest first: that is the one in use.
    items: Vec<SecretView>,
}

pub(crate) async fn versions(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ListSecrets>,
    Named(name): Named<Name>,
) -> Answer<Versions> {
    let versions = host.secret_versions(&allowed.permit, &name.parse()?).await?;
    Ok(Json(Versions { items: versions.iter().map(view).collect() }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollBack {
    /// The version to put back; the one before the newest when not given.
    version: Option<i64>,
}

pub(crate) async fn roll_back(
    State(host): State<Arc<Host>>,
    allowed: Allowed<RollBackSecret>,
    Named(name): Named<Name>,
    Sent(ask, body): Sent<RollBack>,
) -> Result<Response, Failed> {
    let name = name.parse()?;
    let called = name.to_string();
    let stored = move |version: &i64| Reply::json(StatusCode::OK, &Stored { name: called.clone(), version: *version });
    let put = |keep| host.roll_back_secret(&allowed.cx, &allowed.permit, &name, ask.version, keep);
    once(&host, &allowed, &body, stored, put).await
}

pub(crate) async fn delete(
    State(host): State<Arc<Host>>,
    allowed: Allowed<DeleteSecret>,
    Named(name): Named<Name>,
) -> Result<Response, Failed> {
    let name = name.parse()?;
    let delete = |keep| host.delete_secret(&allowed.cx, &allowed.permit, &name, keep);
    once(&host, &allowed, &BodyHash::none(), |()| Reply::empty(), delete).await
}
