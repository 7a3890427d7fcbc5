//! What is sealed under an owner's data key: the detail of audit entries, and answers that are kept.

use std::sync::Arc;
use std::time::Duration;

use clawhold_secret_store::keys::{DataKey, KeyError, KeyRing, version_of};
use clawhold_store::{KeptAnswer, Store, StoreError, WrappedKey};
use clawhold_tenancy::audit::{Chain, Event, Sealed, SealedEvent, now_us};
use clawhold_tenancy::keep::Slot;
use moka::future::Cache;

use crate::Problem;

/// How long a data key is kept in the clear.
const KEPT: Duration = Duration::from_mins(5);
/// Data keys in the clear at a time.
const KEYS: u64 = 10_000;

/// Seals and opens. One for a host.
pub struct Details {
    store: Store,
    ring: Arc<dyn KeyRing>,
    newest: Cache<String, Arc<DataKey>>,
    older: Cache<(String, u32), Arc<DataKey>>,
}

/// Why something could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// An entry's detail, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// It has none.
    None,
    /// JSON.
    Text(String),
    /// Its key was destroyed: it says nothing any more.
    Shredded,
    /// It does not open: it is not what the host wrote.
    Damaged,
}

impl Details {
    /// Keys are kept in this store, wrapped by this ring.
    pub fn new(store: Store, ring: Arc<dyn KeyRing>) -> Arc<Self> {
        let newest = Cache::builder().max_capacity(KEYS).time_to_live(KEPT).build();
        let older = Cache::builder().max_capacity(KEYS).time_to_live(KEPT).build();
        Arc::new(Self { store, ring, newest, older })
    }

    /// The event as its chain takes it.
    pub async fn seal(&self, of: Chain<'_>, event: Event) -> Result<SealedEvent, SealError> {
        let mut all = self.seal_all(of, vec![event]).await?;
        Ok(all.swap_remove(0))
    }

    /// The events as their chain takes them.
    pub async fn seal_all(&self, of: Chain<'_>, events: Vec<Event>) -> Result<Vec<SealedEvent>, SealError> {
        let mut sealed = Vec::with_capacity(events.len());
        for event in events {
            let detail = if event.detail.is_empty() {
                Sealed::NONE
            } else {
                let key = self.key(of).await?;
                Sealed::from_ciphertext(key.seal(&event.place(of.name(), &mut [0; 8]), &event.detail)?)
            };
            sealed.push(event.with_detail(detail));
        }
        Ok(sealed)
    }

    /// What an entry says in detail.
    pub async fn open(&self, of: Chain<'_>, event: &SealedEvent) -> Result<Detail, Problem> {
        let sealed = event.detail.bytes();
        if sealed.is_empty() {
            return Ok(Detail::None);
        }
        let Ok(version) = version_of(sealed) else { return Ok(Detail::Damaged) };
        let key = match self.key_of(of, version).await {
            Ok(Some(key)) => key,
            Ok(None) => return Ok(Detail::Shredded),
            Err(SealError::Key(KeyError::Damaged(_) | KeyError::OtherKey)) => return Ok(Detail::Damaged),
            Err(error) => return Err(error.into()),
        };
        let opened = key.open(&event.place(of.name(), &mut [0; 8]), sealed).ok();
        let text = opened.and_then(|text| String::from_utf8(text.to_vec()).ok());
        Ok(text.map_or(Detail::Damaged, Detail::Text))
    }

    /// An answer as it is kept.
    pub(crate) async fn seal_answer(
        &self,
        of: Chain<'_>,
        (slot, answer): (Slot, Vec<u8>),
    ) -> Result<KeptAnswer, SealError> {
        let key = self.key(of).await?;
        let answer = key.seal(&answer_place(of, &slot), &answer)?;
        let Slot { token, key, fingerprint } = slot;
        Ok(KeptAnswer { token, key, fingerprint, answer, created_us: now_us() })
    }

    pub(crate) async fn open_answer(&self, of: Chain<'_>, slot: &Slot, sealed: &[u8]) -> Result<Vec<u8>, Problem> {
        let lost = |why: &str| Problem::internal("a kept answer does not open", why);
        let version = version_of(sealed).map_err(|e| lost(&e.to_string()))?;
        let key = self.key_of(of, version).await?.ok_or_else(|| lost("its key is gone"))?;
        let opened = key.open(&answer_place(of, slot), sealed).map_err(|e| lost(&e.to_string()))?;
        Ok(opened.to_vec())
    }

    /// Makes sure that the owner has a key, so that sealing needs no more of the database for a while.
    pub(crate) async fn ready(&self, of: Chain<'_>) -> Result<(), SealError> {
        self.key(of).await.map(drop)
    }

    /// The owner's newest key, made if there is none.
    async fn key(&self, of: Chain<'_>) -> Result<Arc<DataKey>, SealError> {
        if let Some(key) = self.newest.get(of.name()).await {
            return Ok(key);
        }
        let found = match self.store.data_key(of, None).await? {
            Some(found) => found,
            None => self.make(of).await?,
        };
        let key = Arc::new(self.ring.unwrap(of.name(), found.version, &found.wrapped).await?);
        self.newest.insert(of.name().to_owned(), Arc::clone(&key)).await;
        Ok(key)
    }

    async fn make(&self, of: Chain<'_>) -> Result<WrappedKey, SealError> {
        let key = DataKey::generate(1)?;
        let wrapped = self.ring.wrap(of.name(), &key).await?;
        self.store.add_data_key(of, &WrappedKey { version: 1, wrapped, created_us: now_us() }).await?;
        // Another host may have been faster.
        Ok(self.store.data_key(of, None).await?.ok_or(KeyError::Damaged("it was made and is not there"))?)
    }

    async fn key_of(&self, of: Chain<'_>, version: u32) -> Result<Option<Arc<DataKey>>, SealError> {
        let name = (of.name().to_owned(), version);
        if let Some(key) = self.older.get(&name).await {
            return Ok(Some(key));
        }
        let Some(found) = self.store.data_key(of, Some(version)).await? else { return Ok(None) };
        let key = Arc::new(self.ring.unwrap(of.name(), version, &found.wrapped).await?);
        self.older.insert(name, Arc::clone(&key)).await;
        Ok(Some(key))
    }
}

fn answer_place<'a>(of: Chain<'a>, slot: &'a Slot) -> [&'a [u8]; 5] {
    [of.name().as_bytes(), b"kept_answers", slot.token.as_str().as_bytes(), slot.key.as_bytes(), &slot.fingerprint]
}
