//! Who sees which packages, and what becomes of their versions.

mod deletion;
mod lists;
mod status;

use std::sync::Arc;

use clawhold_marketplace::index::Entry;
use clawhold_store::Telling;
use clawhold_tenancy::audit::{Chain, Event, Outcome, SealedEvent};
use clawhold_tenancy::permit::{Market, ShowPackage};
use clawhold_tenancy::{Context, PackageName, Permit, Publisher, Scope, TenantId};
use semver::Version as Number;
use serde_json::json;

use crate::authentic::same;
use crate::packages::skills_of;
use crate::{Host, Problem, SkillSpec, Version};

/// Tenants that are told of a status in one transaction, each locking its chain.
const TOLD: u32 = 50;

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
pub(crate) use status::Changes;
pub use status::{StatusAsk, VersionStatus};

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
                // Of a publisher that no host wrote nobody knows who may see its packages: they look like any that are not there.
                match publisher.map(|row| self.publisher_view(row)).transpose() {
                    Ok(publisher) => match publisher.and_then(|publisher| publisher.owner) {
                        Some(owner) if owner == **tenant => None,
                        Some(_) => Some(Vec::new()),
                        None => Some(self.ranges(&tx.granted_of(tenant, &tier, name).await?)),
                    },
                    Err(_noted) => Some(Vec::new()),
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
        // A good mark is of this very version, and of the file that the index names.
        let package = &found.published.manifest.package;
        let entry = self.index.state().and_then(|index| index.get(name, version).cloned());
        let is_its_file = entry.as_ref().is_none_or(|entry| entry.digest == found.digest);
        if package.name != *name || package.version != *version || !is_its_file {
            return Err(self.tampered(format!("package:{name}@{version}"), "its row is another version's"));
        }
        // Of what became of it the index says, and not the row.
        if let Some(entry) = entry {
            entry.status.as_str().clone_into(&mut found.status);
        }
        let skills = skills_of(&found)?;
        Ok((found, skills))
    }

    /// Tells each tenant that has a version installed what became of it, in its own chain: each change once, and in their order.
    pub(crate) async fn tell_tenants(&self) -> Result<(), Problem> {
        if self.store.pinned().await?.is_some() {
            return Ok(());
        }
        // Read anew each time, and left to another host that tells as well: nobody hears of a change before all have heard of the one before.
        loop {
            let next = self.store.system("read what tenants are to be told").await?.next_telling().await?;
            let Some(telling) = next else {
                // What cannot be read must not stand before what can.
                let mut tx = self.store.system("look whether tenants are to be told").await?;
                let is_empty = tx.has_no_tellings().await?;
                drop(tx);
                if is_empty || self.store.drop_damaged_tellings().await? == 0 {
                    return Ok(());
                }
                let why = json!({ "why": "what tenants were to be told cannot be read; it was dropped" });
                self.note_tampered("market:tellings".to_owned(), why);
                continue;
            };
            if !self.tell_some(&telling).await? {
                return Ok(());
            }
        }
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

fn said(telling: &Telling) -> Event {
    let Telling { package, version, status, advisory, changed_us, .. } = telling;
    let resource = format!("package:{package}@{version}");
    Event::by_host("market", &format!("package.{status}"), resource, Outcome::Success)
        .with(&json!({ "advisory": advisory, "changed_us": changed_us }))
}
