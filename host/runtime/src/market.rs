//! Who sees which packages, and what becomes of their versions.

mod deletion;
mod lists;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clawhold_marketplace::index::{Entry, Status};
use clawhold_store::{StatusChange, Telling};
use clawhold_tenancy::audit::{Chain, Event, Outcome, SealedEvent, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::{Market, SetPackageStatus, ShowPackage};
use clawhold_tenancy::{Actor, Context, PackageName, Permit, Publisher, Role, Scope, TenantId, TraceId};
use semver::Version as Number;
use serde_json::json;

use crate::authentic::same;
use crate::packages::skills_of;
use crate::{Host, Problem, SkillSpec, Version};

/// Characters of an advisory.
const ADVISORY_CHARS: usize = 2_000;
/// Changes of a publisher within a minute, but to stop what is bad: each has the whole index signed and read by all hosts.
const CHANGES: u64 = 60;
/// Publishers whose changes are counted at a time.
const PUBLISHERS: u64 = 10_000;
/// Tenants that are told of a status in one transaction, each locking its chain.
const TOLD: u32 = 50;
/// Changes of a package that its publisher may make before tenants were told of them. Each is an entry in each tenant's log.
const UNTOLD: u64 = 16;

/// How much each publisher has changed lately, on this host.
pub(crate) struct Changes(moka::sync::Cache<Publisher, Arc<AtomicU64>>);

impl Default for Changes {
    fn default() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(PUBLISHERS).time_to_live(Duration::from_mins(1)).build())
    }
}

impl Changes {
    /// Notes one, and says the how many-th it is within a minute.
    fn note(&self, publisher: &Publisher) -> u64 {
        self.0.get_with_by_ref(publisher, Arc::default).fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Whose eyes a package is seen with.
pub(crate) enum Viewer<'a> {
    /// The operator sees all.
    Operator,
    /// A publisher its own.
    Publisher(&'a Publisher),
    /// A tenant its own, and what was granted to it or to its tier.
    Tenant(&'a TenantId),
}

impl<'a> Viewer<'a> {
    pub(crate) fn of(cx: &'a Context) -> Self {
        match &cx.scope {
            Scope::Host => Self::Operator,
            Scope::Publisher(own) => Self::Publisher(own),
            Scope::Tenant(tenant) => Self::Tenant(tenant),
        }
    }
}

pub use deletion::DeletedPackage;
pub use lists::{About, Installed, Summary};

/// A version of a package, as its list has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionStatus {
    /// The version.
    pub version: Number,
    /// What becomes of it.
    pub status: Status,
    /// Since when, in microseconds since 1970.
    pub changed_us: i64,
}

/// What becomes of a version.
#[derive(Debug, Clone)]
pub struct StatusAsk {
    /// Which one.
    pub version: Number,
    /// What it becomes.
    pub status: Status,
    /// Why, for those who have it installed.
    pub advisory: String,
}

impl Host {
    /// One version of a package, or the latest that is good, with what it offers.
    pub async fn package(
        &self,
        cx: &Context,
        _permit: &Permit<ShowPackage, Market>,
        name: &PackageName,
        version: Option<&Number>,
    ) -> Result<(Version, Vec<SkillSpec>), Problem> {
        self.visible_version(&Viewer::of(cx), name, version).await
    }

    /// The versions of a package that the caller sees, the newest first.
    pub async fn package_versions(
        &self,
        cx: &Context,
        _permit: &Permit<ShowPackage, Market>,
        name: &PackageName,
    ) -> Result<Vec<VersionStatus>, Problem> {
        let seen = self.visible(&Viewer::of(cx), name).await?;
        if seen.is_empty() {
            return Err(Problem::NotFound("package"));
        }
        let of = |entry: &Entry| VersionStatus {
            version: entry.version.clone(),
            status: entry.status,
            changed_us: entry.changed_us,
        };
        Ok(seen.iter().rev().map(of).collect())
    }

    /// The versions of a package that somebody sees, oldest first; none where there is no such package for them.
    pub(crate) async fn visible(&self, viewer: &Viewer<'_>, name: &PackageName) -> Result<Vec<Entry>, Problem> {
        let index = self.verified_index()?;
        let (all, is_left_out) = (index.versions(name), index.is_left_out(name));
        if all.is_empty() && !is_left_out {
            return Ok(Vec::new());
        }
        let ranges = match viewer {
            Viewer::Operator => None,
            _ if self.is_deleted(name).await? => return Ok(Vec::new()),
            Viewer::Publisher(own) if name.publisher() == **own => None,
            Viewer::Publisher(_) => Some(Vec::new()),
            Viewer::Tenant(tenant) => {
                let tier = self.tier_of(tenant).await?;
                let mut tx = self.store.system("look up what is granted").await?;
                let publisher = tx.publisher(&name.publisher()).await?;
                let publisher = publisher.map(|row| self.publisher_view(row)).transpose()?;
                match publisher.and_then(|publisher| publisher.owner) {
                    Some(owner) if owner == **tenant => None,
                    Some(_) => Some(Vec::new()),
                    None => Some(self.ranges(&tx.granted_of(tenant, &tier, name).await?)),
                }
            }
        };
        // Only to those who would see it: nobody else learns that there is such a package.
        if is_left_out && ranges.as_ref().is_none_or(|ranges| !ranges.is_empty()) {
            return Err(Problem::Changed);
        }
        let seen = all.iter().filter(|entry| {
            ranges.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.contains(&entry.version)))
        });
        Ok(seen.cloned().collect())
    }

