//! Publishers: who may publish under which name, by which keys.

use clawhold_marketplace::key::{KeyId, PublicKey};
use clawhold_marketplace::names::Known;
use clawhold_marketplace::publisher::{AddedBy, Earlier, KEYS, KeyRecord, Revocation, rotate};
use clawhold_store::{PublisherRow, SystemTx, Write};
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::{
    AddOwnPublisher, AddPublisher, AddPublisherKey, Host as HostResource, ListOwnPublishers, ListPublishers,
    RevokePublisherKey, ShowPublisher,
};
use clawhold_tenancy::{Context, Permit, Publisher, Role, TenantId};
use serde_json::json;

use crate::authentic::same;
use crate::{Host, Problem};

/// Names that are looked at in one go.
const NAMES: u32 = 1_000;

/// Publishers of a tenant's own. 16: one for a team; and each takes a name that nobody else gets.
const OWN_PUBLISHERS: u32 = 16;

/// A publisher and its keys.
#[derive(Debug, Clone)]
pub struct PublisherView {
    /// Its name.
    pub name: Publisher,
    /// The tenant whose own it is, if it is one's.
    pub owner: Option<TenantId>,
    /// Its keys.
    pub keys: Vec<KeyRecord>,
    /// When it was registered, in microseconds since 1970.
    pub created_us: i64,
    /// By whom.
    created_by: String,
}

/// A key that is to be added.
#[derive(Debug, Clone)]
pub enum KeyAsk {
    /// By whoever may: the operator.
    Plain {
        /// The key.
        key: PublicKey,
        /// From when on it signs; now if not given.
        not_before_us: Option<i64>,
        /// From when on it signs no longer.
        not_after_us: Option<i64>,
    },
    /// By a statement that a key which is good signed.
    Rotation(String),
}

impl Host {
    /// Registers a publisher.
    pub async fn add_publisher(
        &self,
        cx: &Context,
        permit: &Permit<AddPublisher, HostResource>,
        name: &Publisher,
        key: Option<PublicKey>,
        keep: Keep<PublisherView>,
    ) -> Result<PublisherView, Problem> {
        let view = new_publisher(cx, name, None, key);
        let event = Event::by(cx, permit.action(), format!("publisher:{name}"), Outcome::Success);
        let event =
            self.details.seal(Chain::Host, event.with(&json!({ "key": key.map(|key| key.id().to_string()) }))).await?;
        let mut tx = self.store.system_write("register a publisher").await?;
        require_name(&mut tx, cx, name).await?;
        if !tx.add_publisher(&self.publisher_row(&view)).await? {
            return Err(taken(name));
        }
        self.keep_on_the_host(&mut tx, keep, &view).await?;
        tx.commit(event).await?;
        Ok(view)
    }

    /// Registers a publisher of a tenant's own.
    pub async fn add_own_publisher(
        &self,
        cx: &Context,
        permit: &Permit<AddOwnPublisher>,
        name: &Publisher,
        key: Option<PublicKey>,
        keep: Keep<PublisherView>,
    ) -> Result<PublisherView, Problem> {
        let tenant = permit.tenant();
        self.require_tenant(tenant).await?;
        let view = new_publisher(cx, name, Some(tenant), key);
        let event = Event::by(cx, permit.action(), format!("publisher:{name}"), Outcome::Success);
        let event = event.with(&json!({ "owner": tenant, "key": key.map(|key| key.id().to_string()) }));
        let own = self.details.seal(Chain::Tenant(tenant), event.clone()).await?;
        let event = self.details.seal(Chain::Host, event).await?;
        let mut tx = self.store.system_write("register a tenant's own publisher").await?;
        require_name(&mut tx, cx, name).await?;
        if tx.publishers_of(tenant, OWN_PUBLISHERS).await?.len() >= OWN_PUBLISHERS as usize {
            return Err(Problem::Conflict(format!(
                "{tenant} has {OWN_PUBLISHERS} publishers of its own, and may have no more; publish under one of these, or ask the operator for one of theirs"
            )));
        }
        if !tx.add_publisher(&self.publisher_row(&view)).await? {
            return Err(taken(name));
        }
        self.keep_of(&mut tx, tenant, keep, &view).await?;
        tx.append(tenant, &[own]).await?;
        tx.commit(event).await?;
        Ok(view)
    }

    /// A tenant's own publishers, by name.
    pub async fn own_publishers(&self, permit: &Permit<ListOwnPublishers>) -> Result<Vec<PublisherView>, Problem> {
        self.require_tenant(permit.tenant()).await?;
        let mut tx = self.store.system("list a tenant's publishers").await?;
        let rows = tx.publishers_of(permit.tenant(), OWN_PUBLISHERS).await?;
        Ok(rows.into_iter().filter_map(|row| self.publisher_view(row).ok()).collect())
    }

