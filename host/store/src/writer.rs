//! Group commit: one task writes what many runs leave behind.
//!
//! A commit waits for the disk, about half a millisecond here, and SQLite does one at a time. Whatever has arrived
//! while the last group was being written is the next group, so the wait is shared by all of it and grows with nobody's
//! configuration.
//!
//! ```no_run
//! # async fn example(store: clawhold_store::Store, record: clawhold_tenancy::run::Record,
//! #     event: clawhold_tenancy::audit::SealedEvent) -> Result<(), clawhold_store::StoreError> {
//! let writer = clawhold_store::RunWriter::start(store);
//! let acme = "acme-corp".parse().expect("a tenant id");
//! writer.append(acme, Some(record), vec![event], None).await?; // committed, once it returns
//! writer.close().await;
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clawhold_tenancy::TenantId;
use clawhold_tenancy::audit::{Head, SealedEvent};
use clawhold_tenancy::run::Record;
use tokio::sync::{mpsc, oneshot, watch};

use crate::driver::{self, Kind};
use crate::error::{Failure, failed};
use crate::{Conflict, KeptAnswer, Store, StoreError, answers, audit, runs};

/// Appends in one transaction. 256: some 30 ms of inserts, within which nothing else can write.
const GROUP: usize = 256;

/// How long a group may take. 10 s: a healthy one takes milliseconds.
const COMMIT: Duration = Duration::from_secs(10);

/// Between attempts to write while that fails.
const PROBE: Duration = Duration::from_millis(250);

/// Appends that wait to be written. 1,024, four groups; the next caller waits for a place.
const QUEUE: usize = 1024;

/// The door for run records and the audit entries that are about them. A clone is another handle to the same task.
#[derive(Clone)]
pub struct RunWriter {
    queue: mpsc::Sender<Message>,
    /// The task holds the other end and drops it when it ends.
    ended: watch::Receiver<()>,
    down: Arc<AtomicBool>,
}

enum Message {
    Append(Box<Append>),
    Close,
}

