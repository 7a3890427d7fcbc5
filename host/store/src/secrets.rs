//! Secrets, sealed by whoever holds the key: this crate never sees a value.
//!
//! The newest value and a few before it are kept. A name's versions go on counting after a deletion, so a version in a run record
//! means one value for ever, and an old sealed value put back into the table does not open as a new one.

use clawhold_tenancy::{SecretName, TenantId};
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use crate::error::failed;
use crate::fields::Fields;
use crate::{Conflict, Store, StoreError, TenantTx, Write};

/// Values of a name that are kept beside the newest.
const OLD_SECRET_VERSIONS: i64 = 9;

/// Every value of the tenant's, the newest and the older ones.
const ALL: &str = "(SELECT tenant_id, name, version, sealed, created_us, created_by FROM secrets WHERE sealed IS NOT NULL \
                    UNION ALL SELECT tenant_id, name, version, sealed, created_us, created_by FROM secret_versions) AS kept";

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
        row.map(|row| sealed_of(&row)).transpose()
    }

    /// The value of this version, if it is kept.
    pub async fn secret_version(
        &mut self,
        name: &SecretName,
        version: i64,
    ) -> Result<Option<SealedSecret>, StoreError> {
        let select = format!("SELECT version, sealed FROM {ALL} WHERE tenant_id = $1 AND name = $2 AND version = $3");
        let row = sqlx::query(AssertSqlSafe(select))
            .bind(self.tenant.as_str())
            .bind(name.as_str())
            .bind(version)
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(failed("read a secret's version"))?;
        row.map(|row| sealed_of(&row)).transpose()
    }

    /// The versions of a name that are kept, newest first. None if there is no such secret.
    pub async fn secret_versions(&mut self, name: &SecretName) -> Result<Vec<SecretInfo>, StoreError> {
        let select = format!(
            "SELECT name, version, created_us, created_by FROM {ALL} WHERE tenant_id = $1 AND name = $2 ORDER BY version DESC"
        );
        sqlx::query(AssertSqlSafe(select))
            .bind(self.tenant.as_str())
            .bind(name.as_str())
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("list a secret's versions"))?
            .iter()
            .map(info)
            .collect()
    }

    /// Values behind this name and version, by name and version, at most `limit`.
    pub async fn sealed_secrets(
        &mut self,
        after: Option<&(SecretName, i64)>,
        limit: u32,
    ) -> Result<Vec<(SecretName, SealedSecret)>, StoreError> {
        let select = format!(
            "SELECT name, version, sealed FROM {ALL} WHERE tenant_id = $1 AND (name > $2 OR (name = $2 AND version > $3)) \
             ORDER BY name, version LIMIT $4"
        );
        sqlx::query(AssertSqlSafe(select))
            .bind(self.tenant.as_str())
            .bind(after.map_or("", |(name, _)| name.as_str()))
            .bind(after.map_or(0, |(_, version)| *version))
            .bind(i64::from(limit))
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("read sealed secrets"))?
            .iter()
            .map(|row| Ok((Fields::of("secrets", row).id("name")?, sealed_of(row)?)))
            .collect()
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
        .map(info)
        .collect()
    }
}

fn sealed_of(row: &AnyRow) -> Result<SealedSecret, StoreError> {
    let fields = Fields::of("secrets", row);
    Ok(SealedSecret { version: fields.integer("version")?, sealed: fields.bytes("sealed")? })
}

