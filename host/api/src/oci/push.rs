//! Pushing: blobs whole or in parts, then the manifest, which publishes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use clawhold_runtime::Host;
use clawhold_runtime::oci::artifact::DOCUMENT_BYTES;
use clawhold_runtime::oci::{RegistryCode, RegistryProblem, Writing};
use clawhold_tenancy::limits::COMPONENT_BYTES;
use clawhold_tenancy::permit::PublishPackage;
use clawhold_tenancy::{Digest, PackageName, Publisher, RequestId};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE, WARNING};
use http::{HeaderMap, HeaderName, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde::Deserialize;

use crate::body::{Unread, read};
use crate::gate::Allowed;
use crate::oci::pull::CONTENT_DIGEST;
use crate::oci::refused::{Refused, put};
use crate::oci::{Repository, digest};

/// How long one request may take to bring its part of a blob. 2 minutes: 64 MiB at 4.5 Mbit/s.
const PART_TIME: Duration = Duration::from_mins(2);

const UPLOAD: HeaderName = HeaderName::from_static("docker-upload-uuid");

#[derive(Default, Deserialize)]
struct DigestQuery {
    digest: Option<String>,
}

/// Begins an upload; with `?digest=` the body is the whole blob. `?mount=` is answered like neither, as a registry may
/// that mounts nothing.
pub(super) async fn begin(
    State(host): State<Arc<Host>>,
    allowed: Allowed<PublishPackage, Publisher>,
    repository: Repository,
    request: Request,
) -> Result<Response, Refused> {
    let package = &repository.package;
    let expected = expected(request.uri())?;
    let id = host.begin_upload(&allowed.cx, &allowed.permit, package).await?;
    let Some(expected) = expected else { return Ok(progress(StatusCode::ACCEPTED, package, id, 0)) };
    let mut writing = host.upload(&allowed.cx, &allowed.permit, package, id).await?;
    // Nobody knows its name, so nobody could go on with it.
    match receive(request.into_body(), &mut writing).await {
        Ok(()) => writing.finish(&expected)?,
        Err(refused) => {
            writing.cancel();
            return Err(refused);
        }
    }
    Ok(created(package, &expected))
}

pub(super) async fn status(
    State(host): State<Arc<Host>>,
    allowed: Allowed<PublishPackage, Publisher>,
    repository: Repository,
) -> Result<Response, Refused> {
    let id = upload(&repository)?;
    let size = host.upload_size(&allowed.cx, &allowed.permit, &repository.package, id).await?;
    Ok(progress(StatusCode::NO_CONTENT, &repository.package, id, size))
}

/// Adds a part.
pub(super) async fn part(
    State(host): State<Arc<Host>>,
    allowed: Allowed<PublishPackage, Publisher>,
    repository: Repository,
    request: Request,
) -> Result<Response, Refused> {
    let id = upload(&repository)?;
    let mut writing = host.upload(&allowed.cx, &allowed.permit, &repository.package, id).await?;
    let size = take(&mut writing, request).await?;
    drop(writing);
    Ok(progress(StatusCode::ACCEPTED, &repository.package, id, size))
}

/// Adds the last part, if the request has one, and ends the upload.
pub(super) async fn finish(
    State(host): State<Arc<Host>>,
    allowed: Allowed<PublishPackage, Publisher>,
    repository: Repository,
    request: Request,
) -> Result<Response, Refused> {
    let id = upload(&repository)?;
    let expected = expected(request.uri())?.ok_or_else(|| {
        Refused::new(RegistryCode::DigestInvalid, "the end of an upload names its digest; add ?digest=sha256:…")
    })?;
    let mut writing = host.upload(&allowed.cx, &allowed.permit, &repository.package, id).await?;
    take(&mut writing, request).await?;
    writing.finish(&expected)?;
    Ok(created(&repository.package, &expected))
}

/// Publishes the package that a manifest names.
pub(super) async fn manifest(
    State(host): State<Arc<Host>>,
    allowed: Allowed<PublishPackage, Publisher>,
    repository: Repository,
    request: Request,
) -> Result<Response, Refused> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
    let sent = read(request, DOCUMENT_BYTES).await?;
    let (package, tag) = (&repository.package, &repository.named);
    let pushed = host.push_manifest(&allowed.cx, &allowed.permit, package, tag, kind.as_deref(), &sent).await?;
    let mut response = StatusCode::CREATED.into_response();
    let headers = response.headers_mut();
    put(headers, LOCATION, &format!("/v2/{package}/manifests/{}", pushed.digest));
    // Clients take another digest in this field for a fault, so what differs is said as a warning, which they show.
    if pushed.digest == Digest::of(&sent) {
        put(headers, CONTENT_DIGEST, &pushed.digest.to_string());
    } else {
        let kept =
            format!("299 - \"published; the host makes the manifest itself, and its digest is {}\"", pushed.digest);
        put(headers, WARNING, &kept);
    }
    Ok(response)
}

