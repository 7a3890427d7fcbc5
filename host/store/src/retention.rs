//! A tenant's oldest entries go when its quota says so: its chain then begins behind them, and says so.

use clawhold_tenancy::audit::{Event, HOST_CHAIN, Head, Outcome, RETAIN, Sealed, SealedEvent, now_us};
use clawhold_tenancy::{Actor, TenantId, TraceId};
use sqlx::{AnyConnection, Connection as _, Row as _};

use crate::driver::{self, Kind};
use crate::error::failed;
use crate::{Read, Store, StoreError, Tenant, TenantTx, audit, tenants};

/// Entries that are removed in one transaction. 5,000: a tenth of a second within which the chain's writers wait.
const GROUP: i64 = 5_000;

/// Tenants that are read at a time.
const PAGE: u32 = 500;

impl Store {
    /// Removes a tenant's entries of before `before_us` as far as they are the oldest, and tells how many went. For a database that
    /// hosts own, which SQLite is.
    pub async fn retain_audit(&self, tenant: &TenantId, before_us: i64) -> Result<u64, StoreError> {
        let mut removed = 0;
        // Nobody waits for what is looked at here.
        if !self.tenant(tenant).await?.has_audit_before(before_us).await? {
            return Ok(0);
        }
        loop {
            let mut tx = self.begin_write(tenant.as_str()).await?;
            let Some((head, count)) = remove(&mut tx, tenant.as_str(), before_us).await? else { return Ok(removed) };
            tx.commit().await.map_err(failed("commit"))?;
            self.moved().note(vec![(tenant.as_str(), head)]);
            removed += count;
        }
    }

    /// The same for every tenant of a PostgreSQL database, as the role that owns the tables. `before_us` says for each tenant what is
    /// too old.
    pub async fn retain_all(url: &str, before_us: impl Fn(&Tenant) -> i64) -> Result<Vec<(TenantId, u64)>, StoreError> {
        driver::install_drivers();
        let connect = AnyConnection::connect(url).await;
        let mut owner = connect.map_err(failed("connect to the database as the role that owns its tables"))?;
        let mut all = Vec::new();
        loop {
            let after = all.last().map(|tenant: &Tenant| tenant.id.clone());
            let mut tx = owner.begin().await.map_err(failed("list tenants"))?;
            driver::bind(&mut tx, HOST_CHAIN).await?;
            let page = tenants::list(&mut tx, after.as_ref(), PAGE).await?;
            tx.commit().await.map_err(failed("list tenants"))?;
            let is_last = page.len() < PAGE as usize;
            all.extend(page);
            if is_last {
                break;
            }
        }
        let mut removed = Vec::new();
        for tenant in all {
            let (before, mut count) = (before_us(&tenant), 0);
            loop {
                let mut tx = owner.begin().await.map_err(failed("remove old audit entries"))?;
                driver::bind(&mut tx, tenant.id.as_str()).await?;
                let Some((_, some)) = remove(&mut tx, tenant.id.as_str(), before).await? else { break };
                tx.commit().await.map_err(failed("remove old audit entries"))?;
                count += some;
            }
            if count > 0 {
                removed.push((tenant.id, count));
            }
        }
        Ok(removed)
    }
}

impl TenantTx<Read> {
    /// Whether the oldest entry is older than this.
    async fn has_audit_before(&mut self, before_us: i64) -> Result<bool, StoreError> {
        let oldest = sqlx::query_scalar::<_, i64>("SELECT at_us FROM audit WHERE tenant_id = $1 ORDER BY seq LIMIT 1")
            .bind(self.tenant.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(failed("look at the oldest audit entry"))?;
        Ok(oldest.is_some_and(|at_us| at_us < before_us))
    }
}

/// Removes what is too old and comes before everything that is not, up to [`GROUP`] entries; nothing if there is nothing. The chain's
/// lock is held until the transaction ends.
async fn remove(
    connection: &mut AnyConnection,
    chain: &str,
    before_us: i64,
) -> Result<Option<(Head, u64)>, StoreError> {
    let fail = || failed("remove old audit entries");
    // The oldest entry alone is looked at where nothing is due, which is nearly always.
    let oldest = sqlx::query("SELECT seq, at_us FROM audit WHERE tenant_id = $1 ORDER BY seq LIMIT 1")
        .bind(chain)
        .fetch_optional(&mut *connection)
        .await
        .map_err(fail())?;
    let Some(oldest) = oldest else { return Ok(None) };
    let first: i64 = oldest.try_get("seq").map_err(fail())?;
    if oldest.try_get::<i64, _>("at_us").map_err(fail())? >= before_us {
        return Ok(None);
    }
    if Kind::of(connection) == Kind::Postgres {
        // Before more of the chain is looked at: a host may be writing.
        sqlx::query("UPDATE chain_heads SET seq = seq WHERE tenant_id = $1")
            .bind(chain)
            .execute(&mut *connection)
            .await
            .map_err(fail())?;
    }
    let group = sqlx::query(
        "SELECT MAX(seq) AS last, MIN(CASE WHEN at_us >= $4 THEN seq END) AS young \
         FROM audit WHERE tenant_id = $1 AND seq >= $2 AND seq < $3",
    )
    .bind(chain)
    .bind(first)
    .bind(first + GROUP)
    .bind(before_us)
    .fetch_one(&mut *connection)
    .await
    .map_err(fail())?;
    let young: Option<i64> = group.try_get("young").map_err(fail())?;
    let last: i64 = match young {
        Some(young) => young - 1,
        None => group.try_get("last").map_err(fail())?,
    };
    if last < first {
        return Ok(None);
    }
    sqlx::query(
        "INSERT INTO chain_starts (tenant_id, seq, hash) SELECT tenant_id, seq, hash FROM audit WHERE tenant_id = $1 AND seq = $2 \
         ON CONFLICT (tenant_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
    )
    .bind(chain)
    .bind(last)
    .execute(&mut *connection)
    .await
    .map_err(fail())?;
    let removed = sqlx::query("DELETE FROM audit WHERE tenant_id = $1 AND seq <= $2")
        .bind(chain)
        .bind(last)
        .execute(&mut *connection)
        .await
        .map_err(fail())?;
    let head = audit::append(connection, chain, &[&retained(first, last)]).await?;
    Ok(Some((head, removed.rows_affected())))
}

/// What a chain says of entries that were removed from its beginning.
pub(crate) fn retained(first: i64, last: i64) -> SealedEvent {
    Event {
        at_us: now_us(),
        actor: Actor::Host("retention").to_string(),
        action: RETAIN.to_owned(),
        resource: format!("audit:{first}-{last}"),
        outcome: Outcome::Success,
        run: None,
        trace: TraceId::random(),
        detail: Sealed::NONE,
    }
}
