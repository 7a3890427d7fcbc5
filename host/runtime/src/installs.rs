//! Installing packages: plan, consent, pin.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawhold_capabilities::{Explained, explain};
use clawhold_marketplace::index::Status;
use clawhold_marketplace::upgrade::Channel;
use clawhold_marketplace::{Choice, Mismatch, Narrowing, Plan, PlanError, SkillSpec, plan, settings_schema};
use clawhold_sandbox::Payer;
use clawhold_store::PutInstall;
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::limits::SETTINGS_BYTES;
use clawhold_tenancy::manifest::Manifest;
use clawhold_tenancy::permit::{ListInstalls, ListSkills, PlanInstall, PutInstall as PutInstallAction, RemoveInstall};
use clawhold_tenancy::policy::Method;
use clawhold_tenancy::quota::{Dimension, Over};
use clawhold_tenancy::{Context, Digest, PackageName, Permit, SecretName, SkillName, TenantId};
use semver::Version as Number;
use serde_json::Value;
use tracing::Instrument;

use crate::fit::MOST_WORK;
use crate::market::Viewer;
use crate::upgrades::Before;
use crate::{Host, Install, InstalledSkill, Problem, Version};

/// How long a check of settings may take, with its turn. 5 s: the slowest that is taken on computes for two.
const SETTINGS_TIME: Duration = Duration::from_secs(5);

/// What an admin wants installed.
#[derive(Debug, Clone)]
pub struct InstallAsk {
    /// The package.
    pub package: PackageName,
    /// Its version; `None` is the latest.
    pub version: Option<Number>,
    /// The settings: a JSON object.
    pub settings: Value,
    /// The secrets whose value the package may read.
    pub reveal: BTreeSet<SecretName>,
    /// Which new versions are taken without asking.
    pub channel: Channel,
    /// What it gets less of than it asks for.
    pub narrowing: Narrowing,
}

/// What an install would be.
#[derive(Debug)]
pub struct PlanView {
    /// The version that would be pinned.
    pub version: Version,
    /// What it offers.
    pub skills: Vec<SkillSpec>,
    /// What it would be allowed, and the word that says yes to it.
    pub plan: Plan,
    /// The version that is installed now.
    pub installed: Option<Number>,
    /// Secrets that are not there, or that the package cannot use as they are; with what is wrong.
    pub lacks: Vec<(SecretName, String)>,
    /// What the package asks for and the operator's configuration refuses in any case.
    pub forbidden: Vec<String>,
    /// What could be gone back to.
    before: Option<String>,
}

impl Host {
    /// What an install would allow. Changes nothing.
    pub async fn plan_install(&self, permit: &Permit<PlanInstall>, ask: &InstallAsk) -> Result<PlanView, Problem> {
        self.planned(permit.tenant(), ask).await
    }

