//! Packages for OCI clients: what they pull, and what they push.
//!
//! A repository is a package and a tag is a version, so what is true of packages is true here: a version never changes,
//! and what is not granted does not exist. Both are decided in one place each: `version_for` and
//! [`Host::publish_telling`]. It keeps nothing that is no package: no image, no index, nothing that refers to another
//! manifest.

mod problem;
mod pulls;
mod push;
mod token;
mod uploads;

use std::sync::Arc;

use clawhold_marketplace::SkillSpec;
use clawhold_marketplace::index::Status;
use clawhold_marketplace::oci::{Artifact, Facts};
use clawhold_store::{DocumentKind, Named, OciDocument};
use clawhold_tenancy::permit::{Market, ShowPackage};
use clawhold_tenancy::{Context, Digest, PackageName, Permit, Scope};
use semver::Version as Number;
use zeroize::Zeroizing;

use crate::market::Viewer;
use crate::{Host, Problem, Version};

pub(crate) use uploads::keep;

pub use clawhold_marketplace::oci as artifact;
pub use problem::{RegistryCode, RegistryProblem};
pub use pulls::PullPlace;
pub use push::Pushed;
pub use token::{Access, Reach, RegistryToken};
pub use uploads::Writing;

/// Tags of one page, at the most.
pub const TAGS: u32 = 1_000;

/// What the composition root says of the registry.
pub struct RegistrySettings {
    /// Signs short-lived tokens. All hosts behind one address must have the same.
    pub key: Zeroizing<[u8; 32]>,
    /// Where clients reach this host, such as `https://clawhold.example.com`, without a slash at the end.
    pub public_url: Option<String>,
}

/// The registry's part of a host.
pub(crate) struct Registry {
    tokens: token::Tokens,
    uploads: uploads::Uploads,
    pulls: pulls::Pulls,
    public_url: Option<String>,
}

impl Registry {
    pub(crate) fn new(settings: RegistrySettings) -> Self {
        Self {
            tokens: token::Tokens::new(&settings.key),
            uploads: uploads::Uploads::default(),
            pulls: pulls::Pulls::default(),
            public_url: settings.public_url,
        }
    }
}

/// How a client names a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The newest version, by the tag `latest`.
    Latest,
    /// The version that is the tag.
    Version(Number),
    /// By digest.
    Digest(Digest),
}

impl Reference {
    /// Reads a reference. `None` is one that nothing can have.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        // Both have one spelling here: `v1.0.0` and `1.0` are no versions, and digits are lower-case.
        let digest = text.parse().ok().filter(|digest: &Digest| digest.to_string() == text).map(Self::Digest);
        digest.or_else(|| text.parse().ok().filter(|number: &Number| number.to_string() == text).map(Self::Version))
    }
}

/// A blob that the caller may read.
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    content: Content,
}

enum Content {
    Text(String),
    Component,
    Uploaded(Arc<uploads::Spool>),
}

/// What a caller sees of packages. Everything that OCI clients are told goes through these.
impl Host {
    /// One version of a package, or its latest, if the caller may see it.
    pub(crate) async fn version_for(
        &self,
        cx: &Context,
        name: &PackageName,
        version: Option<&Number>,
    ) -> Result<(Version, Vec<SkillSpec>), Problem> {
        let found = self.visible_version(&Viewer::of(cx), name, version).await?;
        // Nobody takes a bad one home by another way than the install, but for those who look into it.
        let number = &found.0.published.manifest.package.version;
        let may_run = self.verified_index()?.status(name, number).is_some_and(Status::may_run);
        if may_run || !matches!(cx.scope, Scope::Tenant(_)) {
            Ok(found)
        } else {
            Err(Problem::NotFound("package version"))
        }
    }

    /// The version that a digest is of, if the caller may see it, and what it is the digest of.
    pub(crate) async fn visible_digest(
        &self,
        cx: &Context,
        name: &PackageName,
        digest: &Digest,
    ) -> Result<(Version, Named), Problem> {
        let named = self.store.system("look up a digest").await?.oci_named(name, digest).await?;
        let (number, named) = named.ok_or(Problem::NotFound("digest"))?;
        let (version, _) = self.version_for(cx, name, Some(&number)).await?;
        Ok((version, named))
    }

