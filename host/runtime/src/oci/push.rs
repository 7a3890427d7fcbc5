//! Pushing a package: its blobs first, its manifest last, which publishes it.

use std::sync::Arc;

use clawhold_marketplace::dsse::Envelope;
use clawhold_marketplace::oci::{Descriptor, Read, check_config, read_manifest};
use clawhold_marketplace::signing::PackageStatement;
use clawhold_marketplace::{Package, read};
use clawhold_store::{DocumentKind, Named};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::{Action, PublishPackage};
use clawhold_tenancy::{Context, Digest, PackageName, Permit, Publisher, RequestId, Scope};
use semver::Version as Number;
use tokio::sync::watch;

use super::Reference;
use super::problem::{RegistryCode, RegistryProblem};
use super::uploads::{Spool, Writing};
use crate::{Host, Problem, PublicationPlace, PublishedPackage, Stage, Upload};

/// What a push came to.
#[derive(Debug)]
pub struct Pushed {
    /// The version, which is its tag.
    pub version: Number,
    /// The digest of the manifest that the host made of the package.
    pub digest: Digest,
}

impl Host {
    /// Begins an upload to one of the publisher's own packages. It goes by the id of the request that begins it.
    pub async fn begin_upload(
        &self,
        cx: &Context,
        permit: &Permit<PublishPackage, Publisher>,
        name: &PackageName,
    ) -> Result<RequestId, RegistryProblem> {
        self.require_own(cx, permit, name).await?;
        self.registry.uploads.begin(cx.request, name)?;
        Ok(cx.request)
    }

    /// An upload to write to.
    pub async fn upload(
        &self,
        cx: &Context,
        permit: &Permit<PublishPackage, Publisher>,
        name: &PackageName,
        id: RequestId,
    ) -> Result<Writing<'_>, RegistryProblem> {
        self.require_own(cx, permit, name).await?;
        self.registry.uploads.write(id, name)
    }

    /// Bytes that an upload has so far.
    pub async fn upload_size(
        &self,
        cx: &Context,
        permit: &Permit<PublishPackage, Publisher>,
        name: &PackageName,
        id: RequestId,
    ) -> Result<u64, RegistryProblem> {
        self.require_own(cx, permit, name).await?;
        self.registry.uploads.size(id, name)
    }

    /// Publishes the package that a manifest names. What it is and who may is decided as for any publication; here it is
    /// seen that the manifest tells the truth about it. Its blobs are gone then, unless the same push may be tried again.
    pub async fn push_manifest(
        self: &Arc<Self>,
        cx: &Context,
        permit: &Permit<PublishPackage, Publisher>,
        name: &PackageName,
        reference: &str,
        media_type: Option<&str>,
        manifest: &[u8],
    ) -> Result<Pushed, RegistryProblem> {
        self.require_own(cx, permit, name).await?;
        let manifest = read_manifest(media_type, manifest)?;
        let done = self.push(cx, permit, name, reference, &manifest).await;
        if !matches!(done, Err(RegistryProblem::Other(Problem::Unavailable(_)))) {
            for blob in [&manifest.config, &manifest.layer] {
                self.registry.uploads.forget(name, &blob.digest);
            }
        }
        done
    }

    async fn push(
        self: &Arc<Self>,
        cx: &Context,
        permit: &Permit<PublishPackage, Publisher>,
        name: &PackageName,
        reference: &str,
        manifest: &Read,
    ) -> Result<Pushed, RegistryProblem> {
        let Some(Reference::Version(tag)) = Reference::parse(reference) else {
            let shown: String = reference.chars().take(100).collect();
            return Err(invalid(format!(
                "the tag {shown:?} is no version; push with the version in skill.toml as the tag, such as 1.4.0"
            )));
        };
        check_config(&self.pushed(name, "config", &manifest.config).await?, &manifest.layer.digest)?;
        let place = self.place_to_publish(permit)?;
        let wasm = self.pushed(name, "layer", &manifest.layer).await?;
        let (package, wasm) = tokio::task::spawn_blocking(move || read(&wasm).map(|package| (package, wasm)))
            .await
            .map_err(|e| Problem::internal("a package could not be read", e))?
            .map_err(Problem::from)?;
        agrees(&package, name, &tag)?;
        let signature = manifest.signature.as_deref().map(signed).transpose()?;
        let published = self.publish_pushed(cx, permit, place, wasm, signature).await?;
        let mut tx = self.store.system("read a manifest").await?;
        let kept = tx.oci_document(&published.name, &published.version, DocumentKind::Manifest).await?;
        let kept = kept.ok_or_else(|| RegistryProblem::missing(RegistryCode::ManifestUnknown))?;
        Ok(Pushed { version: published.version, digest: kept.digest })
    }

    /// Publishes as the API does.
    async fn publish_pushed(
        self: &Arc<Self>,
        cx: &Context,
        permit: &Permit<PublishPackage, Publisher>,
        place: PublicationPlace,
        wasm: Vec<u8>,
        signature: Option<&str>,
    ) -> Result<PublishedPackage, Problem> {
        let upload = Upload { wasm, signature: signature.map(str::to_owned), check: false };
        self.publish_telling(cx, permit, place, upload, watch::Sender::new(Stage::Reading), Keep::nothing()).await
    }

    /// A blob that a manifest names. Its size is seen before it is read: what is named as a config may be a component.
    async fn pushed(&self, name: &PackageName, what: &str, blob: &Descriptor) -> Result<Vec<u8>, RegistryProblem> {
        let Descriptor { digest, size } = *blob;
        let there = self.find_pushed(name, &digest).await?.ok_or_else(|| {
            let why =
                format!("the {what} {digest} was not pushed to {name}; push it before the manifest, to the same host");
            RegistryProblem::new(RegistryCode::ManifestBlobUnknown, why)
        })?;
        let found = there.size();
        if found != size {
            let why =
                format!("the manifest says that the {what} has {size} bytes, and it has {found}; write what it has");
            return Err(RegistryProblem::new(RegistryCode::SizeInvalid, why));
        }
        match there {
            There::Pushed(spool) => Ok(spool.bytes()),
            There::Document(text) => Ok(text.into_bytes()),
            There::Component(_) => {
                let bytes = self.store.system("read a component").await?.component(&digest).await?;
                bytes.ok_or_else(|| RegistryProblem::missing(RegistryCode::BlobUnknown))
            }
        }
    }

    /// What was pushed just now, or is of a version that is published: a client does not push again what is there.
    async fn find_pushed(&self, name: &PackageName, digest: &Digest) -> Result<Option<There>, RegistryProblem> {
        if let Some(spool) = self.registry.uploads.done(name, digest) {
            return Ok(Some(There::Pushed(spool)));
        }
        let mut tx = self.store.system("look up a digest").await?;
        Ok(match tx.oci_named(name, digest).await? {
            Some((number, Named::Component)) => {
                tx.version(name, &number).await?.map(|version| There::Component(version.size))
            }
            Some((number, Named::Document(kind))) => {
                tx.oci_document(name, &number, kind).await?.map(|document| There::Document(document.text))
            }
            None => None,
        })
    }

    async fn require_own(
        &self,
        cx: &Context,
        permit: &Permit<PublishPackage, Publisher>,
        name: &PackageName,
    ) -> Result<(), RegistryProblem> {
        if name.publisher() == *permit.resource() {
            return Ok(());
        }
        self.note_refusal(cx, PublishPackage::NAME, format!("package:{name}")).await;
        let why = format!(
            "the token is for packages of {}, and this is {name}; use a token of its publisher",
            permit.resource()
        );
        Err(Problem::Forbidden(why).into())
    }
}

