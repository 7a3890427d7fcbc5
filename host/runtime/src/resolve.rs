//! From a tenant and a skill's name to something that can run, without touching the database when it is warm.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clawhold_capabilities::{RunHost, agent_of};
use clawhold_marketplace::publisher::{Expected, verify_package};
use clawhold_marketplace::{Schema, SkillSpec, consent};
use clawhold_sandbox::Skill;
use clawhold_store::{PutInstall, StoreError};
use clawhold_tenancy::policy::Policy;
use clawhold_tenancy::{Digest, PackageName, SkillName, TenantId};
use http::HeaderValue;
use moka::future::Cache;
use tracing::Instrument;

use crate::admission::Ticket;
use crate::authentic::same;
use crate::fresh::{Believed, Fresh, Seen};
use crate::marks::{Mark, Marks};
use crate::packages::payer_of;
use crate::{Host, Problem};

/// Resolved skills kept, those that do not exist included.
const KEPT: u64 = 200_000;
/// Packages whose schemas are kept compiled.
const PACKAGES: u64 = 10_000;

type Key = (TenantId, SkillName);

pub(crate) struct Resolved {
    ready: Cache<Key, Seen<Ready>>,
    fresh: Arc<Fresh>,
    of_tenants: Marks<TenantId>,
    of_packages: Marks<PackageName>,
    packages: Cache<Digest, Arc<Specs>>,
}

/// An installed skill, ready to run.
pub(crate) struct Ready {
    pub(crate) package: PackageName,
    pub(crate) version: String,
    pub(crate) digest: Digest,
    pub(crate) policy: Arc<Policy>,
    pub(crate) policy_version: i64,
    pub(crate) settings: String,
    pub(crate) agent: HeaderValue,
    pub(crate) component: Arc<Skill<RunHost>>,
    specs: Arc<Specs>,
    skill: SkillName,
    /// Its tenant's and its package's.
    marks: [Mark; 2],
}

/// The compiled schemas of a package's skills: input and output.
pub(crate) struct Specs(HashMap<SkillName, (Schema, Schema)>);

impl Ready {
    pub(crate) fn input(&self) -> &Schema {
        &self.specs.0[&self.skill].0
    }

    pub(crate) fn output(&self) -> &Schema {
        &self.specs.0[&self.skill].1
    }
}

impl Resolved {
    pub(crate) fn new(fresh: Arc<Fresh>) -> Self {
        let believed = Believed(Arc::clone(&fresh));
        let ready = Cache::builder().max_capacity(KEPT).expire_after(believed).build();
        let (of_tenants, of_packages) = (Marks::new(), Marks::new());
        Self { ready, fresh, of_tenants, of_packages, packages: Cache::new(PACKAGES) }
    }

    /// What is kept, and has not been forgotten since.
    async fn kept(&self, key: &Key) -> Option<Seen<Ready>> {
        self.ready.get(key).await.filter(|seen| !is_forgotten(seen))
    }

    /// A skill that is known to be ready.
    pub(crate) async fn known(&self, tenant: &TenantId, skill: &SkillName) -> Option<Arc<Ready>> {
        self.kept(&(tenant.clone(), skill.clone())).await?.value
    }

    /// Forgets what is known of a package's installs, whoever's.
    pub(crate) fn forget_package(&self, package: &PackageName) {
        self.of_packages.forget(package);
    }

    pub(crate) fn forget_all(&self) {
        self.ready.invalidate_all();
    }

    /// Forgets all that is known of a tenant's installs, and what look-ups that are under way find.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.of_tenants.forget(tenant);
    }
}

fn is_forgotten(seen: &Seen<Ready>) -> bool {
    match &seen.value {
        Some(ready) => ready.marks.iter().any(Mark::is_forgotten),
        None => seen.absent.as_ref().is_some_and(Mark::is_forgotten),
    }
}

impl Host {
    /// Forgets what is ready to run, as after a start.
    pub fn forget_resolved(&self) {
        self.resolved.forget_all();
    }

