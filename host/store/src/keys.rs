//! Data keys, wrapped: this crate sees none in the clear.

use clawhold_tenancy::audit::Chain;

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

impl Store {
    /// A chain owner's key of this version, or the newest.
    pub async fn data_key(&self, of: Chain<'_>, version: Option<u32>) -> Result<Option<WrappedKey>, StoreError> {
        let mut tx = self.begin_read(of.name()).await?;
        let row = sqlx::query(
            "SELECT version, wrapped, created_us FROM data_keys WHERE tenant_id = $1 AND version BETWEEN $2 AND $3 \
             ORDER BY version DESC LIMIT 1",
        )
        .bind(of.name())
        .bind(version.map_or(0, i64::from))
        .bind(version.map_or(i64::MAX, i64::from))
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed("read a data key"))?;
        let Some(row) = row else { return Ok(None) };
        let fields = Fields::of("data_keys", &row);
        Ok(Some(WrappedKey {
            version: fields.count("version")?,
            wrapped: fields.bytes("wrapped")?,
            created_us: fields.integer("created_us")?,
        }))
    }

    /// Keeps a new key, unless there is one of this version: of two hosts that make one at once, the first wins. No entry in a
    /// chain tells of it: nothing of the owner's changes by it, and an entry could not be sealed before.
    pub async fn add_data_key(&self, of: Chain<'_>, key: &WrappedKey) -> Result<(), StoreError> {
        let mut tx = self.begin_write(of.name()).await?;
        sqlx::query(
            "INSERT INTO data_keys (tenant_id, version, wrapped, created_us) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (tenant_id, version) DO NOTHING",
        )
        .bind(of.name())
        .bind(i64::from(key.version))
        .bind(key.wrapped.as_slice())
        .bind(key.created_us)
        .execute(&mut *tx)
        .await
        .map_err(failed("keep a data key"))?;
        tx.commit().await.map_err(failed("keep a data key"))
    }
}
