//! What stands in front of every handler: a request id, the token, and the permit that the route asks for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use clawhold_runtime::{BearerToken, Host, Problem};
use clawhold_tenancy::audit::Chain;
use clawhold_tenancy::permit::{Action, Host as HostResource, Market};
use clawhold_tenancy::{Context, DEPTH_HEADER, PackageName, Permit, Publisher, Refusal, RequestId, TenantId, TraceId};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::Instrument;

use crate::oci::{self, Needed};
use crate::once;
use crate::problem::Failed;

const REQUEST_ID: HeaderName = HeaderName::from_static("clawhold-request");

/// Something that a permit can be for.
pub(crate) trait Resource<A>: Clone + Send + Sync + 'static {
    /// Whose chain tells of what is done to it.
    fn chain(&self) -> Chain<'_>;

    /// The permit for what the path names.
    fn permit(cx: &Context, path: &HashMap<String, String>) -> Result<Permit<A, Self>, Refusal>;
}

impl<A: Action> Resource<A> for TenantId {
    fn chain(&self) -> Chain<'_> {
        Chain::Tenant(self)
    }

    fn permit(cx: &Context, path: &HashMap<String, String>) -> Result<Permit<A, Self>, Refusal> {
        // What is no tenant's id is answered like a tenant that does not exist.
        let tenant = path.get("tenant").and_then(|text| text.parse().ok()).ok_or(Refusal::Elsewhere)?;
        cx.permit::<A>(&tenant)
    }
}

impl<A: Action> Resource<A> for HostResource {
    fn chain(&self) -> Chain<'_> {
        Chain::Host
    }

    fn permit(cx: &Context, _: &HashMap<String, String>) -> Result<Permit<A, Self>, Refusal> {
        cx.permit_host::<A>()
    }
}

impl<A: Action> Resource<A> for Market {
    fn chain(&self) -> Chain<'_> {
        Chain::Host
    }

    fn permit(cx: &Context, _: &HashMap<String, String>) -> Result<Permit<A, Self>, Refusal> {
        cx.permit_market::<A>()
    }
}

impl<A: Action> Resource<A> for Publisher {
    fn chain(&self) -> Chain<'_> {
        Chain::Host
    }

    fn permit(cx: &Context, path: &HashMap<String, String>) -> Result<Permit<A, Self>, Refusal> {
        let Some(named) = path.get("publisher") else { return cx.permit_publisher::<A>() };
        cx.permit_of_publisher::<A>(&named.parse().map_err(|_| Refusal::Elsewhere)?)
    }
}

impl<A: Action> Resource<A> for PackageName {
    fn chain(&self) -> Chain<'_> {
        Chain::Host
    }

    fn permit(cx: &Context, path: &HashMap<String, String>) -> Result<Permit<A, Self>, Refusal> {
        let part = |name| path.get(name).map_or("", String::as_str);
        let package = format!("{}/{}", part("publisher"), part("name")).parse().map_err(|_| Refusal::Elsewhere)?;
        cx.permit_package::<A>(&package)
    }
}

/// A handler's first argument: who asks, and the proof that it may.
pub(crate) struct Allowed<A, R = TenantId> {
    pub(crate) cx: Context,
    pub(crate) permit: Permit<A, R>,
    /// What the permit is for.
    pub(crate) resource: R,
    /// The caller's `Idempotency-Key`.
    pub(crate) key: Option<String>,
    /// Method and path: with the body, what a repeat has in common with its first time.
    pub(crate) line: String,
}

impl<A, R: Clone> Clone for Allowed<A, R>
where
    Permit<A, R>: Clone,
{
    fn clone(&self) -> Self {
        Self {
            cx: self.cx.clone(),
            permit: self.permit.clone(),
            resource: self.resource.clone(),
            key: self.key.clone(),
            line: self.line.clone(),
        }
    }
}

impl<A, R, S> FromRequestParts<S> for Allowed<A, R>
where
    A: Action + 'static,
    R: Resource<A>,
    S: Send + Sync,
{
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failed> {
        // Only a route that was declared for another action gets here without one, and a test calls every route.
        parts.extensions.remove::<Arc<Self>>().and_then(Arc::into_inner).ok_or(Failed(Problem::Internal))
    }
}

/// Names the request, so that an answer, a log line and an audit entry can be brought together.
pub(crate) async fn identify(mut request: Request, next: Next) -> Response {
    let id = RequestId::now();
    request.extensions_mut().insert(id);
    let span = tracing::info_span!("request", request_id = %id);
    let mut response = next.run(request).instrument(span).await;
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Whose contract a route is of: how it is authenticated to, and in which form it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    /// Our own.
    Api,
    /// The OCI registry's.
    Registry,
}

