//! What differs between databases: how to open one, begin a transaction, bind it to a tenant, and read an error. The queries
//! are the same.

mod postgres;
mod sqlite;

use std::fmt::Write as _;
use std::sync::Once;
use std::time::Duration;

use sqlx::{Any, AnyConnection, AnyPool};

use crate::StoreError;
use crate::error::{Failure, failed};

pub use postgres::{Change, Changes, Found, Kept, NewDatabase};
pub(crate) use postgres::{init, keep_partitions, migrate, pin, unpin};

pub(crate) type Tx = sqlx::Transaction<'static, Any>;

/// How long a transaction waits for a connection, and a connection for another process's lock. Longer than any
/// transaction of the host lasts, shorter than a caller's patience.
const WAIT: Duration = Duration::from_secs(5);

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) fn of(connection: &AnyConnection) -> Self {
        if connection.backend_name() == "PostgreSQL" { Self::Postgres } else { Self::Sqlite }
    }

    /// Writes the placeholder of a statement's parameter, counted from 1; parameters are bound in that order.
    ///
    /// `?` for SQLite, which takes `$n` for a name, and looks each name up by reading all of them from the front: that grows
    /// with the square of a statement's rows.
    pub(crate) fn placeholder(self, statement: &mut String, number: usize) {
        match self {
            Self::Sqlite => statement.push('?'),
            Self::Postgres => {
                let _strings_take_all = write!(statement, "${number}");
            }
        }
    }
}

/// Connections that read, and such that may write.
pub(crate) struct Pools {
    kind: Kind,
    read: AnyPool,
    write: AnyPool,
    /// For connections that are not of a pool.
    url: String,
}

/// What an error of the database means to a caller.
pub(crate) enum Judgement {
    Retryable,
    Corrupt,
    Other,
}

pub(crate) fn judge(error: &dyn sqlx::error::DatabaseError) -> Judgement {
    if error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
        postgres::judge(error)
    } else {
        sqlite::judge(error)
    }
}

/// Connections to PostgreSQL that only read, and as many that may write. 8: a host's writes are mostly the one group commit, and
/// its reads what is not in a cache.
pub const DEFAULT_CONNECTIONS: u32 = 8;

pub(crate) async fn open(url: &str, connections: u32) -> Result<Pools, StoreError> {
    install_drivers();
    if postgres::is_address(url) { postgres::open(url, connections).await } else { sqlite::open(url).await }
}

pub(crate) fn install_drivers() {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(|| {
        sqlx::any::install_drivers(&[sqlx::sqlite::any::DRIVER, sqlx::postgres::any::DRIVER])
            .expect("nobody else installs drivers");
    });
}

impl Pools {
    /// A transaction that only reads, bound to this tenant or to the host's own chain.
    pub(crate) async fn begin_read(&self, bound: &str) -> Result<Tx, StoreError> {
        answered("begin to read", async {
            let begun = match self.kind {
                Kind::Sqlite => self.read.begin().await,
                Kind::Postgres => self.read.begin_with(postgres::BEGIN_READ).await,
            };
            let mut tx = begun.map_err(failed("begin to read"))?;
            bind(&mut tx, bound).await?;
            Ok(tx)
        })
        .await
    }

    /// A transaction that may write, bound likewise.
    pub(crate) async fn begin_write(&self, bound: &str) -> Result<Tx, StoreError> {
        answered("begin to write", async {
            let begun = match self.kind {
                Kind::Sqlite => sqlite::begin_write(&self.write).await,
                Kind::Postgres => self.write.begin().await,
            };
            let mut tx = begun.map_err(failed("begin to write"))?;
            bind(&mut tx, bound).await?;
            Ok(tx)
        })
        .await
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.kind == Kind::Postgres
    }

    /// The tenant that the login is pinned to. No login is on SQLite, which has none.
    pub(crate) async fn pinned(&self) -> Result<Option<String>, StoreError> {
        match self.kind {
            Kind::Sqlite => Ok(None),
            Kind::Postgres => postgres::pinned(&self.read).await,
        }
    }

    pub(crate) fn changes(&self) -> Option<Changes> {
        (self.kind == Kind::Postgres).then(|| Changes::new(self.url.clone()))
    }

    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        let asked = async { sqlx::query("SELECT 1").execute(&self.read).await.map(drop) };
        answered("reach the database", async { asked.await.map_err(failed("reach the database")) }).await
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.write.is_closed()
    }

    pub(crate) async fn close(&self) {
        // A connection that does not answer does not keep the host.
        let closed = async {
            self.read.close().await;
            self.write.close().await;
        };
        let _in_time = tokio::time::timeout(WAIT, closed).await;
    }
}

/// What a database that hangs does not answer in time is out of reach. Twice the wait for a connection, so that the pool's own word
/// comes first.
async fn answered<T>(
    operation: &'static str,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(2 * WAIT, asked)
        .await
        .unwrap_or_else(|_late| Err(StoreError::Unavailable { operation, source: Failure::new("no answer in time") }))
}

/// Binds a transaction to a tenant, or to the host's own chain: from here on the database itself shows and takes no other
/// tenant's rows. SQLite has no such thing, there the queries alone say it.
pub(crate) async fn bind(connection: &mut AnyConnection, bound: &str) -> Result<(), StoreError> {
    if Kind::of(connection) == Kind::Postgres {
        postgres::bind(connection, bound).await?;
    }
    Ok(())
}

/// Tells other hosts of a change once this transaction is committed. With SQLite there are none.
pub(crate) async fn tell(connection: &mut AnyConnection, change: &Change) -> Result<(), StoreError> {
    if Kind::of(connection) == Kind::Postgres {
        postgres::tell(connection, change).await?;
    }
    Ok(())
}
