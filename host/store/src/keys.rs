//! Data keys, wrapped: this crate sees none in the clear.

use sqlx::any::AnyRow;

use crate::error::failed;
use crate::fields::Fields;
use crate::{Store, StoreError};

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

fn wrapped(row: &AnyRow) -> Result<WrappedKey, StoreError> {
    let fields = Fields::of("data_keys", row);
    Ok(WrappedKey {
        version: fields.count("version")?,
        wrapped: fields.bytes("wrapped")?,
        created_us: fields.integer("created_us")?,
    })
}

impl Store {
    /// The key of this version of a chain's owner, a tenant's id or `_host`, or its newest.
    pub async fn data_key(&self, of: &str, version: Option<u32>) -> Result<Option<WrappedKey>, StoreError> {
        let mut tx = self.begin_read(of).await?;
        let row = sqlx::query(
            "SELECT version, wrapped, created_us FROM data_keys WHERE tenant_id = $1 AND version BETWEEN $2 AND $3 \
             ORDER BY version DESC LIMIT 1",
        )
        .bind(of)
        .bind(version.map_or(0, i64::from))
        .bind(version.map_or(i64::MAX, i64::from))
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed("read a data key"))?;
        row.map(|row| wrapped(&row)).transpose()
    }

    /// All keys of a chain's owner behind this version, in order, at most `limit`.
    pub async fn data_keys(&self, of: &str, after: u32, limit: u32) -> Result<Vec<WrappedKey>, StoreError> {
        let mut tx = self.begin_read(of).await?;
        sqlx::query(
            "SELECT version, wrapped, created_us FROM data_keys WHERE tenant_id = $1 AND version > $2 \
             ORDER BY version LIMIT $3",
        )
        .bind(of)
        .bind(i64::from(after))
        .bind(i64::from(limit))
        .fetch_all(&mut *tx)
        .await
        .map_err(failed("read data keys"))?
        .iter()
        .map(wrapped)
        .collect()
    }

    /// Keeps a new key, unless there is one of this version: of two hosts that make one at once, the first wins. No entry in a
    /// chain tells of it: nothing of the owner's changes by it, and an entry could not be sealed before.
    pub async fn add_data_key(&self, of: &str, key: &WrappedKey) -> Result<(), StoreError> {
        let mut tx = self.begin_write(of).await?;
        sqlx::query(
            "INSERT INTO data_keys (tenant_id, version, wrapped, created_us) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (tenant_id, version) DO NOTHING",
        )
        .bind(of)
        .bind(i64::from(key.version))
        .bind(key.wrapped.as_slice())
        .bind(key.created_us)
        .execute(&mut *tx)
        .await
        .map_err(failed("keep a data key"))?;
        tx.commit().await.map_err(failed("keep a data key"))
    }

    /// Puts a key that was wrapped anew in place of the same key; nothing if it is not that any more.
    pub async fn replace_data_key(&self, of: &str, old: &WrappedKey, wrapped: &[u8]) -> Result<(), StoreError> {
        let mut tx = self.begin_write(of).await?;
        sqlx::query("UPDATE data_keys SET wrapped = $4 WHERE tenant_id = $1 AND version = $2 AND wrapped = $3")
            .bind(of)
            .bind(i64::from(old.version))
            .bind(old.wrapped.as_slice())
            .bind(wrapped)
            .execute(&mut *tx)
            .await
            .map_err(failed("wrap a data key anew"))?;
        tx.commit().await.map_err(failed("wrap a data key anew"))
    }
}