    /// The same, for a caller who waits until a deadline. What was begun goes on: it may have to be compiled, and the next call
    /// finds it done. It keeps the caller's ticket so long, so that nobody has more look-ups under way than runs.
    pub(crate) async fn resolve_in_time(
        self: &Arc<Self>,
        ticket: Ticket,
        tenant: &TenantId,
        skill: &SkillName,
        deadline: Instant,
    ) -> Result<(Ticket, Arc<Ready>), Problem> {
        if let Some(known) = self.resolved.kept(&(tenant.clone(), skill.clone())).await {
            return Ok((ticket, known.value.ok_or(Problem::NotFound("skill"))?));
        }
        let (host, tenant, skill) = (Arc::clone(self), tenant.clone(), skill.clone());
        let look_up = async move { Ok((ticket, host.resolve(&tenant, &skill).await?)) };
        let found = tokio::spawn(look_up.in_current_span());
        match tokio::time::timeout_at(deadline.into(), found).await {
            Ok(found) => found.map_err(|e| Problem::internal("a look-up was lost", e))?,
            Err(_elapsed) => {
                let why = "the skill's code is not there yet: it is being made ready, or read; call again in a moment";
                Err(Problem::Unavailable(why.to_owned()))
            }
        }
    }

    /// What runs when this tenant calls this skill.
    pub(crate) async fn resolve(&self, tenant: &TenantId, skill: &SkillName) -> Result<Arc<Ready>, Problem> {
        let key = (tenant.clone(), skill.clone());
        if let Some(known) = self.resolved.kept(&key).await {
            return known.value.ok_or(Problem::NotFound("skill"));
        }
        // Nothing is there, or what is there is forgotten.
        self.resolved.ready.invalidate(&key).await;
        let mut found = self.looked_up(&key).await;
        if found.as_ref().is_ok_and(is_forgotten) {
            // It was begun by somebody else, perhaps before this call. The next one is not.
            self.resolved.ready.invalidate(&key).await;
            found = self.looked_up(&key).await;
        }
        let found = found.map_err(|shared: Arc<Problem>| match &*shared {
            Problem::Unavailable(why) => Problem::Unavailable(why.clone()),
            Problem::Changed => Problem::Changed,
            Problem::Package(why) => Problem::Package(why.clone()),
            Problem::Stopped(why) => Problem::Stopped(why.clone()),
            _ => Problem::Internal,
        })?;
        found.value.ok_or(Problem::NotFound("skill"))
    }

    /// What one look-up finds for all that ask for the same at a time.
    async fn looked_up(&self, key: &Key) -> Result<Seen<Ready>, Arc<Problem>> {
        // Boxed: the rare way must not make every call's future large.
        let look_up = Box::pin(async {
            let (seen, mark) = (self.resolved.fresh.begin(), self.resolved.of_tenants.take(&key.0));
            let found = self.look_up(&key.0, &key.1, mark.clone()).await?;
            let absent = found.is_none().then_some(mark);
            Ok(Seen { absent, ..seen(found) })
        });
        self.resolved.ready.try_get_with(key.clone(), look_up).await
    }

    async fn look_up(&self, tenant: &TenantId, skill: &SkillName, mark: Mark) -> Result<Option<Arc<Ready>>, Problem> {
        let Some(install) = self.store.tenant(tenant).await?.install_of_skill(skill).await? else {
            return Ok(None);
        };
        let put = install.put;
        // Before the index is looked at: what becomes of the package from now on forgets what is found here.
        let marks = [mark, self.resolved.of_packages.take(&put.package)];
        self.require_good(tenant, &put).await?;
        let specs = self.specs(&put.package, &put.version, put.digest).await?;
        if !specs.0.contains_key(skill) {
            return Err(Problem::internal("an installed skill is not in its package", skill));
        }
        let (store, of) = (self.store.clone(), tenant.clone());
        let digest = put.digest;
        let was_changed = Arc::new(AtomicBool::new(false));
        let changed = Arc::clone(&was_changed);
        let wasm = async move {
            let mut tx = store.tenant(&of).await?;
            let read = tx.component(&digest).await;
            changed.store(matches!(read, Err(StoreError::Corrupt { .. })), Ordering::Relaxed);
            read?.ok_or_else(|| anyhow::anyhow!("the component {digest} is gone"))
        };
        let payer = payer_of(&put.package.publisher());
        let loaded = self.sandbox.load(payer, digest, wasm).await;
        if was_changed.load(Ordering::Relaxed) {
            return Err(self.tampered(format!("component:{digest}"), "its bytes are not those of its digest"));
        }
        let component = loaded?;
        // To compile takes its time, and what became of the version meanwhile counts.
        self.require_runs(tenant, &put).await?;
        Ok(Some(Arc::new(Ready {
            agent: agent_of(&put.package, &put.version),
            package: put.package,
            version: put.version.to_string(),
            digest,
            policy: Arc::new(put.policy),
            policy_version: install.revision,
            settings: put.settings.to_string(),
            component,
            specs,
            skill: skill.clone(),
            marks,
        })))
    }

