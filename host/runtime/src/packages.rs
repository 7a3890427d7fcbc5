//! Publishing packages, and showing what is published.

mod places;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clawhold_capabilities::RunHost;
use clawhold_marketplace::gate::{Faults, History, check_name, check_version};
use clawhold_marketplace::index::{Entry, Status};
use clawhold_marketplace::names::Known;
use clawhold_marketplace::oci::Facts;
use clawhold_marketplace::publisher::{Expected, verify_package};
use clawhold_marketplace::{Package as Read, SkillSpec, check_descriptors, read};
use clawhold_sandbox::{Budget, Payer};
use clawhold_store::{Conflict, Publication, Shown, Store, StoreError};
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::PublishPackage;
use clawhold_tenancy::quota::Allowance;
use clawhold_tenancy::run::Reason;
use clawhold_tenancy::{Context, Digest, PackageName, Permit, Publisher, RunLimits};
use semver::Version as Number;
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tracing::Instrument;

use crate::details::{Details, SealError};
use crate::market::About;
use crate::{Host, Problem, Signatures, Version, oci};

pub use places::PublicationPlace;
pub(crate) use places::Publications;

/// A package is asked what it offers before anybody trusts it: with little time, little fuel and few host calls.
const DESCRIBE_TIME: Duration = Duration::from_secs(2);
const DESCRIBE_FUEL: u64 = 200_000_000;
const DESCRIBE_HOST_CALLS: u32 = 16;

/// Versions of a publisher that is a tenant's own: none ever leaves the index, which all hosts keep in memory. 1,000.
const OWN_VERSIONS: usize = 1_000;

/// Whose share of slots, processor and compiler a publisher's packages use: no tenant's, since a colon is in no tenant's id.
pub(crate) fn payer_of(publisher: &Publisher) -> Payer {
    Payer::named(&format!("publisher:{publisher}"))
}

/// How far a publication is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The file is read and checked.
    Reading,
    /// It waits for the compiler, or is compiled: seconds for most, half a minute for a language's runtime.
    Compiling,
    /// It is asked what it offers.
    Describing,
    /// It is kept.
    Storing,
}

impl Stage {
    /// The word that the API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Compiling => "compiling",
            Self::Describing => "describing",
            Self::Storing => "storing",
        }
    }
}

/// What publishing came to.
#[derive(Debug)]
pub struct PublishedPackage {
    /// The package.
    pub name: PackageName,
    /// Its version.
    pub version: Number,
    /// The component.
    pub digest: Digest,
    /// What it offers.
    pub skills: Vec<SkillSpec>,
    /// Whether it was published just now; the very same may be published again.
    pub new: bool,
}

/// What is published.
#[derive(Debug)]
pub struct Upload {
    /// The package file.
    pub wasm: Vec<u8>,
    /// Its publisher's signature: an envelope.
    pub signature: Option<String>,
    /// It is only to be said what is wrong with it.
    pub check: bool,
}

impl Host {
    /// Publishes a package file: reads it, compiles it, asks it what it offers, and keeps it. Whatever is wrong with
    /// it is said before anything is kept.
    ///
    /// Once begun it goes on even if the publisher goes away, so that what is refused is also cleaned up.
    pub async fn publish(
        self: &Arc<Self>,
        cx: &Context,
        permit: &Permit<PublishPackage, Publisher>,
        wasm: Vec<u8>,
    ) -> Result<PublishedPackage, Problem> {
        let place = self.place_to_publish(permit)?;
        let upload = Upload { wasm, signature: None, check: false };
        self.publish_telling(cx, permit, place, upload, watch::Sender::new(Stage::Reading), Keep::nothing()).await
    }

