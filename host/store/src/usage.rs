//! What tenants used, by slots of time. Each process of a host has rows of its own, which it writes anew as a whole.

use clawhold_tenancy::TenantId;

use crate::driver::{self, Kind};
use crate::error::failed;
use crate::fields::Fields;
use crate::{Store, StoreError, TenantTx};

/// Tenants that are written in one transaction. 64: a few milliseconds within which nothing else can write.
const GROUP: usize = 64;

/// What one process saw of a tenant in one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// When the slot begins, in microseconds since 1970.
    pub slot_us: i64,
    /// The process.
    pub process: String,
    /// JSON, in a form that is the runtime's.
    pub data: String,
}

impl<M> TenantTx<M> {
    /// Rows of slots from `since_us` on.
    pub async fn usage(&mut self, since_us: i64) -> Result<Vec<UsageRow>, StoreError> {
        sqlx::query("SELECT slot_us, process, data FROM usage WHERE tenant_id = $1 AND slot_us >= $2 ORDER BY slot_us")
            .bind(self.tenant.as_str())
            .bind(since_us)
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("read usage"))?
            .iter()
            .map(|row| {
                let fields = Fields::of("usage", row);
                Ok(UsageRow {
                    slot_us: fields.integer("slot_us")?,
                    process: fields.text("process")?,
                    data: fields.text("data")?,
                })
            })
            .collect()
    }
}

impl Store {
    /// Puts rows in place of those of the same tenant, slot and process, and removes the tenant's from before `keep_us`.
    pub async fn put_usage(&self, rows: &[(TenantId, UsageRow)], keep_us: i64) -> Result<(), StoreError> {
        for group in rows.chunks(GROUP) {
            let mut tx = self.begin_write(group[0].0.as_str()).await?;
            for (tenant, row) in group {
                if Kind::of(&tx) == Kind::Postgres {
                    // The database takes rows of one tenant at a time.
                    driver::bind(&mut tx, tenant.as_str()).await?;
                }
                sqlx::query(
                    "INSERT INTO usage (tenant_id, slot_us, process, data) VALUES ($1, $2, $3, $4) \
                     ON CONFLICT (tenant_id, slot_us, process) DO UPDATE SET data = excluded.data",
                )
                .bind(tenant.as_str())
                .bind(row.slot_us)
                .bind(row.process.as_str())
                .bind(row.data.as_str())
                .execute(&mut *tx)
                .await
                .map_err(failed("write usage"))?;
                sqlx::query("DELETE FROM usage WHERE tenant_id = $1 AND slot_us < $2")
                    .bind(tenant.as_str())
                    .bind(keep_us)
                    .execute(&mut *tx)
                    .await
                    .map_err(failed("remove old usage"))?;
            }
            tx.commit().await.map_err(failed("commit"))?;
        }
        Ok(())
    }
}
