//! Secrets, sealed by whoever holds the key: this crate never sees a value.
//!
//! Only the newest value is kept. A name's versions go on counting after a deletion, so a version in a run record
//! means one value for ever, and an old sealed value put back into the table does not open as a new one.

use clawhold_tenancy::SecretName;

use crate::error::failed;
use crate::fields::Fields;
use crate::{Conflict, StoreError, TenantTx, Write};

/// A sealed value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// Which one.
    pub version: i64,
    /// The ciphertext.
    pub sealed: Vec<u8>,
}

/// What may be told of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// The newest version.
    pub version: i64,
    /// When that was put, in microseconds since 1970.
    pub created_us: i64,
    /// Who put it.
    pub created_by: String,
}

impl<M> TenantTx<M> {
    /// The newest value.
    pub async fn secret(&mut self, name: &SecretName) -> Result<Option<SealedSecret>, StoreError> {
        let row = sqlx::query(
            "SELECT version, sealed FROM secrets WHERE tenant_id = $1 AND name = $2 AND sealed IS NOT NULL",
        )
        .bind(self.tenant.as_str())
        .bind(name.as_str())
        .fetch_optional(&mut *self.tx)
        .await
        .map_err(failed("read a secret"))?;
        let Some(row) = row else { return Ok(None) };
        let fields = Fields::of("secrets", &row);
        Ok(Some(SealedSecret { version: fields.integer("version")?, sealed: fields.bytes("sealed")? }))
    }

    /// How many secrets there are.
    pub async fn count_secrets(&mut self) -> Result<u64, StoreError> {
        let of_tenant = "SELECT COUNT(*) FROM secrets WHERE tenant_id = $1 AND sealed IS NOT NULL";
        let counted = sqlx::query_scalar::<_, i64>(of_tenant)
            .bind(self.tenant.as_str())
            .fetch_one(&mut *self.tx)
            .await
            .map_err(failed("count secrets"))?;
        Ok(counted.unsigned_abs())
    }

    /// Secrets behind `after`, by name, at most `limit`.
    pub async fn secrets(&mut self, after: Option<&SecretName>, limit: u32) -> Result<Vec<SecretInfo>, StoreError> {
        sqlx::query(
            "SELECT name, version, created_us, created_by FROM secrets \
             WHERE tenant_id = $1 AND name > $2 AND sealed IS NOT NULL ORDER BY name LIMIT $3",
        )
        .bind(self.tenant.as_str())
        .bind(after.map_or("", SecretName::as_str))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed("list secrets"))?
        .iter()
        .map(|row| {
            let fields = Fields::of("secrets", row);
            Ok(SecretInfo {
                name: fields.id("name")?,
                version: fields.integer("version")?,
                created_us: fields.integer("created_us")?,
                created_by: fields.text("created_by")?,
            })
        })
        .collect()
    }
}

impl TenantTx<Write> {
    /// How many secrets there are, if this one would be new and beyond what there may be. Nobody else adds one until the end of this
    /// transaction.
    pub async fn secrets_if_full(&mut self, name: &SecretName, most: u64) -> Result<Option<u64>, StoreError> {
        if self.secret(name).await?.is_some() {
            return Ok(None);
        }
        // For the lock on the tenant's row.
        self.next_revision().await?.ok_or(Conflict::Missing("put a secret"))?;
        let counted =
            sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM secrets WHERE tenant_id = $1 AND sealed IS NOT NULL")
                .bind(self.tenant.as_str())
                .fetch_one(&mut *self.tx)
                .await
                .map_err(failed("count secrets"))?
                .unsigned_abs();
        Ok((counted >= most).then_some(counted))
    }

    /// Puts a new value in place of the old one. `seal` is told its version, which belongs into what it seals, and
    /// its failure is the caller's.
    pub async fn put_secret<E: From<StoreError>>(
        &mut self,
        name: &SecretName,
        created_us: i64,
        created_by: &str,
        seal: impl FnOnce(i64) -> Result<Vec<u8>, E>,
    ) -> Result<i64, E> {
        let row = sqlx::query(
            "INSERT INTO secrets (tenant_id, name, version, created_us, created_by) VALUES ($1, $2, 1, $3, $4) \
             ON CONFLICT (tenant_id, name) DO UPDATE SET version = secrets.version + 1, sealed = NULL, \
             created_us = excluded.created_us, created_by = excluded.created_by RETURNING version",
        )
        .bind(self.tenant.as_str())
        .bind(name.as_str())
        .bind(created_us)
        .bind(created_by)
        .fetch_one(&mut *self.tx)
        .await
        .map_err(failed("put a secret"))?;
        let version = Fields::of("secrets", &row).integer("version")?;
        // If this fails, the row has a version and no value: a deleted secret, should the caller commit all the same.
        let sealed = seal(version)?;
        sqlx::query("UPDATE secrets SET sealed = $3 WHERE tenant_id = $1 AND name = $2")
            .bind(self.tenant.as_str())
            .bind(name.as_str())
            .bind(sealed)
            .execute(&mut *self.tx)
            .await
            .map_err(failed("put a secret"))?;
        Ok(version)
    }

    /// Deletes a secret's value; `false` if there is none.
    pub async fn delete_secret(&mut self, name: &SecretName) -> Result<bool, StoreError> {
        let deleted =
            sqlx::query("UPDATE secrets SET sealed = NULL WHERE tenant_id = $1 AND name = $2 AND sealed IS NOT NULL")
                .bind(self.tenant.as_str())
                .bind(name.as_str())
                .execute(&mut *self.tx)
                .await
                .map_err(failed("delete a secret"))?;
        Ok(deleted.rows_affected() > 0)
    }
}