    /// One version that somebody sees, or the latest that is good: a pre-release only if there is nothing else.
    pub(crate) async fn visible_version(
        &self,
        viewer: &Viewer<'_>,
        name: &PackageName,
        version: Option<&Number>,
    ) -> Result<(Version, Vec<SkillSpec>), Problem> {
        let seen = self.visible(viewer, name).await?;
        let entry = if let Some(number) = version {
            seen.iter().find(|entry| entry.version == *number)
        } else {
            // The operator looks into what is bad as well.
            let is_operator = matches!(viewer, Viewer::Operator);
            let good = seen.iter().filter(|entry| is_operator || entry.status.may_install());
            good.max_by_key(|entry| (entry.status.may_install(), entry.version.pre.is_empty(), entry.version.clone()))
        };
        let entry = entry.ok_or(Problem::NotFound("package version"))?;
        self.published(name, &entry.version).await
    }

    /// A version as it was published, whoever sees it. Its row is what this host wrote.
    pub(crate) async fn published(
        &self,
        name: &PackageName,
        version: &Number,
    ) -> Result<(Version, Vec<SkillSpec>), Problem> {
        let found = self.store.system("look up a package").await?.version(name, version).await?;
        let mut found = found.ok_or(Problem::NotFound("package version"))?;
        if !found.advisory.is_empty() && !same(&found.advisory_mac, &self.authentic.advisory(name, &found)) {
            self.note_tampered(format!("advisory:{name}@{version}"), json!({ "why": "it is not what the host wrote" }));
            found.advisory.clear();
        }
        if !same(&found.published.mac, &self.authentic.version(&found.digest, &found.published)) {
            return Err(self.tampered(format!("package:{name}@{version}"), "its row is not what the host wrote"));
        }
        // Of what became of it the index says, and not the row.
        if let Some(status) = self.index.state().and_then(|index| index.status(name, version)) {
            status.as_str().clone_into(&mut found.status);
        }
        let skills = skills_of(&found)?;
        Ok((found, skills))
    }

    /// Makes something else of a version: on all hosts within a second.
    pub async fn set_status(
        &self,
        cx: &Context,
        permit: &Permit<SetPackageStatus, PackageName>,
        ask: &StatusAsk,
        keep: Keep<VersionStatus>,
    ) -> Result<VersionStatus, Problem> {
        let StatusAsk { version, status, advisory } = ask;
        let name = permit.resource();
        check_advisory(advisory, *status != Status::Active)?;
        let missing = || Problem::NotFound("package version");
        if cx.role != Role::Operator && self.is_deleted(name).await? {
            return Err(missing());
        }
        let index = self.verified_index()?;
        if index.is_left_out(name) {
            return Err(Problem::Changed);
        }
        let was = index.get(name, version).cloned().ok_or_else(missing)?;
        if cx.role != Role::Operator
            && (was.status.needs_operator() || status.needs_operator() && *status != Status::Revoked)
        {
            return Err(Problem::Forbidden(format!(
                "{name} {version} is {}; ask the operator, who alone quarantines, and takes back what is more than a yank",
                was.status.as_str()
            )));
        }
        // Each change has the whole index signed, read by all hosts, and told to tenants.
        if was.status == *status && cx.role != Role::Operator {
            return Err(Problem::Conflict(format!("{name} {version} is {} already", status.as_str())));
        }
        if cx.role != Role::Operator && *status != Status::Revoked && self.changes.note(&name.publisher()) > CHANGES {
            return Err(Problem::Conflict(format!(
                "{} has changed {CHANGES} versions within a minute; wait for one, or ask the operator",
                name.publisher()
            )));
        }
        // Nothing keeps anybody from stopping a bad version.
        if cx.role != Role::Operator
            && *status != Status::Revoked
            && self.store.system("count what tenants are to be told").await?.count_tellings(name).await? >= UNTOLD
        {
            return Err(Problem::Conflict(format!(
                "tenants are still being told of {UNTOLD} changes of {name}; wait until they were, and try again"
            )));
        }
        let changed_us = now_us();
        let done = VersionStatus { version: version.clone(), status: *status, changed_us };
        let detail = json!({ "was": was.status, "status": status, "advisory": advisory, "digest": was.digest });
        let event = Event::by(cx, permit.action(), format!("package:{name}@{version}"), Outcome::Success).with(&detail);
        let event = self.details.seal(Chain::Host, event).await?;
        let (mut tx, counter) = self.change_index("change what becomes of a version").await?;
        if tx.deleted_us(name).await?.is_some() {
            return Err(if cx.role == Role::Operator { deletion::deleted(name) } else { missing() });
        }
        let mut change = StatusChange {
            package: name.clone(),
            version: version.clone(),
            status: status.as_str().to_owned(),
            advisory: advisory.clone(),
            changed_us,
            counter,
            advisory_mac: String::new(),
        };
        change.advisory_mac = self.authentic.status(&change);
        tx.set_status(&change).await?;
        self.sign_index(&mut tx, counter, name, version).await?;
        self.keep_on_the_host(&mut tx, keep, &done).await?;
        tx.commit(event).await?;
        self.read_index().await?;
        Ok(done)
    }