    /// The same, and tells how far it is: compiling a large runtime takes half a minute.
    pub async fn publish_telling(
        self: &Arc<Self>,
        cx: &Context,
        permit: &Permit<PublishPackage, Publisher>,
        place: PublicationPlace,
        upload: Upload,
        stage: watch::Sender<Stage>,
        keep: Keep<PublishedPackage>,
    ) -> Result<PublishedPackage, Problem> {
        let (host, cx, permit) = (Arc::clone(self), cx.clone(), permit.clone());
        let publish = async move {
            let _held = place;
            host.publish_to_the_end(&cx, &permit, upload, &stage, keep).await
        };
        tokio::spawn(publish.in_current_span()).await.map_err(|e| Problem::internal("a publication was lost", e))?
    }

    async fn publish_to_the_end(
        &self,
        cx: &Context,
        permit: &Permit<PublishPackage, Publisher>,
        upload: Upload,
        stage: &watch::Sender<Stage>,
        keep: Keep<PublishedPackage>,
    ) -> Result<PublishedPackage, Problem> {
        let Upload { wasm, signature, check } = upload;
        let (package, wasm) = tokio::task::spawn_blocking(move || read(&wasm).map(|package| (package, wasm)))
            .await
            .map_err(|e| Problem::internal("a package could not be read", e))??;
        let name = &package.manifest.package.name;
        if name.publisher() != *permit.resource() {
            self.note_refusal(cx, permit.action(), format!("package:{name}")).await;
            return Err(Problem::Forbidden(format!(
                "the token is for packages of {}, and this one is {name}; use a token of {}",
                permit.resource(),
                name.publisher()
            )));
        }
        let upload = Upload { wasm, signature, check };
        let done = self.publish_read(cx, permit, &package, upload, stage, keep).await;
        // What is refused leaves nothing behind, or a publisher could fill the disk with it.
        if check || done.is_err() {
            self.discard(package.digest).await;
        }
        done
    }

    async fn publish_read(
        &self,
        cx: &Context,
        permit: &Permit<PublishPackage, Publisher>,
        package: &Read,
        upload: Upload,
        stage: &watch::Sender<Stage>,
        keep: Keep<PublishedPackage>,
    ) -> Result<PublishedPackage, Problem> {
        let Upload { wasm, signature, check } = upload;
        let (name, version) = (&package.manifest.package.name, &package.manifest.package.version);
        let mut tx = self.store.system("look up a version").await?;
        if !check
            && tx.deleted_us(name).await?.is_none()
            && let Some(there) = tx.version(name, version).await?
        {
            return published_before(there, package.digest);
        }
        drop(tx);
        let mut faults = self.faults(package, signature.as_deref()).await?;
        // Code that nobody answers for is not run, not even to be asked.
        let described = if faults.said().is_empty() || check && !self.must_be_signed(signature.as_deref()) {
            let payer = payer_of(permit.resource());
            let described = self.describe(&wasm, &package.manifest.limits(), payer, stage).await;
            if let Err(Problem::Package(why)) = &described {
                faults.check(Err::<(), _>(why));
            }
            match described {
                Err(Problem::Package(_)) => Vec::new(),
                described => described?,
            }
        } else {
            Vec::new()
        };
        faults.into_result().map_err(Problem::Faults)?;
        let done = PublishedPackage {
            name: name.clone(),
            version: version.clone(),
            digest: package.digest,
            skills: described,
            new: !check,
        };
        if check {
            return Ok(done);
        }
        stage.send_replace(Stage::Storing);
        let mut publication = Publication {
            manifest: package.manifest.clone(),
            descriptors: serde_json::to_string(&done.skills).map_err(|e| Problem::internal("descriptors", e))?,
            published_us: now_us(),
            published_by: cx.actor.to_string(),
            signature,
            mac: String::new(),
        };
        publication.mac = self.authentic.version(&package.digest, &publication);
        let detail = serde_json::json!({
            "digest": package.digest,
            "skills": done.skills.iter().map(|skill| skill.name.as_str()).collect::<Vec<_>>(),
            "signed": publication.signature.is_some(),
        });
        let event = Event::by(cx, permit.action(), format!("package:{name}@{version}"), Outcome::Success).with(&detail);
        let event = self.details.seal(Chain::Host, event).await?;
        let (mut tx, counter) = self.change_index("publish a package").await?;
        // Of two that publish the same version at once one has been faster.
        if tx.deleted_us(name).await?.is_none()
            && let Some(there) = tx.version(name, version).await?
        {
            return published_before(there, package.digest);
        }
        // The compiler has had half a minute, in which others may have published, or a key have ended.
        self.faults(package, publication.signature.as_deref()).await?.into_result().map_err(Problem::Faults)?;
        tx.publish(&publication, &wasm, counter).await?;
        let documents = oci::documents(&Facts {
            package: &publication.manifest.package,
            digest: package.digest,
            size: wasm.len() as u64,
            imports: &package.imports,
            exports: &package.exports,
            published_us: publication.published_us,
            signature: publication.signature.as_deref(),
        });
        tx.keep_oci_documents(name, version, &documents).await?;
        let index = self.verified_index()?;
        let shown = (version.pre.is_empty(), version);
        if index.versions(name).iter().all(|other| (other.version.pre.is_empty(), &other.version) < shown) {
            let about = About::of(&publication, &done.skills);
            let mut shown = Shown {
                newest: version.clone(),
                words: about.words(name),
                about: serde_json::to_string(&about).map_err(|e| Problem::internal("a summary", e))?,
                mac: String::new(),
            };
            shown.mac = self.authentic.shown(name, &shown);
            tx.show_in_lists(name, &shown).await?;
        }
        let entry = Entry {
            package: name.clone(),
            version: version.clone(),
            digest: package.digest,
            status: Status::Active,
            changed_us: publication.published_us,
            counter,
        };
        self.sign_index(&mut tx, entry).await?;
        self.keep_on_the_host(&mut tx, keep, &done).await?;
        tx.commit(event).await?;
        self.read_index().await?;
        Ok(done)
    }

