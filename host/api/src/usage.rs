//! `/v1/tenants/{tenant}/usage`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use clawhold_runtime::{DimensionUse, Host, SkillUsage, UsageView};
use clawhold_tenancy::permit::ShowUsage;
use schemars::JsonSchema;
use serde::Serialize;

use crate::body::Answer;
use crate::gate::Allowed;

/// What a tenant uses, and used within the last day.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Usage {
    tenant: String,
    dimensions: Vec<InUse>,
    /// The most called first.
    skills: Vec<SkillUse>,
}

/// How much of a dimension is used.
#[derive(Serialize, JsonSchema)]
pub(crate) struct InUse {
    dimension: &'static str,
    unit: &'static str,
    limit: u64,
    /// Now; of a rate, what has not run off yet, reservations of runs under way included. Null where nothing is counted.
    used: Option<u64>,
    /// What of it runs under way have reserved and may give back.
    reserved: u64,
    /// Seconds until nothing of a rate is used if nothing more is.
    reset: u64,
    peak_hour: u64,
    peak_day: u64,
    /// How often somebody was refused.
    refused_hour: u64,
    refused_day: u64,
}

/// How a skill was used within the last day.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SkillUse {
    skill: String,
    calls: u64,
    /// Calls that gave an answer.
    succeeded: u64,
    fuel: u64,
    /// Half of the calls took no longer, to within an eighth.
    p50_us: Option<u64>,
    /// All but one in a hundred.
    p99_us: Option<u64>,
}

fn view(usage: &UsageView) -> Usage {
    let in_use = |of: &DimensionUse| InUse {
        dimension: of.row.key,
        unit: of.row.unit,
        limit: of.limit,
        used: of.used,
        reserved: of.reserved,
        reset: of.reset_s,
        peak_hour: of.peak_hour,
        peak_day: of.peak_day,
        refused_hour: of.refused_hour,
        refused_day: of.refused_day,
    };
    let skill = |of: &SkillUsage| SkillUse {
        skill: of.skill.clone(),
        calls: of.calls,
        succeeded: of.succeeded,
        fuel: of.fuel,
        p50_us: of.p50_us,
        p99_us: of.p99_us,
    };
    Usage {
        tenant: usage.tenant.to_string(),
        dimensions: usage.dimensions.iter().map(in_use).collect(),
        skills: usage.skills.iter().map(skill).collect(),
    }
}

pub(crate) async fn show(State(host): State<Arc<Host>>, allowed: Allowed<ShowUsage>) -> Answer<Usage> {
    Ok(Json(view(&host.show_usage(&allowed.permit).await?)))
}
