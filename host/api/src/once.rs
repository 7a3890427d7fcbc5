//! `Idempotency-Key`: a write is done once, and its repeat gets the first answer.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use clawhold_runtime::{Calls, Host, Once, Problem};
use clawhold_tenancy::Actor;
use clawhold_tenancy::keep::{Keep, Slot};
use clawhold_tenancy::quota::{Dimension, WINDOW_US};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::body::BodyHash;
use crate::gate::{Allowed, Resource};
use crate::problem::{Failed, PROBLEM, of_status};

/// Characters of a key.
const KEY: usize = 255;
/// The field that says that an answer was kept.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// An answer in a form that can be kept.
#[derive(Serialize, Deserialize)]
pub(crate) struct Reply {
    status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    /// How a quota stands now, which is not kept.
    #[serde(skip)]
    rate: Option<Rate>,
}

/// How a quota stands: `RateLimit` and `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers, and `Retry-After`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    dimension: &'static str,
    limit: u64,
    left: u64,
    /// Seconds until there is as much as can be, or, with nothing left, until it makes sense to ask again.
    reset_s: u64,
    /// Seconds that the limit is for, if it is a rate.
    window_s: Option<u64>,
    refused: bool,
}

impl Rate {
    /// Of calls, for a call that was admitted.
    pub(crate) fn of_calls(calls: &Calls) -> Self {
        let Calls { limit, left, reset_s } = *calls;
        let dimension = Dimension::SkillCalls.key();
        Self { dimension, limit, left, reset_s, window_s: Some(WINDOW_US / 1_000_000), refused: false }
    }

    fn of_problem(problem: &Problem) -> Option<Self> {
        match *problem {
            Problem::Quota { dimension, limit, reset_s: Some(reset_s), window_s, .. } => {
                Some(Self { dimension, limit, left: 0, reset_s, window_s, refused: true })
            }
            Problem::FailedTooOften { limit, .. } => {
                let dimension = "failed_authentications_per_minute";
                Some(Self { dimension, limit, left: 0, reset_s: 1, window_s: Some(60), refused: true })
            }
            _ => None,
        }
    }

    fn put(&self, headers: &mut HeaderMap) {
        let Self { dimension, limit, left, reset_s, window_s, refused } = self;
        let window = window_s.map(|s| format!(";w={s}")).unwrap_or_default();
        let mut fields = vec![
            (RATE_LIMIT, format!("\"{dimension}\";r={left};t={reset_s}")),
            (RATE_LIMIT_POLICY, format!("\"{dimension}\";q={limit}{window}")),
        ];
        fields.extend(refused.then(|| (RETRY_AFTER, reset_s.to_string())));
        for (name, value) in fields {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
    }
}

impl Reply {
    /// JSON.
    pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        // What we answer with is maps with text for keys.
        let body = serde_json::value::to_raw_value(body).ok();
        Self { status: status.as_u16(), run: None, etag: None, body, rate: None }
    }

    /// Done, and nothing to say.
    pub(crate) fn empty() -> Self {
        Self { status: StatusCode::NO_CONTENT.as_u16(), run: None, etag: None, body: None, rate: None }
    }

    /// A problem, in the form of [`Failed`].
    pub(crate) fn problem(problem: &Problem) -> Self {
        let (status, body) = Failed::document_of(problem);
        let run = body.get("run").and_then(serde_json::Value::as_str).map(ToOwned::to_owned);
        Self { run, rate: Rate::of_problem(problem), ..Self::json(status, &body) }
    }

    pub(crate) fn with_run(self, run: String) -> Self {
        Self { run: Some(run), ..self }
    }

    pub(crate) fn with_rate(self, rate: Rate) -> Self {
        Self { rate: Some(rate), ..self }
    }

    pub(crate) fn with_revision(self, revision: i64) -> Self {
        Self { etag: Some(etag(revision)), ..self }
    }

    pub(crate) fn body(&self) -> Option<&RawValue> {
        self.body.as_deref()
    }

    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn read(kept: &[u8]) -> Result<Self, Failed> {
        serde_json::from_slice(kept).map_err(|_| Failed(Problem::Internal))
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = match self.body {
            Some(body) => {
                let mut response = (status, body.get().to_owned()).into_response();
                let media = if status.is_success() { "application/json" } else { PROBLEM };
                response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(media));
                response
            }
            None => status.into_response(),
        };
        let headers = response.headers_mut();
        of_status(status, headers);
        if let Some(rate) = &self.rate {
            rate.put(headers);
        }
        for (name, value) in [("clawhold-run", self.run), ("etag", self.etag)] {
            if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// The `ETag` of a revision.
pub(crate) fn etag(revision: i64) -> String {
    format!("\"{revision}\"")
}

/// The revision in `If-Match`, if the request has one.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(value) = headers.get(http::header::IF_MATCH) else { return Ok(None) };
    let revision = value.to_str().ok().and_then(|text| text.strip_prefix('"')?.strip_suffix('"')?.parse().ok());
    revision.map(Some).ok_or_else(|| Problem::Invalid {
        place: "If-Match".to_owned(),
        detail: "send the one `ETag` that the resource had, such as \"12\"".to_owned(),
    })
}

/// The caller's key, if the request has one.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut all = headers.get_all("idempotency-key").iter();
    let Some(value) = all.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=KEY).contains(&text.len()) && all.next().is_none());
    text.filter(|text| text.bytes().all(|b| b.is_ascii_graphic())).map(|text| Some(text.to_owned())).ok_or_else(|| {
        Problem::Invalid {
            place: "Idempotency-Key".to_owned(),
            detail: format!("send it once, with 1 to {KEY} printable characters of ASCII and no space"),
        }
    })
}

/// What is known of a request with a key before it is done.
pub(crate) enum Known<T> {
    /// It was done before; this was the answer.
    Answer(Reply),
    /// It is new. To be given to the use-case.
    New(Keep<T>),
}

/// Looks for the answer of a request's first time.
pub(crate) async fn known<A, R: Resource<A>, T>(
    host: &Host,
    allowed: &Allowed<A, R>,
    body: &BodyHash,
    reply: impl FnOnce(&T) -> Reply + Send + Sync + 'static,
) -> Result<Known<T>, Problem> {
    let (Some(key), Actor::Token { id, .. }) = (&allowed.key, &allowed.cx.actor) else {
        return Ok(Known::New(Keep::nothing()));
    };
    let slot = Slot { token: id.clone(), key: key.clone(), fingerprint: body.with(&allowed.line) };
    let of = R::chain(&allowed.resource);
    Ok(match host.once(of, &slot).await? {
        Once::Before(kept) => Known::Answer(Reply::read(&kept).map_err(|Failed(problem)| problem)?),
        Once::Now(under_way) => Known::New(Keep::new(slot, under_way, |done| reply(done).bytes())),
    })
}

/// Does a write, or answers as its first time did. `reply` makes the answer of what the use-case gives.
pub(crate) async fn once<A, R: Resource<A>, T: 'static, F>(
    host: &Arc<Host>,
    allowed: &Allowed<A, R>,
    body: &BodyHash,
    reply: impl Fn(&T) -> Reply + Clone + Send + Sync + 'static,
    work: impl FnOnce(Keep<T>) -> F,
) -> Result<Response, Failed>
where
    F: Future<Output = Result<T, Problem>>,
{
    match known(host, allowed, body, reply.clone()).await? {
        Known::Answer(answer) => Ok(replayed(answer)),
        Known::New(keep) => Ok(reply(&work(keep).await?).into_response()),
    }
}

/// A kept answer, marked as one.
pub(crate) fn replayed(answer: Reply) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
