//! Request bodies: refused by their declared length before a byte is read, cut off while they are read, and not
//! waited for for ever.

use std::error::Error as _;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use clawhold_runtime::Problem;
use clawhold_tenancy::Digest;
use clawhold_tenancy::limits::REQUEST_BYTES;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body_util::LengthLimitError;
use serde::de::DeserializeOwned;

use crate::problem::{Failed, too_large, too_slow};

/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unread {
    /// It has more bytes than this.
    #[error("the body is larger than {0} bytes; send less")]
    TooLarge(u64),
    /// It took more seconds than this.
    #[error("the body did not arrive within {0} seconds; send it again")]
    TooSlow(u64),
    /// The client stopped, for the reason that HTTP gives.
    #[error("the body broke off ({0}); send it again")]
    BrokeOff(String),
}

impl IntoResponse for Unread {
    fn into_response(self) -> Response {
        let said = self.to_string();
        match self {
            Self::TooLarge(limit) => too_large(&said, limit),
            Self::TooSlow(_) => too_slow(&said),
            Self::BrokeOff(_) => invalid("body", &said),
        }
    }
}

/// The whole body, of at most `limit` bytes, or an answer that says why there is none.
pub(crate) async fn whole(request: Request, limit: u64) -> Result<Bytes, Response> {
    read(request, limit).await.map_err(IntoResponse::into_response)
}

/// The whole body, of at most `limit` bytes.
pub(crate) async fn read(request: Request, limit: u64) -> Result<Bytes, Unread> {
    read_within(BODY_TIME, request, limit).await
}

async fn read_within(time: Duration, request: Request, limit: u64) -> Result<Bytes, Unread> {
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    if declared.is_some_and(|size: u64| size > limit) {
        return Err(Unread::TooLarge(limit));
    }
    let read = to_bytes(Body::new(request.into_body()), usize::try_from(limit).unwrap_or(usize::MAX));
    match tokio::time::timeout(time, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.source().is_some_and(<dyn std::error::Error>::is::<LengthLimitError>) => {
            Err(Unread::TooLarge(limit))
        }
        Ok(Err(error)) => Err(Unread::BrokeOff(error.to_string())),
        Err(_) => Err(Unread::TooSlow(time.as_secs())),
    }
}

/// The SHA-256 of a body, to know its repeat by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyHash([u8; 32]);

impl BodyHash {
    /// Of a request without a body.
    pub(crate) fn none() -> Self {
        Self::of(b"")
    }

    pub(crate) fn of(body: &[u8]) -> Self {
        Self(*Digest::of(body).as_bytes())
    }

    /// Of the whole request: its method and path, and the body.
    pub(crate) fn with(&self, line: &str) -> [u8; 32] {
        *Digest::of(&[line.as_bytes(), &self.0].concat()).as_bytes()
    }
}

/// A JSON body of a few kilobytes, whose keys are all known, and its hash.
pub(crate) struct Sent<T>(pub(crate) T, pub(crate) BodyHash);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        let bytes = whole(request, REQUEST_BYTES).await?;
        let hash = BodyHash::of(&bytes);
        serde_json::from_slice(&bytes).map(|sent| Self(sent, hash)).map_err(|e| invalid("body", &e))
    }
}

/// The query, whose keys are all known.
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        Query::try_from_uri(&parts.uri).map(|Query(query)| Self(query)).map_err(|e| invalid("query", &e.body_text()))
    }
}

/// What the path names, beside the tenant.
pub(crate) struct Named<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let named = Path::<T>::from_request_parts(parts, state).await;
        // A name of the wrong form names nothing.
        named.map(|Path(named)| Self(named)).map_err(|_| Failed(Problem::NotFound("resource")).into_response())
    }
}

/// What a handler answers.
pub(crate) type Answer<T> = Result<Json<T>, Failed>;

fn invalid(place: &str, why: &dyn std::fmt::Display) -> Response {
    // What was sent may be long, and comes back in some of these messages.
    let detail = why.to_string().chars().take(300).collect();
    Failed(Problem::Invalid { place: place.to_owned(), detail }).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Lines;

    /// Whoever reads it has a place among others, which somebody who sends nothing must not keep.
    #[test]
    fn a_body_that_does_not_come_is_given_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (writer, body) = Lines::channel();
            assert!(writer.send_text("the beginning".to_owned()).await.is_ok());
            let request = Request::new(Body::new(body));
            let read = read_within(Duration::from_millis(20), request, 100).await;
            assert!(matches!(read, Err(Unread::TooSlow(_))), "{read:?}");
            drop(writer);
        });
    }
}
