//! `/v1/host/keys/rotate` and `/v1/tenants/{tenant}/keys/rotate`

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use clawhold_runtime::{Host, Problem, Rotated};
use clawhold_tenancy::permit::{Host as HostResource, RotateHostKeys, RotateKeys};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::Sent;
use crate::gate::Allowed;
use crate::once::{Reply, once};
use crate::page::{parse_rfc3339, rfc3339};
use crate::problem::Failed;

/// Which keys are to be replaced.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateAsk {
    /// RFC 3339. A newest key that was made after this stays: whoever was interrupted says the same time again. Now when not given.
    #[schemars(extend("format" = "date-time"))]
    made_before: Option<String>,
}

/// The same for the host.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateHostAsk {
    /// As for a tenant.
    #[schemars(extend("format" = "date-time"))]
    made_before: Option<String>,
    /// Add a master key first, which wraps the data keys from then on.
    #[serde(default)]
    add_master: bool,
}

/// What was done.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RotatedKeys")]
pub(crate) struct RotatedView {
    /// The newest data key.
    key_version: u32,
    /// Whether it was made just now.
    is_new: bool,
    /// Data keys that were wrapped anew.
    rewrapped: u32,
    /// Secrets that were sealed anew, each older version counted.
    resealed: u64,
    /// Secrets that do not open any more, and stay as they are: somebody changed them, or their key is gone.
    unreadable: u64,
    /// To be said again after an interruption.
    made_before: String,
    /// The version of the master key, if one was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    master_version: Option<u32>,
}

fn reply(rotated: &Rotated) -> Reply {
    let Rotated { key_version, is_new, rewrapped, resealed, unreadable, made_before_us, master_version } = *rotated;
    let made_before = rfc3339(made_before_us);
    let view = RotatedView { key_version, is_new, rewrapped, resealed, unreadable, made_before, master_version };
    Reply::json(StatusCode::OK, &view)
}

fn time(text: Option<String>) -> Result<Option<i64>, Problem> {
    text.map(|text| parse_rfc3339("made_before", &text)).transpose()
}

pub(crate) async fn rotate(
    State(host): State<Arc<Host>>,
    allowed: Allowed<RotateKeys>,
    Sent(ask, body): Sent<RotateAsk>,
) -> Result<Response, Failed> {
    let made_before = time(ask.made_before)?;
    let rotate = |keep| host.rotate_keys(&allowed.cx, &allowed.permit, made_before, keep);
    once(&host, &allowed, &body, reply, rotate).await
}

pub(crate) async fn rotate_host(
    State(host): State<Arc<Host>>,
    allowed: Allowed<RotateHostKeys, HostResource>,
    Sent(ask, body): Sent<RotateHostAsk>,
) -> Result<Response, Failed> {
    let made_before = time(ask.made_before)?;
    let rotate = |keep| host.rotate_host_keys(&allowed.cx, &allowed.permit, made_before, ask.add_master, keep);
    once(&host, &allowed, &body, reply, rotate).await
}
