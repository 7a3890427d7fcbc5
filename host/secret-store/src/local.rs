//! Secrets in the host's own database, sealed under a key in a file.
//!
//! The database sees ciphertext alone: who has a copy of it, or may write to it, can neither read a secret nor give
//! one tenant's to another. Who also has the key file can.

mod key;
mod seal;

use std::sync::Arc;

use async_trait::async_trait;
use clawhold_tenancy::{SecretName, TenantId};

pub use key::{KeyFileError, MasterKey};

use crate::{Change, SecretError, SecretInfo, SecretStore, SecretValue, Versioned};
use seal::Place;

/// A sealed value, as a row holds it.
#[derive(Debug, Clone)]
pub struct SealedRow {
    /// Which one.
    pub version: i64,
    /// The ciphertext.
    pub sealed: Vec<u8>,
}

/// Seals the value for the version that it is told. Quick, and calls nobody.
pub type Seal = Box<dyn FnOnce(i64) -> Result<Vec<u8>, SecretError> + Send>;

/// What this driver needs of a database. Each call is one transaction, which for a change ends with the event.
#[async_trait]
pub trait SealedRows: Send + Sync {
    /// The tenant's newest row of this name.
    async fn newest(&self, tenant: &TenantId, name: &SecretName) -> Result<Option<SealedRow>, SecretError>;

    /// Takes the next version, one that the name never had, stores what `seal` makes for it, and commits that with
    /// the change's event. Older values are removed.
    async fn put(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        seal: Seal,
        change: Change<i64>,
    ) -> Result<i64, SecretError>;

    /// Removes the value and commits that with the change's event; `false`, and no event, if there is none.
    async fn delete(&self, tenant: &TenantId, name: &SecretName, change: Change<()>) -> Result<bool, SecretError>;

    /// How many secrets the tenant has.
    async fn count(&self, tenant: &TenantId) -> Result<u64, SecretError>;

    /// The tenant's secrets behind `after`, by name, at most `limit`.
    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<&SecretName>,
        limit: u32,
    ) -> Result<Vec<SecretInfo>, SecretError>;
}

/// The driver: seals what goes into the rows and opens what comes out.
pub struct LocalSecrets<R> {
    key: Arc<MasterKey>,
    rows: R,
}

impl<R: SealedRows> LocalSecrets<R> {
    /// Secrets in these rows, under this key.
    pub fn new(key: Arc<MasterKey>, rows: R) -> Self {
        Self { key, rows }
    }
}

#[async_trait]
impl<R: SealedRows> SecretStore for LocalSecrets<R> {
    async fn get(&self, tenant: &TenantId, name: &SecretName) -> Result<Option<Versioned>, SecretError> {
        let Some(row) = self.rows.newest(tenant, name).await? else { return Ok(None) };
        let place = Place::new(tenant, name, row.version);
        let value = seal::open(&self.key, &place, &row.sealed)?;
        Ok(Some(Versioned { version: row.version, value }))
    }

    async fn put(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        value: SecretValue,
        change: Change<i64>,
    ) -> Result<i64, SecretError> {
        let (key, to, called) = (Arc::clone(&self.key), tenant.clone(), name.clone());
        let seal = move |version| seal::seal(&key, &Place::new(&to, &called, version), &value);
        self.rows.put(tenant, name, Box::new(seal), change).await
    }

    async fn delete(&self, tenant: &TenantId, name: &SecretName, change: Change<()>) -> Result<bool, SecretError> {
        self.rows.delete(tenant, name, change).await
    }

    async fn count(&self, tenant: &TenantId) -> Result<u64, SecretError> {
        self.rows.count(tenant).await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<&SecretName>,
        limit: u32,
    ) -> Result<Vec<SecretInfo>, SecretError> {
        self.rows.list(tenant, after, limit).await
    }
}
