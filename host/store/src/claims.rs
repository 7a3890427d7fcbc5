//! Secrets that can be used once, and which of several hosts uses one now.

use clawhold_tenancy::{SecretName, TenantId};

use crate::error::failed;
use crate::{Store, StoreError};

impl Store {
    /// Takes a secret for this holder for so many microseconds, or longer if it has it already; `false` when another one has it at
    /// `now_us`.
    pub async fn claim_secret(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        holder: &str,
        now_us: i64,
        at_most_us: i64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin_write(tenant.as_str()).await?;
        let claimed = sqlx::query(
            "INSERT INTO secret_claims (tenant_id, name, holder, until_us) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (tenant_id, name) DO UPDATE SET holder = excluded.holder, until_us = excluded.until_us \
             WHERE secret_claims.until_us < $5 OR secret_claims.holder = excluded.holder",
        )
        .bind(tenant.as_str())
        .bind(name.as_str())
        .bind(holder)
        .bind(now_us.saturating_add(at_most_us))
        .bind(now_us)
        .execute(&mut *tx)
        .await
        .map_err(failed("claim a secret"))?;
        tx.commit().await.map_err(failed("claim a secret"))?;
        Ok(claimed.rows_affected() > 0)
    }

    /// Lets a secret go, if this holder still has it.
    pub async fn release_secret(&self, tenant: &TenantId, name: &SecretName, holder: &str) -> Result<(), StoreError> {
        let mut tx = self.begin_write(tenant.as_str()).await?;
        sqlx::query("DELETE FROM secret_claims WHERE tenant_id = $1 AND name = $2 AND holder = $3")
            .bind(tenant.as_str())
            .bind(name.as_str())
            .bind(holder)
            .execute(&mut *tx)
            .await
            .map_err(failed("let a secret go"))?;
        tx.commit().await.map_err(failed("let a secret go"))
    }
}
