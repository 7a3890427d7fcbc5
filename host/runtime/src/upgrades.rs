//! Newer versions of what is installed: followed where the tenant chose so and they ask for no more, held where they do, and put back.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use clawhold_marketplace::change::increases;
use clawhold_marketplace::upgrade::{Candidate, Channel, follow};
use clawhold_marketplace::{consent, put_back};
use clawhold_store::PutInstall;
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::RollBackInstall;
use clawhold_tenancy::{Actor, Context, Digest, PackageName, Permit, SecretName, SkillName, TenantId};
use semver::Version as Number;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::installs::{ask_of, narrowing_of, narrowing_text};
use crate::market::Viewer;
use crate::{Host, Install, Problem};

/// How often it is looked what may follow. Within a cool-down of days nobody waits for it.
const LOOK: Duration = Duration::from_mins(5);
/// Tenants that are looked at in one go.
const TENANTS: u32 = 200;
/// Versions that one install is tried with in one look. Each is planned, which asks the database several times, for each tenant that follows.
const VERSIONS: usize = 8;

/// What an install was before: all that is needed to put it back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Before {
    pub(crate) version: Number,
    pub(crate) digest: Digest,
    pub(crate) settings: serde_json::Value,
    pub(crate) consent: Digest,
    pub(crate) reveal: BTreeSet<SecretName>,
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
    /// Puts the version back that was installed before, with the settings that it had, and without what the admin has left out since. That is
    /// no more than was agreed to once, so nobody is asked again; its channel becomes `pinned`, or it would follow at once.
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
        // What is put back gets a mark of its own, so it must not come from a row that has none.
        self.require_ours(tenant, &there.put)?;
        let nothing =
            || Problem::Conflict(format!("{package} has had no other version before; there is none to go back to"));
        let before = there.put.before.as_deref().ok_or_else(nothing)?;
        let before: Before =
            serde_json::from_str(before).map_err(|e| Problem::internal("what was installed before", e))?;
        let (then, now) = (narrowing_of(&before.narrowing)?, narrowing_of(&there.put.narrowing)?);
        let (mut policy, narrowing) = put_back(&before.policy, &then, &now);
        policy.limits = policy.limits.within(&self.ceiling);
        let reveal = self.still_revealed(before.reveal, &there.put).await;
        for (secret, is_revealed) in &mut policy.secrets {
            *is_revealed &= reveal.contains(secret);
        }
        let mut put = PutInstall {
            package: package.clone(),
            version: before.version,
            consent: consent(tenant, &before.digest, &policy, &before.settings),
            digest: before.digest,
            settings: before.settings,
            reveal,
            policy,
            updated_us: now_us(),
            updated_by: cx.actor.to_string(),
            channel: Channel::Pinned.to_string(),
            before: Some(Before::of(&there.put)),
            narrowing: narrowing_text(&narrowing),
            mac: String::new(),
        };
        put.mac = self.authentic.install(tenant, &put);
        let detail = json!({
            "from": there.put.version, "to": put.version, "consent": put.consent, "policy": put.policy.digest(), "reveal": put.reveal,
        });
        let event = Event::by(cx, permit.action(), format!("package:{package}"), Outcome::Success).with(&detail);
        self.switch(tenant, put, event, expected.unwrap_or(there.revision), None, keep).await
    }

    /// Of secrets that a package could read, those that the install now does not keep from it: where it asks for one and the admin does not let it
    /// be read, that holds for what is put back as well. What it does not ask for says nothing.
    async fn still_revealed(&self, before: BTreeSet<SecretName>, now: &PutInstall) -> BTreeSet<SecretName> {
        // A version whose row is damaged can be left all the same; what it asks for nobody knows.
        let version = self.published(&now.package, &now.version).await.ok().map(|(version, _)| version);
        let asks_for = |name: &SecretName| {
            version.as_ref().is_none_or(|version| {
                version.published.manifest.secrets.iter().any(|ask| ask.reveal && ask.name == *name)
            })
        };
        before.into_iter().filter(|name| now.reveal.contains(name) || !asks_for(name)).collect()
    }

    /// Puts another version in place of an install, at once: runs that are under way finish on the one that they began with. A newer one that is
    /// held stays so.
    async fn switch(
        self: &Arc<Self>,
        tenant: &TenantId,
        put: PutInstall,
        event: Event,
        expected: i64,
        held: Option<&Number>,
        keep: Keep<Install>,
    ) -> Result<Install, Problem> {
        self.require_good(tenant, &put).await?;
        let (_, skills) = self.published(&put.package, &put.version).await?;
        let names: Vec<SkillName> = skills.iter().map(|skill| skill.name.clone()).collect();
        let event = self.details.seal(Chain::Tenant(tenant), event).await?;
        let mut tx = self.store.tenant_write(tenant).await?;
        let revision = tx.put_install(&put, &names, Some(expected)).await?;
        if let Some(held) = held {
            tx.hold(&put.package, revision, held).await?;
        }
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
                // One that cannot be read or cannot follow keeps no other from it.
                let installs = match self.store.tenant(&tenant.id).await?.following().await {
                    Ok(installs) => installs,
                    Err(error) if error.is_retryable() => return Err(error.into()),
                    Err(error) => {
                        tracing::error!(tenant_id = %tenant.id, %error, "what a tenant has installed cannot be read");
                        continue;
                    }
                };
                for install in installs {
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
        // More is judged against what this says, and what follows is marked anew.
        self.require_ours(tenant, put)?;
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
        let newest_first = follow(&put.version, channel, &candidates, now_us(), cool_down_us);
        let mut held = None;
        for next in newest_first.into_iter().take(VERSIONS) {
            let Some(why) = self.follow_to(tenant, install, &next.version, held).await? else { return Ok(()) };
            if held.is_none() {
                self.hold(tenant, install, &next.version, &why).await?;
                held = Some(&next.version);
            }
        }
        Ok(())
    }

    /// Has an install follow to this version; or gives why it does not.
    async fn follow_to(
        self: &Arc<Self>,
        tenant: &TenantId,
        install: &Install,
        version: &Number,
        held: Option<&Number>,
    ) -> Result<Option<serde_json::Value>, Problem> {
        let put = &install.put;
        let view = match self.planned(tenant, &ask_of(put, Some(version.clone()))?).await {
            Ok(view) => view,
            // It does not take the settings, or the narrowing, as they are; or the tenant may not have such a one.
            Err(problem @ (Problem::Invalid { .. } | Problem::Stopped(_))) => {
                return Ok(Some(json!({ "why": problem.to_string() })));
            }
            Err(problem) => return Err(problem),
        };
        let adds = increases(&put.policy, &view.plan.policy);
        if !adds.is_empty() {
            return Ok(Some(json!({ "adds": adds })));
        }
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
        let detail =
            json!({ "from": put.version, "to": version, "channel": put.channel, "policy": next.policy.digest() });
        let event = host_event("install.follow", &put.package, &detail);
        match self.switch(tenant, next, event, install.revision, held, Keep::nothing()).await {
            Ok(_) => Ok(None),
            // Another package has a skill of that name; or the signature counts no longer.
            Err(problem @ (Problem::Conflict(_) | Problem::Stopped(_))) => {
                Ok(Some(json!({ "why": problem.to_string() })))
            }
            Err(problem) => Err(problem),
        }
    }

    /// Tells the tenant that a version is not followed to, and why; once.
    async fn hold(
        &self,
        tenant: &TenantId,
        install: &Install,
        version: &Number,
        why: &serde_json::Value,
    ) -> Result<(), Problem> {
        if install.held.as_ref() == Some(version) {
            return Ok(());
        }
        let mut detail = json!({ "version": version });
        if let (Some(detail), Some(why)) = (detail.as_object_mut(), why.as_object()) {
            detail.extend(why.clone());
        }
        let event = host_event("install.hold", &install.put.package, &detail);
        let event = self.details.seal(Chain::Tenant(tenant), event).await?;
        let mut tx = self.store.tenant_write(tenant).await?;
        // Another host may have told it.
        if tx.hold(&install.put.package, install.revision, version).await? {
            tx.commit(event).await?;
        }
        Ok(())
    }
}

fn host_event(action: &str, package: &PackageName, detail: &serde_json::Value) -> Event {
    Event::by_host("channel", action, format!("package:{package}"), Outcome::Success).with(detail)
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
