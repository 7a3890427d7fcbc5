//! Newer versions of what is installed: followed where the tenant chose so and they ask for no more, held where they do, and put back.

use std::sync::{Arc, Weak};
use std::time::Duration;

use clawhold_marketplace::change::increases;
use clawhold_marketplace::upgrade::{Candidate, Channel, follow};
use clawhold_store::PutInstall;
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::RollBackInstall;
use clawhold_tenancy::{Actor, Context, Digest, PackageName, Permit, SecretName, SkillName, TenantId, TraceId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::installs::ask_of;
use crate::market::Viewer;
use crate::{Host, Install, Problem};

/// How often it is looked what may follow. Within a cool-down of days nobody waits for it.
const LOOK: Duration = Duration::from_mins(5);
/// Tenants that are looked at in one go.
const TENANTS: u32 = 200;

/// What an install was before: all that is needed to put it back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Before {
    pub(crate) version: semver::Version,
    pub(crate) digest: Digest,
    pub(crate) settings: serde_json::Value,
    pub(crate) consent: Digest,
    pub(crate) reveal: std::collections::BTreeSet<SecretName>,
    pub(crate) policy: clawhold_tenancy::policy::Policy,
    pub(crate) narrowing: String,
}

impl Before {
    pub(crate) fn of(put: &PutInstall) -> String {
        let PutInstall { version, digest, settings, consent, reveal, policy, narrowing, .. } = put.clone();
        let before = Self { version, digest, settings, consent, reveal, policy, narrowing };
        serde_json::to_string(&before).expect("it has only string keys")
    }
}

impl Host {
    /// Puts the version back that was installed before, with the settings and the consent that it had. It is what was agreed to once, so
    /// nobody is asked again; its channel becomes `pinned`, or it would follow at once.
    pub async fn roll_back_install(
        self: &Arc<Self>,
        cx: &Context,
        permit: &Permit<RollBackInstall>,
        package: &PackageName,
        expected: Option<i64>,
        keep: Keep<Install>,
    ) -> Result<Install, Problem> {
        let tenant = permit.tenant();
        let there = self.store.tenant(tenant).await?.install(package).await?.ok_or(Problem::NotFound("install"))?;
        let nothing =
            || Problem::Conflict(format!("{package} has had no other version before; there is none to go back to"));
        let before = there.put.before.as_deref().ok_or_else(nothing)?;
        let before: Before =
            serde_json::from_str(before).map_err(|e| Problem::internal("what was installed before", e))?;
        let mut put = PutInstall {
            package: package.clone(),
            version: before.version,
            digest: before.digest,
            settings: before.settings,
            consent: before.consent,
            reveal: before.reveal,
            policy: before.policy,
            updated_us: now_us(),
            updated_by: cx.actor.to_string(),
            channel: Channel::Pinned.to_string(),
            before: Some(Before::of(&there.put)),
            narrowing: before.narrowing,
            mac: String::new(),
        };
        put.mac = self.authentic.install(tenant, &put);
        let detail = json!({ "from": there.put.version, "to": put.version, "policy": put.policy.digest() });
        let event = Event::by(cx, permit.action(), format!("package:{package}"), Outcome::Success).with(&detail);
        self.switch(tenant, put, event, expected.unwrap_or(there.revision), keep).await
    }

    /// Puts another version in place of an install, at once: runs that are under way finish on the one that they began with.
    async fn switch(
        self: &Arc<Self>,
        tenant: &TenantId,
        put: PutInstall,
        event: Event,
        expected: i64,
        keep: Keep<Install>,
    ) -> Result<Install, Problem> {
        self.require_good(tenant, &put).await?;
        let (_, skills) = self.published(&put.package, &put.version).await?;
        let names: Vec<SkillName> = skills.iter().map(|skill| skill.name.clone()).collect();
        let event = self.details.seal(Chain::Tenant(tenant), event).await?;
        let mut tx = self.store.tenant_write(tenant).await?;
        tx.put_install(&put, &names, Some(expected)).await?;
        let install = tx.install(&put.package).await?.ok_or(Problem::NotFound("install"))?;
        self.keep_in(&mut tx, keep, &install).await?;
        tx.commit(event).await?;
        self.resolved.forget(tenant);
        self.make_ready(tenant, names);
        Ok(install)
    }

