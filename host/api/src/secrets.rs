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
use clawhold_tenancy::permit::{DeleteSecret, ListSecrets, PutSecret};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::{Answer, Asked, BodyHash, Named, whole};
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
    let view = |secret: &SecretInfo| SecretView {
        name: secret.name.to_string(),
        version: secret.version,
        updated: rfc3339(secret.created_us),
        by: secret.by.clone(),
    };
    Ok(Json(Page::of(&secrets, limit, |secret| secret.name.to_string(), view)))
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