    /// Installs, or changes an install, if `consent` says yes to what it would be allowed.
    pub async fn put_install(
        self: &Arc<Self>,
        cx: &Context,
        permit: &Permit<PutInstallAction>,
        ask: &InstallAsk,
        consent: &Digest,
        expected: Option<i64>,
        keep: Keep<Install>,
    ) -> Result<Install, Problem> {
        let view = self.planned(permit.tenant(), ask).await?;
        if view.plan.consent != *consent {
            return Err(Problem::Consent { expected: view.plan.consent.to_string(), adds: view.plan.adds });
        }
        let manifest = &view.version.published.manifest;
        let mut put = PutInstall {
            package: ask.package.clone(),
            version: manifest.package.version.clone(),
            digest: view.version.digest,
            settings: ask.settings.clone(),
            consent: *consent,
            reveal: ask.reveal.clone(),
            policy: view.plan.policy.clone(),
            updated_us: now_us(),
            updated_by: cx.actor.to_string(),
            channel: ask.channel.to_string(),
            before: view.before.clone(),
            narrowing: narrowing_text(&ask.narrowing),
            mac: String::new(),
        };
        put.mac = self.authentic.install(permit.tenant(), &put);
        self.require_good(permit.tenant(), &put).await?;
        let detail = serde_json::json!({
            "version": put.version, "digest": put.digest, "consent": put.consent,
            "policy": put.policy.digest(), "reveal": put.reveal, "adds": view.plan.adds,
        });
        let event = Event::by(cx, permit.action(), format!("package:{}", ask.package), Outcome::Success).with(&detail);
        let event = self.details.seal(Chain::Tenant(permit.tenant()), event).await?;
        let names: Vec<SkillName> = view.skills.iter().map(|skill| skill.name.clone()).collect();
        let most = self.quota_of(permit.tenant()).await?.get(Dimension::Installs);
        let mut tx = self.store.tenant_write(permit.tenant()).await?;
        let is_new = tx.install(&ask.package).await?.is_none();
        tx.put_install(&put, &names, expected).await?;
        // Counted after the tenant's row is locked, which putting does.
        let count = if is_new { tx.count_installs().await? } else { 0 };
        if count > most {
            let (dimension, used) = (Dimension::Installs, count - 1);
            self.admission.limiter().note_refused(permit.tenant(), dimension);
            return Err(Over { dimension, limit: most, used, wait_us: None }.into());
        }
        let install = tx.install(&ask.package).await?.ok_or(Problem::NotFound("install"))?;
        self.keep_in(&mut tx, keep, &install).await?;
        tx.commit(event).await?;
        if is_new {
            self.admission.limiter().note_used(permit.tenant(), Dimension::Installs, count, most);
        }
        self.resolved.forget(permit.tenant());
        self.make_ready(permit.tenant(), names);
        Ok(install)
    }

    /// Removes an install. Its runs and audit entries stay.
    pub async fn remove_install(
        &self,
        cx: &Context,
        permit: &Permit<RemoveInstall>,
        package: &PackageName,
        expected: Option<i64>,
        keep: Keep<()>,
    ) -> Result<(), Problem> {
        let event = Event::by(cx, permit.action(), format!("package:{package}"), Outcome::Success);
        let event = self.details.seal(Chain::Tenant(permit.tenant()), event).await?;
        let mut tx = self.store.tenant_write(permit.tenant()).await?;
        if !tx.remove_install(package, expected).await? {
            return Err(Problem::NotFound("install"));
        }
        self.keep_in(&mut tx, keep, &()).await?;
        tx.commit(event).await?;
        self.resolved.forget(permit.tenant());
        Ok(())
    }

    /// One install.
    pub async fn install(&self, permit: &Permit<ListInstalls>, package: &PackageName) -> Result<Install, Problem> {
        let found = self.store.tenant(permit.tenant()).await?.install(package).await?;
        found.ok_or(Problem::NotFound("install"))
    }

    /// What would become of a request of an installed package. Sends nothing.
    pub async fn explain(
        &self,
        permit: &Permit<PlanInstall>,
        package: &PackageName,
        request: (Method, &str),
        secrets: &[SecretName],
    ) -> Result<Explained, Problem> {
        let tenant = permit.tenant();
        let found = self.store.tenant(tenant).await?.install(package).await?;
        let install = found.ok_or(Problem::NotFound("install"))?;
        Ok(explain(&install.put.policy, &self.backends, tenant, request, secrets).await)
    }

    /// What is installed, behind `after`, by package.
    pub async fn installs(
        &self,
        permit: &Permit<ListInstalls>,
        after: Option<&PackageName>,
        limit: u32,
    ) -> Result<Vec<Install>, Problem> {
        Ok(self.store.tenant(permit.tenant()).await?.installs(after, limit).await?)
    }