    /// Takes back what compiling a package has left, unless tenants use that very file.
    async fn discard(&self, digest: Digest) {
        if self.index.state().is_none_or(|index| index.by_digest(&digest).is_none()) {
            self.sandbox.discard(digest).await;
        }
    }

    /// What is wrong with a package, as far as it is known without running anything of it.
    async fn faults(&self, package: &Read, signature: Option<&str>) -> Result<Faults, Problem> {
        let (name, version) = (&package.manifest.package.name, &package.manifest.package.version);
        let mut faults = Faults::new();
        let index = self.verified_index()?;
        if index.is_left_out(name) {
            return Err(Problem::Changed);
        }
        let published: Vec<Number> = index.versions(name).iter().map(|entry| entry.version.clone()).collect();
        let deleted = self.store.system("look up a package").await?.deleted_us(name).await?.is_some();
        check_version(version, History { published: &published, deleted }, &mut faults);
        if published.is_empty() {
            let names = self.store.system("read the names of packages").await?.package_names().await?;
            check_name(name, &Known::new(self.publisher_names().await?, names), &mut faults);
        }
        match self.publisher_of(&name.publisher()).await {
            Ok(publisher) if publisher.owner.is_some() && self.versions_of(&publisher.name)? >= OWN_VERSIONS => faults
                .add(
                    format!(
                        "{} is a tenant's own and has {OWN_VERSIONS} versions, and may have no more",
                        publisher.name
                    ),
                    "ask the operator for a publisher of theirs",
                ),
            Ok(publisher) if self.must_be_signed(signature) => {
                let expected = Expected { package: name, version, digest: &package.digest };
                faults.check(verify_package(signature, &publisher.keys, expected, now_us()));
            }
            Ok(_) => {}
            Err(Problem::NotFound(_)) => faults.add(
                format!("there is no publisher {}", name.publisher()),
                "ask the operator to register it with `clawhold publisher add`",
            ),
            Err(problem) => return Err(problem),
        }
        Ok(faults)
    }

