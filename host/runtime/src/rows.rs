//! The local secret driver's rows, kept in the store. The two sit on one layer and do not know each other.

use async_trait::async_trait;
use clawhold_secret_store::local::{Seal, SealedRow, SealedRows};
use clawhold_secret_store::{SecretError, SecretInfo};
use clawhold_store::{Store, StoreError};
use clawhold_tenancy::audit::Event;
use clawhold_tenancy::{SecretName, TenantId};

/// Secrets of one tenant that a list gives at the most: far more than a tenant has.
const LISTED: u32 = 10_000;

/// Rows of a [`Store`].
pub struct StoreRows(pub Store);

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
        let mut tx = self.0.tenant(tenant).await.map_err(unreachable)?;
        let row = tx.secret(name).await.map_err(unreachable)?;
        Ok(row.map(|row| SealedRow { version: row.version, sealed: row.sealed }))
    }

    async fn put(&self, tenant: &TenantId, name: &SecretName, seal: Seal, event: Event) -> Result<i64, SecretError> {
        let mut tx = self.0.tenant_write(tenant).await.map_err(unreachable)?;
        let seal = |version| seal(version).map_err(Failure::Seal);
        let put = tx.put_secret(name, event.at_us, &event.actor, seal).await;
        let version = put.map_err(|failure| match failure {
            Failure::Seal(error) => error,
            Failure::Store(error) => unreachable(error),
        })?;
        let event = event.with(&serde_json::json!({ "version": version }));
        tx.commit(event).await.map_err(unreachable)?;
        Ok(version)
    }

    async fn delete(&self, tenant: &TenantId, name: &SecretName, event: Event) -> Result<bool, SecretError> {
        let mut tx = self.0.tenant_write(tenant).await.map_err(unreachable)?;
        if !tx.delete_secret(name).await.map_err(unreachable)? {
            return Ok(false);
        }
        tx.commit(event).await.map_err(unreachable)?;
        Ok(true)
    }

    async fn list(&self, tenant: &TenantId) -> Result<Vec<SecretInfo>, SecretError> {
        let mut tx = self.0.tenant(tenant).await.map_err(unreachable)?;
        let rows = tx.secrets(None, LISTED).await.map_err(unreachable)?;
        let info = |row: clawhold_store::SecretInfo| SecretInfo {
            name: row.name,
            version: row.version,
            created_us: row.created_us,
            by: row.created_by,
        };
        Ok(rows.into_iter().map(info).collect())
    }
}
