//! What tenants are still to be told of versions that they have installed: a queue, which the host works off.

use clawhold_tenancy::PackageName;
use clawhold_tenancy::audit::HOST_CHAIN;
use semver::Version;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::error::failed;
use crate::fields::Fields;
use crate::{StatusChange, Store, StoreError, SystemTx, Write};

/// Rows that are looked at for the first that can be read.
const ROWS: i64 = 100;

/// A change of what becomes of a version, of which not all tenants were told yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// The index's counter with this change: they are told in its order.
    pub counter: i64,
    /// The package.
    pub package: PackageName,
    /// Its version.
    pub version: Version,
    /// What it became.
    pub status: String,
    /// Why.
    pub advisory: String,
    /// When, in microseconds since 1970.
    pub changed_us: i64,
    /// The last tenant that was told; empty for none.
    pub told: String,
    /// What authenticates status, time and advisory.
    pub mac: String,
}

impl<M> SystemTx<M> {
    /// What is to be told first. A row that is damaged keeps no other from it.
    pub async fn next_telling(&mut self) -> Result<Option<Telling>, StoreError> {
        let rows = sqlx::query("SELECT * FROM market_tellings ORDER BY counter, package, version LIMIT $1")
            .bind(ROWS)
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("read what tenants are to be told"))?;
        Ok(rows.iter().find_map(|row| parse(row).ok()))
    }

    /// Whether nobody is to be told of anything.
    pub async fn has_no_tellings(&mut self) -> Result<bool, StoreError> {
        sqlx::query("SELECT 1 AS one FROM market_tellings LIMIT 1")
            .fetch_optional(&mut *self.tx)
            .await
            .map(|row| row.is_none())
            .map_err(failed("look whether tenants are to be told"))
    }

    /// How many changes of a package are still to be told.
    pub async fn count_tellings(&mut self, package: &PackageName) -> Result<u64, StoreError> {
        let counted = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM market_tellings WHERE package = $1")
            .bind(package.as_str())
            .fetch_one(&mut *self.tx)
            .await
            .map_err(failed("count what tenants are to be told"))?;
        Ok(counted.unsigned_abs())
    }
}

impl SystemTx<Write> {
    /// Has each tenant be told of a change that has the version installed then.
    pub(crate) async fn add_telling(&mut self, change: &StatusChange) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO market_tellings (counter, package, version, status, advisory, changed_us, told, mac) \
             VALUES ($1, $2, $3, $4, $5, $6, '', $7)",
        )
        .bind(change.counter)
        .bind(change.package.as_str())
        .bind(change.version.to_string())
        .bind(change.status.as_str())
        .bind(change.advisory.as_str())
        .bind(change.changed_us)
        .bind(change.advisory_mac.as_str())
        .execute(&mut *self.tx)
        .await
        .map(drop)
        .map_err(failed("note what tenants are to be told"))
    }

    /// Notes that tenants up to this one were told; with `None`, all, and it is removed. `false` if another host has told them.
    pub async fn note_told(&mut self, telling: &Telling, up_to: Option<&str>) -> Result<bool, StoreError> {
        note_told(&mut self.tx, telling, up_to).await
    }
}

impl Store {
    /// Takes those out of the queue's beginning that cannot be read; says how many.
    pub async fn drop_damaged_tellings(&self) -> Result<u64, StoreError> {
        let mut tx = self.begin_write(HOST_CHAIN).await?;
        let rows = sqlx::query("SELECT * FROM market_tellings ORDER BY counter, package, version LIMIT $1")
            .bind(ROWS)
            .fetch_all(&mut *tx)
            .await
            .map_err(failed("read what tenants are to be told"))?;
        let mut dropped = 0;
        for row in rows.iter().filter(|row| parse(row).is_err()) {
            let fields = Fields::of("market_tellings", row);
            let done = sqlx::query("DELETE FROM market_tellings WHERE counter = $1 AND package = $2 AND version = $3")
                .bind(fields.integer("counter")?)
                .bind(fields.text("package")?)
                .bind(fields.text("version")?)
                .execute(&mut *tx)
                .await
                .map_err(failed("drop a damaged row"))?;
            dropped += done.rows_affected();
        }
        tx.commit().await.map_err(failed("drop damaged rows"))?;
        Ok(dropped)
    }

    /// The same where none of the tenants between has the version: nobody's chain has anything to tell.
    pub async fn note_nobody_told(&self, telling: &Telling, up_to: Option<&str>) -> Result<bool, StoreError> {
        let mut tx = self.begin_write(HOST_CHAIN).await?;
        let is_noted = note_told(&mut tx, telling, up_to).await?;
        tx.commit().await.map_err(failed("note which tenants were told"))?;
        Ok(is_noted)
    }
}

async fn note_told(tx: &mut AnyConnection, telling: &Telling, up_to: Option<&str>) -> Result<bool, StoreError> {
    let statement = match up_to {
        Some(_) => {
            "UPDATE market_tellings SET told = $5 WHERE counter = $1 AND package = $2 AND version = $3 AND told = $4"
        }
        None => "DELETE FROM market_tellings WHERE counter = $1 AND package = $2 AND version = $3 AND told = $4",
    };
    let noted = sqlx::query(statement)
        .bind(telling.counter)
        .bind(telling.package.as_str())
        .bind(telling.version.to_string())
        .bind(telling.told.as_str());
    let noted = match up_to {
        Some(up_to) => noted.bind(up_to),
        None => noted,
    };
    let done = noted.execute(tx).await.map_err(failed("note which tenants were told"))?;
    Ok(done.rows_affected() > 0)
}

fn parse(row: &AnyRow) -> Result<Telling, StoreError> {
    let fields = Fields::of("market_tellings", row);
    Ok(Telling {
        counter: fields.integer("counter")?,
        package: fields.id("package")?,
        version: fields.id("version")?,
        status: fields.text("status")?,
        advisory: fields.text("advisory")?,
        changed_us: fields.integer("changed_us")?,
        told: fields.text("told")?,
        mac: fields.text("mac")?,
    })
}
