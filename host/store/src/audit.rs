//! The audit chains: one of each tenant, one of the host.
//!
//! An entry is written only by the commit of what it tells of, never changed and never removed. Lists are newest
//! first, as a person reads a log; [`TenantTx::audit_after`] goes forward, for an export.
//!
//! A chain shows that an entry was edited, removed or added between others. It does not show that its end was cut
//! off *and* its head set back, or that all of it was rewritten: compare [`Verified`](Verification::Verified)'s head
//! with one kept elsewhere.

use clawhold_tenancy::TenantId;
use clawhold_tenancy::audit::{Break, Event, HOST_CHAIN, Head, Sealed, SealedEvent, Walk};
use clawhold_tenancy::run::Record;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::bulk::{Bound, Bulk, Pair, ROWS};
use crate::driver::Kind;
use crate::error::failed;
use crate::fields::Fields;
use crate::{StoreError, SystemTx, TenantTx, runs};

/// Entries that a verification holds in memory at a time. 500: each is bounded by what a run may write.
const PAGE: u32 = 500;

/// An event in its place in a chain.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number; the first is 1.
    pub seq: i64,
    /// What happened.
    pub event: SealedEvent,
    /// The hash of the entry before.
    pub prev_hash: [u8; 32],
    /// The hash of this one.
    pub hash: [u8; 32],
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verification {
    /// Every entry follows from the one before, and the chain ends where its head says.
    Verified {
        /// The entry behind which the chain begins: not the empty chain if retention has removed its oldest entries.
        start: Head,
        /// How many are there.
        entries: i64,
        /// Where it ends.
        head: Head,
    },
    /// Somebody changed the chain here or later, and nothing before.
    Broken {
        /// The first entry that is not what was written.
        seq: i64,
        /// What is wrong with it.
        why: String,
    },
}

macro_rules! chain_methods {
    ($tx:ident, $self:ident => $chain:expr) => {
        impl<M> $tx<M> {
            /// The chain's end.
            pub async fn audit_head(&mut $self) -> Result<Head, StoreError> {
                head(&mut $self.tx, $chain).await
            }

            /// The entry behind which the chain begins: that of the empty chain, if retention has removed nothing.
            pub async fn audit_start(&mut $self) -> Result<Head, StoreError> {
                start(&mut $self.tx, $chain).await
            }

            /// The entry of this number, if it is there.
            pub async fn audit_entry(&mut $self, seq: i64) -> Result<Option<Entry>, StoreError> {
                let found = ascending(&mut $self.tx, $chain, seq.saturating_sub(1), 1).await?;
                Ok(found.into_iter().find(|entry| entry.seq == seq))
            }

            /// Entries before number `before` (all, if `None`), newest first, at most `limit`.
            pub async fn audit(&mut $self, before: Option<i64>, limit: u32) -> Result<Vec<Entry>, StoreError> {
                let before = before.unwrap_or(i64::MAX);
                sqlx::query("SELECT * FROM audit WHERE tenant_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3")
                    .bind($chain)
                    .bind(before)
                    .bind(i64::from(limit))
                    .fetch_all(&mut *$self.tx)
                    .await
                    .map_err(failed("list audit entries"))?
                    .iter()
                    .map(entry)
                    .collect()
            }

            /// Entries after number `after` (0 for all), oldest first, at most `limit`.
            pub async fn audit_after(&mut $self, after: i64, limit: u32) -> Result<Vec<Entry>, StoreError> {
                ascending(&mut $self.tx, $chain, after, limit).await
            }

            /// Recomputes the whole chain, as it stood when the transaction began.
            pub async fn audit_verify(&mut $self) -> Result<Verification, StoreError> {
                verify(&mut $self.tx, $chain).await
            }
        }
    };
}

chain_methods!(TenantTx, self => self.tenant.as_str());
chain_methods!(SystemTx, self => HOST_CHAIN);

