//! Owners' data keys: made when they are first wanted, kept wrapped, renewed when an operator says so.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clawhold_tenancy::audit::{HOST_CHAIN, now_us};
use moka::future::Cache;

use super::{DataKey, KeyError, KeyRing};

/// How long a data key stays in memory in the clear; and so how long another host may go on sealing with the one before the newest.
const KEPT: Duration = Duration::from_mins(1);
/// Data keys in the clear at a time.
const KEYS: u64 = 10_000;

/// Keys that are read at a time when all are looked at.
const ROWS: u32 = 100;

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

    /// All of the owner's keys behind this version, in order, at most `limit`.
    async fn all(&self, owner: &str, after: u32, limit: u32) -> Result<Vec<WrappedKey>, KeyError>;

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
            None => self.make(owner, 1, 0).await?,
        };
        let key = Arc::new(self.ring.unwrap(owner, found.version, &found.wrapped).await?);
        self.newest.insert(owner.to_owned(), Arc::clone(&key)).await;
        Ok(key)
    }

    /// The same as it is kept now, whatever this host remembers.
    pub async fn newest_now(&self, owner: &str) -> Result<Arc<DataKey>, KeyError> {
        self.newest.invalidate(owner).await;
        match self.rows.key(owner, None).await? {
            Some(found) => Ok(Arc::new(self.ring.unwrap(owner, found.version, &found.wrapped).await?)),
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
            before => self.make(owner, before.map_or(1, |key| key.version + 1), made_before_us).await?,
        };
        self.newest.invalidate(owner).await;
        self.meet_the_ring_in_use().await?;
        let (mut rewrapped, mut after) = (0, 0);
        loop {
            let keys = self.rows.all(owner, after, ROWS).await?;
            let is_last = keys.len() < ROWS as usize;
            for key in keys {
                if let Some(wrapped) = self.ring.rewrap(owner, key.version, &key.wrapped).await? {
                    self.rows.replace(owner, &key, &wrapped).await?;
                    rewrapped += 1;
                }
                after = key.version;
            }
            if is_last {
                return Ok(Renewed { version: newest.version, is_new, rewrapped });
            }
        }
    }

    /// The owner's first key and its newest, as they are kept; none if it has no key yet.
    pub async fn first_and_newest(&self, owner: &str) -> Result<Option<(WrappedKey, WrappedKey)>, KeyError> {
        let first = self.rows.all(owner, 0, 1).await?.pop();
        Ok(first.zip(self.rows.key(owner, None).await?))
    }

    /// Puts the ring's next key to use, and says its version. What it wraps first is a new key of the host's own, from where other hosts learn
    /// of it: they refuse to make keys until they have it too. Of two hosts that do this at once, one is told that it was slower, and has
    /// wrapped nothing.
    pub async fn rotate_ring(&self) -> Result<u32, KeyError> {
        // Fails where another host has added a key that this one does not have.
        let newest = self.newest_now(HOST_CHAIN).await?;
        let next = self.ring.prepare().await?;
        let version = newest.version() + 1;
        let wrapped = self.ring.wrap_by(next, HOST_CHAIN, &DataKey::generate(version)?).await?;
        let created_us = now_us();
        self.rows.add(HOST_CHAIN, &WrappedKey { version, wrapped: wrapped.clone(), created_us }).await?;
        let kept = self.rows.key(HOST_CHAIN, Some(version)).await?;
        if kept.is_none_or(|kept| kept.wrapped != wrapped) {
            return Err(KeyError::Raced);
        }
        self.ring.unwrap(HOST_CHAIN, version, &wrapped).await?;
        self.newest.invalidate(HOST_CHAIN).await;
        Ok(next)
    }

    /// A key that another host has put to use wraps here too.
    async fn meet_the_ring_in_use(&self) -> Result<(), KeyError> {
        if let Some(found) = self.rows.key(HOST_CHAIN, None).await? {
            self.ring.unwrap(HOST_CHAIN, found.version, &found.wrapped).await?;
        }
        Ok(())
    }

    /// Made now, or at a time that another host's clock has said, if that is later: otherwise what was made just now would be older than what
    /// it was asked for.
    async fn make(&self, owner: &str, version: u32, not_before_us: i64) -> Result<WrappedKey, KeyError> {
        self.meet_the_ring_in_use().await?;
        let key = DataKey::generate(version)?;
        let wrapped = self.ring.wrap(owner, &key).await?;
        let created_us = now_us().max(not_before_us);
        self.rows.add(owner, &WrappedKey { version, wrapped, created_us }).await?;
        // Another host may have been faster.
        self.rows.key(owner, None).await?.ok_or(KeyError::Damaged("it was made and is not there"))
    }
}