    /// A publisher that a tenant owns. Another one's does not exist.
    pub(crate) async fn require_own_publisher(&self, tenant: &TenantId, name: &Publisher) -> Result<(), Problem> {
        let there = self.store.system("look up a publisher").await?.publisher(name).await?;
        match there {
            // Whoever made the row says whose it is.
            Some(row) if row.owner.as_ref() == Some(tenant) => self.publisher_view(row).map(drop),
            _ => Err(Problem::NotFound("publisher")),
        }
    }

    /// Publishers that the caller sees, behind `after`, by name.
    pub async fn publishers(
        &self,
        _permit: &Permit<ListPublishers, HostResource>,
        after: Option<&Publisher>,
        limit: u32,
    ) -> Result<(Vec<PublisherView>, Option<Publisher>), Problem> {
        let rows = self.store.system("list publishers").await?.publishers(after, limit).await?;
        // One that was changed past the host hides no other, nor those behind it.
        let next = rows.last().filter(|_| rows.len() == limit as usize).map(|row| row.name.clone());
        Ok((rows.into_iter().filter_map(|row| self.publisher_view(row).ok()).collect(), next))
    }

    /// One publisher.
    pub async fn publisher(&self, permit: &Permit<ShowPublisher, Publisher>) -> Result<PublisherView, Problem> {
        self.publisher_of(permit.resource()).await
    }

    pub(crate) async fn publisher_of(&self, name: &Publisher) -> Result<PublisherView, Problem> {
        let row = self.store.system("look up a publisher").await?.publisher(name).await?;
        row.map_or(Err(Problem::NotFound("publisher")), |row| self.publisher_view(row))
    }

    /// A publisher, if its row is what the host wrote: by its keys it is decided what runs, and by its owner who sees it.
    pub(crate) fn publisher_view(&self, row: PublisherRow) -> Result<PublisherView, Problem> {
        let why = |why| self.tampered(format!("publisher:{}", row.name), why);
        if !same(&row.mac, &self.authentic.publisher(&row)) {
            return Err(why("its row is not what the host wrote"));
        }
        let keys = serde_json::from_str(&row.keys).map_err(|_| why("its keys cannot be read"))?;
        Ok(PublisherView {
            name: row.name,
            owner: row.owner,
            keys,
            created_us: row.created_us,
            created_by: row.created_by,
        })
    }

    /// Gives a publisher another key: by the operator's word, or by that of a key which is good.
    pub async fn add_publisher_key(
        &self,
        cx: &Context,
        permit: &Permit<AddPublisherKey, Publisher>,
        ask: KeyAsk,
        keep: Keep<PublisherView>,
    ) -> Result<PublisherView, Problem> {
        let name = permit.resource();
        let there = self.publisher_of(name).await?;
        let now = now_us();
        let record = match ask {
            KeyAsk::Plain { .. } if cx.role != Role::Operator => {
                return Err(Problem::Forbidden(
                    "a publisher's own token adds a key by a rotation that one of its keys has signed, see `clawhold publisher rotate`; or ask the operator"
                        .to_owned(),
                ));
            }
            KeyAsk::Plain { key, not_before_us, not_after_us } => KeyRecord {
                key,
                not_before_us: not_before_us.unwrap_or(now),
                not_after_us,
                revoked: None,
                added_us: now,
                added_by: AddedBy::Actor(cx.actor.to_string()),
            },
            KeyAsk::Rotation(envelope) => {
                rotate(&envelope, &there.keys, name, now).map_err(|e| Problem::invalid("rotation", e.to_string()))?
            }
        };
        if there.keys.iter().any(|known| known.key == record.key) {
            return Err(Problem::Conflict(format!("{name} has the key {} already", record.key.id())));
        }
        if there.keys.len() >= KEYS {
            return Err(Problem::Conflict(format!("{name} has {KEYS} keys, and may have no more")));
        }
        let id = record.key.id();
        let detail = json!({ "key": id.to_string(), "by": record.added_by });
        let mut keys = there.keys.clone();
        keys.push(record);
        self.put_keys(cx, permit.action(), &there, keys, &detail, keep).await
    }

