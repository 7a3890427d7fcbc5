//! `/v1/market/packages`

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use clawhold_runtime::marketplace::index::Status;
use clawhold_runtime::{
    DeletedPackage, Host, Problem, PublicationPlace, PublishedPackage, SkillSpec, Stage, StatusAsk, Summary, Upload,
    VersionStatus,
};
use clawhold_tenancy::PackageName;
use clawhold_tenancy::Publisher;
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::limits::COMPONENT_BYTES;
use clawhold_tenancy::manifest::Manifest;
use clawhold_tenancy::permit::{DeletePackage, Market, PublishPackage, SetPackageStatus, ShowPackage};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::Instrument;

use crate::body::{Answer, Asked, BodyHash, Named, Sent, whole};
use crate::gate::Allowed;
use crate::lines::{LINES, Lines};
use crate::once::{Known, Reply, known, once, replayed};
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
    /// The newest version that you see, and may install if there is such a one.
    version: String,
    /// What becomes of it.
    status: Status,
    /// Whether its publisher signed it.
    signed: bool,
    description: String,
    /// What it offers.
    skills: Vec<String>,
    /// The hosts that it asks for.
    hosts: Vec<String>,
    /// The secrets that it asks for.
    secrets: Vec<String>,
    /// Whether it runs on WASI.
    wasi: bool,
    /// The version that you have installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    installed: Option<String>,
    /// How many of your skills are of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    installed_skills: Option<u64>,
}

/// Words that a search may have, and bytes of all of them.
const SEARCH_WORDS: usize = 8;
const SEARCH_BYTES: usize = 256;

/// A page of packages.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchQuery {
    /// Words that a package must have in its name, its description or what it says of its skills.
    search: Option<String>,
    /// Items of a page, 1 to 200; 50 when not given.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<u32>,
    /// The `next` of the page before.
    after: Option<String>,
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
    /// What becomes of it.
    status: Status,
    /// Why, if it is not `active`.
    #[serde(skip_serializing_if = "String::is_empty")]
    advisory: String,
    /// Whether its publisher signed it.
    signed: bool,
    manifest: Manifest,
    skills: Vec<SkillView>,
    /// The version that you have installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    installed: Option<String>,
    /// How many of your skills are of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    installed_skills: Option<u64>,
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

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishQuery {
    /// Only say what is wrong with it. Nothing is kept.
    #[serde(default)]
    check: bool,
}

/// A publisher's signature over the body: a DSSE envelope.
pub(crate) const SIGNATURE: HeaderName = HeaderName::from_static("clawhold-signature");

/// What becomes of a version.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewStatus {
    /// `yanked`: no new installs. `quarantined`: no new runs either. `revoked`: and runs that are under way end. `active` takes it back.
    status: Status,
    /// Why: those who have it installed read it. Not needed for `active`.
    #[serde(default)]
    advisory: String,
}

/// What becomes of a version.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "VersionStatus")]
pub(crate) struct StatusView {
    version: String,
    status: Status,
    /// Since when.
    changed: String,
}

/// A package that is to be deleted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deletion {
    /// Why: those who have it installed read it.
    advisory: String,
}

/// A package that was deleted.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedPackage")]
pub(crate) struct DeletedView {
    name: String,
    /// How many versions it had, all of which are revoked.
    versions: usize,
    /// When.
    deleted: String,
}

/// `{publisher}/{name}` and `{version}` of a path.
#[derive(Deserialize)]
pub(crate) struct VersionPath {
    version: String,
}

