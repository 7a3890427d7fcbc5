//! `/v1/market/publishers`, and a tenant's own

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use clawhold_runtime::marketplace::key::{KeyId, PublicKey};
use clawhold_runtime::marketplace::publisher::{AddedBy, Earlier, KeyRecord};
use clawhold_runtime::{Host, KeyAsk, Problem, PublisherView as View};
use clawhold_tenancy::Publisher;
use clawhold_tenancy::permit::{
    AddOwnPublisher, AddPublisher, AddPublisherKey, Host as HostResource, ListOwnPublishers, ListPublishers,
    RevokePublisherKey, ShowPublisher,
};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::body::{Answer, Asked, Named, Sent};
use crate::gate::Allowed;
use crate::once::{Reply, once};
use crate::page::{Page, PageQuery, parse_rfc3339, rfc3339};
use crate::problem::Failed;

/// A publisher to be registered.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPublisher {
    /// What the names of its packages begin with.
    name: Publisher,
    /// Its first key, Ed25519: 64 hexadecimal digits, as `clawhold skill keygen` prints them.
    #[schemars(with = "Option<String>")]
    key: Option<PublicKey>,
}

/// Another key: given by the operator, or by a rotation that one of the publisher's keys has signed.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// The key. Not with `rotation`.
    #[schemars(with = "Option<String>")]
    key: Option<PublicKey>,
    /// From when on it signs. Now when not given.
    #[schemars(extend("format" = "date-time"))]
    not_before: Option<String>,
    /// From when on it signs no longer.
    #[schemars(extend("format" = "date-time"))]
    not_after: Option<String>,
    /// A DSSE envelope, as `clawhold publisher rotate` makes it.
    rotation: Option<String>,
}

/// How a key ends.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRevocation {
    /// From when on it was not safe. Now when not given.
    #[schemars(extend("format" = "date-time"))]
    at: Option<String>,
    /// Whether what it signed before is good no longer.
    #[serde(default)]
    earlier_falls: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Publisher")]
pub(crate) struct PublisherView {
    name: String,
    /// The tenant whose own it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    keys: Vec<KeyView>,
    created: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PublisherKey")]
struct KeyView {
    /// The SHA-256 of the key: what signatures name.
    id: String,
    key: String,
    not_before: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_after: Option<String>,
    /// From when on it is not trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
    /// Whether what it signed before is good no longer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    earlier_falls: bool,
    /// Who vouches for it: a person with the right to, or another key by its id.
    by: String,
}

/// `{publisher}` and `{key}` of a path.
#[derive(Deserialize)]
pub(crate) struct KeyPath {
    key: String,
}

fn time(place: &str, text: Option<String>) -> Result<Option<i64>, Problem> {
    text.map(|text| parse_rfc3339(place, &text)).transpose()
}

pub(crate) async fn add(
    State(host): State<Arc<Host>>,
    allowed: Allowed<AddPublisher, HostResource>,
    Sent(new, body): Sent<NewPublisher>,
) -> Result<Response, Failed> {
    let add = |keep| host.add_publisher(&allowed.cx, &allowed.permit, &new.name, new.key, keep);
    once(&host, &allowed, &body, made, add).await
}

pub(crate) async fn add_own(
    State(host): State<Arc<Host>>,
    allowed: Allowed<AddOwnPublisher>,
    Sent(new, body): Sent<NewPublisher>,
) -> Result<Response, Failed> {
    let add = |keep| host.add_own_publisher(&allowed.cx, &allowed.permit, &new.name, new.key, keep);
    once(&host, &allowed, &body, made, add).await
}

pub(crate) async fn list(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ListPublishers, HostResource>,
    Asked(page): Asked<PageQuery>,
) -> Answer<Page<PublisherView>> {
    let (all, next) = host.publishers(&allowed.permit, page.after()?.as_ref(), page.limit()?).await?;
    Ok(Json(Page::with(all.iter().map(view).collect(), next.map(|name| name.to_string()))))
}

pub(crate) async fn list_own(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ListOwnPublishers>,
) -> Answer<Page<PublisherView>> {
    let all = host.own_publishers(&allowed.permit).await?;
    Ok(Json(Page::with(all.iter().map(view).collect(), None)))
}

pub(crate) async fn show(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ShowPublisher, Publisher>,
) -> Answer<PublisherView> {
    Ok(Json(view(&host.publisher(&allowed.permit).await?)))
}

pub(crate) async fn add_key(
    State(host): State<Arc<Host>>,
    allowed: Allowed<AddPublisherKey, Publisher>,
    Sent(new, body): Sent<NewKey>,
) -> Result<Response, Failed> {
    let (not_before_us, not_after_us) = (time("not_before", new.not_before)?, time("not_after", new.not_after)?);
    let ask = match (new.key, new.rotation) {
        (Some(key), None) => KeyAsk::Plain { key, not_before_us, not_after_us },
        (None, Some(envelope)) if not_before_us.is_none() && not_after_us.is_none() => KeyAsk::Rotation(envelope),
        _ => {
            let detail = "write either `key` with its times, or `rotation`, which has them in it".to_owned();
            return Err(Failed(Problem::Invalid { place: "key".to_owned(), detail }));
        }
    };
    let add = |keep| host.add_publisher_key(&allowed.cx, &allowed.permit, ask, keep);
    once(&host, &allowed, &body, made, add).await
}

pub(crate) async fn revoke_key(
    State(host): State<Arc<Host>>,
    allowed: Allowed<RevokePublisherKey, Publisher>,
    Named(path): Named<KeyPath>,
    Sent(ask, body): Sent<KeyRevocation>,
) -> Result<Response, Failed> {
    let key: KeyId = path.key.parse().map_err(|_| Problem::NotFound("key"))?;
    let at_us = time("at", ask.at)?;
    let earlier = if ask.earlier_falls { Earlier::Falls } else { Earlier::Stays };
    let revoke = |keep| host.revoke_publisher_key(&allowed.cx, &allowed.permit, &key, at_us, earlier, keep);
    once(&host, &allowed, &body, |done| Reply::json(StatusCode::OK, &view(done)), revoke).await
}

fn made(done: &View) -> Reply {
    Reply::json(StatusCode::CREATED, &view(done))
}

fn view(of: &View) -> PublisherView {
    let key = |record: &KeyRecord| KeyView {
        id: record.key.id().to_string(),
        key: record.key.to_string(),
        not_before: rfc3339(record.not_before_us),
        not_after: record.not_after_us.map(rfc3339),
        revoked: record.revoked.map(|revoked| rfc3339(revoked.at_us)),
        earlier_falls: record.revoked.is_some_and(|revoked| revoked.earlier == Earlier::Falls),
        by: match &record.added_by {
            AddedBy::Actor(actor) => actor.clone(),
            AddedBy::Key(id) => format!("key:{id}"),
        },
    };
    PublisherView {
        name: of.name.to_string(),
        owner: of.owner.as_ref().map(ToString::to_string),
        keys: of.keys.iter().map(key).collect(),
        created: rfc3339(of.created_us),
    }
}
