//! `/v1/tenants/{tenant}/installs`

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use clawhold_runtime::marketplace::Narrowing;
use clawhold_runtime::marketplace::upgrade::Channel;
use clawhold_runtime::{Explained, Host, Install, InstallAsk, PlanView as Planned, Problem};
use clawhold_tenancy::permit::{ListInstalls, PlanInstall, PutInstall, RemoveInstall, RollBackInstall};
use clawhold_tenancy::policy::{Method, Policy};
use clawhold_tenancy::run::Denied;
use clawhold_tenancy::{Digest, SecretName};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::body::{Answer, Asked, BodyHash, Named, Sent};
use crate::gate::Allowed;
use crate::market::{PackagePath, SkillView, skill_view};
use crate::once::{Reply, if_match, once};
use crate::page::{Page, PageQuery, rfc3339};
use crate::problem::Failed;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanAsk {
    version: Option<semver::Version>,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(default)]
    reveal: BTreeSet<SecretName>,
    /// What it gets less of than it asks for.
    #[serde(default)]
    narrowing: Narrowing,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewInstall {
    version: semver::Version,
    #[serde(default)]
    settings: Map<String, Value>,
    #[serde(default)]
    reveal: BTreeSet<SecretName>,
    consent: Digest,
    /// Which new versions are taken without asking, as long as they ask for no more than was agreed to: `pinned` for none, `patch`, `minor`.
    #[serde(default)]
    channel: Channel,
    /// What it gets less of than it asks for, as the plan had it.
    #[serde(default)]
    narrowing: Narrowing,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "InstallPlan")]
