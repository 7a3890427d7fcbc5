//! Errors in the form that OCI clients read, and the challenge that tells them where to get a token.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use clawhold_runtime::oci::{RegistryCode, RegistryProblem};
use clawhold_runtime::{Host, Problem};
use http::header::{CONTENT_TYPE, HOST, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use crate::body::Unread;
use crate::oci::{Needed, TOKEN};
use crate::problem::Failed;

/// Why a request was not done.
pub(crate) struct Refused(RegistryProblem);

impl Refused {
    pub(crate) fn new(code: RegistryCode, why: impl Into<String>) -> Self {
        Self(RegistryProblem::Refused { code, why: why.into() })
    }
}

impl<P: Into<RegistryProblem>> From<P> for Refused {
    fn from(problem: P) -> Self {
        Self(problem.into())
    }
}

impl From<Unread> for Refused {
    fn from(unread: Unread) -> Self {
        let code =
            if let Unread::TooLarge(_) = unread { RegistryCode::SizeInvalid } else { RegistryCode::BlobUploadInvalid };
        Self::new(code, unread.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self.0 {
            RegistryProblem::Refused { code, why } => answer(status(code), code.as_str(), &why, None),
            RegistryProblem::Range { there } => {
                let why = RegistryProblem::Range { there }.to_string();
                let code = RegistryCode::BlobUploadInvalid.as_str();
                let mut response = answer(StatusCode::RANGE_NOT_SATISFIABLE, code, &why, None);
                put(response.headers_mut(), RANGE, &super::push::range(there));
                response
            }
            RegistryProblem::Other(problem) => of(&problem),
        }
    }
}

/// A problem that every face of the host has. Its document rides along as the detail.
fn of(problem: &Problem) -> Response {
    let (status, document) = Failed::document_of(problem);
    let (status, code) = match problem {
        Problem::Unauthenticated => (status, "UNAUTHORIZED"),
        Problem::Forbidden(_) | Problem::Stopped(_) => (status, "DENIED"),
        Problem::Invalid { .. } => (StatusCode::BAD_REQUEST, "UNSUPPORTED"),
        Problem::Quota { .. } | Problem::FailedTooOften { .. } => (status, "TOOMANYREQUESTS"),
        // Not in the specification, which lets a registry have codes of its own; others give the same.
        Problem::Unavailable(_) | Problem::Changed => (status, "UNAVAILABLE"),
        _ => (status, "UNKNOWN"),
    };
    answer(status, code, &problem.to_string(), Some(document))
}

fn status(code: RegistryCode) -> StatusCode {
    match code {
        RegistryCode::BlobUnknown
        | RegistryCode::BlobUploadUnknown
        | RegistryCode::ManifestUnknown
        | RegistryCode::NameUnknown => StatusCode::NOT_FOUND,
        // A right is not what lacks: the version is there.
        RegistryCode::Denied => StatusCode::CONFLICT,
        RegistryCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::BAD_REQUEST,
    }
}

fn answer(status: StatusCode, code: &str, message: &str, detail: Option<serde_json::Value>) -> Response {
    let mut error = json!({ "code": code, "message": message });
    if let Some(detail) = detail {
        error["detail"] = detail;
    }
    let mut response = (status, json!({ "errors": [error] }).to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Why a request does not get to its handler. One without a token that holds, or with one that is for something else, is
/// told where to get one, and for what.
pub(crate) fn refuse(host: &Host, request: &Request, problem: Problem, needed: Option<&Needed>) -> Response {
    let mut response = Refused::from(problem).into_response();
    if response.status() != StatusCode::UNAUTHORIZED {
        return response;
    }
    let headers = response.headers_mut();
    headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    let realm = realm(host, request.headers()).filter(|_| request.uri().path() != TOKEN);
    let challenge = realm.map_or_else(
        // Where tokens are given, a token is what lacks.
        || "Basic realm=\"clawhold\"".to_owned(),
        |realm| {
            let scope = needed.map(|needed| format!(",scope=\"{needed}\"")).unwrap_or_default();
            format!("Bearer realm=\"{realm}{TOKEN}\",service=\"clawhold\"{scope}")
        },
    );
    put(headers, WWW_AUTHENTICATE, &challenge);
    response
}

/// Where clients reach the host: what its operator said, or what the client itself called it.
///
/// A client sends its token there. So it is told `http` for its own machine alone: a host behind something that ends TLS
/// would otherwise have it send the token in the clear.
fn realm(host: &Host, headers: &HeaderMap) -> Option<String> {
    if let Some(url) = host.public_url() {
        return Some(url.to_owned());
    }
    let authority: Authority = headers.get(HOST)?.to_str().ok()?.parse().ok()?;
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let own = name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let plain =
        authority.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
    plain.then(|| format!("{}://{authority}", if own { "http" } else { "https" }))
}

pub(super) fn put(headers: &mut HeaderMap, name: http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

pub(crate) fn no_such_route() -> Response {
    let why = "there is no such path; a repository is publisher/name";
    let mut response = Refused::new(RegistryCode::NameUnknown, why).into_response();
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

pub(crate) fn no_such_method() -> Response {
    let why = "this registry does not do that; what is published stays, and is yanked or revoked instead";
    let mut response = Refused::new(RegistryCode::Unsupported, why).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}
