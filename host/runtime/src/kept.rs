//! Requests with an `Idempotency-Key`: done once, and answered alike when they are repeated.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawhold_store::{KeyHolder, Store, SystemTx, TenantTx, Write};
use clawhold_tenancy::audit::{Chain, now_us};
use clawhold_tenancy::keep::{Keep, Slot};
use clawhold_tenancy::{RequestId, TenantId};
use tokio::sync::oneshot;

use crate::{Host, Problem};

/// Keys whose requests are under way on this host.
pub(crate) struct UnderWay {
    here: Arc<Mutex<HashSet<(String, Slot)>>>,
    /// This process, as other hosts know it.
    host: String,
}

impl Default for UnderWay {
    fn default() -> Self {
        Self { here: Arc::default(), host: RequestId::now().to_string() }
    }
}

/// How long a key is held without word from its host: as long as a repeat is refused after the host has died.
const LEASE_US: i64 = 60_000_000;
/// How often a host says that it is still at it.
const WORD: Duration = Duration::from_secs(20);

/// Holds a key until it is dropped.
struct Held {
    of: Arc<Mutex<HashSet<(String, Slot)>>>,
    slot: (String, Slot),
    /// Dropped with this: the other hosts may have the key then.
    elsewhere: Option<oneshot::Sender<()>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.slot);
    }
}

/// Keeps a key from other hosts until `released`.
async fn hold(store: Store, holder: KeyHolder, mut released: oneshot::Receiver<()>) {
    while tokio::time::timeout(WORD, &mut released).await.is_err() {
        if let Err(error) = store.hold_key(&holder, now_us() + LEASE_US, now_us()).await {
            tracing::warn!(%error, "other hosts could not be told that a request is still under way");
        }
    }
    if let Err(error) = store.release_key(&holder, now_us()).await {
        tracing::debug!(%error, "a key could not be let go; it runs out");
    }
}

fn under_way() -> Problem {
    let why = "a request with this Idempotency-Key is under way; send it again in a moment for its answer";
    Problem::Conflict(why.to_owned())
}

/// What is to be done about a request with a key.
pub enum Once {
    /// It was done: this is the answer that was kept.
    Before(Vec<u8>),
    /// It is new. To be given to [`Keep::new`].
    Now(Arc<dyn Send + Sync>),
}

impl Host {
    /// Whether a request with this key was done before, for this owner: the tenant that it is about, or the host.
    pub async fn once(&self, of: Chain<'_>, slot: &Slot) -> Result<Once, Problem> {
        let place = (of.name().to_owned(), Slot { fingerprint: [0; 32], ..slot.clone() });
        if !self.under_way.here.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone()) {
            return Err(under_way());
        }
        let mut held = Held { of: Arc::clone(&self.under_way.here), slot: place, elsewhere: None };
        let mut kept = self.store.kept_answer(of, &slot.token, &slot.key, now_us()).await?;
        if kept.is_none() && self.store.is_shared() {
            held.elsewhere = Some(self.hold_elsewhere(of, slot).await?);
            // Another host may have finished just before.
            kept = self.store.kept_answer(of, &slot.token, &slot.key, now_us()).await?;
        }
        match kept {
            None => {
                // Made now if it must be: later there is a transaction open, and SQLite has one writer.
                self.details.ready(of).await?;
                Ok(Once::Now(Arc::new(held)))
            }
            Some((fingerprint, _)) if fingerprint != slot.fingerprint => Err(Problem::invalid(
                "Idempotency-Key",
                "another request was sent with this key within the last 24 hours; use a new key for a new request",
            )),
            Some((_, sealed)) => Ok(Once::Before(self.details.open_answer(of, slot, &sealed).await?)),
        }
    }

    /// Keeps the key from other hosts until what this gives is dropped.
    async fn hold_elsewhere(&self, of: Chain<'_>, slot: &Slot) -> Result<oneshot::Sender<()>, Problem> {
        let holder = KeyHolder {
            chain: of.name().to_owned(),
            token: slot.token.clone(),
            key: slot.key.clone(),
            host: self.under_way.host.clone(),
            request: RequestId::now().to_string(),
        };
        if !self.store.hold_key(&holder, now_us() + LEASE_US, now_us()).await? {
            return Err(under_way());
        }
        let (release, released) = oneshot::channel();
        tokio::spawn(hold(self.store.clone(), holder, released));
        Ok(release)
    }

    pub(crate) async fn keep_in<T>(&self, tx: &mut TenantTx<Write>, keep: Keep<T>, done: &T) -> Result<(), Problem> {
        let tenant = tx.tenant_id().clone();
        if let Some(kept) = keep.of(done) {
            let kept = self.details.seal_answer(Chain::Tenant(&tenant), kept).await?;
            tx.keep_answer(&kept).await?;
        }
        Ok(())
    }

    pub(crate) async fn keep_on_the_host<T>(
        &self,
        tx: &mut SystemTx<Write>,
        keep: Keep<T>,
        done: &T,
    ) -> Result<(), Problem> {
        if let Some(kept) = keep.of(done) {
            let kept = self.details.seal_answer(Chain::Host, kept).await?;
            tx.keep_answer(&kept).await?;
        }
        Ok(())
    }

    /// The same in a tenant's name, for what is done to it among what belongs to no single tenant.
    pub(crate) async fn keep_of<T>(
        &self,
        tx: &mut SystemTx<Write>,
        tenant: &TenantId,
        keep: Keep<T>,
        done: &T,
    ) -> Result<(), Problem> {
        if let Some(kept) = keep.of(done) {
            let kept = self.details.seal_answer(Chain::Tenant(tenant), kept).await?;
            tx.keep_answer_of(tenant, &kept).await?;
        }
        Ok(())
    }
}
