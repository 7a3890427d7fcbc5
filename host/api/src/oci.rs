//! `/v2`: packages for OCI clients, by <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md>.
//!
//! Another contract than `/v1`: its errors have another form, it takes other credentials, and its clients may send query
//! keys that we do not know. Roles and permits are the same, and so is the table that its routes stand in.

mod credentials;
mod pull;
mod push;
mod refused;
mod token;

use std::collections::HashMap;

use axum::extract::{FromRequestParts, Path};
use clawhold_runtime::oci::RegistryCode;
use clawhold_tenancy::permit::{Market, PublishPackage, ShowPackage};
use clawhold_tenancy::{Digest, PackageName, Publisher};
use http::request::Parts;

use crate::openapi::Operation;
use crate::routes::Routes;

pub(crate) use credentials::{Needed, authenticate};
pub(crate) use refused::{no_such_method, no_such_route, refuse};

/// Where the routes begin.
pub(crate) const ROOT: &str = "/v2/";
/// Where a client gets a short-lived token.
const TOKEN: &str = "/v2/token";

pub(crate) fn routes(routes: Routes) -> Routes {
    let op = Operation::of_registry;
    routes
        .get::<ShowPackage, Market, _, _>(ROOT, pull::base, op())
        .get::<ShowPackage, Market, _, _>(TOKEN, token::give, op())
        .get::<ShowPackage, Market, _, _>("/v2/{publisher}/{name}/tags/list", pull::tags, op())
        .get::<ShowPackage, Market, _, _>("/v2/{publisher}/{name}/manifests/{reference}", pull::manifest, op())
        .get::<ShowPackage, Market, _, _>("/v2/{publisher}/{name}/blobs/{digest}", pull::blob, op())
        .get::<ShowPackage, Market, _, _>("/v2/{publisher}/{name}/referrers/{digest}", pull::referrers, op())
        .post::<PublishPackage, Publisher, _, _>("/v2/{publisher}/{name}/blobs/uploads/", push::begin, op())
        .get::<PublishPackage, Publisher, _, _>("/v2/{publisher}/{name}/blobs/uploads/{upload}", push::status, op())
        .patch::<PublishPackage, Publisher, _, _>("/v2/{publisher}/{name}/blobs/uploads/{upload}", push::part, op())
        .put::<PublishPackage, Publisher, _, _>("/v2/{publisher}/{name}/blobs/uploads/{upload}", push::finish, op())
        .put::<PublishPackage, Publisher, _, _>("/v2/{publisher}/{name}/manifests/{reference}", push::manifest, op())
}

/// The package of a path, and what the path names in it.
pub(crate) struct Repository {
    pub(crate) package: PackageName,
    /// A reference, a digest or an upload; empty if the path names none.
    pub(crate) named: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Repository {
    type Rejection = refused::Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, refused::Refused> {
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let path = path.map(|Path(path)| path).unwrap_or_default();
        let package = package_of(&path).ok_or_else(|| {
            let why = "a repository is publisher/name, each 2 to 63 of a-z, 0-9 and -; correct the name";
            refused::Refused::new(RegistryCode::NameInvalid, why)
        })?;
        let named = ["reference", "digest", "upload"].into_iter().find_map(|key| path.get(key));
        Ok(Self { package, named: named.cloned().unwrap_or_default() })
    }
}

impl Repository {
    fn digest(&self) -> Result<Digest, refused::Refused> {
        digest(&self.named)
    }
}

/// The package that a path names, if it names one.
fn package_of(path: &HashMap<String, String>) -> Option<PackageName> {
    format!("{}/{}", path.get("publisher")?, path.get("name")?).parse().ok()
}

/// A digest in its one spelling.
fn digest(text: &str) -> Result<Digest, refused::Refused> {
    text.parse().ok().filter(|digest: &Digest| digest.to_string() == text).ok_or_else(|| {
        let why = "a digest is sha256: and 64 digits of 0-9 and a-f; send the one of the blob";
        refused::Refused::new(RegistryCode::DigestInvalid, why)
    })
}
