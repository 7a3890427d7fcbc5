//! New data keys, and what older ones have sealed sealed anew: while everything goes on.

use clawhold_secret_store::Resealed;
use clawhold_secret_store::keys::Renewed;
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::{Host as HostResource, RotateHostKeys, RotateKeys};
use clawhold_tenancy::{Context, Permit};
use serde_json::json;

use crate::details::SealError;
use crate::{Host, Problem};

/// What became of an owner's keys and of what they seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// The newest data key.
    pub key_version: u32,
    /// Whether it was made just now.
    pub is_new: bool,
    /// Data keys that the master key, or a key service, has wrapped anew.
    pub rewrapped: u32,
    /// Secrets, with their older versions, that were sealed anew.
    pub resealed: u64,
    /// Those that do not open any more, and stay as they are.
    pub unreadable: u64,
    /// Keys that were made before this are not the newest any more, in microseconds since 1970.
    pub made_before_us: i64,
    /// The version of the master key, if one was added.
    pub master_version: Option<u32>,
}

impl Host {
    /// Makes the tenant a new data key, unless its newest was made after this time (now when not given), and seals under it what older ones
    /// have sealed. Whoever was interrupted calls again with the same time: what is done is not done again. Audit detail and kept answers
    /// stay under the key of their time until they are removed.
    pub async fn rotate_keys(
        &self,
        cx: &Context,
        permit: &Permit<RotateKeys>,
        made_before_us: Option<i64>,
        keep: Keep<Rotated>,
    ) -> Result<Rotated, Problem> {
        let tenant = permit.tenant();
        // An operator's token is on every tenant's door.
        self.require_tenant(tenant).await?;
        let made_before_us = made_before_us.unwrap_or_else(now_us);
        let renewed = self.renew(Chain::Tenant(tenant), made_before_us).await?;
        let resealed = self.backends.secrets.reseal(tenant).await?;
        let rotated = rotated(renewed, resealed, made_before_us);
        let event = Event::by(cx, permit.action(), format!("data-key:{}", renewed.version), Outcome::Success);
        let event = self.details.seal(Chain::Tenant(tenant), event.with(&detail(&rotated))).await?;
        let mut tx = self.store.tenant_write(tenant).await?;
        self.keep_in(&mut tx, keep, &rotated).await?;
        tx.commit(event).await?;
        Ok(rotated)
    }

    /// The same for the host's own chain; with `add_master`, after a key was added to those that wrap.
    pub async fn rotate_host_keys(
        &self,
        cx: &Context,
        permit: &Permit<RotateHostKeys, HostResource>,
        made_before_us: Option<i64>,
        add_master: bool,
        keep: Keep<Rotated>,
    ) -> Result<Rotated, Problem> {
        let made_before_us = made_before_us.unwrap_or_else(now_us);
        let mut master_version = None;
        if add_master {
            master_version = Some(self.details.keys().rotate_ring().await.map_err(SealError::from)?);
        }
        let renewed = self.renew(Chain::Host, made_before_us).await?;
        let rotated = Rotated { master_version, ..rotated(renewed, Resealed::default(), made_before_us) };
        let event = Event::by(cx, permit.action(), format!("data-key:{}", renewed.version), Outcome::Success);
        let event = self.details.seal(Chain::Host, event.with(&detail(&rotated))).await?;
        let mut tx = self.store.system_write("say that keys were rotated").await?;
        self.keep_on_the_host(&mut tx, keep, &rotated).await?;
        tx.commit(event).await?;
        Ok(rotated)
    }

    async fn renew(&self, of: Chain<'_>, made_before_us: i64) -> Result<Renewed, Problem> {
        if made_before_us > now_us() {
            return Err(Problem::invalid("made_before", "it is in the future; write a time that has passed"));
        }
        Ok(self.details.keys().renew(of.name(), made_before_us).await.map_err(SealError::from)?)
    }
}

fn rotated(renewed: Renewed, resealed: Resealed, made_before_us: i64) -> Rotated {
    let Renewed { version, is_new, rewrapped } = renewed;
    let Resealed { anew, unreadable } = resealed;
    Rotated {
        key_version: version,
        is_new,
        rewrapped,
        resealed: anew,
        unreadable,
        made_before_us,
        master_version: None,
    }
}

fn detail(rotated: &Rotated) -> serde_json::Value {
    let Rotated { is_new, rewrapped, resealed, unreadable, master_version, .. } = rotated;
    json!({
        "new": is_new, "rewrapped": rewrapped, "resealed": resealed, "unreadable": unreadable, "master": master_version,
    })
}
