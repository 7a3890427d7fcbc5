//! `/v1/tenants/{tenant}/quota`

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use clawhold_runtime::{Host, Problem, QuotaView};
use clawhold_tenancy::permit::{SetQuota, ShowQuota};
use clawhold_tenancy::quota::{Dimension, Source, TABLE};
use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::body::{Answer, Sent};
use crate::gate::Allowed;
use crate::once::{Reply, once};
use crate::problem::Failed;

/// A tenant's quota.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Quota {
    tenant: String,
    tier: String,
    dimensions: Vec<Bound>,
    /// Whether only pure skills may be installed and run.
    require_pure: bool,
}

/// One dimension of a quota.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Bound {
    dimension: &'static str,
    value: u64,
    unit: &'static str,
    source: Source,
    /// What was said of the tenant alone, if that is not what holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<u64>,
    protects: &'static str,
}

fn view(view: &QuotaView) -> Quota {
    let bound = |row: &clawhold_tenancy::quota::Row| Bound {
        dimension: row.key,
        value: view.quota.get(row.dimension),
        unit: row.unit,
        source: view.quota.source(row.dimension),
        asked: view.own.get(row.dimension).filter(|asked| *asked != view.quota.get(row.dimension)),
        protects: row.protects,
    };
    Quota {
        tenant: view.tenant.to_string(),
        tier: view.tier.clone(),
        dimensions: TABLE.iter().map(bound).collect(),
        require_pure: view.quota.require_pure,
    }
}

/// What is to be said of a tenant's quota: each key with its value, or null to take back what was said.
#[derive(Deserialize)]
#[serde(transparent)]
pub(crate) struct QuotaChange(BTreeMap<String, Value>);

impl JsonSchema for QuotaChange {
    fn schema_name() -> Cow<'static, str> {
        "QuotaChange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let property = |row: &clawhold_tenancy::quota::Row| {
            let schema = json!({
                "type": ["integer", "null"], "minimum": row.least, "maximum": row.most,
                "description": format!("{} ({})", row.protects, row.unit),
            });
            (row.key.to_owned(), schema)
        };
        let properties: serde_json::Map<_, _> = TABLE.iter().map(property).collect();
        let object = json!({
            "type": "object",
            "description": "Each key with its value, or null to take back what was said",
            "properties": properties,
            "minProperties": 1,
            "additionalProperties": false,
        });
        object.try_into().unwrap_or_default()
    }
}

impl QuotaChange {
    /// The dimensions and values, or what is wrong with the first that cannot be used.
    fn read(&self) -> Result<Vec<(Dimension, Option<u64>)>, Problem> {
        if self.0.is_empty() {
            let keys = TABLE.iter().map(|row| row.key).collect::<Vec<_>>().join(", ");
            return Err(invalid("body", format!("it changes nothing; send one or more of {keys}")));
        }
        self.0.iter().map(|(key, value)| one(key, value)).collect()
    }
}

fn one(key: &str, value: &Value) -> Result<(Dimension, Option<u64>), Problem> {
    let Some(dimension) = Dimension::of_key(key) else {
        let keys = TABLE.iter().map(|row| row.key).collect::<Vec<_>>().join(", ");
        let shown: String = key.chars().take(64).collect();
        return Err(invalid(&shown, format!("there is no such key; use {keys}")));
    };
    if value.is_null() {
        return Ok((dimension, None));
    }
    let row = dimension.row();
    // Whether it is in the range, and below the ceiling, the use-case says.
    let number = value.as_u64().ok_or_else(|| {
        let detail = format!("write a whole number from {} to {} ({}), or null", row.least, row.most, row.unit);
        invalid(key, detail)
    })?;
    Ok((dimension, Some(number)))
}

fn invalid(place: &str, detail: String) -> Problem {
    Problem::Invalid { place: place.to_owned(), detail }
}

pub(crate) async fn show(State(host): State<Arc<Host>>, allowed: Allowed<ShowQuota>) -> Answer<Quota> {
    Ok(Json(view(&host.show_quota(&allowed.permit).await?)))
}

pub(crate) async fn set(
    State(host): State<Arc<Host>>,
    allowed: Allowed<SetQuota>,
    Sent(change, body): Sent<QuotaChange>,
) -> Result<Response, Failed> {
    let changes = change.read()?;
    let changed = |quota: &QuotaView| Reply::json(StatusCode::OK, &view(quota));
    let set = |keep| host.set_quota(&allowed.cx, &allowed.permit, &changes, keep);
    once(&host, &allowed, &body, changed, set).await
}