    /// Has each install follow that its tenant lets follow.
    pub async fn follow_all(self: &Arc<Self>) -> Result<(), Problem> {
        if self.store.pinned().await?.is_some() {
            return Ok(());
        }
        let mut after = None;
        loop {
            let tenants = self.store.system("list tenants").await?.tenants(after.as_ref(), TENANTS).await?;
            for tenant in &tenants {
                for install in self.store.tenant(&tenant.id).await?.following().await? {
                    // One that cannot follow keeps no other from it.
                    if let Err(problem) = self.follow(&tenant.id, &install).await {
                        tracing::debug!(tenant_id = %tenant.id, package = %install.put.package, %problem, "an install stays where it is");
                    }
                }
            }
            let Some(last) = tenants.last().filter(|_| tenants.len() == TENANTS as usize) else { return Ok(()) };
            after = Some(last.id.clone());
        }
    }

    async fn follow(self: &Arc<Self>, tenant: &TenantId, install: &Install) -> Result<(), Problem> {
        let put = &install.put;
        let channel: Channel = put.channel.parse().map_err(|e| Problem::internal("a channel", e))?;
        let seen = self.visible(&Viewer::Tenant(tenant), &put.package).await?;
        let of_channel = seen.iter().filter(|entry| channel.permits(&put.version, &entry.version));
        let candidates: Vec<Candidate> = of_channel
            .map(|entry| Candidate {
                version: entry.version.clone(),
                // The index says when it was published, and when that changed.
                good_since_us: entry.changed_us,
                status: entry.status,
            })
            .collect();
        let cool_down_us = i64::try_from(self.market.cool_down.as_micros()).unwrap_or(i64::MAX);
        let Some(next) = follow(&put.version, channel, &candidates, now_us(), cool_down_us) else { return Ok(()) };
        let ask = ask_of(put, Some(next.version.clone()))?;
        let planned = self.planned(tenant, &ask).await;
        let (adds, view) = match planned {
            Ok(view) => (increases(&put.policy, &view.plan.policy), Some(view)),
            // The new version does not take the settings, or the narrowing, as they are.
            Err(problem @ Problem::Invalid { .. }) => (vec![problem.to_string()], None),
            Err(problem) => return Err(problem),
        };
        let (version, package) = (&next.version, &put.package);
        match view.filter(|_| adds.is_empty()) {
            None => {
                let event = host_event("install.hold", package, &json!({ "version": version, "adds": adds }));
                let event = self.details.seal(Chain::Tenant(tenant), event).await?;
                let mut tx = self.store.tenant_write(tenant).await?;
                // Said once of each version.
                if tx.hold(package, install.revision, version).await? {
                    tx.commit(event).await?;
                }
                Ok(())
            }
            Some(view) => {
                let mut next = PutInstall {
                    version: version.clone(),
                    digest: view.version.digest,
                    consent: view.plan.consent,
                    policy: view.plan.policy,
                    updated_us: now_us(),
                    updated_by: Actor::Host("channel").to_string(),
                    before: Some(Before::of(put)),
                    ..put.clone()
                };
                next.mac = self.authentic.install(tenant, &next);
                let detail = json!({ "from": put.version, "to": version, "channel": put.channel, "policy": next.policy.digest() });
                let event = host_event("install.follow", package, &detail);
                self.switch(tenant, next, event, install.revision, Keep::nothing()).await.map(drop)
            }
        }
    }
}

fn host_event(action: &str, package: &PackageName, detail: &serde_json::Value) -> Event {
    Event {
        at_us: now_us(),
        actor: Actor::Host("channel").to_string(),
        action: action.to_owned(),
        resource: format!("package:{package}"),
        outcome: Outcome::Success,
        run: None,
        trace: TraceId::random(),
        detail: Vec::new(),
    }
    .with(detail)
}

/// Looks as long as there is a host.
pub(crate) async fn keep(host: Weak<Host>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(host) = host.upgrade() else { return };
        if let Err(problem) = host.follow_all().await {
            tracing::warn!(%problem, "installs could not follow their channels; it is tried again");
        }
    }
}
