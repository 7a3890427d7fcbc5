//! `/v1/tenants/{tenant}/skills`

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use clawhold_runtime::{Host, Invoked, Problem};
use clawhold_tenancy::SkillName;
use clawhold_tenancy::limits::INPUT_BYTES;
use clawhold_tenancy::permit::{InvokeSkill, ListSkills};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::body::{Answer, Asked, BodyHash, Named, whole};
use crate::gate::Allowed;
use crate::market::{SkillView, skill_view};
use crate::once::{Known, Rate, Reply, known, replayed};
use crate::page::{Page, PageQuery};
use crate::problem::Failed;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CallableSkill")]
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

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Invoked")]
pub(crate) struct Answered<'a> {
    run: RunView,
    #[schemars(with = "Value")]
    output: &'a RawValue,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InvokedRun")]
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
    called(&host, &allowed, &name.skill, input).await.map_err(IntoResponse::into_response)
}

async fn called(
    host: &Arc<Host>,
    allowed: &Allowed<InvokeSkill>,
    skill: &str,
    input: Bytes,
) -> Result<Response, Failed> {
    let hash = if allowed.key.is_some() { BodyHash::of(&input) } else { BodyHash::none() };
    let skill: SkillName = skill.parse().map_err(|_| Problem::NotFound("skill"))?;
    let input = String::from_utf8(input.into()).map_err(|_| Problem::Invalid {
        place: "input".to_owned(),
        detail: "it is not UTF-8; send JSON as UTF-8".to_owned(),
    })?;
    let name = skill.clone();
    // A run that was stopped, or whose skill said no, is as done as another: a repeat gets that answer.
    let answered = move |done: &Result<Invoked, Problem>| match done {
        Ok(invoked) => reply(&name, invoked),
        Err(problem) => Reply::problem(problem),
    };
    match known(host, allowed, &hash, answered).await? {
        Known::Answer(answer) => Ok(replayed(answer)),
        Known::New(keep) => {
            let invoked = host.invoke(&allowed.cx, &allowed.permit, &skill, input, keep).await?;
            Ok(reply(&skill, &invoked).into_response())
        }
    }
}

fn reply(skill: &SkillName, invoked: &Invoked) -> Reply {
    let Invoked { run, package, version, digest, usage, output, calls } = invoked;
    let view = RunView {
        id: run.to_string(),
        skill: skill.to_string(),
        package: package.to_string(),
        version: version.clone(),
        digest: digest.to_string(),
        fuel: usage.fuel,
        memory_bytes: usage.memory_bytes,
        host_calls: usage.host_calls,
        duration_us: usage.duration_us,
    };
    Reply::json(StatusCode::OK, &Answered { run: view, output })
        .with_run(run.to_string())
        .with_rate(Rate::of_calls(calls))
}