/// Appends to a chain and holds its lock until the transaction ends.
pub(crate) async fn append(
    connection: &mut AnyConnection,
    chain: &str,
    events: &[&SealedEvent],
) -> Result<Head, StoreError> {
    let heads = append_all(connection, &[(chain, events.to_vec())]).await?;
    Ok(heads[0])
}

/// Appends to several chains, each named once and in ascending order, so that two hosts on one database lock them in
/// the same order. Gives the new head of each.
pub(crate) async fn append_all(
    connection: &mut AnyConnection,
    chains: &[(&str, Vec<&SealedEvent>)],
) -> Result<Vec<Head>, StoreError> {
    let mut heads = lock(connection, chains).await?;
    let mut rows = Vec::with_capacity(chains.iter().map(|(_, events)| events.len()).sum());
    for ((chain, events), head) in chains.iter().zip(&mut heads) {
        rows.extend(events.iter().map(|event| Row::next(chain, head, event)));
    }
    insert(connection, &rows).await?;
    move_heads(connection, chains, &heads).await?;
    Ok(heads)
}

/// An event that has its place.
struct Row<'a> {
    chain: &'a str,
    event: &'a SealedEvent,
    prev_hash: [u8; 32],
    head: Head,
}

impl<'a> Row<'a> {
    /// The event in the place behind `head`, which moves on to it.
    fn next(chain: &'a str, head: &mut Head, event: &'a SealedEvent) -> Self {
        let prev_hash = head.hash;
        *head = head.after(chain, event);
        Self { chain, event, prev_hash, head: *head }
    }

    /// Binds the columns of one row of [`INSERT`].
    fn bind(&self, query: Bound) -> Bound {
        let Self { chain, event, prev_hash, head } = self;
        query
            .bind(*chain)
            .bind(head.seq)
            .bind(event.at_us)
            .bind(event.actor.as_str())
            .bind(event.action.as_str())
            .bind(event.resource.as_str())
            .bind(event.outcome.as_str())
            .bind(event.run.map(|run| run.to_string()))
            .bind(event.trace.as_str())
            .bind(event.detail.bytes())
            .bind(prev_hash.to_vec())
            .bind(head.hash.to_vec())
    }
}

fn bind_head(query: Bound, chain: &str, head: &Head) -> Bound {
    query.bind(chain).bind(head.seq).bind(head.hash.to_vec())
}

/// Writes one run's record and appends what it leaves to the tenant's chain, on SQLite: what [`runs::insert`] and [`append`] do, in
/// two hand-overs to the connection's thread instead of four. Each of them wakes a thread and is woken by it, which is most of a
/// commit's time while runs keep every core busy.
///
/// `None`, and nothing written, on PostgreSQL, and if there are more events than a usual call leaves, or none.
pub(crate) async fn append_run(
    connection: &mut AnyConnection,
    (tenant, record): (&TenantId, &Record),
    events: &[SealedEvent],
) -> Result<Option<Head>, StoreError> {
    if Kind::of(connection) != Kind::Sqlite {
        return Ok(None);
    }
    let (Some(write), Some(append)) = (WRITE_AND_LOCK.query(1), APPEND_AND_MOVE.query(events.len())) else {
        return Ok(None);
    };
    let chain = tenant.as_str();
    let write = bind_head(runs::bind(write, tenant, record), chain, &Head::EMPTY);
    let locked = write.fetch_all(&mut *connection).await.map_err(failed("write a run and lock its audit chain"))?;
    let mut head = head_from(locked.first().ok_or_else(|| StoreError::corrupt("chain_heads", "a head is not there"))?)?;
    let append = events.iter().fold(append, |append, event| Row::next(chain, &mut head, event).bind(append));
    let append = bind_head(append, chain, &head);
    append.execute(&mut *connection).await.map_err(failed("append audit entries and move the chain's head"))?;
    Ok(Some(head))
}

