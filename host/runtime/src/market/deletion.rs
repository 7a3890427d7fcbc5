//! Deleting a package: its versions run nowhere any more, nobody finds it, and its name is never given again.
//!
//! Nothing is taken out of the database: an entry that left the index could come back in it, and a name that is given again would be
//! trusted for who had it.

use clawhold_marketplace::index::{Entry, Status};
use clawhold_store::StatusChange;
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::DeletePackage;
use clawhold_tenancy::{Context, PackageName, Permit};
use serde_json::json;

use super::status::check_advisory;
use crate::{Host, Problem};

/// A package that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedPackage {
    /// Its name.
    pub name: PackageName,
    /// Its versions, all of which are revoked.
    pub versions: usize,
    /// When, in microseconds since 1970.
    pub deleted_us: i64,
}

impl Host {
    /// Deletes a package for good. What is broken off in the middle has revoked some versions, and is gone on with by doing it again.
    pub async fn delete_package(
        &self,
        cx: &Context,
        permit: &Permit<DeletePackage, PackageName>,
        advisory: &str,
        keep: Keep<DeletedPackage>,
    ) -> Result<DeletedPackage, Problem> {
        check_advisory(advisory, true)?;
        let name = permit.resource();
        let index = self.verified_index()?;
        if index.is_left_out(name) {
            return Err(Problem::Changed);
        }
        if index.versions(name).is_empty() {
            return Err(Problem::NotFound("package"));
        }
        // Made now if it must be: below there is a transaction open, and SQLite has one writer.
        self.details.ready(Chain::Host).await?;
        // The head is signed over one change at a time. A version that is published meanwhile is seen by the last look, which
        // has the index locked.
        loop {
            let (mut tx, counter) = self.change_index("delete a package").await?;
            if tx.deleted_us(name).await?.is_some() {
                return Err(deleted(name));
            }
            let index = self.verified_index()?;
            let all = index.versions(name);
            let Some(next) = all.iter().find(|entry| entry.status != Status::Revoked) else {
                let done = DeletedPackage { name: name.clone(), versions: all.len(), deleted_us: now_us() };
                let event = Event::by(cx, permit.action(), format!("package:{name}"), Outcome::Success);
                let event = event.with(&json!({ "advisory": advisory, "versions": done.versions }));
                let event = self.details.seal(Chain::Host, event).await?;
                if !tx.delete_package(name, done.deleted_us).await? {
                    return Err(Problem::NotFound("package"));
                }
                self.keep_on_the_host(&mut tx, keep, &done).await?;
                tx.commit(event).await?;
                return Ok(done);
            };
            let version = &next.version;
            let detail =
                json!({ "was": next.status, "status": Status::Revoked, "advisory": advisory, "digest": next.digest });
            let event = Event::by(cx, permit.action(), format!("package:{name}@{version}"), Outcome::Success);
            let event = self.details.seal(Chain::Host, event.with(&detail)).await?;
            let mut change = StatusChange {
                package: name.clone(),
                version: version.clone(),
                status: Status::Revoked.as_str().to_owned(),
                advisory: advisory.to_owned(),
                changed_us: now_us(),
                counter,
                advisory_mac: String::new(),
            };
            change.advisory_mac = self.authentic.status(&change);
            tx.set_status(&change).await?;
            let next = Entry { status: Status::Revoked, changed_us: change.changed_us, counter, ..next.clone() };
            self.sign_index(&mut tx, next).await?;
            tx.commit(event).await?;
            self.read_index().await?;
        }
    }

    /// Whether a package was deleted. Only one whose versions are all revoked can be, so that nothing is asked of the others.
    pub(crate) async fn is_deleted(&self, name: &PackageName) -> Result<bool, Problem> {
        let index = self.verified_index()?;
        if index.versions(name).iter().any(|entry| entry.status != Status::Revoked) {
            return Ok(false);
        }
        Ok(self.store.system("look up a package").await?.deleted_us(name).await?.is_some())
    }
}

/// For the operator: to everybody else it does not exist.
pub(super) fn deleted(name: &PackageName) -> Problem {
    Problem::Conflict(format!("{name} was deleted, which is for good; publish under another name"))
}
