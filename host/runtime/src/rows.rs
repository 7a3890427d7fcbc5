//! Rows of keys and of the local secret driver, kept in the store. The three sit on one layer and do not know each other.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clawhold_secret_store::keys::{KeyError, KeyRows, WrappedKey};
use clawhold_secret_store::local::{Seal, SealedRow, SealedRows};
use clawhold_secret_store::{Change, Over, SecretError, SecretInfo};
use clawhold_store::{KeptAnswer, SealedSecret, Store, StoreError};
use clawhold_tenancy::audit::{Chain, Event, SealedEvent, now_us};
use clawhold_tenancy::keep::Slot;
use clawhold_tenancy::{SecretName, TenantId};

use crate::details::{Details, SealError};

/// Wrapped keys in a [`Store`].
pub struct StoreKeys(pub Store);

#[async_trait]
impl KeyRows for StoreKeys {
    async fn key(&self, owner: &str, version: Option<u32>) -> Result<Option<WrappedKey>, KeyError> {
        Ok(self.0.data_key(owner, version).await.map_err(keys_out_of_reach)?.map(wrapped))
    }

    async fn all(&self, owner: &str, after: u32, limit: u32) -> Result<Vec<WrappedKey>, KeyError> {
        let found = self.0.data_keys(owner, after, limit).await.map_err(keys_out_of_reach)?;
        Ok(found.into_iter().map(wrapped).collect())
    }

    async fn add(&self, owner: &str, key: &WrappedKey) -> Result<(), KeyError> {
        self.0.add_data_key(owner, &stored(key)).await.map_err(keys_out_of_reach)
    }

    async fn replace(&self, owner: &str, old: &WrappedKey, wrapped: &[u8]) -> Result<(), KeyError> {
        self.0.replace_data_key(owner, &stored(old), wrapped).await.map_err(keys_out_of_reach)
    }
}

fn wrapped(key: clawhold_store::WrappedKey) -> WrappedKey {
    WrappedKey { version: key.version, wrapped: key.wrapped, created_us: key.created_us }
}

fn stored(key: &WrappedKey) -> clawhold_store::WrappedKey {
    let WrappedKey { version, wrapped, created_us } = key.clone();
    clawhold_store::WrappedKey { version, wrapped, created_us }
}

fn keys_out_of_reach(error: StoreError) -> KeyError {
    if error.is_retryable() { KeyError::Unavailable(error.into()) } else { KeyError::Failed(error.into()) }
}

/// Rows of a [`Store`].
pub struct StoreRows {
    store: Store,
    details: Arc<Details>,
}

impl StoreRows {
    /// Rows of this store; what its chains say in detail is sealed by `details`.
    pub fn new(store: Store, details: Arc<Details>) -> Self {
        Self { store, details }
    }

    async fn sealed(&self, tenant: &TenantId, event: Event) -> Result<SealedEvent, SecretError> {
        self.details.seal(Chain::Tenant(tenant), event).await.map_err(not_sealed)
    }

    async fn kept(&self, tenant: &TenantId, kept: (Slot, Vec<u8>)) -> Result<KeptAnswer, SecretError> {
        self.details.seal_answer(Chain::Tenant(tenant), kept).await.map_err(not_sealed)
    }
}

fn not_sealed(error: SealError) -> SecretError {
    match error {
        SealError::Store(error) => unreachable(error),
        SealError::Key(KeyError::Unavailable(source)) => SecretError::Unavailable(source),
        SealError::Key(error) => SecretError::Failed(error.into()),
    }
}

/// The two kinds of failure that putting a secret can have.
enum Failure {
    Seal(SecretError),
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn unreachable(error: StoreError) -> SecretError {
    if error.is_retryable() { SecretError::Unavailable(error.into()) } else { SecretError::Failed(error.into()) }
}

#[async_trait]
impl SealedRows for StoreRows {
    async fn newest(&self, tenant: &TenantId, name: &SecretName) -> Result<Option<SealedRow>, SecretError> {
        let mut tx = self.store.tenant(tenant).await.map_err(unreachable)?;
        Ok(tx.secret(name).await.map_err(unreachable)?.map(row))
    }

    async fn of_version(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        version: i64,
    ) -> Result<Option<SealedRow>, SecretError> {
        let mut tx = self.store.tenant(tenant).await.map_err(unreachable)?;
        Ok(tx.secret_version(name, version).await.map_err(unreachable)?.map(row))
    }

    async fn versions(&self, tenant: &TenantId, name: &SecretName) -> Result<Vec<SecretInfo>, SecretError> {
        let mut tx = self.store.tenant(tenant).await.map_err(unreachable)?;
        Ok(tx.secret_versions(name).await.map_err(unreachable)?.into_iter().map(info).collect())
    }

