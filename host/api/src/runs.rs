//! `/v1/tenants/{tenant}/runs`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use clawhold_runtime::{Host, Problem};
use clawhold_tenancy::permit::ShowRuns;
use clawhold_tenancy::run::{Egress, Reason, Record};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::{Answer, Asked, Named};
use crate::gate::Allowed;
use crate::page::{Page, PageQuery, rfc3339};

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Run")]
pub(crate) struct RunView {
    id: String,
    skill: String,
    package: String,
    version: String,
    digest: String,
    caller: String,
    started: String,
    reason: Reason,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    remedy: &'static str,
    fuel: u64,
    memory_bytes: u64,
    host_calls: u32,
    duration_us: u64,
    policy_version: i64,
    secrets: Vec<SecretUse>,
    egress: Vec<Egress>,
    /// Only of a run that is asked for by its id: a page of them would be hundreds of megabytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<Vec<String>>,
    log_dropped: u64,
    /// Values of secrets that were found in what the run gave away, and where. They were taken out.
    leaks: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
struct SecretUse {
    name: String,
    version: i64,
}

#[derive(Deserialize)]
pub(crate) struct Id {
    run: String,
}

pub(crate) async fn list(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ShowRuns>,
    Asked(page): Asked<PageQuery>,
) -> Answer<Page<RunView>> {
    let limit = page.limit()?;
    let runs = host.runs(&allowed.permit, page.after()?.as_ref(), limit).await?;
    Ok(Json(Page::of(&runs, limit, |run| run.id.to_string(), view)))
}

pub(crate) async fn show(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ShowRuns>,
    Named(Id { run }): Named<Id>,
) -> Answer<RunView> {
    let id = run.parse().map_err(|_| Problem::NotFound("run"))?;
    let run = host.run(&allowed.permit, &id).await?;
    Ok(Json(RunView { log: Some(run.log.clone()), ..view(&run) }))
}

fn view(run: &Record) -> RunView {
    RunView {
        id: run.id.to_string(),
        skill: run.skill.to_string(),
        package: run.package.to_string(),
        version: run.version.clone(),
        digest: run.digest.to_string(),
        caller: run.caller.clone(),
        started: rfc3339(run.started_us),
        reason: run.reason,
        message: run.message.clone(),
        remedy: run.reason.remedy(),
        fuel: run.usage.fuel,
        memory_bytes: run.usage.memory_bytes,
        host_calls: run.usage.host_calls,
        duration_us: run.usage.duration_us,
        policy_version: run.policy_version,
        secrets: run
            .secrets
            .iter()
            .map(|(name, version)| SecretUse { name: name.clone(), version: *version })
            .collect(),
        egress: run.egress.clone(),
        log: None,
        log_dropped: run.log_dropped,
        leaks: run.leaks.clone(),
    }
}
