//! `/v1/tokens` and `/v1/tenants/{tenant}/tokens`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use clawhold_runtime::{Host, MadeToken, Problem, Token, TokenAsk};
use clawhold_tenancy::permit::{
    CreateHostToken, CreateToken, Host as HostResource, ListHostTokens, ListTokens, RevokeHostToken, RevokeToken,
};
use clawhold_tenancy::{Publisher, Role, SkillName, TokenId};
use http::StatusCode;
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::body::{Answer, Asked, BodyHash, Named, Sent};
use crate::gate::Allowed;
use crate::once::{Reply, once};
use crate::page::{Page, PageQuery, parse_rfc3339, rfc3339};
use crate::problem::Failed;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewToken {
    /// What people call it: 1 to 64 printable bytes without #.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^#]+$"))]
    name: String,
    #[schemars(extend("enum" = ["admin", "auditor", "caller"]))]
    role: String,
    /// The skills that it may call; all when not given.
    skills: Option<Vec<SkillName>>,
    /// RFC 3339; never when not given.
    #[schemars(extend("format" = "date-time"))]
    expires: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewHostToken {
    /// What people call it: 1 to 64 printable bytes without #.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^#]+$"))]
    name: String,
    #[schemars(extend("enum" = ["operator", "publisher"]))]
    role: String,
    /// Whose packages it publishes, if it is a publisher's.
    publisher: Option<Publisher>,
    /// RFC 3339; never when not given.
    #[schemars(extend("format" = "date-time"))]
    expires: Option<String>,
}

/// A token of a publisher that belongs to a tenant.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPublisherToken {
    /// What people call it: 1 to 64 printable bytes without #.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[^#]+$"))]
    name: String,
    /// RFC 3339; never when not given.
    #[schemars(extend("format" = "date-time"))]
    expires: Option<String>,
}

/// The only answer that ever holds a token.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MadeToken")]
pub(crate) struct Made {
    id: String,
    token: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Token")]
pub(crate) struct TokenView {
    id: String,
    name: String,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    skills: Option<Vec<String>>,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
    /// To the hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Id {
    token: TokenId,
}

/// `{publisher}` of a path below a tenant's.
#[derive(Deserialize)]
pub(crate) struct Own {
    publisher: Publisher,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostTokensQuery {
    publisher: Option<Publisher>,
    limit: Option<u32>,
    after: Option<String>,
}

pub(crate) async fn create(
    State(host): State<Arc<Host>>,
    allowed: Allowed<CreateToken>,
    Sent(new, body): Sent<NewToken>,
) -> Result<Response, Failed> {
    let ask = ask(new.name, &new.role, new.skills, new.expires)?;
    once(&host, &allowed, &body, made, |keep| host.create_token(&allowed.cx, &allowed.permit, ask, keep)).await
}

pub(crate) async fn list(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ListTokens>,
    Asked(page): Asked<PageQuery>,
) -> Answer<Page<TokenView>> {
    let limit = page.limit()?;
    let tokens = host.tokens(&allowed.permit, page.after()?.as_ref(), limit).await?;
    Ok(Json(Page::of(&tokens, limit, |token| token.made.id.to_string(), view)))
}

pub(crate) async fn revoke(
    State(host): State<Arc<Host>>,
    allowed: Allowed<RevokeToken>,
    Named(Id { token }): Named<Id>,
) -> Result<Response, Failed> {
    let revoke = |keep| host.revoke_token(&allowed.cx, &allowed.permit, &token, keep);
    once(&host, &allowed, &BodyHash::none(), |()| Reply::empty(), revoke).await
}

pub(crate) async fn create_for_publisher(
    State(host): State<Arc<Host>>,
    allowed: Allowed<CreateToken>,
    Named(Own { publisher }): Named<Own>,
    Sent(new, body): Sent<NewPublisherToken>,
) -> Result<Response, Failed> {
    let ask = ask(new.name, Role::Publisher.as_str(), None, new.expires)?;
    let create = |keep| host.create_publisher_token(&allowed.cx, &allowed.permit, &publisher, ask, keep);
    once(&host, &allowed, &body, made, create).await
}

pub(crate) async fn list_of_publisher(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ListTokens>,
    Named(Own { publisher }): Named<Own>,
    Asked(page): Asked<PageQuery>,
) -> Answer<Page<TokenView>> {
    let limit = page.limit()?;
    let tokens = host.publisher_tokens(&allowed.permit, &publisher, page.after()?.as_ref(), limit).await?;
    Ok(Json(Page::of(&tokens, limit, |token| token.made.id.to_string(), view)))
}

pub(crate) async fn revoke_of_publisher(
    State(host): State<Arc<Host>>,
    allowed: Allowed<RevokeToken>,
    Named(Own { publisher }): Named<Own>,
    Named(Id { token }): Named<Id>,
) -> Result<Response, Failed> {
    let revoke = |keep| host.revoke_publisher_token(&allowed.cx, &allowed.permit, &publisher, &token, keep);
    once(&host, &allowed, &BodyHash::none(), |()| Reply::empty(), revoke).await
}

pub(crate) async fn create_for_host(
    State(host): State<Arc<Host>>,
    allowed: Allowed<CreateHostToken, HostResource>,
    Sent(new, body): Sent<NewHostToken>,
) -> Result<Response, Failed> {
    let ask = ask(new.name, &new.role, None, new.expires)?;
    let create = |keep| host.create_host_token(&allowed.cx, &allowed.permit, new.publisher, ask, keep);
    once(&host, &allowed, &body, made, create).await
}

pub(crate) async fn list_of_host(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ListHostTokens, HostResource>,
    Asked(query): Asked<HostTokensQuery>,
) -> Answer<Page<TokenView>> {
    let page = PageQuery { limit: query.limit, after: query.after };
    let limit = page.limit()?;
    let tokens = host.host_tokens(&allowed.permit, query.publisher, page.after()?.as_ref(), limit).await?;
    Ok(Json(Page::of(&tokens, limit, |token| token.made.id.to_string(), view)))
}

pub(crate) async fn revoke_of_host(
    State(host): State<Arc<Host>>,
    allowed: Allowed<RevokeHostToken, HostResource>,
    Named(Id { token }): Named<Id>,
) -> Result<Response, Failed> {
    let revoke = |keep| host.revoke_host_token(&allowed.cx, &allowed.permit, &token, keep);
    once(&host, &allowed, &BodyHash::none(), |()| Reply::empty(), revoke).await
}

fn ask(name: String, role: &str, skills: Option<Vec<SkillName>>, expires: Option<String>) -> Result<TokenAsk, Problem> {
    let role = role.parse().map_err(|detail| Problem::Invalid { place: "role".to_owned(), detail })?;
    let expires_us = expires.map(|text| parse_rfc3339("expires", &text)).transpose()?;
    Ok(TokenAsk { name, role, skills, expires_us })
}

fn made(made: &MadeToken) -> Reply {
    let token = made.token.expose_secret().to_owned();
    Reply::json(StatusCode::CREATED, &Made { id: made.id.to_string(), token })
}

fn view(token: &Token) -> TokenView {
    let made = &token.made;
    TokenView {
        id: made.id.to_string(),
        name: made.name.clone(),
        role: made.role.as_str(),
        skills: made.skills.as_ref().map(|skills| skills.iter().map(ToString::to_string).collect()),
        created: rfc3339(made.created_us),
        expires: made.expires_us.map(rfc3339),
        revoked: token.revoked_us.map(rfc3339),
        last_used: token.last_used_us.map(rfc3339),
    }
}