    /// The numbers of the versions that the caller may see, behind `after`, by their text, at most `limit`, and where the
    /// list goes on.
    pub(crate) async fn visible_numbers(
        &self,
        cx: &Context,
        name: &PackageName,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<Number>, Option<String>), Problem> {
        let seen = self.visible(&Viewer::of(cx), name).await?;
        // Whoever sees no version sees no package.
        if seen.is_empty() {
            return Err(Problem::NotFound("package"));
        }
        let is_tenant = matches!(cx.scope, Scope::Tenant(_));
        let good = seen.into_iter().filter(|entry| entry.status.may_run() || !is_tenant);
        Ok(page(good.map(|entry| entry.version), after, limit))
    }
}

/// The part of a list behind `after`, in the order of the numbers' text, at most `limit`, and where it goes on.
fn page(numbers: impl Iterator<Item = Number>, after: &str, limit: u32) -> (Vec<Number>, Option<String>) {
    let mut texts: Vec<_> =
        numbers.map(|number| (number.to_string(), number)).filter(|(text, _)| **text > *after).collect();
    texts.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = texts.len() > limit;
    texts.truncate(limit);
    let next = texts.last().filter(|_| more).map(|(text, _)| text.clone());
    (texts.into_iter().map(|(_, number)| number).collect(), next)
}

impl Host {
    /// A manifest.
    pub async fn registry_manifest(
        &self,
        cx: &Context,
        _permit: &Permit<ShowPackage, Market>,
        name: &PackageName,
        reference: &Reference,
    ) -> Result<OciDocument, RegistryProblem> {
        let unknown = || RegistryProblem::unknown(RegistryCode::ManifestUnknown);
        let missing = || RegistryProblem::missing(RegistryCode::ManifestUnknown);
        let version = match reference {
            Reference::Latest => self.version_for(cx, name, None).await.map_err(unknown())?.0,
            Reference::Version(number) => self.version_for(cx, name, Some(number)).await.map_err(unknown())?.0,
            Reference::Digest(digest) => match self.visible_digest(cx, name, digest).await.map_err(unknown())? {
                (version, Named::Document(DocumentKind::Manifest)) => version,
                _ => return Err(missing()),
            },
        };
        self.document_of(&version, DocumentKind::Manifest).await?.ok_or_else(missing)
    }

    /// A blob: a component, a config, or what the caller has pushed of a package that is not published yet.
    pub async fn registry_blob(
        &self,
        cx: &Context,
        _permit: &Permit<ShowPackage, Market>,
        name: &PackageName,
        digest: &Digest,
    ) -> Result<Blob, RegistryProblem> {
        let digest = *digest;
        if push::is_own(cx, name)
            && let Some(spool) = self.registry.uploads.done(name, &digest)
        {
            return Ok(Blob { digest, size: spool.size(), content: Content::Uploaded(spool) });
        }
        let seen = self.visible_digest(cx, name, &digest).await;
        let (version, named) = seen.map_err(RegistryProblem::unknown(RegistryCode::BlobUnknown))?;
        match named {
            Named::Component => Ok(Blob { digest, size: version.size, content: Content::Component }),
            Named::Document(DocumentKind::Config) => {
                let config = self.document_of(&version, DocumentKind::Config).await?;
                let text = config.ok_or_else(|| RegistryProblem::missing(RegistryCode::BlobUnknown))?.text;
                Ok(Blob { digest, size: text.len() as u64, content: Content::Text(text) })
            }
            // A manifest is no blob.
            Named::Document(DocumentKind::Manifest) => Err(RegistryProblem::missing(RegistryCode::BlobUnknown)),
        }
    }

