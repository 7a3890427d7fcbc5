//! What the host remembers, and the only two doors to it.
//!
//! [`TenantTx`] is bound to one tenant: each of its queries names that tenant. [`SystemTx`] is bound to a reason and
//! does what no tenant can do for itself. A transaction that writes is committed together with an audit entry or not
//! at all: there is no other `commit`, and dropping it undoes everything.
//!
//! ```
//! # async fn example(event: clawhold_tenancy::audit::SealedEvent) -> Result<(), clawhold_store::StoreError> {
//! # let dir = std::env::temp_dir().join("clawhold.db");
//! use clawhold_store::{Store, TenantState};
//!
//! let store = Store::open(&format!("sqlite:{}", dir.display())).await?;
//! let acme = "acme-corp".parse().expect("a tenant id");
//! let mut tx = store.system_write("tenant.create").await?;
//! tx.create_tenant(&acme, "standard", event.at_us).await?;
//! tx.append(&acme, &[event.clone()]).await?;
//! tx.commit(event).await?;
//!
//! let mut tx = store.system("tenant.show").await?;
//! let shown = tx.tenant(&acme).await?.expect("created above");
//! assert_eq!(shown.state, TenantState::Active);
//! # Ok(())
//! # }
//! ```
//!
//! One copy of each query serves SQLite and PostgreSQL; what differs is in `driver`. No type of the database library
//! leaves this crate, and neither does a connection.

mod answers;
pub mod audit;
mod bulk;
mod claims;
mod driver;
mod error;
mod fields;
mod grants;
mod index;
mod installs;
mod keys;
mod moved;
mod oci;
mod packages;
mod retention;
mod runs;
mod secrets;
mod tellings;
mod tenants;
mod tokens;
mod tx;
mod under_way;
mod usage;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clawhold_tenancy::TenantId;
use clawhold_tenancy::audit::{HOST_CHAIN, Head};

pub use answers::KeptAnswer;
pub use driver::{Change, Changes, DEFAULT_CONNECTIONS, Found, Kept as KeptPartitions, NewDatabase};
pub use error::{Conflict, Failure, StoreError};
pub use grants::{GrantRow, PublisherRow};
pub use index::{IndexRow, StatusChange};
pub use installs::{Install, InstalledSkill, PutInstall};
pub use keys::WrappedKey;
pub use oci::{DocumentKind, Named, OciDocument};
pub use packages::{Listed, Package, Publication, Published, Shown, Version};
pub use secrets::{SealedSecret, SecretInfo};
pub use tellings::Telling;
pub use tenants::{Tenant, TenantState};
pub use tokens::{NewToken, Token, TokenHash};
pub use tx::{Read, SystemTx, TenantTx, Write};
pub use under_way::KeyHolder;
pub use usage::UsageRow;
pub use writer::RunWriter;

use driver::Pools;

/// The database. A clone is another handle to the same one.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pools: Pools,
    reads: AtomicU64,
    writes: AtomicU64,
    moved: Arc<moved::Moved>,
}

/// How many transactions were begun since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Those that only read.
    pub reads: u64,
    /// Those that may write.
    pub writes: u64,
}