struct Append {
    tenant: TenantId,
    record: Option<Record>,
    events: Vec<SealedEvent>,
    kept: Option<KeptAnswer>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl RunWriter {
    /// Starts the task on the current runtime, where it stays until [`RunWriter::close`], or until the last handle is
    /// gone and everything is written. Callers may be on any runtime.
    pub fn start(store: Store) -> Self {
        let (queue, inbox) = mpsc::channel(QUEUE);
        let (end, ended) = watch::channel(());
        let down = Arc::new(AtomicBool::new(false));
        let state = Arc::clone(&down);
        tokio::spawn(async move {
            work(store, inbox, &state).await;
            drop(end);
        });
        Self { queue, ended, down }
    }

    /// Whether the last group could not be written, and nothing could since: what is done now would not be recorded. Tried again
    /// a few times a second.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Writes a run's record and the answer that is kept, if there are, and appends the events in order to the tenant's
    /// chain. Returns once that is committed. A caller that goes away while it waits does not take its append along.
    pub async fn append(
        &self,
        tenant: TenantId,
        record: Option<Record>,
        events: Vec<SealedEvent>,
        kept: Option<KeptAnswer>,
    ) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        let append = Box::new(Append { tenant, record, events, kept, done });
        self.queue.send(Message::Append(append)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Takes nothing more, and returns when all that was taken is answered.
    pub async fn close(&self) {
        // Refused if another handle has asked before; the end is the same one.
        let _ = self.queue.send(Message::Close).await;
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

async fn work(store: Store, mut inbox: mpsc::Receiver<Message>, down: &Arc<AtomicBool>) {
    let mut messages = Vec::with_capacity(GROUP);
    while inbox.recv_many(&mut messages, GROUP).await > 0 {
        let mut group = Vec::with_capacity(messages.len());
        for message in messages.drain(..) {
            match message {
                Message::Append(append) => group.push(*append),
                Message::Close => inbox.close(),
            }
        }
        // In order of tenants, so that two hosts on one database lock the chains in the same order. The sort is
        // stable: a tenant's appends keep theirs.
        group.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        if write(&store, group).await {
            begin_probing(&store, down);
        }
    }
}

/// Tries to write until that is possible again.
fn begin_probing(store: &Store, down: &Arc<AtomicBool>) {
    if down.swap(true, Ordering::Relaxed) {
        return;
    }
    let (store, down) = (store.clone(), Arc::clone(down));
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(PROBE).await;
            match store.probe().await {
                Err(error) if error.is_retryable() && !store.is_closed() => {}
                _ => break,
            }
        }
        down.store(false, Ordering::Relaxed);
        tracing::info!("run records can be written again");
    });
}

/// Tells whether the database could not be written.
async fn write(store: &Store, group: Vec<Append>) -> bool {
    let written = in_time(store, &group).await;
    let failed = matches!(&written, Err(e) if e.is_retryable());
    // One bad append must not take its neighbours along. If the database itself cannot be reached, one by one would
    // only wait that many times.
    let one_by_one = group.len() > 1 && matches!(&written, Err(e) if !e.is_retryable());
    if let Err(error) = &written {
        tracing::warn!(%error, appends = group.len(), one_by_one, "a group of run records was not written");
    }
    for append in group {
        let written = if one_by_one { in_time(store, std::slice::from_ref(&append)).await } else { written.clone() };
        let (append, written) = without_its_answer(store, append, written).await;
        // A caller that went away has lost interest in the answer.
        let _ = append.done.send(written);
    }
    failed
}

/// A run whose key another host's run took first has taken place all the same: it is recorded, and its answer is not kept.
async fn without_its_answer(
    store: &Store,
    append: Append,
    written: Result<(), StoreError>,
) -> (Append, Result<(), StoreError>) {
    match written {
        Err(taken @ StoreError::Conflict(Conflict::Answer)) => {
            let append = Append { kept: None, ..append };
            let written = in_time(store, std::slice::from_ref(&append)).await;
            (append, written.and(Err(taken)))
        }
        written => (append, written),
    }
}

/// A database that does not answer must not keep its callers for ever. Whether the group was written is not known then.
async fn in_time(store: &Store, group: &[Append]) -> Result<(), StoreError> {
    tokio::time::timeout(COMMIT, commit(store, group)).await.unwrap_or_else(|_late| {
        let source = Failure::new("no answer in time");
        Err(StoreError::Unavailable { operation: "write run records", source })
    })
}

async fn commit(store: &Store, group: &[Append]) -> Result<(), StoreError> {
    if group.is_empty() {
        return Ok(());
    }
    let mut tx = store.begin_write(group[0].tenant.as_str()).await?;
    let mut heads = Vec::new();
    if Kind::of(&tx) == Kind::Postgres {
        // The database takes rows of one tenant at a time.
        for of_one in group.chunk_by(|a, b| a.tenant == b.tenant) {
            driver::bind(&mut tx, of_one[0].tenant.as_str()).await?;
            heads.extend(write_all(&mut tx, of_one).await?);
        }
    } else {
        heads.extend(write_all(&mut tx, group).await?);
    }
    tx.commit().await.map_err(failed("commit"))?;
    store.moved().note(heads);
    Ok(())
}

/// Gives the chains and where they end now.
async fn write_all<'a>(tx: &mut driver::Tx, group: &'a [Append]) -> Result<Vec<(&'a str, Head)>, StoreError> {
    if let [Append { tenant, record: Some(record), events, kept: None, .. }] = group
        && let Some(head) = audit::append_run(tx, (tenant, record), events).await?
    {
        return Ok(vec![(tenant.as_str(), head)]);
    }
    let records: Vec<_> = group.iter().filter_map(|of| of.record.as_ref().map(|record| (&of.tenant, record))).collect();
    runs::insert(tx, &records).await?;
    for (tenant, kept) in group.iter().filter_map(|of| Some((&of.tenant, of.kept.as_ref()?))) {
        answers::keep(tx, tenant.as_str(), kept).await?;
    }
    let chains: Vec<(&str, Vec<&SealedEvent>)> = group
        .chunk_by(|a, b| a.tenant == b.tenant)
        .map(|of_one| (of_one[0].tenant.as_str(), of_one.iter().flat_map(|append| &append.events).collect()))
        .collect();
    let heads = audit::append_all(tx, &chains).await?;
    Ok(chains.iter().map(|(chain, _)| *chain).zip(heads).collect())
}
