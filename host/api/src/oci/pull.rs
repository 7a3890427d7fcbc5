//! Pulling: manifests, blobs, tags, and what refers to a manifest.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use clawhold_runtime::oci::artifact::{INDEX, MANIFEST, no_referrers};
use clawhold_runtime::oci::{PullPlace, Reference, RegistryCode, TAGS};
use clawhold_runtime::{Host, Problem};
use clawhold_tenancy::permit::{Market, ShowPackage};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, LINK, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use serde::Deserialize;
use serde_json::json;

use crate::gate::Allowed;
use crate::lines::{Lines, READER};
use crate::oci::Repository;
use crate::oci::refused::{Refused, put};

/// The field with the digest of what is answered.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Bytes of a component that wait for a reader, four times over, for each of which it may take [`READER`]; and for all.
const PIECE: usize = 64 * 1024;
const TIME: Duration = Duration::from_mins(10);

/// `GET /v2/`: that this is a registry, and that the token holds.
pub(super) async fn base(_allowed: Allowed<ShowPackage, Market>) -> Response {
    let fields = [("docker-distribution-api-version", "registry/2.0"), ("content-type", "application/json")];
    (fields, "{}").into_response()
}

pub(super) async fn manifest(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ShowPackage, Market>,
    repository: Repository,
) -> Result<Response, Refused> {
    let Some(reference) = Reference::parse(&repository.named) else {
        // Nothing can have it, and nobody need know more.
        return Err(Refused::new(
            RegistryCode::ManifestUnknown,
            "there is no such version; a tag is a version, such as 1.4.0",
        ));
    };
    let package = &repository.package;
    let manifest = host.registry_manifest(&allowed.cx, &allowed.permit, package, &reference).await?;
    let mut response = ([(CONTENT_TYPE, MANIFEST)], manifest.text).into_response();
    let digest = manifest.digest.to_string();
    put(response.headers_mut(), CONTENT_DIGEST, &digest);
    put(response.headers_mut(), ETAG, &format!("\"{digest}\""));
    Ok(response)
}

pub(super) async fn blob(
    State(host): State<Arc<Host>>,
    method: Method,
    headers: HeaderMap,
    allowed: Allowed<ShowPackage, Market>,
    repository: Repository,
) -> Result<Response, Refused> {
    let blob = host.registry_blob(&allowed.cx, &allowed.permit, &repository.package, &repository.digest()?).await?;
    let (digest, size) = (blob.digest.to_string(), blob.size);
    let wanted =
        headers.get(RANGE).and_then(|value| value.to_str().ok()).map_or(Wanted::Whole, |field| part(field, size));
    let (status, range) = match wanted {
        Wanted::Whole => (StatusCode::OK, Some(0..size)),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Wanted::Outside => (StatusCode::RANGE_NOT_SATISFIABLE, None),
    };
    let mut response = status.into_response();
    let fields = response.headers_mut();
    put(fields, CONTENT_DIGEST, &digest);
    put(fields, ETAG, &format!("\"{digest}\""));
    fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let Some(range) = range else {
        put(fields, CONTENT_RANGE, &format!("bytes */{size}"));
        return Ok(response);
    };
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    if status == StatusCode::PARTIAL_CONTENT {
        put(fields, CONTENT_RANGE, &format!("bytes {}-{}/{size}", range.start, range.end - 1));
    }
    // What nobody asked for is not read.
    if method != Method::HEAD {
        let (bytes, place) = host.registry_bytes(&allowed.cx, blob).await?;
        *response.body_mut() = body(bytes, range, place);
    }
    Ok(response)
}

/// What `Range` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// All: it asks for several parts, or for something else than bytes, which may be answered so.
    Whole,
    Part(Range<u64>),
    /// Nothing of what there is.
    Outside,
}

fn part(field: &str, size: u64) -> Wanted {
    let read = || {
        let (from, to) = field.strip_prefix("bytes=")?.split_once('-')?;
        Some(match (from, to) {
            ("", last) => size.saturating_sub(last.parse().ok()?)..size,
            (from, "") => from.parse().ok()?..size,
            (from, to) => from.parse().ok()?..to.parse::<u64>().ok()?.saturating_add(1).min(size),
        })
    };
    match read() {
        None => Wanted::Whole,
        Some(range) if range.is_empty() => Wanted::Outside,
        Some(range) => Wanted::Part(range),
    }
}