    /// Whether an install is what this host wrote, and allows what was agreed to and nothing else.
    pub(crate) fn is_ours(&self, tenant: &TenantId, put: &PutInstall) -> bool {
        let agreed = consent(tenant, &put.digest, &put.policy, &put.settings);
        same(&put.mac, &self.authentic.install(tenant, put)) && put.consent == agreed
    }

    pub(crate) fn require_ours(&self, tenant: &TenantId, put: &PutInstall) -> Result<(), Problem> {
        if self.is_ours(tenant, put) {
            return Ok(());
        }
        let resource = format!("install:{tenant}/{}", put.package);
        Err(self.tampered(resource, "its row is not what the host wrote, or not what was agreed to"))
    }

    /// What is checked of an install before its code is brought into memory, and not with each call: that the row is what this host wrote,
    /// that the file is the one which the index names, that it may run, and that its publisher's signature still counts.
    pub(crate) async fn require_good(&self, tenant: &TenantId, put: &PutInstall) -> Result<(), Problem> {
        let PutInstall { package, version, digest, .. } = put;
        self.require_ours(tenant, put)?;
        self.require_runs(tenant, put).await?;
        let (found, _) = self.published(package, version).await?;
        if self.must_be_signed(found.published.signature.as_deref()) {
            let publisher = self.publisher_of(&package.publisher()).await?;
            let expected = Expected { package, version, digest };
            let signed = verify_package(
                found.published.signature.as_deref(),
                &publisher.keys,
                expected,
                found.published.published_us,
            );
            if let Err(why) = signed {
                return Err(Problem::Stopped(format!("{package} {version} does not run: {why}")));
            }
        }
        Ok(())
    }

    /// That the index has this very file, and lets it run.
    async fn require_runs(&self, tenant: &TenantId, put: &PutInstall) -> Result<(), Problem> {
        let PutInstall { package, version, digest, .. } = put;
        let index = self.verified_index()?;
        let Some(entry) = index.get(package, version).filter(|entry| entry.digest == *digest) else {
            return Err(self.tampered(format!("install:{tenant}/{package}"), "the index has no such file"));
        };
        if entry.status.may_run() {
            return Ok(());
        }
        let (found, _) = self.published(package, version).await?;
        Err(Problem::Stopped(format!(
            "{package} {version} is {}: {}; install another version, or remove it",
            entry.status.as_str(),
            found.advisory
        )))
    }

    async fn specs(
        &self,
        package: &PackageName,
        version: &semver::Version,
        digest: Digest,
    ) -> Result<Arc<Specs>, Problem> {
        if let Some(known) = self.resolved.packages.get(&digest).await {
            return Ok(known);
        }
        let (_, skills) = self.published(package, version).await.map_err(|problem| match problem {
            Problem::NotFound(_) => Problem::internal("an installed package is gone", package),
            other => other,
        })?;
        let compile = |spec: SkillSpec| {
            let both = Schema::compile(&spec.input_schema).and_then(|i| Ok((i, Schema::compile(&spec.output_schema)?)));
            both.map(|both| (spec.name, both)).map_err(|e| Problem::internal("a stored schema is damaged", e))
        };
        let specs = skills.into_iter().map(compile).collect::<Result<HashMap<_, _>, _>>()?;
        let specs = Arc::new(Specs(specs));
        self.resolved.packages.insert(digest, Arc::clone(&specs)).await;
        Ok(specs)
    }
}