    async fn all(
        &self,
        tenant: &TenantId,
        after: Option<&(SecretName, i64)>,
        limit: u32,
    ) -> Result<Vec<(SecretName, SealedRow)>, SecretError> {
        let mut tx = self.store.tenant(tenant).await.map_err(unreachable)?;
        let rows = tx.sealed_secrets(after, limit).await.map_err(unreachable)?;
        Ok(rows.into_iter().map(|(name, sealed)| (name, row(sealed))).collect())
    }

    async fn replace(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        old: &SealedRow,
        sealed: Vec<u8>,
    ) -> Result<bool, SecretError> {
        let old = SealedSecret { version: old.version, sealed: old.sealed.clone() };
        self.store.replace_sealed(tenant, name, &old, &sealed).await.map_err(unreachable)
    }

    async fn claim(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        holder: &str,
        at_most: Duration,
    ) -> Result<bool, SecretError> {
        let until = i64::try_from(at_most.as_micros()).unwrap_or(i64::MAX);
        self.store.claim_secret(tenant, name, holder, now_us(), until).await.map_err(unreachable)
    }

    async fn release(&self, tenant: &TenantId, name: &SecretName, holder: &str) -> Result<(), SecretError> {
        self.store.release_secret(tenant, name, holder).await.map_err(unreachable)
    }

    async fn put(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        seal: Seal,
        change: Change<i64>,
    ) -> Result<i64, SecretError> {
        let Change { event, keep, most, over } = change;
        // Before the transaction: making a key is one of its own, and SQLite has one writer. The version is not known yet.
        self.sealed(tenant, event.clone().with(&serde_json::json!({}))).await?;
        let mut tx = self.store.tenant_write(tenant).await.map_err(unreachable)?;
        if let Some(used) = tx.secrets_if_full(name, most).await.map_err(unreachable)? {
            return Err(SecretError::Full { most, used });
        }
        let seal = |version| seal(version).map_err(Failure::Seal);
        let by = (event.at_us, event.actor.as_str());
        let put = match over {
            Over::UsedUp(old) => tx.renew_secret(name, old, by, seal).await,
            _ => tx.put_secret(name, by, seal).await.map(Some),
        };
        let version = put.map_err(|failure| match failure {
            Failure::Seal(error) => error,
            Failure::Store(error) => unreachable(error),
        })?;
        let version = version.ok_or(SecretError::Changed)?;
        // Whoever is slower waited for the row until now.
        if let Over::Version(over) = over {
            // What was deleted has a version still, and no value that could have been kept as an older one.
            let was_there = tx.secret_version(name, over).await.map_err(unreachable)?.is_some();
            if version != over + 1 || !was_there {
                return Err(SecretError::Changed);
            }
        }
        // What the caller says of it as well.
        let mut detail: serde_json::Map<_, _> = serde_json::from_slice(&event.detail).unwrap_or_default();
        detail.insert("version".to_owned(), version.into());
        let event = self.sealed(tenant, event.with(&detail.into())).await?;
        if let Some(kept) = keep.of(&version) {
            tx.keep_answer(&self.kept(tenant, kept).await?).await.map_err(unreachable)?;
        }
        tx.commit(event).await.map_err(unreachable)?;
        Ok(version)
    }

    async fn delete(&self, tenant: &TenantId, name: &SecretName, change: Change<()>) -> Result<bool, SecretError> {
        let event = self.sealed(tenant, change.event).await?;
        let mut tx = self.store.tenant_write(tenant).await.map_err(unreachable)?;
        if !tx.delete_secret(name).await.map_err(unreachable)? {
            return Ok(false);
        }
        if let Some(kept) = change.keep.of(&()) {
            tx.keep_answer(&self.kept(tenant, kept).await?).await.map_err(unreachable)?;
        }
        tx.commit(event).await.map_err(unreachable)?;
        Ok(true)
    }

    async fn count(&self, tenant: &TenantId) -> Result<u64, SecretError> {
        self.store.tenant(tenant).await.map_err(unreachable)?.count_secrets().await.map_err(unreachable)
    }

    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<&SecretName>,
        limit: u32,
    ) -> Result<Vec<SecretInfo>, SecretError> {
        let mut tx = self.store.tenant(tenant).await.map_err(unreachable)?;
        let rows = tx.secrets(after, limit).await.map_err(unreachable)?;
        Ok(rows.into_iter().map(info).collect())
    }
}

fn row(sealed: SealedSecret) -> SealedRow {
    SealedRow { version: sealed.version, sealed: sealed.sealed }
}

fn info(row: clawhold_store::SecretInfo) -> SecretInfo {
    SecretInfo { name: row.name, version: row.version, created_us: row.created_us, by: row.created_by }
}