/// The bytes of a request at the end of an upload, and the size that it has then.
async fn take(writing: &mut Writing<'_>, request: Request) -> Result<u64, Refused> {
    let there = writing.size();
    let range = content_range(request.headers())?;
    if range.as_ref().is_some_and(|(from, _)| *from != there) {
        return Err(RegistryProblem::Range { there }.into());
    }
    receive(request.into_body(), writing).await?;
    let size = writing.size();
    match range {
        Some((_, to)) if size != to.saturating_add(1) => {
            let why = "the part has not as many bytes as Content-Range says; begin the upload again";
            Err(Refused::new(RegistryCode::SizeInvalid, why))
        }
        _ => Ok(size),
    }
}

/// Reads a body into an upload, as long as it may be and for as long as it may take.
async fn receive(mut body: Body, writing: &mut Writing<'_>) -> Result<(), Refused> {
    if body.size_hint().lower() > COMPONENT_BYTES {
        return Err(Unread::TooLarge(COMPONENT_BYTES).into());
    }
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Unread::BrokeOff(error.to_string()))?;
            if let Ok(bytes) = frame.into_data() {
                writing.add(&bytes)?;
            }
        }
        Ok(())
    };
    tokio::time::timeout(PART_TIME, reading).await.unwrap_or(Err(Unread::TooSlow(PART_TIME.as_secs()).into()))
}

/// `Content-Range: FROM-TO`, as the specification has it, which is not HTTP's.
fn content_range(headers: &HeaderMap) -> Result<Option<(u64, u64)>, Refused> {
    let Some(value) = headers.get(CONTENT_RANGE) else { return Ok(None) };
    let read = || {
        let (from, to) = value.to_str().ok()?.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()?))
    };
    let why = "Content-Range is FROM-TO, the first byte and the last, such as 0-1048575";
    read().map(Some).ok_or_else(|| Refused::new(RegistryCode::BlobUploadInvalid, why))
}

fn upload(repository: &Repository) -> Result<RequestId, Refused> {
    let why = "there is no such upload; begin one with POST";
    repository.named.parse().map_err(|_| Refused::new(RegistryCode::BlobUploadUnknown, why))
}

/// The digest of the query.
fn expected(uri: &Uri) -> Result<Option<Digest>, Refused> {
    let query = Query::<DigestQuery>::try_from_uri(uri).map(|Query(query)| query).unwrap_or_default();
    query.digest.as_deref().map(digest).transpose()
}

/// What there is of an upload, in the form of `Range`. Of nothing it is `0-0`, which clients expect.
pub(super) fn range(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

fn progress(status: StatusCode, package: &PackageName, id: RequestId, size: u64) -> Response {
    let mut response = status.into_response();
    let headers = response.headers_mut();
    put(headers, LOCATION, &format!("/v2/{package}/blobs/uploads/{id}"));
    put(headers, RANGE, &range(size));
    put(headers, UPLOAD, &id.to_string());
    if status != StatusCode::NO_CONTENT {
        put(headers, CONTENT_LENGTH, "0");
    }
    response
}

fn created(package: &PackageName, digest: &Digest) -> Response {
    let mut response = StatusCode::CREATED.into_response();
    put(response.headers_mut(), LOCATION, &format!("/v2/{package}/blobs/{digest}"));
    put(response.headers_mut(), CONTENT_DIGEST, &digest.to_string());
    response
}