pub(crate) async fn publish(
    State(host): State<Arc<Host>>,
    allowed: Allowed<PublishPackage, Publisher>,
    Asked(query): Asked<PublishQuery>,
    request: Request,
) -> Result<Response, Response> {
    let signature = match request.headers().get(SIGNATURE).map(|value| value.to_str().map(str::to_owned)) {
        None => None,
        Some(Ok(text)) => Some(text),
        Some(Err(_)) => {
            let detail = "write the envelope that `clawhold skill sign` makes, in one line".to_owned();
            return Err(Failed(Problem::Invalid { place: SIGNATURE.to_string(), detail }).into_response());
        }
    };
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
    let upload = Upload { wasm: wasm.into(), signature, check: query.check };
    if told {
        return Ok(publish_telling(host, allowed, place, upload, keep));
    }
    let stage = watch::Sender::new(Stage::Reading);
    let done = host.publish_telling(&allowed.cx, &allowed.permit, place, upload, stage, keep).await;
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
    upload: Upload,
    keep: Keep<PublishedPackage>,
) -> Response {
    let (lines, body) = Lines::channel();
    let work = async move {
        let (stage, mut seen) = watch::channel(Stage::Reading);
        let began = Instant::now();
        let publish = host.publish_telling(&allowed.cx, &allowed.permit, place, upload, stage, keep);
        tokio::pin!(publish);
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut heard = Ok(());
        let done = loop {
            let (word, seconds) = (seen.borrow_and_update().as_str(), began.elapsed().as_secs());
            // A publisher that went away, or does not read, misses the lines; the publication goes on.
            if heard.is_ok() {
                heard = lines.send(&json!({ "stage": word, "seconds": seconds })).await;
            }
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
    Asked(query): Asked<SearchQuery>,
) -> Answer<Page<PackageView>> {
    let page = PageQuery { limit: query.limit, after: query.after };
    let text = query.search.unwrap_or_default().to_lowercase();
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if text.len() > SEARCH_BYTES || words.len() > SEARCH_WORDS {
        let detail = format!("write at most {SEARCH_WORDS} words, of {SEARCH_BYTES} bytes together");
        return Err(Failed(Problem::Invalid { place: "search".to_owned(), detail }));
    }
    let (packages, next) =
        host.packages(&allowed.cx, &allowed.permit, &words, page.after()?.as_ref(), page.limit()?).await?;
    let view = |package: Summary| PackageView {
        name: package.name.to_string(),
        created: rfc3339(package.created_us),
        version: package.version.to_string(),
        status: package.status,
        signed: package.about.signed,
        description: package.about.description,
        skills: package.about.skills,
        hosts: package.about.hosts,
        secrets: package.about.secrets,
        wasi: package.about.wasi,
        installed: package.installed.as_ref().map(|installed| installed.version.to_string()),
        installed_skills: package.installed.map(|installed| installed.skills),
    };
    Ok(Json(Page::with(packages.into_iter().map(view).collect(), next.map(|name| name.to_string()))))
}

pub(crate) async fn show(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ShowPackage, Market>,
    Named(path): Named<PackagePath>,
    Asked(query): Asked<VersionQuery>,
) -> Answer<VersionView> {
    let name = path.parse()?;
    let (version, skills) = host.package(&allowed.cx, &allowed.permit, &name, query.version.as_ref()).await?;
    let installed = host.installed(&allowed.cx, &allowed.permit, &name).await?;
    let published = version.published;
    Ok(Json(VersionView {
        name: published.manifest.package.name.to_string(),
        version: published.manifest.package.version.to_string(),
        digest: version.digest.to_string(),
        size: version.size,
        published: rfc3339(published.published_us),
        by: published.published_by,
        status: version.status.parse().map_err(|_| Problem::Internal)?,
        advisory: version.advisory,
        signed: published.signature.is_some(),
        skills: skills.iter().map(skill_view).collect(),
        installed: installed.as_ref().map(|installed| installed.version.to_string()),
        installed_skills: installed.map(|installed| installed.skills),
        manifest: published.manifest,
    }))
}

pub(crate) async fn versions(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ShowPackage, Market>,
    Named(path): Named<PackagePath>,
) -> Answer<Page<StatusView>> {
    let all = host.package_versions(&allowed.cx, &allowed.permit, &path.parse()?).await?;
    Ok(Json(Page::with(all.iter().map(status_view).collect(), None)))
}

pub(crate) async fn set_status(
    State(host): State<Arc<Host>>,
    allowed: Allowed<SetPackageStatus, PackageName>,
    Named(path): Named<VersionPath>,
    Sent(new, body): Sent<NewStatus>,
) -> Result<Response, Failed> {
    let version = path.version.parse().map_err(|_| Problem::NotFound("package version"))?;
    let ask = StatusAsk { version, status: new.status, advisory: new.advisory };
    let set = |keep| host.set_status(&allowed.cx, &allowed.permit, &ask, keep);
    once(&host, &allowed, &body, |done| Reply::json(StatusCode::OK, &status_view(done)), set).await
}

pub(crate) async fn delete(
    State(host): State<Arc<Host>>,
    allowed: Allowed<DeletePackage, PackageName>,
    Sent(ask, body): Sent<Deletion>,
) -> Result<Response, Failed> {
    let delete = |keep| host.delete_package(&allowed.cx, &allowed.permit, &ask.advisory, keep);
    let reply = |done: &DeletedPackage| {
        let (name, deleted) = (done.name.to_string(), rfc3339(done.deleted_us));
        Reply::json(StatusCode::OK, &DeletedView { name, versions: done.versions, deleted })
    };
    once(&host, &allowed, &body, reply, delete).await
}

fn status_view(of: &VersionStatus) -> StatusView {
    StatusView { version: of.version.to_string(), status: of.status, changed: rfc3339(of.changed_us) }
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