    /// The skills that the caller may call, behind `after`, by name, with their schemas; and where the next page begins,
    /// if there is one. A caller that may not call all of them gets smaller pages.
    pub async fn skills(
        &self,
        cx: &Context,
        permit: &Permit<ListSkills>,
        after: Option<&SkillName>,
        limit: u32,
    ) -> Result<(Vec<(InstalledSkill, SkillSpec)>, Option<SkillName>), Problem> {
        let installed = self.store.tenant(permit.tenant()).await?.skills(after, limit).await?;
        // From all that was read, not from what the caller may see of it: the next page goes on behind this one.
        let full = u32::try_from(installed.len()).is_ok_and(|count| count >= limit);
        let next = installed.last().filter(|_| full).map(|last| last.skill.clone());
        let mut known: Vec<(PackageName, Number, Vec<SkillSpec>)> = Vec::new();
        let mut found = Vec::new();
        for one in installed.into_iter().filter(|one| cx.may_call(&one.skill)) {
            if !known.iter().any(|(package, version, _)| *package == one.package && *version == one.version) {
                let specs = match self.published(&one.package, &one.version).await {
                    Ok((_, specs)) => specs,
                    // A package that somebody has changed past the host cannot be called, and hides no other.
                    Err(Problem::Changed | Problem::Internal | Problem::NotFound(_)) => Vec::new(),
                    Err(problem) => return Err(problem),
                };
                known.push((one.package.clone(), one.version.clone(), specs));
            }
            let spec = known
                .iter()
                .filter(|(package, version, _)| *package == one.package && *version == one.version)
                .flat_map(|(_, _, specs)| specs)
                .find(|spec| spec.name == one.skill)
                .cloned();
            found.extend(spec.map(|spec| (one, spec)));
        }
        Ok((found, next))
    }

    /// Brings an install's code into memory before its first call, which then need not wait for the disk.
    pub(crate) fn make_ready(self: &Arc<Self>, tenant: &TenantId, names: Vec<SkillName>) {
        let (host, tenant) = (Arc::clone(self), tenant.clone());
        let ready = async move {
            // All skills of a package are one component.
            if let Some(skill) = names.first()
                && let Err(problem) = host.resolve(&tenant, skill).await
            {
                tracing::warn!(%tenant, %skill, %problem, "an install is made ready when it is called");
            }
        };
        tokio::spawn(ready.in_current_span());
    }

    pub(crate) async fn planned(&self, tenant: &TenantId, ask: &InstallAsk) -> Result<PlanView, Problem> {
        if !ask.settings.is_object() {
            return Err(Problem::invalid("settings", "write a JSON object"));
        }
        let size = ask.settings.to_string().len() as u64;
        if size > SETTINGS_BYTES {
            return Err(Problem::invalid("settings", format!("they have {size} bytes, {SETTINGS_BYTES} are allowed")));
        }
        let current = self.store.tenant(tenant).await?.install(&ask.package).await?;
        // A row that was changed past the host counts as none: nothing of it is compared with, kept, or gone back to.
        let current = current.filter(|install| self.is_ours(tenant, &install.put));
        let (version, skills) = self.installable(tenant, ask, current.as_ref()).await?;
        let manifest = &version.published.manifest;
        if manifest.wasi.is_some()
            && let Some(why) = self.refuses_wasi(tenant, &*self.quota_of(tenant).await?)
        {
            return Err(Problem::Stopped(why));
        }
        if let Some(unasked) =
            ask.reveal.iter().find(|name| !manifest.secrets.iter().any(|s| s.reveal && s.name == **name))
        {
            let detail = format!("the package does not ask to read the secret {unasked}; leave it out");
            return Err(Problem::invalid("reveal", detail));
        }
        self.require_fitting(tenant, manifest, &ask.settings).await?;
        let narrowed = current.as_ref().and_then(|install| serde_json::from_str(&install.put.narrowing).ok());
        let plan = plan(
            tenant,
            manifest,
            version.digest,
            Choice {
                settings: &ask.settings,
                reveal: &ask.reveal,
                narrowing: &ask.narrowing,
                narrowed: narrowed.as_ref(),
            },
            &self.ceiling,
            current.as_ref().map(|install| &install.put.policy),
        )
        .map_err(|problem| match &problem {
            PlanError::Setting(setting) => {
                Problem::invalid(format!("settings.{}", setting.setting), problem.to_string())
            }
            PlanError::Host { .. } => Problem::invalid("narrowing.without_hosts", problem.to_string()),
        })?;
        // Another version, or the same with other settings: what was there before the version that is there now stays.
        let before = current.as_ref().and_then(|install| {
            if install.put.digest == version.digest {
                install.put.before.clone()
            } else {
                Some(Before::of(&install.put))
            }
        });
        let installed = current.map(|install| install.put.version);
        let ceiling = &self.backends.ceiling;
        let mut forbidden = Vec::new();
        for denial in plan.policy.http.iter().filter_map(|rule| ceiling.forbids(rule)) {
            let said = format!("{}; {}", denial.why, denial.remedy);
            if !forbidden.contains(&said) {
                forbidden.push(said);
            }
        }
        let mut lacks = Vec::new();
        for name in plan.policy.secrets.keys() {
            let kind = plan.policy.kind(name);
            let problem = match self.backends.secrets.get(tenant, name).await {
                // A plan is good without knowing.
                Err(error) => Some(error.to_string()),
                Ok(None) if kind.fields().0.is_empty() => Some("it is not stored".to_owned()),
                Ok(None) => Some(format!("it is not stored; it needs the fields {}", kind.fields().0.join(", "))),
                Ok(Some(found)) => kind.check(found.value.expose()).err(),
            };
            lacks.extend(problem.map(|problem| (name.clone(), problem)));
        }
        Ok(PlanView { version, skills, plan, installed, lacks, forbidden, before })
    }