    /// The bytes of a blob, and the place that they take among all that are being pulled.
    pub async fn registry_bytes(
        &self,
        cx: &Context,
        blob: Blob,
    ) -> Result<(Vec<u8>, Option<PullPlace>), RegistryProblem> {
        let place = match blob.content {
            Content::Text(text) => return Ok((text.into_bytes(), None)),
            Content::Component | Content::Uploaded(_) => self.registry.pulls.place(&cx.scope)?,
        };
        let bytes = match blob.content {
            Content::Uploaded(spool) => spool.bytes(),
            _ => self
                .store
                .system("pull a component")
                .await?
                .component(&blob.digest)
                .await?
                .ok_or_else(|| RegistryProblem::missing(RegistryCode::BlobUnknown))?,
        };
        Ok((bytes, Some(place)))
    }

    /// A package's tags behind `after`, at most `limit`, and the last of them if there are more.
    pub async fn registry_tags(
        &self,
        cx: &Context,
        _permit: &Permit<ShowPackage, Market>,
        name: &PackageName,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<Number>, Option<String>), RegistryProblem> {
        let seen = self.visible_numbers(cx, name, after, limit.min(TAGS)).await;
        seen.map_err(RegistryProblem::unknown(RegistryCode::NameUnknown))
    }

    /// Whether there is such a package, for who asks.
    pub async fn registry_knows(
        &self,
        cx: &Context,
        _permit: &Permit<ShowPackage, Market>,
        name: &PackageName,
    ) -> Result<(), RegistryProblem> {
        let seen = self.visible_numbers(cx, name, "", 1).await;
        seen.map(drop).map_err(RegistryProblem::unknown(RegistryCode::NameUnknown))
    }

    /// Where clients reach this host, if its operator has said so.
    pub fn public_url(&self) -> Option<&str> {
        self.registry.public_url.as_deref()
    }

    async fn document_of(&self, version: &Version, kind: DocumentKind) -> Result<Option<OciDocument>, RegistryProblem> {
        let package = &version.published.manifest.package;
        Ok(self.store.system("read a manifest").await?.oci_document(&package.name, &package.version, kind).await?)
    }
}

/// The documents of a version, to be kept when it is published.
pub(crate) fn documents(facts: &Facts<'_>) -> [OciDocument; 2] {
    let Artifact { manifest, config } = Artifact::of(facts);
    [(DocumentKind::Manifest, manifest), (DocumentKind::Config, config)].map(|(kind, document)| OciDocument {
        kind,
        digest: document.digest,
        text: document.text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_tags_come_in_pages_in_the_order_of_their_text() {
        let all = || (0..10_000).rev().map(|n| Number::new(2, 0, n));
        let (mut tags, mut pages, mut after) = (Vec::new(), 0, Some(String::new()));
        while let Some(from) = after {
            let (numbers, next) = page(all(), &from, TAGS);
            tags.extend(numbers.iter().map(ToString::to_string));
            (pages, after) = (pages + 1, next);
        }
        assert_eq!((tags.len(), pages), (10_000, 10), "the last full page knows that it is the last");
        assert!(tags.is_sorted());
        tags.dedup();
        assert_eq!(tags.len(), 10_000);
        assert_eq!(page(all(), "", 0), (vec![], None), "as the specification has it");
        assert_eq!(page(all(), "3", 5), (vec![], None));
        assert_eq!(page(all(), "2.0.9998", 5), (vec![Number::new(2, 0, 9_999)], None));
    }

    #[test]
    fn a_reference_has_one_spelling() {
        let digest = Digest::of(b"x");
        assert_eq!(Reference::parse("latest"), Some(Reference::Latest));
        assert_eq!(Reference::parse("1.4.0-rc.1"), Some(Reference::Version("1.4.0-rc.1".parse().unwrap())));
        assert_eq!(Reference::parse(&digest.to_string()), Some(Reference::Digest(digest)));
        let upper = format!("sha256:{}", digest.hex().to_uppercase());
        for nothing in ["", "1.0", "v1.0.0", "01.0.0", "1.0.0/../x", "sha256:00", "sha512:00", &upper] {
            assert_eq!(Reference::parse(nothing), None, "{nothing}");
        }
    }
}