impl Store {
    /// Opens the database at `url`. `sqlite:` and a path: its tables are brought up to date; a file that does not exist is
    /// made, readable by its owner alone; its folder must exist. `postgres://`: refused if the tables are not those of this
    /// program (see [`Store::migrate`]), or if row-level security does not hold for the role.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, DEFAULT_CONNECTIONS).await
    }

    /// The same with at most so many connections to PostgreSQL that read, and as many that write. SQLite's are fixed.
    pub async fn open_with(url: &str, connections: u32) -> Result<Self, StoreError> {
        let pools = driver::open(url, connections).await?;
        let (reads, writes) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { inner: Arc::new(Inner { pools, reads, writes, moved: Arc::default() }) })
    }

    /// Makes a PostgreSQL database and its two roles, as a superuser. What is there already is left as it is, and said.
    pub async fn init(superuser: &str, new: &NewDatabase) -> Result<Found, StoreError> {
        driver::init(superuser, new).await
    }

    /// Makes the tables of a PostgreSQL database and the roles that may use them, or brings them up to date. `url` is that of
    /// the role that owns the tables, which no host works as.
    pub async fn migrate(url: &str) -> Result<(), StoreError> {
        driver::migrate(url).await
    }

    /// Binds a login of PostgreSQL to one tenant: whatever its host asks for, the database shows it no other's rows and takes none.
    /// As a superuser, in the database itself. Refused when the login is pinned to another tenant.
    pub async fn pin(superuser: &str, login: &str, tenant: &TenantId) -> Result<(), StoreError> {
        driver::pin(superuser, login, tenant).await
    }

    /// Undoes [`Store::pin`]; `false` when the login was not pinned.
    pub async fn unpin(superuser: &str, login: &str) -> Result<bool, StoreError> {
        driver::unpin(superuser, login).await
    }

    /// The tenant that this host's login is pinned to, if it is.
    pub async fn pinned(&self) -> Result<Option<String>, StoreError> {
        self.inner.pools.pinned().await
    }

    /// Makes the audit log's partitions for the months to come and, if `keep_months` is given, removes those that are
    /// older: chains then begin where the removed part ended, and each says so. As the role that owns the tables.
    pub async fn keep_partitions(url: &str, keep_months: Option<u32>) -> Result<KeptPartitions, StoreError> {
        driver::keep_partitions(url, keep_months).await
    }

    /// Reads one tenant's data, all of it as it stood at the first query.
    pub async fn tenant(&self, tenant: &TenantId) -> Result<TenantTx<Read>, StoreError> {
        Ok(TenantTx::new(self.begin_read(tenant.as_str()).await?, tenant.clone(), self.moved()))
    }

    /// Changes one tenant's data.
    pub async fn tenant_write(&self, tenant: &TenantId) -> Result<TenantTx<Write>, StoreError> {
        Ok(TenantTx::new(self.begin_write(tenant.as_str()).await?, tenant.clone(), self.moved()))
    }

    /// Recomputes a tenant's chain. A month that retention removes meanwhile is gone from the table at once, whatever the transaction saw
    /// when it began: what looks broken then is looked at again.
    pub async fn verify_audit(&self, tenant: &TenantId) -> Result<audit::Verification, StoreError> {
        loop {
            let mut tx = self.tenant(tenant).await?;
            let start = tx.audit_start().await?;
            let found = tx.audit_verify().await?;
            drop(tx);
            if matches!(found, audit::Verification::Verified { .. })
                || self.tenant(tenant).await?.audit_start().await? == start
            {
                return Ok(found);
            }
        }
    }

    /// Reads what belongs to no single tenant. `reason` says what for, `noun.verb`; it is in the log.
    pub async fn system(&self, reason: &'static str) -> Result<SystemTx<Read>, StoreError> {
        tracing::debug!(reason, "system read");
        Ok(SystemTx::new(self.begin_read(HOST_CHAIN).await?, self.moved()))
    }

    /// Changes what belongs to no single tenant. `reason` as in [`Store::system`].
    pub async fn system_write(&self, reason: &'static str) -> Result<SystemTx<Write>, StoreError> {
        tracing::debug!(reason, "system write");
        Ok(SystemTx::new(self.begin_write(HOST_CHAIN).await?, self.moved()))
    }

    /// Transactions begun so far. A warm invocation must write nothing but its audit entry, and a test looks here.
    pub fn counts(&self) -> Counts {
        Counts { reads: self.inner.reads.load(Ordering::Relaxed), writes: self.inner.writes.load(Ordering::Relaxed) }
    }

    /// The chains that this process has moved since the last call, and where they end: tenants' ids, or `_host`.
    pub fn take_moved(&self) -> BTreeMap<String, Head> {
        self.inner.moved.take()
    }

    /// What other hosts on the same database change, where the database can tell: PostgreSQL does.
    pub fn changes(&self) -> Option<Changes> {
        self.inner.pools.changes()
    }

    fn moved(&self) -> Arc<moved::Moved> {
        Arc::clone(&self.inner.moved)
    }

    /// Whether the database answers. Not counted.
    pub async fn ready(&self) -> Result<(), StoreError> {
        self.inner.pools.ping().await
    }

    /// Whether the database takes writes. Changes nothing, and writes all the same: a full disk refuses it.
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        let mut tx = self.inner.pools.begin_write(HOST_CHAIN).await?;
        sqlx::query("UPDATE chain_heads SET seq = seq WHERE tenant_id = $1")
            .bind(HOST_CHAIN)
            .execute(&mut *tx)
            .await
            .map_err(error::failed("try to write"))?;
        tx.commit().await.map_err(error::failed("try to write"))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.pools.is_closed()
    }

    /// Waits for the transactions under way and closes every connection. Later transactions are
    /// [`StoreError::Unavailable`].
    pub async fn close(&self) {
        self.inner.pools.close().await;
    }

    async fn begin_read(&self, bound: &str) -> Result<driver::Tx, StoreError> {
        self.inner.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.pools.begin_read(bound).await
    }

    async fn begin_write(&self, bound: &str) -> Result<driver::Tx, StoreError> {
        self.inner.writes.fetch_add(1, Ordering::Relaxed);
        self.inner.pools.begin_write(bound).await
    }
}