fn info(row: &AnyRow) -> Result<SecretInfo, StoreError> {
    let fields = Fields::of("secrets", row);
    Ok(SecretInfo {
        name: fields.id("name")?,
        version: fields.integer("version")?,
        created_us: fields.integer("created_us")?,
        created_by: fields.text("created_by")?,
    })
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

    /// Puts a new value in place of the old one, which is kept as an older version. `seal` is told the new one's version, which belongs
    /// into what it seals, and its failure is the caller's, who must not commit then.
    pub async fn put_secret<E: From<StoreError>>(
        &mut self,
        name: &SecretName,
        (created_us, created_by): (i64, &str),
        seal: impl FnOnce(i64) -> Result<Vec<u8>, E>,
    ) -> Result<i64, E> {
        let row = sqlx::query(
            "INSERT INTO secrets (tenant_id, name, version, created_us, created_by) VALUES ($1, $2, 1, $3, $4) \
             ON CONFLICT (tenant_id, name) DO UPDATE SET version = secrets.version + 1 RETURNING version",
        )
        .bind(self.tenant.as_str())
        .bind(name.as_str())
        .bind(created_us)
        .bind(created_by)
        .fetch_one(&mut *self.tx)
        .await
        .map_err(failed("put a secret"))?;
        let version = Fields::of("secrets", &row).integer("version")?;
        // The row is this transaction's by now, and has still the old value.
        sqlx::query(
            "INSERT INTO secret_versions (tenant_id, name, version, sealed, created_us, created_by) \
             SELECT tenant_id, name, version - 1, sealed, created_us, created_by FROM secrets \
             WHERE tenant_id = $1 AND name = $2 AND sealed IS NOT NULL",
        )
        .bind(self.tenant.as_str())
        .bind(name.as_str())
        .execute(&mut *self.tx)
        .await
        .map_err(failed("keep a secret's old value"))?;
        let sealed = seal(version)?;
        sqlx::query(
            "UPDATE secrets SET sealed = $3, created_us = $4, created_by = $5 WHERE tenant_id = $1 AND name = $2",
        )
        .bind(self.tenant.as_str())
        .bind(name.as_str())
        .bind(sealed)
        .bind(created_us)
        .bind(created_by)
        .execute(&mut *self.tx)
        .await
        .map_err(failed("put a secret"))?;
        // Counted, and not by their numbers: those between two may have been used up.
        sqlx::query(
            "DELETE FROM secret_versions WHERE tenant_id = $1 AND name = $2 AND version NOT IN \
             (SELECT version FROM secret_versions WHERE tenant_id = $1 AND name = $2 ORDER BY version DESC LIMIT $3)",
        )
        .bind(self.tenant.as_str())
        .bind(name.as_str())
        .bind(OLD_SECRET_VERSIONS)
        .execute(&mut *self.tx)
        .await
        .map_err(failed("remove a secret's oldest value"))?;
        Ok(version)
    }

    /// Puts a new value in place of this version, which is not kept; `None`, and nothing, if it is not the newest any more. `seal` is as above.
    pub async fn renew_secret<E: From<StoreError>>(
        &mut self,
        name: &SecretName,
        old: i64,
        (created_us, created_by): (i64, &str),
        seal: impl FnOnce(i64) -> Result<Vec<u8>, E>,
    ) -> Result<Option<i64>, E> {
        let version = old + 1;
        let done = sqlx::query(
            "UPDATE secrets SET version = $4, sealed = $5, created_us = $6, created_by = $7 \
             WHERE tenant_id = $1 AND name = $2 AND version = $3 AND sealed IS NOT NULL",
        )
        .bind(self.tenant.as_str())
        .bind(name.as_str())
        .bind(old)
        .bind(version)
        .bind(seal(version)?)
        .bind(created_us)
        .bind(created_by)
        .execute(&mut *self.tx)
        .await
        .map_err(failed("renew a secret"))?;
        Ok((done.rows_affected() > 0).then_some(version))
    }

    /// Deletes a secret's values, also the older ones; `false` if there is none.
    pub async fn delete_secret(&mut self, name: &SecretName) -> Result<bool, StoreError> {
        sqlx::query("DELETE FROM secret_versions WHERE tenant_id = $1 AND name = $2")
            .bind(self.tenant.as_str())
            .bind(name.as_str())
            .execute(&mut *self.tx)
            .await
            .map_err(failed("delete a secret's older values"))?;
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

impl Store {
    /// Puts a value that was sealed anew in place of the same value; `false`, and nothing, if it is not that any more. No entry in a chain tells
    /// of each: whoever has all of them sealed anew says so once.
    pub async fn replace_sealed(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        old: &SealedSecret,
        sealed: &[u8],
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin_write(tenant.as_str()).await?;
        for table in ["secrets", "secret_versions"] {
            let update = format!(
                "UPDATE {table} SET sealed = $5 WHERE tenant_id = $1 AND name = $2 AND version = $3 AND sealed = $4"
            );
            let done = sqlx::query(AssertSqlSafe(update))
                .bind(tenant.as_str())
                .bind(name.as_str())
                .bind(old.version)
                .bind(old.sealed.as_slice())
                .bind(sealed)
                .execute(&mut *tx)
                .await
                .map_err(failed("seal a secret anew"))?;
            if done.rows_affected() > 0 {
                tx.commit().await.map_err(failed("seal a secret anew"))?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}