static WRITE_AND_LOCK: Pair<1> = Pair::new(&runs::INSERT, &LOCK);
// A usual call leaves one or two entries. Each number has a text of its own, of which a connection keeps a hundred.
static APPEND_AND_MOVE: Pair<4> = Pair::new(&INSERT, &MOVE);

// The update that changes nothing takes the row's lock on either database, and makes the row if it is the first.
static LOCK: Bulk = Bulk::new(
    "INSERT INTO chain_heads (tenant_id, seq, hash) VALUES",
    3,
    "ON CONFLICT (tenant_id) DO UPDATE SET seq = chain_heads.seq RETURNING tenant_id, seq, hash",
);
static INSERT: Bulk = Bulk::new(
    "INSERT INTO audit (tenant_id, seq, at_us, actor, action, resource, outcome, run_id, trace_id, detail, prev_hash, \
     hash) VALUES",
    12,
    "",
);
static MOVE: Bulk = Bulk::new(
    "INSERT INTO chain_heads (tenant_id, seq, hash) VALUES",
    3,
    "ON CONFLICT (tenant_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash",
);

async fn lock(connection: &mut AnyConnection, chains: &[(&str, Vec<&SealedEvent>)]) -> Result<Vec<Head>, StoreError> {
    let mut heads = Vec::with_capacity(chains.len());
    for chunk in chains.chunks(ROWS) {
        let mut query = LOCK.query(Kind::of(connection), chunk.len());
        for (chain, _) in chunk {
            query = bind_head(query, chain, &Head::EMPTY);
        }
        let rows = query.fetch_all(&mut *connection).await.map_err(failed("lock an audit chain"))?;
        // No database promises that rows come back in the order in which they went.
        let mut locked = Vec::with_capacity(rows.len());
        for row in &rows {
            locked.push((Fields::of("chain_heads", row).text("tenant_id")?, head_from(row)?));
        }
        for (chain, _) in chunk {
            let found = locked.iter().find(|(name, _)| name == chain);
            heads.push(found.ok_or_else(|| StoreError::corrupt("chain_heads", "a head is not there"))?.1);
        }
    }
    Ok(heads)
}

