//! What becomes of each published version, and the head that the host signs over all of them.

use clawhold_tenancy::audit::HOST_CHAIN;
use clawhold_tenancy::{Digest, PackageName};
use semver::Version as Number;
use sqlx::any::AnyRow;

use crate::driver::{self, Change};
use crate::error::failed;
use crate::fields::Fields;
use crate::{Conflict, Store, StoreError, SystemTx, Write};

/// A version as the index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// The package.
    pub package: PackageName,
    /// Its version.
    pub version: Number,
    /// Its file.
    pub digest: Digest,
    /// What becomes of it, in the marketplace's word.
    pub status: String,
    /// When that was decided, in microseconds since 1970.
    pub changed_us: i64,
    /// The index's counter then.
    pub counter: i64,
}

/// A version that is to become something else.
#[derive(Debug, Clone)]
pub struct StatusChange {
    /// The package.
    pub package: PackageName,
    /// Its version.
    pub version: Number,
    /// What it becomes.
    pub status: String,
    /// Why, for those who have it installed.
    pub advisory: String,
    /// Microseconds since 1970.
    pub changed_us: i64,
    /// The index's counter with this change.
    pub counter: i64,
    /// What authenticates status, time and advisory.
    pub advisory_mac: String,
}

impl<M> SystemTx<M> {
    /// The signed head, if there is one yet.
    pub async fn index_head(&mut self) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT head FROM market_index WHERE only_row = 1 AND head <> ''")
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(failed("read the index's head"))?;
        row.map(|row| Fields::of("market_index", &row).text("head")).transpose()
    }

    /// All versions that changed above this counter, as far as they can be read: what is damaged is another matter than what is
    /// gone, but neither is what was signed.
    pub async fn index_rows(&mut self, above: i64) -> Result<Vec<IndexRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT package, version, digest, status, changed_us, counter FROM versions WHERE counter > $1",
        )
        .bind(above)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed("read the index"))?;
        Ok(rows.iter().filter_map(index_row).collect())
    }

    /// One version, if it is there and can be read.
    pub async fn index_row(&mut self, package: &PackageName, version: &Number) -> Result<Option<IndexRow>, StoreError> {
        let row = sqlx::query(
            "SELECT package, version, digest, status, changed_us, counter FROM versions \
             WHERE package = $1 AND version = $2",
        )
        .bind(package.as_str())
        .bind(version.to_string())
        .fetch_optional(&mut *self.tx)
        .await
        .map_err(failed("read a version of the index"))?;
        Ok(row.as_ref().and_then(index_row))
    }

    /// The roots of packages that were kept with the head, as far as they can be read: in hexadecimal digits.
    pub async fn index_roots(&mut self) -> Result<Vec<(PackageName, String)>, StoreError> {
        let rows = sqlx::query("SELECT package, root FROM market_roots")
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("read the roots of packages"))?;
        let root = |row: &AnyRow| {
            let fields = Fields::of("market_roots", row);
            Ok::<_, StoreError>((fields.id("package")?, fields.text("root")?))
        };
        Ok(rows.iter().filter_map(|row| root(row).ok()).collect())
    }

    /// Whether anything was published under an index.
    pub async fn has_versions_of_an_index(&mut self) -> Result<bool, StoreError> {
        sqlx::query("SELECT 1 AS one FROM versions WHERE mac <> '' LIMIT 1")
            .fetch_optional(&mut *self.tx)
            .await
            .map(|row| row.is_some())
            .map_err(failed("look whether anything is published"))
    }
}

impl SystemTx<Write> {
    /// The counter of the index, which nobody else changes until the end of this transaction; 0 if there is none yet.
    pub async fn lock_index(&mut self) -> Result<i64, StoreError> {
        // The update that changes nothing takes the row's lock on either database.
        let row = sqlx::query(
            "INSERT INTO market_index (only_row, counter, head) VALUES (1, 0, '') \
             ON CONFLICT (only_row) DO UPDATE SET counter = market_index.counter RETURNING counter",
        )
        .fetch_one(&mut *self.tx)
        .await
        .map_err(failed("lock the index"))?;
        Fields::of("market_index", &row).integer("counter")
    }

    /// Puts the head over what the index is now, and tells the other hosts of it.
    pub async fn put_index_head(&mut self, counter: i64, head: &str) -> Result<(), StoreError> {
        sqlx::query("UPDATE market_index SET counter = $1, head = $2 WHERE only_row = 1")
            .bind(counter)
            .bind(head)
            .execute(&mut *self.tx)
            .await
            .map_err(failed("put the index's head"))?;
        driver::tell(&mut self.tx, &Change::Index).await
    }

    /// Keeps a package's root with the head, in hexadecimal digits.
    pub async fn put_index_root(&mut self, package: &PackageName, root: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO market_roots (package, root) VALUES ($1, $2) ON CONFLICT (package) DO UPDATE SET root = $2",
        )
        .bind(package.as_str())
        .bind(root)
        .execute(&mut *self.tx)
        .await
        .map(drop)
        .map_err(failed("keep a package's root"))
    }

    /// Makes something else of a version, which its tenants are to be told. [`Conflict::Missing`] if there is none.
    pub async fn set_status(&mut self, change: &StatusChange) -> Result<(), StoreError> {
        let done = sqlx::query(
            "UPDATE versions SET status = $3, advisory = $4, changed_us = $5, counter = $6, advisory_mac = $7 \
             WHERE package = $1 AND version = $2",
        )
        .bind(change.package.as_str())
        .bind(change.version.to_string())
        .bind(change.status.as_str())
        .bind(change.advisory.as_str())
        .bind(change.changed_us)
        .bind(change.counter)
        .bind(change.advisory_mac.as_str())
        .execute(&mut *self.tx)
        .await
        .map_err(failed("change a version's status"))?;
        if done.rows_affected() == 0 {
            return Err(Conflict::Missing("change a version's status").into());
        }
        self.add_telling(change).await
    }
}

impl Store {
    /// Puts a newer head over the same state of the index; `false` if that has changed. No entry in a chain: nothing of the index changes.
    pub async fn renew_index_head(&self, old: &str, head: &str) -> Result<bool, StoreError> {
        let mut tx = self.begin_write(HOST_CHAIN).await?;
        let done = sqlx::query("UPDATE market_index SET head = $2 WHERE only_row = 1 AND head = $1")
            .bind(old)
            .bind(head)
            .execute(&mut *tx)
            .await
            .map_err(failed("renew the index's head"))?;
        driver::tell(&mut tx, &Change::Index).await?;
        tx.commit().await.map_err(failed("renew the index's head"))?;
        Ok(done.rows_affected() > 0)
    }
}

/// `None` for what cannot be read, which the log has.
fn index_row(row: &AnyRow) -> Option<IndexRow> {
    let fields = Fields::of("versions", row);
    let read = || {
        Ok::<_, StoreError>(IndexRow {
            package: fields.id("package")?,
            version: fields.id("version")?,
            digest: fields.id("digest")?,
            status: fields.text("status")?,
            changed_us: fields.integer("changed_us")?,
            counter: fields.integer("counter")?,
        })
    };
    read().inspect_err(|error| tracing::error!(%error, "a version in the database cannot be read")).ok()
}