/// Where a blob is.
enum There {
    Pushed(Arc<Spool>),
    Document(String),
    /// Of so many bytes.
    Component(u64),
}

impl There {
    fn size(&self) -> u64 {
        match self {
            Self::Pushed(spool) => spool.size(),
            Self::Document(text) => text.len() as u64,
            Self::Component(size) => *size,
        }
    }
}

/// Whether the caller is the publisher of this package.
pub(super) fn is_own(cx: &Context, name: &PackageName) -> bool {
    cx.scope == Scope::Publisher(name.publisher())
}

/// A repository and a tag that say something else than the package would be believed by whoever looks at them alone.
fn agrees(package: &Package, name: &PackageName, tag: &Number) -> Result<(), RegistryProblem> {
    let inside = &package.manifest.package;
    if inside.name != *name {
        return Err(invalid(format!("the package is {}; push it to that repository, not to {name}", inside.name)));
    }
    if inside.version != *tag {
        let (version, name) = (&inside.version, &inside.name);
        return Err(invalid(format!("the package is of version {version}; push it to {name}:{version}, not to {tag}")));
    }
    Ok(())
}

/// Whether a text can be a signature of a package.
fn signed(text: &str) -> Result<&str, RegistryProblem> {
    let why =
        |error: String| invalid(format!("the signature cannot be used: {error}; sign with `clawhold skill sign`"));
    let envelope = Envelope::parse(text).map_err(|error| why(error.to_string()))?;
    envelope.holds::<PackageStatement>().map_err(|error| why(error.to_string()))?;
    Ok(text)
}

fn invalid(why: String) -> RegistryProblem {
    RegistryProblem::new(RegistryCode::ManifestInvalid, why)
}
