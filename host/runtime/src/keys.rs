//! New data keys, and what older ones have sealed sealed anew: while everything goes on.

use std::error::Error as _;

use clawhold_secret_store::Resealed;
use clawhold_secret_store::keys::{KeyError, Renewed};
use clawhold_tenancy::audit::{Chain, Event, Outcome, SealedEvent, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::{Host as HostResource, RotateHostKeys, RotateKeys};
use clawhold_tenancy::{Context, Permit, Role};
use serde_json::json;

use crate::details::SealError;
use crate::{Host, Problem};

/// Keys that a tenant's own admins may have made at once, and one more for each hour since its first: each is a row that stays.
const KEYS: i64 = 24;
const HOUR_US: i64 = 3_600_000_000;

/// How far another host's clock may be before this one's.
const SKEW_US: i64 = 300_000_000;

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
        let chain = Chain::Tenant(tenant);
        let made_before_us = time(made_before_us)?;
        if cx.role != Role::Operator {
            self.may_have_another_key(chain, made_before_us).await?;
        }
        let event = self.began(cx, permit.action(), chain, made_before_us, None).await?;
        self.store.tenant_write(tenant).await?.commit(event).await?;
        let renewed = self.renew(chain, made_before_us).await?;
        let resealed = self.backends.secrets.reseal(tenant).await?;
        let rotated = rotated(renewed, resealed, made_before_us);
        let event = Event::by(cx, permit.action(), format!("data-key:{}", renewed.version), Outcome::Success);
        let event = self.details.seal(chain, event.with(&detail(&rotated))).await?;
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
        let made_before_us = time(made_before_us)?;
        let event = self.began(cx, permit.action(), Chain::Host, made_before_us, add_master.then_some(true)).await?;
        self.store.system_write("say that keys are being rotated").await?.commit(event).await?;
        let mut master_version = None;
        if add_master {
            master_version = Some(self.details.keys().rotate_ring().await.map_err(not_added)?);
        }
        let mut renewed = self.renew(Chain::Host, made_before_us).await?;
        // The ring's next key was put to use with one.
        renewed.is_new |= add_master;
        let rotated = Rotated { master_version, ..rotated(renewed, Resealed::default(), made_before_us) };
        let event = Event::by(cx, permit.action(), format!("data-key:{}", renewed.version), Outcome::Success);
        let event = self.details.seal(Chain::Host, event.with(&detail(&rotated))).await?;
        let mut tx = self.store.system_write("say that keys were rotated").await?;
        self.keep_on_the_host(&mut tx, keep, &rotated).await?;
        tx.commit(event).await?;
        Ok(rotated)
    }

    async fn renew(&self, of: Chain<'_>, made_before_us: i64) -> Result<Renewed, Problem> {
        Ok(self.details.keys().renew(of.name(), made_before_us).await.map_err(SealError::from)?)
    }

    async fn may_have_another_key(&self, of: Chain<'_>, made_before_us: i64) -> Result<(), Problem> {
        let there = self.details.keys().first_and_newest(of.name()).await.map_err(SealError::from)?;
        let Some((first, newest)) = there.filter(|(_, newest)| newest.created_us < made_before_us) else {
            return Ok(());
        };
        let hours = (now_us() - first.created_us) / HOUR_US;
        if i64::from(newest.version) < KEYS + hours {
            return Ok(());
        }
        Err(Problem::Conflict(format!(
            "the tenant has had {} data keys made, which is more than one an hour; wait for an hour, or ask the operator if it cannot wait",
            newest.version
        )))
    }

    /// Said before anything is done: what fails half-way has been told of as well.
    async fn began(
        &self,
        cx: &Context,
        action: &'static str,
        of: Chain<'_>,
        made_before_us: i64,
        add_master: Option<bool>,
    ) -> Result<SealedEvent, Problem> {
        let event = Event::by(cx, action, "data-keys".to_owned(), Outcome::Success);
        let detail = json!({ "begun": true, "made_before_us": made_before_us, "add_master": add_master });
        Ok(self.details.seal(of, event.with(&detail)).await?)
    }
}

/// Why no master key was added, to the operator.
fn not_added(error: KeyError) -> Problem {
    match error {
        KeyError::Unavailable(_) => SealError::Key(error).into(),
        error => {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            Problem::Conflict(format!("no master key was added: {why}"))
        }
    }
}

fn time(made_before_us: Option<i64>) -> Result<i64, Problem> {
    match made_before_us {
        Some(time) if time > now_us() + SKEW_US => {
            Err(Problem::invalid("made_before", "it is in the future; write a time that has passed"))
        }
        time => Ok(time.unwrap_or_else(now_us)),
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
