//! The audit log by month: making partitions, and removing old ones without breaking a chain.

use std::time::Duration;

use clawhold_tenancy::audit::HOST_CHAIN;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use super::{first_words, is_address, shown};
use crate::error::failed;
use crate::retention::retained;
use crate::{StoreError, audit};

/// Months to come that have a partition. 6: whoever runs `clawhold db maintain` once a month may forget it five times.
const AHEAD: i32 = 6;

/// Tries to get the locks for a removal, and between two of them.
const TRIES: u32 = 15;
const PAUSE: Duration = Duration::from_secs(1);

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Partitions that were made.
    pub made: u32,
    /// Partitions that were removed, by name.
    pub removed: Vec<String>,
}

/// See [`crate::Store::keep_partitions`].
pub(crate) async fn keep_partitions(url: &str, keep_months: Option<u32>) -> Result<Kept, StoreError> {
    crate::driver::install_drivers();
    let refuse = |why: String| StoreError::Open { url: shown(url), why };
    if !is_address(url) {
        return Err(refuse("only a PostgreSQL database has partitions".to_owned()));
    }
    let mut owner = AnyConnection::connect(url).await.map_err(|error| refuse(first_words(&error)))?;
    let made = make(&mut owner).await?;
    let mut removed = Vec::new();
    if let Some(months) = keep_months {
        for partition in older_than(&mut owner, months).await? {
            remove_in_time(&mut owner, &partition).await?;
            removed.push(partition);
        }
    }
    owner.close().await.map_err(failed("close the database"))?;
    Ok(Kept { made, removed })
}

pub(super) async fn make(owner: &mut AnyConnection) -> Result<u32, StoreError> {
    let mut made = 0;
    for month in 0..=AHEAD {
        let row = sqlx::query(
            "SELECT add_audit_month((date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => $1::int))::date)\
             ::int::bigint AS made",
        )
        .bind(month)
        .fetch_one(&mut *owner)
        .await
        .map_err(failed("make a partition of the audit log"))?;
        made += u32::from(row.try_get::<i64, _>("made").is_ok_and(|made| made > 0));
    }
    Ok(made)
}

/// Partitions whose month ended `months` full months before this one began, the oldest first.
async fn older_than(owner: &mut AnyConnection, months: u32) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT c.relname::text AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = 'audit'::regclass AND c.relname ~ '^audit_[0-9]{4}_[0-9]{2}$' \
         AND c.relname < 'audit_' || to_char((now() AT TIME ZONE 'UTC') - make_interval(months => $1::int), 'YYYY_MM') \
         ORDER BY c.relname",
    )
    .bind(i32::try_from(months).unwrap_or(i32::MAX).min(12_000))
    .fetch_all(owner)
    .await
    .map_err(failed("list the partitions of the audit log"))?;
    rows.iter().map(|row| row.try_get("name").map_err(failed("list the partitions of the audit log"))).collect()
}

/// Gives way to hosts that are at work, and tries again.
async fn remove_in_time(owner: &mut AnyConnection, partition: &str) -> Result<(), StoreError> {
    for _ in 1..TRIES {
        match remove(owner, partition).await {
            Err(error) if error.is_retryable() => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
    remove(owner, partition).await
}

/// Removes one partition. Each chain that has entries in it begins behind the last of them from then on, and says so.
async fn remove(owner: &mut AnyConnection, partition: &str) -> Result<(), StoreError> {
    let fail = || failed("remove a partition of the audit log");
    let mut tx = owner.begin().await.map_err(fail())?;
    // Whoever owns the tables has no tenant of their own, and sees none of their rows otherwise.
    for statement in [
        // As hosts take them, writing or verifying: in another order the two would wait for one another. While this waits for a
        // long verification, hosts wait behind it, so it does not for long.
        "SET LOCAL lock_timeout = '2s'".to_owned(),
        "LOCK TABLE chain_heads IN SHARE ROW EXCLUSIVE MODE".to_owned(),
        "LOCK TABLE chain_starts, audit IN ACCESS EXCLUSIVE MODE".to_owned(),
        format!("ALTER TABLE {partition} NO FORCE ROW LEVEL SECURITY"),
        "ALTER TABLE chain_starts NO FORCE ROW LEVEL SECURITY".to_owned(),
        format!(
            "INSERT INTO chain_starts (tenant_id, seq, hash) \
             SELECT DISTINCT ON (tenant_id) tenant_id, seq, hash FROM {partition} ORDER BY tenant_id, seq DESC \
             ON CONFLICT (tenant_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash \
             WHERE excluded.seq > chain_starts.seq"
        ),
        "ALTER TABLE chain_starts FORCE ROW LEVEL SECURITY".to_owned(),
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *tx).await.map_err(fail())?;
    }
    let chains = format!(
        "SELECT tenant_id, min(seq) AS first, max(seq) AS last FROM {partition} GROUP BY tenant_id ORDER BY tenant_id"
    );
    let chains = sqlx::query(AssertSqlSafe(chains)).fetch_all(&mut *tx).await.map_err(fail())?;
    sqlx::raw_sql(AssertSqlSafe(format!("DROP TABLE {partition}"))).execute(&mut *tx).await.map_err(fail())?;
    for row in &chains {
        let chain: String = row.try_get("tenant_id").map_err(fail())?;
        let (first, last): (i64, i64) = (row.try_get("first").map_err(fail())?, row.try_get("last").map_err(fail())?);
        super::bind(&mut tx, &chain).await?;
        audit::append(&mut tx, &chain, &[&retained(first, last)]).await?;
    }
    if chains.is_empty() {
        super::bind(&mut tx, HOST_CHAIN).await?;
    }
    tx.commit().await.map_err(fail())
}
