//! Errors as RFC 9457 problem documents.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use clawhold_runtime::Problem;
use clawhold_tenancy::run::Reason;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::oci;
use crate::once::Reply;

/// The media type of a problem.
pub(crate) const PROBLEM: &str = "application/problem+json";

/// The types of problems: name, status, title, what it means and what to do.
const TYPES: [(&str, u16, &str, &str); 18] = [
    (
        "unauthenticated",
        401,
        "No valid token",
        "Send `Authorization: Bearer clw_…` with a token that is neither expired nor revoked.",
    ),
    ("forbidden", 403, "The token may not do this", "Use a token with one of the roles that `detail` names."),
    (
        "package-stopped",
        403,
        "The package must not be run or installed",
        "`detail` says what became of it, or which rule of the operator's forbids it; take another version, or remove it.",
    ),
    ("not-found", 404, "Not found", "It does not exist, or it is not yours: the two are not told apart."),
    ("method-not-allowed", 405, "Method not allowed", "The path exists and serves other methods, see `Allow`."),
    ("timeout", 408, "The request came too slowly", "Send the body within the time that `detail` names."),
    ("conflict", 409, "It stands against what is there", "Read `detail`, and change one of the two."),
    (
        "consent-required",
        409,
        "The admin has not accepted this",
        "Review the plan; `adds` says what is new and `consent` is the word that accepts it.",
    ),
    (
        "precondition-failed",
        412,
        "It has changed since you saw it",
        "Read it again, decide anew, and send its `ETag` of now in `If-Match`.",
    ),
    ("too-large", 413, "The request is too large", "Send less than `limit` bytes."),
    ("invalid-input", 422, "The input cannot be used", "`place` says where, `detail` what is wrong and what to write."),
    ("package-refused", 422, "The package cannot be published", "`detail` says why; nothing was kept."),
    ("skill-error", 422, "The skill said no", "`kind` and `detail` are the skill's own."),
    (
        "run-limit",
        422,
        "The run was stopped",
        "`reason` says why and `remedy` what would help. With reason `deadline` the status is 504.",
    ),
    (
        "quota",
        429,
        "A quota is used up",
        "`dimension`, `limit` and `used` say which. Wait for `Retry-After` seconds, with jitter; without that field time alone does not help.",
    ),
    ("internal", 500, "The host failed", "Tell the operator the id in `Clawhold-Request`."),
    (
        "unrecorded",
        500,
        "The run took place and is not recorded",
        "What the skill did outside is done. Look there before you call again: with the same `Idempotency-Key` it runs again.",
    ),
    ("unavailable", 503, "The host cannot serve this now", "Send the same again after `Retry-After` seconds."),
];

/// The status of a run that was stopped because its time was over.
const DEADLINE: u16 = 504;

/// A problem as an answer.
pub(crate) struct Failed(pub(crate) Problem);

impl<P: Into<Problem>> From<P> for Failed {
    fn from(problem: P) -> Self {
        Self(problem.into())
    }
}

impl Failed {
    /// The problem as JSON, for where it is not an answer of its own.
    pub(crate) fn document(self) -> Value {
        Self::document_of(&self.0).1
    }

    /// The status and the document of a problem.
    pub(crate) fn document_of(problem: &Problem) -> (StatusCode, Value) {
        let (name, members) = match problem {
            Problem::Unauthenticated => ("unauthenticated", json!({})),
            Problem::NotFound(_) => ("not-found", json!({})),
            Problem::Forbidden(_) => ("forbidden", json!({})),
            Problem::Stopped(_) => ("package-stopped", json!({})),
            Problem::Invalid { place, .. } => ("invalid-input", json!({ "place": place })),
            Problem::Conflict(_) => ("conflict", json!({})),
            Problem::Precondition(_) => ("precondition-failed", json!({})),
            Problem::Unrecorded { run } => ("unrecorded", json!({ "run": run.to_string() })),
            Problem::Consent { expected, adds } => ("consent-required", json!({ "consent": expected, "adds": adds })),
            Problem::Package(_) => ("package-refused", json!({})),
            Problem::Faults(faults) => ("package-refused", json!({ "faults": faults.said() })),
            Problem::Quota { dimension, limit, used, reset_s, .. } => {
                ("quota", json!({ "dimension": dimension, "limit": limit, "used": used, "reset": reset_s }))
            }
            Problem::FailedTooOften { limit, used } => {
                let dimension = "failed_authentications_per_minute";
                ("quota", json!({ "dimension": dimension, "limit": limit, "used": used, "reset": 1 }))
            }
            Problem::Skill { run, kind, .. } => ("skill-error", json!({ "kind": kind, "run": run })),
            Problem::Run { run, reason, .. } => {
                ("run-limit", json!({ "reason": reason, "remedy": reason.remedy(), "run": run }))
            }
            Problem::Unavailable(_) | Problem::Changed => ("unavailable", json!({})),
            Problem::Internal => ("internal", json!({})),
        };
        let body = body_of(name, &problem.to_string(), members);
        let status = body.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Value::Object(body))
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        Reply::problem(&self.0).into_response()
    }
}

/// A problem that HTTP itself raises.
pub(crate) fn too_large(said: &str, limit: u64) -> Response {
    document("too-large", said, json!({ "limit": limit }))
}

