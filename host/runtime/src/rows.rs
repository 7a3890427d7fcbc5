//! The local secret driver's rows, kept in the store. The two sit on one layer and do not know each other.

use std::sync::Arc;

use async_trait::async_trait;
use clawhold_secret_store::local::{Seal, SealedRow, SealedRows};
use clawhold_secret_store::{Change, SecretError, SecretInfo};
use clawhold_store::{KeptAnswer, Store, StoreError};
use clawhold_tenancy::audit::{Chain, Event, SealedEvent};
use clawhold_tenancy::keep::Slot;
use clawhold_tenancy::{SecretName, TenantId};

use crate::details::{Details, SealError};

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
        let row = tx.secret(name).await.map_err(unreachable)?;
        Ok(row.map(|row| SealedRow { version: row.version, sealed: row.sealed }))
    }

    async fn put(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        seal: Seal,
        change: Change<i64>,
    ) -> Result<i64, SecretError> {
        let Change { event, keep, most } = change;
        // Before the transaction: making a key is one of its own, and SQLite has one writer. The version is not known yet.
        self.sealed(tenant, event.clone().with(&serde_json::json!({}))).await?;
        let mut tx = self.store.tenant_write(tenant).await.map_err(unreachable)?;
        if let Some(used) = tx.secrets_if_full(name, most).await.map_err(unreachable)? {
            return Err(SecretError::Full { most, used });
        }
        let seal = |version| seal(version).map_err(Failure::Seal);
        let put = tx.put_secret(name, event.at_us, &event.actor, seal).await;
        let version = put.map_err(|failure| match failure {
            Failure::Seal(error) => error,
            Failure::Store(error) => unreachable(error),
        })?;
        let event = self.sealed(tenant, event.with(&serde_json::json!({ "version": version }))).await?;
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
        let info = |row: clawhold_store::SecretInfo| SecretInfo {
            name: row.name,
            version: row.version,
            created_us: row.created_us,
            by: row.created_by,
        };
        Ok(rows.into_iter().map(info).collect())
    }
}