/// What a route takes.
pub(crate) struct Rules {
    /// The keys that its query may have.
    pub(crate) query: Vec<String>,
    pub(crate) face: Face,
}

/// Lets a request through to its handler with a permit for action `A`, or answers why not.
pub(crate) async fn gate<A: Action + 'static, R: Resource<A>>(
    State((host, rules)): State<(Arc<Host>, Arc<Rules>)>,
    path: Result<Path<HashMap<String, String>>, PathRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = request.extensions().get::<RequestId>().copied().unwrap_or_else(RequestId::now);
    let from = request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    // A path that is not UTF-8 names nothing.
    let path = path.map(|Path(path)| path).unwrap_or_default();
    let needed = Needed::of::<A>(&path);
    let refuse = |request: &Request, problem: Problem| match rules.face {
        Face::Api => Failed(problem).into_response(),
        Face::Registry => oci::refuse(&host, request, problem, needed.as_ref()),
    };
    let cx = match rules.face {
        Face::Api => authenticate(&host, request.headers(), from, id).await,
        Face::Registry => {
            let way = (trace(request.headers()), depth(request.headers()));
            oci::authenticate(&host, request.headers(), from, id, way).await.map(|(cx, reach)| {
                request.extensions_mut().insert(reach);
                cx
            })
        }
    };
    let cx = match cx {
        Ok(cx) => cx,
        Err(problem) => return refuse(&request, problem),
    };
    match R::permit(&cx, &path) {
        Ok(_) if needed.as_ref().is_some_and(|needed| needed.lacks(request.extensions().get())) => {
            refuse(&request, Problem::Unauthenticated)
        }
        Ok(permit) => {
            let query = &rules.query;
            // Clients of the registry follow another contract, which lets them send more than we know.
            let strict = rules.face == Face::Api;
            let unknown = unknown_key(request.uri().query().unwrap_or_default(), query);
            if let Some(unknown) = unknown.filter(|_| strict) {
                let may = if query.is_empty() { "nothing".to_owned() } else { query.join(", ") };
                let detail = format!("{unknown:?} is not known here; the query may have {may}");
                return Failed(Problem::Invalid { place: "query".to_owned(), detail }).into_response();
            }
            let (key, line) = if request.method().is_safe() {
                (Ok(None), String::new())
            } else {
                (once::key(request.headers()), fingerprint(&request))
            };
            let key = match key {
                Ok(key) => key,
                Err(problem) => return Failed(problem).into_response(),
            };
            let resource = permit.resource().clone();
            request.extensions_mut().insert(Arc::new(Allowed::<A, R> { cx, permit, resource, key, line }));
            next.run(request).await
        }
        Err(refusal) => {
            let asked: String = request.uri().path().chars().take(200).collect();
            host.note_refusal(&cx, A::NAME, asked).await;
            refuse(&request, refusal.into())
        }
    }
}

/// The address that a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

async fn authenticate(host: &Host, headers: &HeaderMap, from: IpAddr, id: RequestId) -> Result<Context, Problem> {
    let sent = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")))
        .and_then(BearerToken::parse)
        .ok_or(Problem::Unauthenticated)?;
    host.authenticate(&sent, from, id, trace(headers), depth(headers)).await
}

/// What a repeat has in common with its first time, beside the body.
fn fingerprint(request: &Request) -> String {
    let condition = request.headers().get(http::header::IF_MATCH).map(HeaderValue::as_bytes).unwrap_or_default();
    format!("{} {} {}", request.method(), request.uri(), String::from_utf8_lossy(condition))
}

/// A key that the route does not know: a typo would otherwise be ignored.
fn unknown_key(query: &str, known: &[String]) -> Option<String> {
    let mut keys = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
    let unknown = keys.find(|key| !key.is_empty() && known.iter().all(|known| known != key))?;
    Some(unknown.chars().take(64).collect())
}

/// What the request says of the runs it came through. Nonsense is as deep as can be.
fn depth(headers: &HeaderMap) -> u8 {
    let said = headers.get_all(DEPTH_HEADER).iter();
    said.map(|value| value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(u8::MAX)).max().unwrap_or(0)
}

/// The trace id of a W3C `traceparent`, or a new one.
fn trace(headers: &HeaderMap) -> TraceId {
    headers
        .get("traceparent")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split('-').nth(1))
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(TraceId::random)
}
