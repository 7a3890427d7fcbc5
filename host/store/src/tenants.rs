//! Tenants: their ids, tiers and states.

use std::fmt;
use std::str::FromStr;

use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::Values;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::driver::{self, Change};
use crate::error::failed;
use crate::fields::{Fields, json};
use crate::{Conflict, StoreError, SystemTx, TenantTx, Write};

/// One tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// The tier that its quotas come from.
    pub tier: String,
    /// Whether it is served.
    pub state: TenantState,
    /// Microseconds since 1970.
    pub created_us: i64,
    /// What was said of its quota alone.
    pub quota: Values,
}

/// Whether a tenant is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantState {
    /// It is.
    Active,
    /// Its tokens are refused; its data stays.
    Suspended,
}

impl TenantState {
    /// The word that is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

impl fmt::Display for TenantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TenantState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Active, Self::Suspended]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no state of a tenant: use active or suspended"))
    }
}

impl<M> SystemTx<M> {
    /// One tenant.
    pub async fn tenant(&mut self, id: &TenantId) -> Result<Option<Tenant>, StoreError> {
        sqlx::query("SELECT id, tier, state, created_us, quota FROM tenants WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(failed("read a tenant"))?
            .as_ref()
            .map(tenant)
            .transpose()
    }

    /// Tenants behind `after`, by id, at most `limit`.
    pub async fn tenants(&mut self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, StoreError> {
        list(&mut self.tx, after, limit).await
    }
}

/// See [`SystemTx::tenants`].
pub(crate) async fn list(
    connection: &mut AnyConnection,
    after: Option<&TenantId>,
    limit: u32,
) -> Result<Vec<Tenant>, StoreError> {
    sqlx::query("SELECT id, tier, state, created_us, quota FROM tenants WHERE id > $1 ORDER BY id LIMIT $2")
        .bind(after.map_or("", TenantId::as_str))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await
        .map_err(failed("list tenants"))?
        .iter()
        .map(tenant)
        .collect()
}

impl SystemTx<Write> {
    /// A new, active tenant; [`Conflict::Tenant`] if the id is taken.
    pub async fn create_tenant(&mut self, id: &TenantId, tier: &str, created_us: i64) -> Result<(), StoreError> {
        let made = sqlx::query(
            "INSERT INTO tenants (id, tier, state, created_us) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
        )
        .bind(id.as_str())
        .bind(tier)
        .bind(TenantState::Active.as_str())
        .bind(created_us)
        .execute(&mut *self.tx)
        .await
        .map_err(failed("create a tenant"))?;
        if made.rows_affected() == 0 { Err(Conflict::Tenant(id.clone()).into()) } else { Ok(()) }
    }

    /// Sets the state; `false` if there is no such tenant.
    pub async fn set_tenant_state(&mut self, id: &TenantId, state: TenantState) -> Result<bool, StoreError> {
        let set = sqlx::query("UPDATE tenants SET state = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(state.as_str())
            .execute(&mut *self.tx)
            .await
            .map_err(failed("change a tenant's state"))?;
        driver::tell(&mut self.tx, &Change::Tenant(id.to_string())).await?;
        Ok(set.rows_affected() > 0)
    }
}

impl TenantTx<Write> {
    /// The tenant, whose row nobody else changes until the end of this transaction.
    pub async fn locked_tenant(&mut self) -> Result<Option<Tenant>, StoreError> {
        sqlx::query("UPDATE tenants SET tier = tier WHERE id = $1 RETURNING id, tier, state, created_us, quota")
            .bind(self.tenant.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(failed("lock a tenant"))?
            .as_ref()
            .map(tenant)
            .transpose()
    }

    /// Puts the tenant into another tier, and says something else of its quota alone.
    pub async fn set_tier_and_quota(&mut self, tier: &str, quota: &Values) -> Result<(), StoreError> {
        sqlx::query("UPDATE tenants SET tier = $2, quota = $3 WHERE id = $1")
            .bind(self.tenant.as_str())
            .bind(tier)
            .bind(json(quota))
            .execute(&mut *self.tx)
            .await
            .map_err(failed("change a tenant's quota"))?;
        driver::tell(&mut self.tx, &Change::Tenant(self.tenant.to_string())).await
    }
}

fn tenant(row: &AnyRow) -> Result<Tenant, StoreError> {
    let fields = Fields::of("tenants", row);
    Ok(Tenant {
        id: fields.id("id")?,
        tier: fields.text("tier")?,
        state: fields.id("state")?,
        created_us: fields.integer("created_us")?,
        quota: fields.json("quota")?,
    })
}
