//! `/v1/tenants/{tenant}/skills`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use clawhold_runtime::{Host, Invoked, Problem};
use clawhold_tenancy::SkillName;
use clawhold_tenancy::limits::INPUT_BYTES;
use clawhold_tenancy::permit::{InvokeSkill, ListSkills};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::body::{Answer, Asked, Named, whole};
use crate::gate::Allowed;
use crate::market::{SkillView, skill_view};
use crate::page::{Page, PageQuery};
use crate::problem::Failed;

#[derive(Serialize)]
pub(crate) struct Callable {
    #[serde(flatten)]
    skill: SkillView,
    package: String,
    version: String,
}

#[derive(Deserialize)]
pub(crate) struct Name {
    skill: String,
}

#[derive(Serialize)]
pub(crate) struct Answered {
    run: RunView,
    output: Box<RawValue>,
}

#[derive(Serialize)]
struct RunView {
    id: String,
    skill: String,
    package: String,
    version: String,
    digest: String,
    fuel: u64,
    memory_bytes: u64,
    host_calls: u32,
    duration_us: u64,
}

pub(crate) async fn list(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ListSkills>,
    Asked(page): Asked<PageQuery>,
) -> Answer<Page<Callable>> {
    let limit = page.limit()?;
    let (skills, next) = host.skills(&allowed.cx, &allowed.permit, page.after()?.as_ref(), limit).await?;
    let view = skills.iter().map(|(installed, spec)| Callable {
        skill: skill_view(spec),
        package: installed.package.to_string(),
        version: installed.version.to_string(),
    });
    Ok(Json(Page::with(view.collect(), next.map(|skill| skill.to_string()))))
}

pub(crate) async fn invoke(
    State(host): State<Arc<Host>>,
    allowed: Allowed<InvokeSkill>,
    Named(name): Named<Name>,
    request: Request,
) -> Result<Response, Response> {
    let input = whole(request, INPUT_BYTES).await?;
    called(&host, &allowed, &name.skill, input.into()).await.map_err(IntoResponse::into_response)
}

async fn called(
    host: &Arc<Host>,
    allowed: &Allowed<InvokeSkill>,
    skill: &str,
    input: Vec<u8>,
) -> Result<Response, Failed> {
    let skill: SkillName = skill.parse().map_err(|_| Problem::NotFound("skill"))?;
    let input = String::from_utf8(input).map_err(|_| Problem::Invalid {
        place: "input".to_owned(),
        detail: "it is not UTF-8; send JSON as UTF-8".to_owned(),
    })?;
    let Invoked { run, package, version, digest, usage, output } =
        host.invoke(&allowed.cx, &allowed.permit, &skill, input).await?;
    let id = run.to_string();
    let view = RunView {
        id: id.clone(),
        skill: skill.to_string(),
        package: package.to_string(),
        version,
        digest: digest.to_string(),
        fuel: usage.fuel,
        memory_bytes: usage.memory_bytes,
        host_calls: usage.host_calls,
        duration_us: usage.duration_us,
    };
    Ok(([("clawhold-run", id)], Json(Answered { run: view, output })).into_response())
}
