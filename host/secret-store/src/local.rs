//! Secrets in the host's own database, sealed under each tenant's data key, which a key in a file wraps.
//!
//! The database sees ciphertext alone: who has a copy of it, or may write to it, can neither read a secret nor give
//! one tenant's to another. Who also has the key file can.

mod key;
mod seal;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clawhold_tenancy::{SecretName, TenantId};

pub use key::{KeyFileError, MasterKey};

use crate::keys::{DataKeys, KeyError};
use crate::{Change, Resealed, SecretError, SecretInfo, SecretStore, SecretValue, Versioned};
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

    /// The tenant's row of this name and version, if it is still kept.
    async fn of_version(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        version: i64,
    ) -> Result<Option<SealedRow>, SecretError>;

    /// The versions that are kept of this name, newest first, with the newest itself.
    async fn versions(&self, tenant: &TenantId, name: &SecretName) -> Result<Vec<SecretInfo>, SecretError>;

    /// Rows behind this one, of all names and versions, by name and version, at most `limit`.
    async fn all(
        &self,
        tenant: &TenantId,
        after: Option<&(SecretName, i64)>,
        limit: u32,
    ) -> Result<Vec<(SecretName, SealedRow)>, SecretError>;

    /// Puts what was sealed anew in place of the same row as it was; `false`, and nothing, if it is not that any more. No event: nothing of
    /// the tenant's changes by it.
    async fn replace(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        old: &SealedRow,
        sealed: Vec<u8>,
    ) -> Result<bool, SecretError>;

    /// See [`SecretStore::claim`].
    async fn claim(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        holder: &str,
        at_most: Duration,
    ) -> Result<bool, SecretError>;

    /// See [`SecretStore::release`].
    async fn release(&self, tenant: &TenantId, name: &SecretName, holder: &str) -> Result<(), SecretError>;

    /// Takes the next version, one that the name never had, stores what `seal` makes for it, and commits that with
    /// the change's event. A few of the values before are kept.
    async fn put(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        seal: Seal,
        change: Change<i64>,
    ) -> Result<i64, SecretError>;

    /// Removes all values and commits that with the change's event; `false`, and no event, if there is none.
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

/// Rows at a time when all are sealed anew.
const ROWS: u32 = 100;

/// The driver: seals what goes into the rows and opens what comes out.
pub struct LocalSecrets<R> {
    keys: Arc<DataKeys>,
    /// What sealed before tenants had keys.
    master: Arc<MasterKey>,
    rows: R,
}

impl<R: SealedRows> LocalSecrets<R> {
    /// Secrets in these rows, under these keys.
    pub fn new(keys: Arc<DataKeys>, master: Arc<MasterKey>, rows: R) -> Self {
        Self { keys, master, rows }
    }

    async fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<SecretValue, SecretError> {
        let Some(version) = seal::sealed_by(place, sealed)? else {
            return seal::open_under_master(&self.master, place, sealed);
        };
        let key = self.keys.of(place.tenant.as_str(), version).await.map_err(|error| place.failed(error))?;
        let key = key.ok_or_else(|| place.damaged("the key that sealed it was destroyed"))?;
        seal::open(&key, place, sealed)
    }
}

/// What a data key that cannot be had means to whoever wants to seal with it.
fn out_of_reach(error: KeyError) -> SecretError {
    match error {
        KeyError::Unavailable(source) => SecretError::Unavailable(source),
        KeyError::NoRandomness => SecretError::NoRandomness,
        error => SecretError::Failed(error.into()),
    }
}

#[async_trait]
impl<R: SealedRows> SecretStore for LocalSecrets<R> {
    async fn get(&self, tenant: &TenantId, name: &SecretName) -> Result<Option<Versioned>, SecretError> {
        let Some(row) = self.rows.newest(tenant, name).await? else { return Ok(None) };
        let value = self.open(&Place::new(tenant, name, row.version), &row.sealed).await?;
        Ok(Some(Versioned { version: row.version, value }))
    }

    async fn get_version(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        version: i64,
    ) -> Result<Option<SecretValue>, SecretError> {
        let Some(row) = self.rows.of_version(tenant, name, version).await? else { return Ok(None) };
        self.open(&Place::new(tenant, name, row.version), &row.sealed).await.map(Some)
    }

    async fn claim(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        holder: &str,
        at_most: Duration,
    ) -> Result<bool, SecretError> {
        self.rows.claim(tenant, name, holder, at_most).await
    }

    async fn release(&self, tenant: &TenantId, name: &SecretName, holder: &str) -> Result<(), SecretError> {
        self.rows.release(tenant, name, holder).await
    }

    async fn versions(&self, tenant: &TenantId, name: &SecretName) -> Result<Vec<SecretInfo>, SecretError> {
        self.rows.versions(tenant, name).await
    }

    async fn reseal(&self, tenant: &TenantId) -> Result<Resealed, SecretError> {
        let (mut done, mut after) = (Resealed::default(), None);
        let newest = self.keys.newest_now(tenant.as_str()).await.map_err(out_of_reach)?;
        loop {
            let rows = self.rows.all(tenant, after.as_ref(), ROWS).await?;
            let is_last = rows.len() < ROWS as usize;
            for (name, row) in rows {
                let place = Place::new(tenant, &name, row.version);
                // Never back to an older one: another host may have made a newer meanwhile.
                if seal::sealed_by(&place, &row.sealed).ok().flatten() < Some(newest.version()) {
                    match self.open(&place, &row.sealed).await {
                        Ok(value) => {
                            let sealed = seal::seal(&newest, &place, &value)?;
                            done.anew += u64::from(self.rows.replace(tenant, &name, &row, sealed).await?);
                        }
                        // One that is broken must not keep the others under an old key.
                        Err(SecretError::Damaged { .. } | SecretError::OtherKey { .. }) => done.unreadable += 1,
                        Err(error) => return Err(error),
                    }
                }
                after = Some((name, row.version));
            }
            if is_last {
                return Ok(done);
            }
        }
    }

    async fn put(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        value: SecretValue,
        change: Change<i64>,
    ) -> Result<i64, SecretError> {
        // Before the transaction that it is used in: making a key is one of its own.
        let key = self.keys.newest(tenant.as_str()).await.map_err(out_of_reach)?;
        let (to, called) = (tenant.clone(), name.clone());
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
