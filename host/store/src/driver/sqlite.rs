//! SQLite: one file, one writer at a time.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection as _, SqlSafeStr as _};

use super::{Judgement, Kind, Pools, WAIT};
use crate::StoreError;
use crate::error::failed;

/// Connections that only read. SQLite readers work side by side; each one is a thread.
const READERS: u32 = 4;

/// WAL lets readers and the writer work at once; FULL makes a commit survive a power cut, which the promise "an
/// answered run is in the log" needs.
const WRITER_PRAGMAS: [&str; 3] =
    ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON"];

/// A read transaction that tries to write fails, whatever its query says.
const READER_PRAGMAS: [&str; 1] = ["PRAGMA query_only = ON"];

pub(super) async fn open(url: &str) -> Result<Pools, StoreError> {
    // What is no path of a file may be an address with a password.
    let refuse = |why: String| {
        let url = if url.starts_with("sqlite:") { url.to_owned() } else { super::postgres::shown(url) };
        StoreError::Open { url, why }
    };
    let path = url
        .strip_prefix("sqlite:")
        .filter(|path| !path.is_empty())
        .ok_or_else(|| refuse("write `sqlite:` and the path of a file, or `postgres://` and a server".to_owned()))?;
    let path = std::path::absolute(path).map_err(|e| refuse(e.to_string()))?;
    // SQLite would make the file with the process's umask; its journal files take the mode of the file itself.
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| refuse(format!("{e}; its folder must exist and be writable by this user")))?;
    let address = sqlite_address(&path).ok_or_else(|| refuse("the path is not UTF-8".to_owned()))?;

    // A pool tries again for as long as it may wait and then says only that. The first connection is made by hand, so
    // that what is wrong with the file is said at once.
    let mut first = AnyConnection::connect(&address).await.map_err(failed("open the database"))?;
    prepare(&mut first, &WRITER_PRAGMAS).await.map_err(failed("open the database"))?;
    migrate(&mut first).await.map_err(|e| refuse(format!("its tables cannot be brought up to date: {e}")))?;
    first.close().await.map_err(failed("open the database"))?;

    // SQLite has one writer at a time. Waiting for the pool's single connection is fair and costs nothing; waiting for
    // SQLite's lock is neither.
    let write = pool(&address, 1, &WRITER_PRAGMAS).await?;
    let read = pool(&address, READERS, &READER_PRAGMAS).await?;
    Ok(Pools { kind: Kind::Sqlite, read, write, url: address })
}

/// IMMEDIATE takes the write lock at once: a transaction that upgrades later can fail in the middle.
const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

pub(super) async fn begin_write(pool: &AnyPool) -> Result<super::Tx, sqlx::Error> {
    match pool.begin_with(BEGIN_WRITE).await {
        // A full disk makes SQLite undo the transaction by itself, and the driver's own undoing then fails: the driver thinks
        // for ever that a transaction is open. Another connection takes that one's place.
        Err(sqlx::Error::InvalidSavePointStatement) => {
            pool.acquire().await?.close().await?;
            pool.begin_with(BEGIN_WRITE).await
        }
        begun => begun,
    }
}

/// SQLite's result codes, <https://sqlite.org/rescode.html>; the low byte of an extended code is the plain one.
pub(super) fn judge(error: &dyn sqlx::error::DatabaseError) -> Judgement {
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    const IOERR: u32 = 10;
    const CORRUPT: u32 = 11;
    const FULL: u32 = 13;
    const CANTOPEN: u32 = 14;
    const PROTOCOL: u32 = 15;
    const NOTADB: u32 = 26;
    match error.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
        Some(BUSY | LOCKED | IOERR | FULL | CANTOPEN | PROTOCOL) => Judgement::Retryable,
        Some(CORRUPT | NOTADB) => Judgement::Corrupt,
        _ => Judgement::Other,
    }
}

async fn pool(address: &str, connections: u32, pragmas: &'static [&'static str]) -> Result<AnyPool, StoreError> {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(WAIT)
        // A file does not go away as a server does: nothing is gained by testing or renewing connections.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .after_connect(move |connection, _| Box::pin(prepare(connection, pragmas)))
        .connect(address)
        .await
        .map_err(failed("open the database"))
}

async fn prepare(connection: &mut AnyConnection, pragmas: &[&'static str]) -> Result<(), sqlx::Error> {
    let wait = AssertSqlSafe(format!("PRAGMA busy_timeout = {}", WAIT.as_millis()));
    sqlx::raw_sql(wait).execute(&mut *connection).await?;
    for pragma in pragmas {
        sqlx::raw_sql(*pragma).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn migrate(connection: &mut AnyConnection) -> Result<(), MigrateError> {
    // The numbers between are PostgreSQL's own.
    let migrations = [
        (1, "tables", include_str!("../../migrations/0001_tables.sql")),
        (3, "keys, starts and answers", include_str!("../../migrations/0003_keys_starts_answers.sql")),
        (7, "quotas", include_str!("../../migrations/0007_quotas.sql")),
        (9, "leaks", include_str!("../../migrations/0009_leaks.sql")),
        (10, "secret versions", include_str!("../../migrations/0010_secret_versions.sql")),
        (12, "secret claims", include_str!("../../migrations/0012_secret_claims.sql")),
        (14, "market", include_str!("../../migrations/0014_market.sql")),
        (16, "oci", include_str!("../../migrations/0016_oci.sql")),
        (18, "marks of the marketplace", include_str!("../../migrations/0018_market_marks.sql")),
        (20, "market tellings", include_str!("../../migrations/0020_market_tellings.sql")),
        (22, "deleted packages", include_str!("../../migrations/0022_deleted_packages.sql")),
    ];
    let migrations = migrations
        .into_iter()
        .map(|(number, name, text)| {
            let text = AssertSqlSafe(text.replace(" BYTES", " BLOB")).into_sql_str();
            Migration::new(number, name.into(), MigrationType::Simple, text, false)
        })
        .collect();
    Migrator::with_migrations(migrations).run(connection).await
}

/// The driver takes a URL and decodes it, so each byte that could mean something in one is escaped.
fn sqlite_address(path: &Path) -> Option<String> {
    const MEANS_ITSELF: AsciiSet = NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'_').remove(b'-');
    Some(format!("sqlite://{}", utf8_percent_encode(path.to_str()?, &MEANS_ITSELF)))
}