pub(crate) struct PlanView {
    package: String,
    version: String,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    installed: Option<String>,
    secrets: Vec<SecretView>,
    policy: Policy,
    adds: Vec<String>,
    /// What is allowed now and would not be any more.
    removes: Vec<String>,
    /// Secrets that are not stored, or that the package cannot use as they are.
    lacks: Vec<LackView>,
    /// What the operator's configuration refuses in any case.
    forbidden: Vec<String>,
    skills: Vec<SkillView>,
    consent: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LackingSecret")]
struct LackView {
    secret: SecretName,
    problem: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PlannedSecret")]
struct SecretView {
    name: String,
    purpose: String,
    asks_to_read: bool,
    /// What the host makes of it: `value`, `oauth2`, `aws-sigv4` or `http-signature`.
    kind: &'static str,
    /// The fields that it must have; none where any text will do.
    fields: &'static [&'static str],
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Install")]
pub(crate) struct InstallView {
    package: String,
    version: String,
    digest: String,
    settings: Value,
    consent: String,
    reveal: BTreeSet<SecretName>,
    channel: String,
    /// A newer version that the install does not follow to, because it asks for more than was agreed to or cannot be put as it is; the audit log
    /// says why. Plan it, and put it if you agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<String>,
    /// What it gets less of than it asks for.
    narrowing: Narrowing,
    policy: Policy,
    revision: i64,
    created: String,
    updated: String,
    by: String,
}

pub(crate) async fn plan(
    State(host): State<Arc<Host>>,
    allowed: Allowed<PlanInstall>,
    Named(path): Named<PackagePath>,
    Sent(ask, _): Sent<PlanAsk>,
) -> Answer<PlanView> {
    let PlanAsk { version, settings, reveal, narrowing } = ask;
    let (package, settings) = (path.parse()?, Value::Object(settings));
    let ask = InstallAsk { package, version, settings, reveal, channel: Channel::default(), narrowing };
    Ok(Json(plan_view(host.plan_install(&allowed.permit, &ask).await?)))
}

pub(crate) async fn put(
    State(host): State<Arc<Host>>,
    allowed: Allowed<PutInstall>,
    Named(path): Named<PackagePath>,
    headers: HeaderMap,
    Sent(new, body): Sent<NewInstall>,
) -> Result<Response, Failed> {
    let expected = if_match(&headers)?;
    let NewInstall { version, settings, reveal, consent, channel, narrowing } = new;
    let (package, settings) = (path.parse()?, Value::Object(settings));
    let ask = InstallAsk { package, version: Some(version), settings, reveal, channel, narrowing };
    let put = |keep| host.put_install(&allowed.cx, &allowed.permit, &ask, &consent, expected, keep);
    once(&host, &allowed, &body, shown, put).await
}

pub(crate) async fn show(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ListInstalls>,
    Named(path): Named<PackagePath>,
) -> Result<Response, Failed> {
    let package = path.parse().map_err(|_| Problem::NotFound("install"))?;
    Ok(shown(&host.install(&allowed.permit, &package).await?).into_response())
}

fn shown(install: &Install) -> Reply {
    Reply::json(StatusCode::OK, &view(install)).with_revision(install.revision)
}

pub(crate) async fn list(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ListInstalls>,
    Asked(page): Asked<PageQuery>,
) -> Answer<Page<InstallView>> {
    let limit = page.limit()?;
    let installs = host.installs(&allowed.permit, page.after()?.as_ref(), limit).await?;
    Ok(Json(Page::of(&installs, limit, |install| install.put.package.to_string(), view)))
}

pub(crate) async fn remove(
    State(host): State<Arc<Host>>,
    allowed: Allowed<RemoveInstall>,
    Named(path): Named<PackagePath>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let expected = if_match(&headers)?;
    let package = path.parse().map_err(|_| Problem::NotFound("install"))?;
    let remove = |keep| host.remove_install(&allowed.cx, &allowed.permit, &package, expected, keep);
    once(&host, &allowed, &BodyHash::none(), |()| Reply::empty(), remove).await
}

/// Nothing is to be said of it: there is one version to go back to.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollBackAsk {}

pub(crate) async fn roll_back(
    State(host): State<Arc<Host>>,
    allowed: Allowed<RollBackInstall>,
    Named(path): Named<PackagePath>,
    headers: HeaderMap,
    Sent(RollBackAsk {}, body): Sent<RollBackAsk>,
) -> Result<Response, Failed> {
    let expected = if_match(&headers)?;
    let package = path.parse().map_err(|_| Problem::NotFound("install"))?;
    let back = |keep| host.roll_back_install(&allowed.cx, &allowed.permit, &package, expected, keep);
    once(&host, &allowed, &body, shown, back).await
}

/// A request that nobody sends.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExplainQuery {
    /// Where to: an absolute URL.
    url: String,
    /// The method. `GET` if not given.
    method: Option<Method>,
    /// A secret that would be put on it.
    secret: Option<SecretName>,
}

/// What would become of it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Explanation")]
pub(crate) struct ExplanationView {
    /// Whether everybody would let it go.
    allowed: bool,
    /// Who says no, by which rule, and what would allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    denied: Option<Denied>,
    /// Why it would not get there, though everybody lets it go.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreachable: Option<String>,
}

pub(crate) async fn explain(
    State(host): State<Arc<Host>>,
    allowed: Allowed<PlanInstall>,
    Named(path): Named<PackagePath>,
    Asked(query): Asked<ExplainQuery>,
) -> Answer<ExplanationView> {
    let package = path.parse().map_err(|_| Problem::NotFound("install"))?;
    let request = (query.method.unwrap_or(Method::Get), query.url.as_str());
    let secrets: Vec<SecretName> = query.secret.into_iter().collect();
    let (denied, unreachable) = match host.explain(&allowed.permit, &package, request, &secrets).await? {
        Explained::Allowed => (None, None),
        Explained::Denied(denial) => (Some(Denied::from(denial)), None),
        Explained::Unreachable(why) => (None, Some(why)),
    };
    Ok(Json(ExplanationView { allowed: denied.is_none(), denied, unreachable }))
}

fn plan_view(planned: Planned) -> PlanView {
    let package = &planned.version.published.manifest.package;
    let secret = |secret: clawhold_runtime::SecretPlan| SecretView {
        name: secret.name.to_string(),
        purpose: secret.purpose,
        asks_to_read: secret.reveal,
        kind: secret.kind.as_str(),
        fields: secret.kind.fields().0,
    };
    PlanView {
        package: package.name.to_string(),
        version: package.version.to_string(),
        digest: planned.version.digest.to_string(),
        installed: planned.installed.map(|version| version.to_string()),
        secrets: planned.plan.secrets.into_iter().map(secret).collect(),
        policy: planned.plan.policy,
        adds: planned.plan.adds,
        removes: planned.plan.removes,
        lacks: planned.lacks.into_iter().map(|(secret, problem)| LackView { secret, problem }).collect(),
        forbidden: planned.forbidden,
        skills: planned.skills.iter().map(skill_view).collect(),
        consent: planned.plan.consent.to_string(),
    }
}

fn view(install: &Install) -> InstallView {
    let put = &install.put;
    InstallView {
        package: put.package.to_string(),
        version: put.version.to_string(),
        digest: put.digest.to_string(),
        settings: put.settings.clone(),
        consent: put.consent.to_string(),
        reveal: put.reveal.clone(),
        channel: put.channel.clone(),
        held: install.held.as_ref().map(ToString::to_string),
        // What the host wrote reads back; what somebody else did is not run.
        narrowing: serde_json::from_str(&put.narrowing).unwrap_or_default(),
        policy: put.policy.clone(),
        revision: install.revision,
        created: rfc3339(install.created_us),
        updated: rfc3339(put.updated_us),
        by: put.updated_by.clone(),
    }
}