    /// Takes the trust in a key back; and that in what it signed before, if it was not safe then. A key that is revoked may only be trusted less
    /// by a further word: from an earlier time on, or nothing that it signed.
    pub async fn revoke_publisher_key(
        &self,
        cx: &Context,
        permit: &Permit<RevokePublisherKey, Publisher>,
        key: &KeyId,
        at_us: Option<i64>,
        earlier: Earlier,
        keep: Keep<PublisherView>,
    ) -> Result<PublisherView, Problem> {
        let there = self.publisher_of(permit.resource()).await?;
        let mut keys = there.keys.clone();
        let record = keys.iter_mut().find(|record| record.key.id() == *key).ok_or(Problem::NotFound("key"))?;
        let now = now_us();
        let said_us = at_us.unwrap_or(now);
        if said_us > now {
            return Err(Problem::invalid(
                "at",
                "it is yet to come, and until then the key would sign; leave it out to revoke the key now",
            ));
        }
        let said = Revocation { at_us: said_us, earlier };
        let revoked = record.revoked.map_or(said, |was| Revocation {
            at_us: was.at_us.min(said.at_us),
            earlier: if was.earlier == Earlier::Falls { Earlier::Falls } else { said.earlier },
        });
        if record.revoked == Some(revoked) {
            return Err(Problem::Conflict(format!(
                "the key {key} is revoked already, and this would trust it no less; an earlier `at`, or `earlier_falls`, would"
            )));
        }
        record.revoked = Some(revoked);
        let detail = json!({ "key": key.to_string(), "at_us": revoked.at_us, "earlier": revoked.earlier });
        let done = self.put_keys(cx, permit.action(), &there, keys, &detail, keep).await?;
        // What it signed is looked at again when it is loaded.
        self.fresh.note_change();
        self.resolved.forget_all();
        Ok(done)
    }

    async fn put_keys(
        &self,
        cx: &Context,
        action: &'static str,
        there: &PublisherView,
        keys: Vec<KeyRecord>,
        detail: &serde_json::Value,
        keep: Keep<PublisherView>,
    ) -> Result<PublisherView, Problem> {
        let name = &there.name;
        let done = PublisherView { keys, ..there.clone() };
        let row = self.publisher_row(&done);
        let event = Event::by(cx, action, format!("publisher:{name}"), Outcome::Success).with(detail);
        let event = self.details.seal(Chain::Host, event).await?;
        let mut tx = self.store.system_write("change a publisher's keys").await?;
        if !tx.set_publisher_keys(&row, &text(&there.keys)).await? {
            return Err(Problem::Conflict(format!(
                "somebody else has changed the keys of {name} just now; look at them and try again"
            )));
        }
        self.keep_on_the_host(&mut tx, keep, &done).await?;
        tx.commit(event).await?;
        Ok(done)
    }

    fn publisher_row(&self, view: &PublisherView) -> PublisherRow {
        let mut row = PublisherRow {
            name: view.name.clone(),
            owner: view.owner.clone(),
            keys: text(&view.keys),
            created_us: view.created_us,
            created_by: view.created_by.clone(),
            mac: String::new(),
        };
        row.mac = self.authentic.publisher(&row);
        row
    }

    pub(crate) async fn publisher_names(&self) -> Result<Vec<Publisher>, Problem> {
        publisher_names(&mut self.store.system("read the names of publishers").await?).await
    }
}

async fn publisher_names<M>(tx: &mut SystemTx<M>) -> Result<Vec<Publisher>, Problem> {
    let mut names: Vec<Publisher> = Vec::new();
    loop {
        let rows = tx.publishers(names.last(), NAMES).await?;
        let is_last = rows.len() < NAMES as usize;
        names.extend(rows.into_iter().map(|row| row.name));
        if is_last {
            return Ok(names);
        }
    }
}

/// Whether a name is free, and would be taken for no other's. Under the lock of the index, which publications take as well: of two that
/// register names which look alike at the same time, one sees the other.
async fn require_name(tx: &mut SystemTx<Write>, cx: &Context, name: &Publisher) -> Result<(), Problem> {
    tx.lock_index().await?;
    let names = publisher_names(tx).await?;
    if names.contains(name) {
        return Err(taken(name));
    }
    // Whose row is gone is no free name: its packages would be the newcomer's. The operator may register it again.
    if cx.role != Role::Operator && tx.package_names().await?.iter().any(|package| package.publisher() == *name) {
        return Err(taken(name));
    }
    let Some(alike) = Known::new(names, Vec::new()).publisher_look_alike(name) else { return Ok(()) };
    // Of a tenant's own publishers others learn nothing.
    let why = if cx.role == Role::Operator {
        alike.to_string()
    } else {
        format!("the name {name} could be taken for another publisher's")
    };
    Err(Problem::Conflict(format!("{why}; choose a name that nobody takes for it")))
}

/// A publisher as it is registered.
fn new_publisher(cx: &Context, name: &Publisher, owner: Option<&TenantId>, key: Option<PublicKey>) -> PublisherView {
    let now = now_us();
    let record = |key| KeyRecord {
        key,
        not_before_us: now,
        not_after_us: None,
        revoked: None,
        added_us: now,
        added_by: AddedBy::Actor(cx.actor.to_string()),
    };
    let keys: Vec<KeyRecord> = key.into_iter().map(record).collect();
    PublisherView { name: name.clone(), owner: owner.cloned(), keys, created_us: now, created_by: cx.actor.to_string() }
}

fn taken(name: &Publisher) -> Problem {
    Problem::Conflict(format!("there is a publisher {name} already; choose another name"))
}

fn text(keys: &[KeyRecord]) -> String {
    serde_json::to_string(keys).expect("keys have only string keys")
}
