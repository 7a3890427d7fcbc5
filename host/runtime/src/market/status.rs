//! What becomes of a version, on all hosts within a second: who may say so, and how often.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clawhold_marketplace::index::{Entry, Status};
use clawhold_store::StatusChange;
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::SetPackageStatus;
use clawhold_tenancy::{Context, PackageName, Permit, Publisher, Role};
use semver::Version as Number;
use serde_json::json;

use super::deletion;
use crate::{Host, Problem};

/// Characters of an advisory.
const ADVISORY_CHARS: usize = 2_000;
/// Changes of a publisher within a minute, but to stop what is bad: each has the whole index signed and read by all hosts.
const CHANGES: u64 = 60;
/// Publishers whose changes are counted at a time.
const PUBLISHERS: u64 = 10_000;
/// Changes of a package that its publisher may make before tenants were told of them. Each is an entry in each tenant's log.
const UNTOLD: u64 = 16;

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

impl Host {
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
        let known = || {
            let index = self.verified_index()?;
            if index.is_left_out(name) {
                return Err(Problem::Changed);
            }
            index.get(name, version).cloned().ok_or_else(missing)
        };
        require_may(cx, &known()?, *status)?;
        // Nothing keeps anybody from stopping a bad version. Each change has the whole index signed, read by all hosts, and told to tenants.
        if cx.role != Role::Operator && *status != Status::Revoked {
            self.require_slow_changes(name).await?;
        }
        // Made now if it must be: below there is a transaction open, and SQLite has one writer.
        self.details.ready(Chain::Host).await?;
        let (mut tx, counter) = self.change_index("change what becomes of a version").await?;
        if tx.deleted_us(name).await?.is_some() {
            return Err(if cx.role == Role::Operator { deletion::deleted(name) } else { missing() });
        }
        // Somebody may have changed it since: what the operator has just revoked is not for its publisher to take back.
        let was = known()?;
        require_may(cx, &was, *status)?;
        let changed_us = now_us();
        let done = VersionStatus { version: version.clone(), status: *status, changed_us };
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
        let detail = json!({ "was": was.status, "status": status, "advisory": advisory, "digest": was.digest });
        self.sign_index(&mut tx, Entry { status: *status, changed_us, counter, ..was }).await?;
        self.keep_on_the_host(&mut tx, keep, &done).await?;
        let event = Event::by(cx, permit.action(), format!("package:{name}@{version}"), Outcome::Success).with(&detail);
        tx.commit(self.details.seal(Chain::Host, event).await?).await?;
        self.read_index().await?;
        Ok(done)
    }

    /// That a publisher's changes do not come faster than hosts read them and tenants are told of them.
    async fn require_slow_changes(&self, name: &PackageName) -> Result<(), Problem> {
        if self.changes.note(&name.publisher()) > CHANGES {
            return Err(Problem::Conflict(format!(
                "{} has changed {CHANGES} versions within a minute; wait for one, or ask the operator",
                name.publisher()
            )));
        }
        if self.store.system("count what tenants are to be told").await?.count_tellings(name).await? >= UNTOLD {
            return Err(Problem::Conflict(format!(
                "tenants are still being told of {UNTOLD} changes of {name}; wait until they were, and try again"
            )));
        }
        Ok(())
    }
}

/// Whether the caller may make this of a version that was so.
fn require_may(cx: &Context, was: &Entry, status: Status) -> Result<(), Problem> {
    if cx.role == Role::Operator {
        return Ok(());
    }
    let (name, version, word) = (&was.package, &was.version, was.status.as_str());
    if was.status.needs_operator() || status.needs_operator() && status != Status::Revoked {
        return Err(Problem::Forbidden(format!(
            "{name} {version} is {word}; ask the operator, who alone quarantines, and takes back what is more than a yank"
        )));
    }
    if was.status == status {
        return Err(Problem::Conflict(format!("{name} {version} is {word} already")));
    }
    Ok(())
}

/// Whether this can be said to those who have a version installed.
pub(super) fn check_advisory(advisory: &str, is_needed: bool) -> Result<(), Problem> {
    let odd = advisory.chars().any(|c| c.is_control() && c != '\n');
    if advisory.chars().count() > ADVISORY_CHARS || odd || (is_needed && advisory.trim().is_empty()) {
        let detail = format!("say why, in at most {ADVISORY_CHARS} characters: those who have it installed read it");
        return Err(Problem::invalid("advisory", detail));
    }
    Ok(())
}