async fn insert(connection: &mut AnyConnection, rows: &[Row<'_>]) -> Result<(), StoreError> {
    for chunk in rows.chunks(ROWS) {
        let mut query = INSERT.query(Kind::of(connection), chunk.len());
        for row in chunk {
            query = row.bind(query);
        }
        query.execute(&mut *connection).await.map_err(failed("append an audit entry"))?;
    }
    Ok(())
}

async fn move_heads(
    connection: &mut AnyConnection,
    chains: &[(&str, Vec<&SealedEvent>)],
    heads: &[Head],
) -> Result<(), StoreError> {
    let moved: Vec<_> = chains.iter().map(|(chain, _)| *chain).zip(heads).collect();
    for chunk in moved.chunks(ROWS) {
        let mut query = MOVE.query(Kind::of(connection), chunk.len());
        for (chain, head) in chunk {
            query = bind_head(query, chain, head);
        }
        query.execute(&mut *connection).await.map_err(failed("move an audit chain's head"))?;
    }
    Ok(())
}

async fn head(connection: &mut AnyConnection, chain: &str) -> Result<Head, StoreError> {
    let row = sqlx::query("SELECT seq, hash FROM chain_heads WHERE tenant_id = $1")
        .bind(chain)
        .fetch_optional(connection)
        .await
        .map_err(failed("read an audit chain's head"))?;
    row.as_ref().map_or(Ok(Head::EMPTY), head_from)
}

async fn start(connection: &mut AnyConnection, chain: &str) -> Result<Head, StoreError> {
    let row = sqlx::query("SELECT seq, hash FROM chain_starts WHERE tenant_id = $1")
        .bind(chain)
        .fetch_optional(connection)
        .await
        .map_err(failed("read where an audit chain begins"))?;
    row.as_ref().map_or(Ok(Head::EMPTY), head_from)
}

async fn ascending(
    connection: &mut AnyConnection,
    chain: &str,
    after: i64,
    limit: u32,
) -> Result<Vec<Entry>, StoreError> {
    rows_after(connection, chain, (after, i64::MAX), limit).await?.iter().map(entry).collect()
}

/// Rows behind a number and a time: where the table has partitions, a number could be there twice.
async fn rows_after(
    connection: &mut AnyConnection,
    chain: &str,
    (after, at_us): (i64, i64),
    limit: u32,
) -> Result<Vec<AnyRow>, StoreError> {
    sqlx::query(
        "SELECT * FROM audit WHERE tenant_id = $1 AND seq >= $2 AND (seq, at_us) > ($2, $3) \
         ORDER BY seq, at_us LIMIT $4",
    )
    .bind(chain)
    .bind(after)
    .bind(at_us)
    .bind(i64::from(limit))
    .fetch_all(connection)
    .await
    .map_err(failed("read audit entries"))
}

async fn verify(connection: &mut AnyConnection, chain: &str) -> Result<Verification, StoreError> {
    let found = match walk(connection, chain).await {
        Err(StoreError::Corrupt { what, why }) => Err(Break::at(1, format!("{what}: {why}"))),
        found => found?,
    };
    Ok(match found {
        Ok((start, head)) => Verification::Verified { start, entries: head.seq - start.seq, head },
        Err(Break { seq, why }) => Verification::Broken { seq, why },
    })
}

/// Where the chain begins and ends, or where it is broken.
async fn walk(connection: &mut AnyConnection, chain: &str) -> Result<Result<(Head, Head), Break>, StoreError> {
    let start = start(connection, chain).await?;
    let kept = head(connection, chain).await?;
    let mut walk = Walk::new(chain, start);
    // Numbers below 1 are nobody's; those that retention has passed may be there for a while.
    let mut after = (if start == Head::EMPTY { i64::MIN } else { start.seq }, i64::MAX);
    let mut limit = PAGE;
    loop {
        let rows = match rows_after(connection, chain, after, limit).await {
            // One row of the page does not even decode: find it.
            Err(StoreError::Corrupt { .. }) if limit > 1 => {
                limit = 1;
                continue;
            }
            Err(StoreError::Corrupt { why, .. }) => return Ok(Err(Break::at(walk.head().seq + 1, why))),
            rows => rows?,
        };
        for row in &rows {
            let entry = match entry(row) {
                Err(StoreError::Corrupt { what, why }) => {
                    return Ok(Err(Break::at(walk.head().seq + 1, format!("{what}: {why}"))));
                }
                entry => entry?,
            };
            if let Err(broken) = walk.step(entry.seq, &entry.prev_hash, &entry.hash, &entry.event) {
                return Ok(Err(broken));
            }
            after = (entry.seq, entry.event.at_us);
        }
        if rows.is_empty() {
            return Ok(walk.ends_at(kept).map(|()| (start, kept)));
        }
    }
}

fn head_from(row: &AnyRow) -> Result<Head, StoreError> {
    let fields = Fields::of("chain_heads", row);
    Ok(Head { seq: fields.count("seq")?, hash: fields.hash("hash")? })
}

fn entry(row: &AnyRow) -> Result<Entry, StoreError> {
    let fields = Fields::of("audit", row);
    Ok(Entry {
        seq: fields.integer("seq")?,
        event: Event {
            at_us: fields.integer("at_us")?,
            actor: fields.text("actor")?,
            action: fields.text("action")?,
            resource: fields.text("resource")?,
            outcome: fields.id("outcome")?,
            run: fields.optional_id("run_id")?,
            trace: fields.id("trace_id")?,
            detail: Sealed::from_ciphertext(fields.bytes("detail")?),
        },
        prev_hash: fields.hash("prev_hash")?,
        hash: fields.hash("hash")?,
    })
}
