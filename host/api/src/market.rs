//! `/v1/market/packages`

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use clawhold_runtime::{Host, Package, Problem, PublicationPlace, PublishedPackage, SkillSpec, Stage};
use clawhold_tenancy::PackageName;
use clawhold_tenancy::Publisher;
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::limits::COMPONENT_BYTES;
use clawhold_tenancy::manifest::Manifest;
use clawhold_tenancy::permit::{Market, PublishPackage, ShowPackage};
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::Instrument;

use crate::body::{Answer, Asked, BodyHash, Named, whole};
use crate::gate::Allowed;
use crate::lines::{LINES, Lines};
use crate::once::{Known, Reply, known, replayed};
use crate::page::{Page, PageQuery, rfc3339};
use crate::problem::Failed;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PublishedPackage")]
pub(crate) struct Published {
    name: String,
    version: String,
    digest: String,
    skills: Vec<SkillView>,
    new: bool,
}

/// A skill with its schemas as JSON, which is what agents want.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Skill")]
pub(crate) struct SkillView {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) input_schema: Value,
    pub(crate) output_schema: Value,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Package")]
pub(crate) struct PackageView {
    name: String,
    created: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PackageVersion")]
pub(crate) struct VersionView {
    name: String,
    version: String,
    digest: String,
    size: u64,
    published: String,
    by: String,
    manifest: Manifest,
    skills: Vec<SkillView>,
}

/// `{publisher}/{name}` of a path.
#[derive(Deserialize)]
pub(crate) struct PackagePath {
    publisher: String,
    name: String,
}

impl PackagePath {
    pub(crate) fn parse(&self) -> Result<PackageName, Problem> {
        let text = format!("{}/{}", self.publisher, self.name);
        text.parse().map_err(|_| Problem::NotFound("package"))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionQuery {
    version: Option<semver::Version>,
}

pub(crate) async fn publish(
    State(host): State<Arc<Host>>,
    allowed: Allowed<PublishPackage, Publisher>,
    request: Request,
) -> Result<Response, Response> {
    let told = request.headers().get(ACCEPT).is_some_and(|accept| accept == LINES);
    let place = host.place_to_publish(&allowed.permit).map_err(|problem| Failed(problem).into_response())?;
    let wasm = whole(request, COMPONENT_BYTES).await?;
    let hash = if allowed.key.is_some() { BodyHash::of(&wasm) } else { BodyHash::none() };
    let known = known(&host, &allowed, &hash, reply).await.map_err(|problem| Failed(problem).into_response())?;
    let keep = match known {
        Known::Answer(answer) if told => {
            let line = json!({ "published": answer.body() }).to_string() + "\n";
            return Ok(([(CONTENT_TYPE, LINES)], line).into_response());
        }
        Known::Answer(answer) => return Ok(replayed(answer)),
        Known::New(keep) => keep,
    };
    if told {
        return Ok(publish_telling(host, allowed, place, wasm.into(), keep));
    }
    let stage = watch::Sender::new(Stage::Reading);
    let done = host.publish_telling(&allowed.cx, &allowed.permit, place, wasm.into(), stage, keep).await;
    Ok(reply(&done.map_err(|problem| Failed(problem).into_response())?).into_response())
}

fn reply(done: &PublishedPackage) -> Reply {
    Reply::json(if done.new { StatusCode::CREATED } else { StatusCode::OK }, &published(done))
}

/// The answer as lines of JSON: how far it is, at each step and each second, and at last `published` or `problem`.
fn publish_telling(
    host: Arc<Host>,
    allowed: Allowed<PublishPackage, Publisher>,
    place: PublicationPlace,
    wasm: Vec<u8>,
    keep: Keep<PublishedPackage>,
) -> Response {
    let (lines, body) = Lines::channel();
    let work = async move {
        let (stage, mut seen) = watch::channel(Stage::Reading);
        let began = Instant::now();
        let publish = host.publish_telling(&allowed.cx, &allowed.permit, place, wasm, stage, keep);
        tokio::pin!(publish);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let done = loop {
            let (word, seconds) = (seen.borrow_and_update().as_str(), began.elapsed().as_secs());
            // A publisher that went away misses the lines; the publication goes on.
            let _heard = lines.send(&json!({ "stage": word, "seconds": seconds })).await;
            tokio::select! {
                biased;
                done = &mut publish => break done,
                Ok(()) = seen.changed() => {}
                _ = second.tick() => {}
            }
        };
        let last = match done {
            Ok(done) => json!({ "published": published(&done) }),
            Err(problem) => json!({ "problem": Failed(problem).document() }),
        };
        let _heard = lines.send(&last).await;
    };
    tokio::spawn(work.in_current_span());
    ([(CONTENT_TYPE, LINES)], Body::new(body)).into_response()
}

fn published(done: &PublishedPackage) -> Published {
    Published {
        name: done.name.to_string(),
        version: done.version.to_string(),
        digest: done.digest.to_string(),
        skills: done.skills.iter().map(skill_view).collect(),
        new: done.new,
    }
}

pub(crate) async fn list(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ShowPackage, Market>,
    Asked(page): Asked<PageQuery>,
) -> Answer<Page<PackageView>> {
    let limit = page.limit()?;
    let packages = host.packages(&allowed.permit, page.after()?.as_ref(), limit).await?;
    let view = |package: &Package| PackageView { name: package.name.to_string(), created: rfc3339(package.created_us) };
    Ok(Json(Page::of(&packages, limit, |package| package.name.to_string(), view)))
}

pub(crate) async fn show(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ShowPackage, Market>,
    Named(path): Named<PackagePath>,
    Asked(query): Asked<VersionQuery>,
) -> Answer<VersionView> {
    let (version, skills) = host.package(&allowed.permit, &path.parse()?, query.version.as_ref()).await?;
    let published = version.published;
    Ok(Json(VersionView {
        name: published.manifest.package.name.to_string(),
        version: published.manifest.package.version.to_string(),
        digest: version.digest.to_string(),
        size: version.size,
        published: rfc3339(published.published_us),
        by: published.published_by,
        skills: skills.iter().map(skill_view).collect(),
        manifest: published.manifest,
    }))
}

pub(crate) fn skill_view(spec: &SkillSpec) -> SkillView {
    // Both were parsed when the package was published.
    let json = |text: &str| serde_json::from_str(text).unwrap_or_default();
    SkillView {
        name: spec.name.to_string(),
        description: spec.description.clone(),
        input_schema: json(&spec.input_schema),
        output_schema: json(&spec.output_schema),
    }
}
