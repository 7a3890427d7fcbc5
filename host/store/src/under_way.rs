//! Keys whose requests are under way, where several hosts work on one database.

use clawhold_tenancy::TokenId;

use crate::error::failed;
use crate::{Store, StoreError};

/// Who holds a key: nobody else's request has it meanwhile.
#[derive(Debug, Clone)]
pub struct KeyHolder {
    /// What the request is about: a tenant's id, or `_host`.
    pub chain: String,
    /// Whose request it is.
    pub token: TokenId,
    /// The key.
    pub key: String,
    /// The host's process, which may take over what it held itself.
    pub host: String,
    /// The request.
    pub request: String,
}

impl Store {
    /// Holds a key until `until_us`, or longer if it is held already by this request; `false` when another host holds it at `now_us`.
    /// A database that one host has for itself needs no such thing: that host knows what it does.
    pub async fn hold_key(&self, holder: &KeyHolder, until_us: i64, now_us: i64) -> Result<bool, StoreError> {
        if !self.is_shared() {
            return Ok(true);
        }
        let mut tx = self.begin_write(&holder.chain).await?;
        let held = sqlx::query(
            "INSERT INTO keys_under_way (tenant_id, token_id, key, host, request, until_us) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (tenant_id, token_id, key) \
             DO UPDATE SET host = excluded.host, request = excluded.request, until_us = excluded.until_us \
             WHERE keys_under_way.until_us < $7 OR keys_under_way.host = excluded.host",
        )
        .bind(&holder.chain)
        .bind(holder.token.as_str())
        .bind(&holder.key)
        .bind(&holder.host)
        .bind(&holder.request)
        .bind(until_us)
        .bind(now_us)
        .execute(&mut *tx)
        .await
        .map_err(failed("hold a key"))?;
        tx.commit().await.map_err(failed("hold a key"))?;
        Ok(held.rows_affected() > 0)
    }

    /// Lets a key go, if this request still holds it, and those of the same owner that hosts have died with.
    pub async fn release_key(&self, holder: &KeyHolder, now_us: i64) -> Result<(), StoreError> {
        let mut tx = self.begin_write(&holder.chain).await?;
        let let_go = "DELETE FROM keys_under_way WHERE tenant_id = $1 AND (token_id = $2 AND key = $3 AND request = $4 OR until_us < $5)";
        sqlx::query(let_go)
            .bind(&holder.chain)
            .bind(holder.token.as_str())
            .bind(&holder.key)
            .bind(&holder.request)
            .bind(now_us)
            .execute(&mut *tx)
            .await
            .map_err(failed("let a key go"))?;
        tx.commit().await.map_err(failed("let a key go"))
    }

    /// Whether several hosts may work on this database.
    pub fn is_shared(&self) -> bool {
        self.inner.pools.is_shared()
    }
}