    /// Tells each tenant that has a version installed what became of it, in its own chain: each change once, and in their order.
    pub(crate) async fn tell_tenants(&self) -> Result<(), Problem> {
        if self.store.pinned().await?.is_some() {
            return Ok(());
        }
        // Read anew each time, and left to another host that tells as well: nobody hears of a change before all have heard of the one before.
        while let Some(telling) = self.store.system("read what tenants are to be told").await?.next_telling().await? {
            if !self.tell_some(&telling).await? {
                break;
            }
        }
        Ok(())
    }

    /// Tells the next tenants; `false` if another host has.
    async fn tell_some(&self, telling: &Telling) -> Result<bool, Problem> {
        if !same(&telling.mac, &self.authentic.telling(telling)) {
            let (package, version) = (&telling.package, &telling.version);
            self.note_tampered(
                format!("telling:{package}@{version}"),
                json!({ "why": "it is not what the host wrote; nobody is told of it" }),
            );
            return Ok(self.store.note_nobody_told(telling, None).await?);
        }
        let after = telling.told.parse().ok();
        let tenants = self.store.system("list tenants").await?.tenants(after.as_ref(), TOLD).await?;
        let last = tenants.last().filter(|_| tenants.len() == TOLD as usize).map(|tenant| tenant.id.as_str());
        let mut affected = Vec::new();
        for tenant in &tenants {
            // One that cannot be told, because its row or its key is damaged, keeps no other from it.
            match self.told_of(&tenant.id, telling).await {
                Ok(event) => affected.extend(event.map(|event| (tenant.id.clone(), event))),
                Err(Problem::Unavailable(why)) => return Err(Problem::Unavailable(why)),
                Err(problem) => {
                    tracing::error!(tenant_id = %tenant.id, package = %telling.package, %problem, "a tenant could not be told what became of a version");
                }
            }
        }
        if affected.is_empty() {
            return Ok(self.store.note_nobody_told(telling, last).await?);
        }
        let all = Event {
            detail: json!({ "status": telling.status, "tenants": affected.len() }).to_string().into(),
            ..said(telling)
        };
        let all = self.details.seal(Chain::Host, Event { action: "package.tell_tenants".to_owned(), ..all }).await?;
        let mut tx = self.store.system_write("tell tenants what became of a version").await?;
        if !tx.note_told(telling, last).await? {
            return Ok(false);
        }
        for (tenant, event) in &affected {
            tx.append(tenant, std::slice::from_ref(event)).await?;
        }
        tx.commit(all).await?;
        Ok(true)
    }

    /// What a tenant is told, if it has the version installed.
    async fn told_of(&self, tenant: &TenantId, telling: &Telling) -> Result<Option<SealedEvent>, Problem> {
        let installed = self.store.tenant(tenant).await?.install(&telling.package).await?;
        if installed.is_none_or(|install| install.put.version != telling.version) {
            return Ok(None);
        }
        Ok(Some(self.details.seal(Chain::Tenant(tenant), said(telling)).await?))
    }

    /// What is verified of the index; nothing is served of a marketplace that nobody vouches for.
    pub(crate) fn verified_index(&self) -> Result<Arc<clawhold_marketplace::index::Index>, Problem> {
        self.require_fresh_index()?;
        self.index.state().ok_or_else(|| {
            Problem::Unavailable("the index of packages is not read yet; call again in a moment".to_owned())
        })
    }

    pub(crate) async fn tier_of(&self, tenant: &TenantId) -> Result<String, Problem> {
        let found = self.store.system("look up a tenant").await?.tenant(tenant).await?;
        Ok(found.ok_or(Problem::NotFound("tenant"))?.tier)
    }
}

/// Whether this can be said to those who have a version installed.
fn check_advisory(advisory: &str, is_needed: bool) -> Result<(), Problem> {
    let odd = advisory.chars().any(|c| c.is_control() && c != '\n');
    if advisory.chars().count() > ADVISORY_CHARS || odd || (is_needed && advisory.trim().is_empty()) {
        let detail = format!("say why, in at most {ADVISORY_CHARS} characters: those who have it installed read it");
        return Err(Problem::invalid("advisory", detail));
    }
    Ok(())
}

fn said(telling: &Telling) -> Event {
    let Telling { package, version, status, advisory, .. } = telling;
    Event {
        at_us: now_us(),
        actor: Actor::Host("market").to_string(),
        action: format!("package.{status}"),
        resource: format!("package:{package}@{version}"),
        outcome: Outcome::Success,
        run: None,
        trace: TraceId::random(),
        detail: json!({ "advisory": advisory, "changed_us": telling.changed_us }).to_string().into_bytes(),
    }
}
