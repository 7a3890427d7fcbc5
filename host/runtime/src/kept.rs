//! Requests with an `Idempotency-Key`: done once, and answered alike when they are repeated.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use clawhold_store::{SystemTx, TenantTx, Write};
use clawhold_tenancy::audit::{Chain, now_us};
use clawhold_tenancy::keep::{Keep, Slot};

use crate::{Host, Problem};

/// Keys whose requests are under way on this host.
#[derive(Default)]
pub(crate) struct UnderWay(Arc<Mutex<HashSet<(String, Slot)>>>);

/// Holds a key until it is dropped.
struct Held {
    of: Arc<Mutex<HashSet<(String, Slot)>>>,
    slot: (String, Slot),
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.slot);
    }
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
        if !self.under_way.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone()) {
            let why = "a request with this Idempotency-Key is under way; send it again in a moment for its answer";
            return Err(Problem::Conflict(why.to_owned()));
        }
        let held = Arc::new(Held { of: Arc::clone(&self.under_way.0), slot: place });
        match self.store.kept_answer(of, &slot.token, &slot.key, now_us()).await? {
            None => {
                // Made now if it must be: later there is a transaction open, and SQLite has one writer.
                self.details.ready(of).await?;
                Ok(Once::Now(held))
            }
            Some((fingerprint, _)) if fingerprint != slot.fingerprint => Err(Problem::invalid(
                "Idempotency-Key",
                "another request was sent with this key within the last 24 hours; use a new key for a new request",
            )),
            Some((_, sealed)) => Ok(Once::Before(self.details.open_answer(of, slot, &sealed).await?)),
        }
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
}