    fn versions_of(&self, publisher: &Publisher) -> Result<usize, Problem> {
        let index = self.verified_index()?;
        Ok(index.entries().iter().filter(|entry| entry.package.publisher() == *publisher).count())
    }

    /// Whether a signature decides: it always does where there is one.
    pub(crate) fn must_be_signed(&self, signature: Option<&str>) -> bool {
        self.market.signatures == Signatures::Required || signature.is_some()
    }

    /// Compiles a component and asks it what it offers, with no tenant, no secrets and no network.
    async fn describe(
        &self,
        wasm: &[u8],
        asked: &RunLimits,
        payer: Payer,
        stage: &watch::Sender<Stage>,
    ) -> Result<Vec<SkillSpec>, Problem> {
        stage.send_replace(Stage::Compiling);
        let skill = self.sandbox.publish(payer.clone(), wasm.to_vec()).await?;
        stage.send_replace(Stage::Describing);
        let limits = RunLimits { fuel: DESCRIBE_FUEL, host_calls: DESCRIBE_HOST_CALLS, ..asked.within(&self.ceiling) };
        let started = Instant::now();
        let deadline = started + DESCRIBE_TIME;
        let slot =
            self.sandbox.place(&payer).until(deadline).await.ok_or_else(|| {
                Problem::Unavailable("all run slots are in use; publish again in a moment".to_owned())
            })?;
        let host = RunHost::without_authority(limits.clone());
        let journal = host.journal();
        let memory = Allowance::new(limits.memory_bytes);
        let budget = Budget { limits, started, deadline, payer, memory };
        let finished = self.sandbox.describe(slot, skill, budget, host).await;
        let began = finished.usage.fuel > 0;
        let described = finished.outcome.map_err(|failure| {
            if failure.reason == Reason::Deadline && !began {
                return Problem::Unavailable("the processor is in use by others; publish again in a moment".to_owned());
            }
            let fatal = journal.lock().ok().and_then(|journal| journal.fatal.clone());
            Problem::Package(format!(
                "the component did not say what it offers ({}): {}",
                failure.reason,
                fatal.unwrap_or(failure.message)
            ))
        })?;
        Ok(check_descriptors(described)?)
    }
}

/// Puts into the host's own chain that somebody changed native code on disk. It was not run; that somebody could write
/// there is what the operator must know.
pub(crate) async fn note_tampering(store: Store, details: Arc<Details>, mut tampered: UnboundedReceiver<Digest>) {
    while let Some(digest) = tampered.recv().await {
        let event = Event::by_host("artifacts", "host.reject_artifact", format!("component:{digest}"), Outcome::Denied)
            .with(&json!({ "why": "its MAC did not fit; the component was compiled again" }));
        let noted = async {
            let event = details.seal(Chain::Host, event).await?;
            Ok::<_, SealError>(store.system_write("note a changed artifact").await?.commit(event).await?)
        };
        if let Err(error) = noted.await {
            tracing::error!(%digest, %error, "a changed artifact could not be noted in the audit log");
        }
    }
}

/// The answer to publishing what is there.
fn published_before(there: Version, digest: Digest) -> Result<PublishedPackage, Problem> {
    let package = &there.published.manifest.package;
    if there.digest != digest {
        let (package, version) = (package.name.clone(), package.version.clone());
        return Err(StoreError::from(Conflict::Version { package, version, digest: there.digest }).into());
    }
    let skills = skills_of(&there)?;
    let (name, version) = (package.name.clone(), package.version.clone());
    Ok(PublishedPackage { name, version, digest, skills, new: false })
}

pub(crate) fn skills_of(version: &Version) -> Result<Vec<SkillSpec>, Problem> {
    serde_json::from_str(&version.published.descriptors)
        .map_err(|e| Problem::internal("a package's descriptors are damaged", e))
}