pub(crate) fn too_slow(said: &str) -> Response {
    document("timeout", said, json!({}))
}

pub(crate) async fn no_such_route(uri: Uri) -> Response {
    if uri.path().starts_with(oci::ROOT) {
        return oci::no_such_route();
    }
    Failed(Problem::NotFound("path")).into_response()
}

pub(crate) async fn no_such_method(uri: Uri) -> Response {
    if uri.path().starts_with(oci::ROOT) {
        return oci::no_such_method();
    }
    document("method-not-allowed", "the path does not serve this method; see `Allow`", json!({}))
}

/// `GET /problems`
pub(crate) async fn list() -> Json<Vec<TypeView>> {
    Json(TYPES.iter().map(described).collect())
}

/// `GET /problems/{name}`
pub(crate) async fn show(name: Result<Path<String>, PathRejection>, uri: Uri) -> Response {
    match TYPES.iter().find(|row| name.as_ref().is_ok_and(|Path(name)| row.0 == name)) {
        Some(row) => Json(described(row)).into_response(),
        None => no_such_route(uri).await,
    }
}

fn described((name, status, title, help): &(&'static str, u16, &'static str, &'static str)) -> TypeView {
    TypeView { kind: format!("/problems/{name}"), status: *status, title, help }
}

/// A type of problem.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ProblemType")]
pub(crate) struct TypeView {
    #[serde(rename = "type")]
    kind: String,
    status: u16,
    title: &'static str,
    /// What it means, and what to do.
    help: &'static str,
}

/// Every status that a problem has.
pub(crate) fn statuses() -> BTreeSet<u16> {
    TYPES.iter().map(|row| row.1).chain([DEADLINE]).collect()
}

/// The titles of the problems with this status.
pub(crate) fn titles(status: u16) -> Vec<&'static str> {
    let of = if status == DEADLINE { row("run-limit").1 } else { status };
    TYPES.iter().filter(|row| row.1 == of && (status != DEADLINE || row.0 == "run-limit")).map(|row| row.2).collect()
}

/// The form of a problem.
pub(crate) fn schema() -> Value {
    let types: Vec<String> = TYPES.iter().map(|row| format!("/problems/{}", row.0)).collect();
    let text = |text: &str| json!({ "type": "string", "description": text });
    json!({
        "type": "object",
        "description": "RFC 9457. `GET` the type for what it means.",
        "required": ["type", "title", "status", "detail"],
        "additionalProperties": false,
        "properties": {
            "type": { "enum": types },
            "title": text("The type, for people"),
            "status": { "type": "integer", "enum": statuses() },
            "detail": text("What is wrong here, and what to do"),
            "place": text("Of `invalid-input`: where"),
            "consent": text("Of `consent-required`: the word that accepts the plan"),
            "adds": { "type": "array", "items": { "type": "string" }, "description": "Of `consent-required`: what is new" },
            "dimension": text("Of `quota`: which"),
            "limit": { "type": "integer", "description": "Of `quota` and `too-large`: how much is allowed" },
            "used": { "type": "integer", "description": "Of `quota`: how much is used" },
            "reset": {
                "type": ["integer", "null"],
                "description": "Of `quota`: seconds until it makes sense to ask again, as in `Retry-After`; null if time alone does not help",
            },
            "kind": text("Of `skill-error`: the skill's own word"),
            "reason": { "enum": Reason::ALL, "description": "Of `run-limit`: why the run ended" },
            "remedy": text("Of `run-limit`: what would help"),
            "faults": {
                "type": "array",
                "description": "Of `package-refused`: all that is wrong with the package, as far as it is found at once",
                "items": {
                    "type": "object",
                    "required": ["what", "remedy"],
                    "additionalProperties": false,
                    "properties": { "what": { "type": "string" }, "remedy": { "type": "string" } },
                },
            },
            "run": { "type": "string", "format": "uuid", "description": "The run that the problem is of" },
        },
    })
}

fn row(name: &str) -> &'static (&'static str, u16, &'static str, &'static str) {
    TYPES
        .iter()
        .find(|row| row.0 == name)
        .unwrap_or_else(|| TYPES.iter().find(|row| row.0 == "internal").unwrap_or(&TYPES[0]))
}

fn body_of(name: &str, detail: &str, members: Value) -> Map<String, Value> {
    let (name, status, title, _) = *row(name);
    let mut body = Map::from_iter([
        ("type".to_owned(), json!(format!("/problems/{name}"))),
        ("title".to_owned(), json!(title)),
        ("status".to_owned(), json!(status)),
        ("detail".to_owned(), json!(detail)),
    ]);
    if members.get("reason") == Some(&json!(Reason::Deadline)) {
        body.insert("status".to_owned(), json!(DEADLINE));
    }
    if let Value::Object(members) = members {
        body.extend(members);
    }
    body
}

fn document(name: &str, detail: &str, members: Value) -> Response {
    let (_, status, _, _) = *row(name);
    let body = body_of(name, detail, members);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Value::Object(body).to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    of_status(status, headers);
    response
}

/// The fields that go with a status.
pub(crate) fn of_status(status: StatusCode, headers: &mut HeaderMap) {
    match status.as_u16() {
        401 => _ = headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"clawhold\"")),
        503 => _ = headers.insert(RETRY_AFTER, HeaderValue::from_static("1")),
        _ => {}
    }
}