/// A part of these bytes. They are given piece by piece, so that a reader who does not read holds them, and the place
/// that they take, only for so long.
fn body(bytes: Vec<u8>, range: Range<u64>, place: Option<PullPlace>) -> Body {
    fed(bytes, range, place, READER)
}

fn fed<P: Send + 'static>(bytes: Vec<u8>, range: Range<u64>, place: Option<P>, piece_time: Duration) -> Body {
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(bytes.len());
    let range = at(range.start)..at(range.end);
    let Some(place) = place else { return Body::from(bytes[range].to_vec()) };
    let (writer, lines) = Lines::channel();
    let feed = async move {
        let _held = place;
        for piece in bytes[range].chunks(PIECE) {
            // A copy: a part of the whole would keep all of it in memory.
            let sent = writer.send_within(piece_time, Bytes::copy_from_slice(piece)).await;
            // The reader is gone, or too slow: the answer breaks off before its length, which it notices.
            if sent.is_err() {
                return;
            }
        }
    };
    tokio::spawn(tokio::time::timeout(TIME, feed));
    Body::new(lines)
}

#[derive(Deserialize)]
struct TagsQuery {
    n: Option<u32>,
    #[serde(default)]
    last: String,
}

pub(super) async fn tags(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ShowPackage, Market>,
    repository: Repository,
    uri: Uri,
) -> Result<Response, Refused> {
    let Query(query) = Query::<TagsQuery>::try_from_uri(&uri)
        .map_err(|_| Problem::Invalid { place: "n".to_owned(), detail: format!("use a number, 0 to {TAGS}") })?;
    let (package, limit) = (&repository.package, query.n.unwrap_or(TAGS).min(TAGS));
    let (numbers, next) = host.registry_tags(&allowed.cx, &allowed.permit, package, &query.last, limit).await?;
    let tags: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let mut response = axum::Json(json!({ "name": package.to_string(), "tags": tags })).into_response();
    if let Some(next) = next {
        // Neither a name nor a version has a character that would have to be escaped.
        put(response.headers_mut(), LINK, &format!("</v2/{package}/tags/list?n={limit}&last={next}>; rel=\"next\""));
    }
    Ok(response)
}

/// What refers to a manifest: nothing. The answer is the specification's own for that, so that clients do not look for
/// tags that would say it instead.
pub(super) async fn referrers(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ShowPackage, Market>,
    repository: Repository,
    uri: Uri,
) -> Result<Response, Refused> {
    repository.digest()?;
    host.registry_knows(&allowed.cx, &allowed.permit, &repository.package).await?;
    let mut response = ([(CONTENT_TYPE, INDEX)], no_referrers()).into_response();
    if uri.query().unwrap_or_default().split('&').any(|pair| pair.starts_with("artifactType=")) {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_reads_nothing_holds_its_place_only_for_so_long() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Arc::new(());
            let held = Some(Arc::clone(&place));
            let bytes = vec![0; 64 * PIECE];
            let _unread = fed(bytes, 0..u64::MAX, held, Duration::from_millis(20));
            let until = std::time::Instant::now() + Duration::from_secs(20);
            while Arc::strong_count(&place) > 1 {
                assert!(std::time::Instant::now() < until, "it is held for ever");
                tokio::task::yield_now().await;
            }
        });
    }

    #[test]
    fn a_range_is_a_part_of_what_is_there() {
        for (field, expected) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-", Wanted::Part(2..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("bytes=8-18446744073709551615", Wanted::Part(8..10)),
            ("bytes=8-18446744073709551616", Wanted::Whole),
            ("bytes=10-", Wanted::Outside),
            ("bytes=5-4", Wanted::Outside),
            ("bytes=-0", Wanted::Outside),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("bytes=x-", Wanted::Whole),
            ("bytes", Wanted::Whole),
        ] {
            assert_eq!(part(field, 10), expected, "{field}");
        }
    }
}
