//! `/v1/host`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use clawhold_runtime::Host;
use clawhold_tenancy::permit::{Host as HostResource, ShowHost};
use schemars::JsonSchema;
use serde::Serialize;

use crate::body::Answer;
use crate::gate::Allowed;

/// How a host fares.
#[derive(Serialize, JsonSchema)]
pub(crate) struct HostStatus {
    version: &'static str,
    /// Why it cannot do its work now; null if it can.
    problem: Option<String>,
    /// Runs under way.
    runs: u64,
    /// Runs that can go on at the same time.
    run_slots: u64,
    /// Hosts that share their quotas, this one included; null if quotas are this host's alone.
    limiter_hosts: Option<u64>,
    /// Whether quotas should be shared and cannot be: each host goes on with its part.
    limiter_apart: bool,
}

pub(crate) async fn show(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ShowHost, HostResource>,
) -> Answer<HostStatus> {
    let status = host.status(&allowed.permit).await;
    Ok(Json(HostStatus {
        version: env!("CARGO_PKG_VERSION"),
        problem: status.problem,
        runs: status.runs,
        run_slots: status.run_slots,
        limiter_hosts: status.limiter_hosts,
        limiter_apart: status.limiter_apart,
    }))
}