    /// That the settings are what the version asks for: in the tenant's turn, since schema and settings may both be made to be slow.
    async fn require_fitting(&self, tenant: &TenantId, manifest: &Manifest, settings: &Value) -> Result<(), Problem> {
        if manifest.settings.is_none() {
            return Ok(());
        }
        let (manifest, settings) = (manifest.clone(), settings.clone());
        let check = move || {
            let Some(schema) = settings_schema(&manifest)? else { return Ok(()) };
            if schema.work(settings.to_string().len()) > MOST_WORK {
                let detail = "they are too large for the schema that the package has for them; write less";
                return Err(Problem::invalid("settings", detail));
            }
            schema.check(&settings).map_err(|Mismatch { place, problem }| {
                let place = if place.starts_with('/') { place.replace('/', ".") } else { String::new() };
                let detail = format!(
                    "{problem}; {} {} wants it so, see `clawhold market show`",
                    manifest.package.name, manifest.package.version
                );
                Problem::invalid(format!("settings{place}"), detail)
            })
        };
        let deadline = Instant::now() + SETTINGS_TIME;
        let checked = self.sandbox.on_behalf(Payer::named(tenant.as_str()), deadline, check).await;
        checked.unwrap_or_else(|_stopped| {
            Err(Problem::Unavailable("the settings could not be checked in time; call again in a moment".to_owned()))
        })
    }

    /// The version that would be installed, if the tenant sees it and it may be. What is installed already may be changed whatever became of
    /// the grant, or of others' leave to install it.
    async fn installable(
        &self,
        tenant: &TenantId,
        ask: &InstallAsk,
        current: Option<&Install>,
    ) -> Result<(Version, Vec<SkillSpec>), Problem> {
        let kept = current.filter(|install| ask.version.as_ref() == Some(&install.put.version));
        if let Some(kept) = kept {
            return self.published(&ask.package, &kept.put.version).await;
        }
        let found = self.visible_version(&Viewer::Tenant(tenant), &ask.package, ask.version.as_ref()).await?;
        let version = &found.0.published.manifest.package.version;
        let status = self.verified_index()?.status(&ask.package, version);
        if !status.is_some_and(Status::may_install) {
            let word = status.map_or("not in the index", Status::as_str);
            return Err(Problem::Stopped(format!(
                "{} {version} is {word}: {}; choose another version",
                ask.package, found.0.advisory
            )));
        }
        Ok(found)
    }
}

/// What would be asked for to have the install as it is, at this version.
pub(crate) fn ask_of(put: &PutInstall, version: Option<Number>) -> Result<InstallAsk, Problem> {
    Ok(InstallAsk {
        package: put.package.clone(),
        version,
        settings: put.settings.clone(),
        reveal: put.reveal.clone(),
        channel: put.channel.parse().map_err(|e| Problem::internal("a channel", e))?,
        narrowing: narrowing_of(&put.narrowing)?,
    })
}

pub(crate) fn narrowing_of(text: &str) -> Result<Narrowing, Problem> {
    serde_json::from_str(text).map_err(|e| Problem::internal("a narrowing", e))
}

pub(crate) fn narrowing_text(narrowing: &Narrowing) -> String {
    serde_json::to_string(narrowing).expect("it has only string keys")
}
