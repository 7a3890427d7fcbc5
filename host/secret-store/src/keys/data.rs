//! Owners' data keys: made when they are first wanted, kept wrapped, renewed when an operator says so.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moka::future::Cache;

use super::{DataKey, KeyError, KeyRing};

/// How long a data key stays in memory in the clear; and so how long another host may go on sealing with the one before the newest.
const KEPT: Duration = Duration::from_mins(1);
/// Data keys in the clear at a time.
const KEYS: u64 = 10_000;

/// A data key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// Counted from 1.
    pub version: u32,
    /// The ciphertext.
    pub wrapped: Vec<u8>,
    /// When it was made, in microseconds since 1970.
    pub created_us: i64,
}

/// Where wrapped keys are kept. An owner is a tenant's id, or `_host`.
#[async_trait]
pub trait KeyRows: Send + Sync {
    /// The owner's key of this version, or its newest.
    async fn key(&self, owner: &str, version: Option<u32>) -> Result<Option<WrappedKey>, KeyError>;

    /// Keeps a new key, unless there is one of this version.
    async fn add(&self, owner: &str, key: &WrappedKey) -> Result<(), KeyError>;

    /// Puts a key that is wrapped anew in place of the same key as it was wrapped; nothing if it is not that any more.
    async fn replace(&self, owner: &str, old: &WrappedKey, wrapped: &[u8]) -> Result<(), KeyError>;
}

/// The data keys of all owners.
pub struct DataKeys {
    ring: Arc<dyn KeyRing>,
    rows: Arc<dyn KeyRows>,
    newest: Cache<String, Arc<DataKey>>,
    all: Cache<(String, u32), Arc<DataKey>>,
}

/// What became of an owner's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// The newest version.
    pub version: u32,
    /// Whether that is a new one.
    pub is_new: bool,
    /// How many keys were wrapped anew.
    pub rewrapped: u32,
}

impl DataKeys {
    /// Keys in these rows, wrapped by this ring.
    pub fn new(ring: Arc<dyn KeyRing>, rows: Arc<dyn KeyRows>) -> Arc<Self> {
        let newest = Cache::builder().max_capacity(KEYS).time_to_live(KEPT).build();
        let all = Cache::builder().max_capacity(KEYS).time_to_live(KEPT).build();
        Arc::new(Self { ring, rows, newest, all })
    }

    /// The owner's newest key, made if there is none.
    pub async fn newest(&self, owner: &str) -> Result<Arc<DataKey>, KeyError> {
        if let Some(key) = self.newest.get(owner).await {
            return Ok(key);
        }
        let found = match self.rows.key(owner, None).await? {
            Some(found) => found,
            None => self.make(owner, 1).await?,
        };
        let key = Arc::new(self.ring.unwrap(owner, found.version, &found.wrapped).await?);
        self.newest.insert(owner.to_owned(), Arc::clone(&key)).await;
        Ok(key)
    }

    /// The same as it is kept now, whatever this host remembers.
    pub async fn newest_now(&self, owner: &str) -> Result<Arc<DataKey>, KeyError> {
        self.newest.invalidate(owner).await;
        match self.rows.key(owner, None).await? {
            Some(found) => {
                let key = self.of(owner, found.version).await?;
                key.ok_or(KeyError::Damaged("it was there and is gone"))
            }
            None => self.newest(owner).await,
        }
    }

    /// The owner's key of this version. `None` if it was destroyed.
    pub async fn of(&self, owner: &str, version: u32) -> Result<Option<Arc<DataKey>>, KeyError> {
        let name = (owner.to_owned(), version);
        if let Some(key) = self.all.get(&name).await {
            return Ok(Some(key));
        }
        let Some(found) = self.rows.key(owner, Some(version)).await? else { return Ok(None) };
        let key = Arc::new(self.ring.unwrap(owner, version, &found.wrapped).await?);
        self.all.insert(name, Arc::clone(&key)).await;
        Ok(Some(key))
    }

    /// Makes a new key if the newest was made before this time, in microseconds since 1970, and has the ring wrap anew what an older
    /// key of it has wrapped. What is done already is not done again, so whoever was interrupted calls again with the same time.
    pub async fn renew(&self, owner: &str, made_before_us: i64) -> Result<Renewed, KeyError> {
        let before = self.rows.key(owner, None).await?;
        let is_new = before.as_ref().is_none_or(|key| key.created_us < made_before_us);
        let newest = match before {
            Some(key) if !is_new => key,
            before => self.make(owner, before.map_or(1, |key| key.version + 1)).await?,
        };
        self.newest.invalidate(owner).await;
        let mut rewrapped = 0;
        for version in 1..=newest.version {
            let Some(key) = self.rows.key(owner, Some(version)).await? else { continue };
            if let Some(wrapped) = self.ring.rewrap(owner, version, &key.wrapped).await? {
                self.rows.replace(owner, &key, &wrapped).await?;
                rewrapped += 1;
            }
        }
        Ok(Renewed { version: newest.version, is_new, rewrapped })
    }

    /// Makes the next key of the ring itself; see [`KeyRing::rotate`].
    pub async fn rotate_ring(&self) -> Result<u32, KeyError> {
        self.ring.rotate().await
    }

    async fn make(&self, owner: &str, version: u32) -> Result<WrappedKey, KeyError> {
        let key = DataKey::generate(version)?;
        let wrapped = self.ring.wrap(owner, &key).await?;
        let created_us = clawhold_tenancy::audit::now_us();
        self.rows.add(owner, &WrappedKey { version, wrapped, created_us }).await?;
        // Another host may have been faster.
        self.rows.key(owner, None).await?.ok_or(KeyError::Damaged("it was made and is not there"))
    }
}
