//! Grants: which tenants may see and install a package.

use clawhold_marketplace::grant::{Grantee, VersionRange};
use clawhold_store::GrantRow;
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::{GrantPackage, ListGrants};
use clawhold_tenancy::{Context, PackageName, Permit, Role};
use serde_json::json;

use crate::authentic::same;
use crate::{Host, Problem};

impl Host {
    /// Grants a package, or other versions of it than before. What a tenant has installed goes on when its grant is changed.
    pub async fn grant(
        &self,
        cx: &Context,
        permit: &Permit<GrantPackage, PackageName>,
        to: &Grantee,
        range: &VersionRange,
        keep: Keep<GrantRow>,
    ) -> Result<GrantRow, Problem> {
        let package = permit.resource();
        self.require_grantable(package).await?;
        if let Grantee::Tier(tier) = to {
            self.require_tier(tier.as_str())?;
        }
        if let Grantee::Tenant(tenant) = to {
            // A publisher must not find out which tenants there are.
            let there = self.store.system("look up a tenant").await?.tenant(tenant).await?.is_some();
            if !there && cx.role == Role::Operator {
                return Err(Problem::NotFound("tenant"));
            }
        }
        let mut grant = GrantRow {
            package: package.clone(),
            grantee: to.to_string(),
            range: range.to_string(),
            created_us: now_us(),
            created_by: cx.actor.to_string(),
            mac: String::new(),
        };
        grant.mac = self.authentic.grant(&grant);
        let event = Event::by(cx, permit.action(), format!("package:{package}"), Outcome::Success);
        let event = event.with(&json!({ "to": grant.grantee, "range": grant.range }));
        let event = self.details.seal(Chain::Host, event).await?;
        let mut tx = self.store.system_write("grant a package").await?;
        // Whoever deletes it takes all grants back, and this must not come behind that.
        tx.lock_index().await?;
        if tx.deleted_us(package).await?.is_some() {
            return Err(Problem::NotFound("package"));
        }
        tx.put_grant(&grant).await?;
        self.keep_on_the_host(&mut tx, keep, &grant).await?;
        tx.commit(event).await?;
        Ok(grant)
    }

    /// Takes a grant back: no new install. To stop what is installed, revoke its version.
    pub async fn take_grant_back(
        &self,
        cx: &Context,
        permit: &Permit<GrantPackage, PackageName>,
        to: &Grantee,
        keep: Keep<()>,
    ) -> Result<(), Problem> {
        let package = permit.resource();
        let event = Event::by(cx, permit.action(), format!("package:{package}"), Outcome::Success);
        let event = event.with(&json!({ "to": to.to_string(), "range": null }));
        let event = self.details.seal(Chain::Host, event).await?;
        let mut tx = self.store.system_write("take a grant back").await?;
        if !tx.remove_grant(package, &to.to_string()).await? {
            return Err(Problem::NotFound("grant"));
        }
        self.keep_on_the_host(&mut tx, keep, &()).await?;
        tx.commit(event).await?;
        Ok(())
    }

    /// Whom a package is granted to.
    pub async fn grants(&self, permit: &Permit<ListGrants, PackageName>) -> Result<Vec<GrantRow>, Problem> {
        let package = permit.resource();
        self.require_package(package).await?;
        let mut grants = self.store.system("list a package's grants").await?.grants_of(package).await?;
        grants.retain(|grant| self.range(grant).is_some());
        Ok(grants)
    }

    /// The versions that these grant. What somebody else than a host wrote grants nothing.
    pub(crate) fn ranges<'a>(&self, granted: impl IntoIterator<Item = &'a GrantRow>) -> Vec<VersionRange> {
        granted.into_iter().filter_map(|grant| self.range(grant)).collect()
    }

    fn range(&self, grant: &GrantRow) -> Option<VersionRange> {
        let range = grant.range.parse().ok().filter(|_| same(&grant.mac, &self.authentic.grant(grant)));
        if range.is_none() {
            let resource = format!("grant:{}/{}", grant.package, grant.grantee);
            self.note_tampered(resource, json!({ "why": "its row is not what the host wrote" }));
        }
        range
    }

    async fn require_package(&self, package: &PackageName) -> Result<(), Problem> {
        if self.verified_index()?.versions(package).is_empty() || self.is_deleted(package).await? {
            return Err(Problem::NotFound("package"));
        }
        Ok(())
    }

    /// What is a tenant's own is nobody else's, whoever grants it.
    async fn require_grantable(&self, package: &PackageName) -> Result<(), Problem> {
        self.require_package(package).await?;
        let owner = self.publisher_of(&package.publisher()).await?.owner;
        match owner {
            None => Ok(()),
            Some(owner) => Err(Problem::Conflict(format!(
                "{package} is {owner}'s own, and cannot be granted; publish it under a publisher of the operator's"
            ))),
        }
    }
}
