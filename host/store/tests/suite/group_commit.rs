//! The writer of run records.

use std::pin::Pin;
use std::task::Poll;

use clawhold_store::{Conflict, KeptAnswer, RunWriter, Store, StoreError, SystemTx, Write};
use clawhold_tenancy::audit::Chain;
use clawhold_tenancy::run::Record;
use clawhold_tenancy::{TenantId, TokenId};

use crate::chains::entries;
use crate::support::{event, id, record, tenant};

type Taken = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// An append that the writer has taken and not answered: tests hold the database's only write transaction, so
/// nothing is committed until they let go of it.
async fn taken(writer: &RunWriter, tenant: &TenantId, record: Record) -> Taken {
    let (writer, tenant) = (writer.clone(), tenant.clone());
    let mut append: Taken =
        Box::pin(async move { writer.append(tenant, Some(record), vec![event("skill.invoke")], None).await });
    std::future::poll_fn(|cx| {
        assert!(append.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    append
}

/// Keeps a tenant's chain locked until it is dropped, so that the writer waits: SQLite has one writer at a time, PostgreSQL locks
/// the chain's head.
async fn hold(store: &Store, tenant: &TenantId) -> SystemTx<Write> {
    let mut tx = store.system_write("hold").await.unwrap();
    tx.append(tenant, &[event("x.y")]).await.unwrap();
    tx
}

pub(crate) async fn a_group_shares_one_transaction(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let writer = RunWriter::start(store.clone());
    let held = hold(store, &acme).await;
    let before = store.counts().writes;
    let mut appends = Vec::new();
    for _ in 0..100 {
        appends.push(taken(&writer, &acme, record()).await);
    }
    drop(held);
    for append in appends {
        append.await.unwrap();
    }
    let writes = store.counts().writes - before;
    assert!(writes <= 2, "100 appends took {writes} transactions: what had arrived first, and the rest");
    assert_eq!(entries(store, &acme).await, 100);
}

/// A run that is written alone takes another way to the database than a group does, and one with many entries that of a group.
pub(crate) async fn each_number_of_entries_is_written_whole(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let writer = RunWriter::start(store.clone());
    let mut written = Vec::new();
    for count in [0, 1, 2, 4, 5, 20, 1] {
        let run = record();
        let actions: Vec<String> = (0..count).map(|n| format!("x.y{}of{count}", n + 1)).collect();
        let events = actions.iter().map(|action| event(action)).collect();
        writer.append(acme.clone(), Some(run.clone()), events, None).await.unwrap();
        let mut tx = store.tenant(&acme).await.unwrap();
        let kept = tx.run(&run.id).await.unwrap().unwrap();
        assert_eq!(format!("{kept:?}"), format!("{run:?}"));
        written.extend(actions);
    }
    assert_eq!(entries(store, &acme).await, 33);
    let mut tx = store.tenant(&acme).await.unwrap();
    let kept = tx.audit_after(0, 100).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|entry| entry.event.action.as_str()).collect();
    assert_eq!(kept, written);
}

/// Two hosts began a call with one key at the same time, and both guests ran.
pub(crate) async fn a_run_whose_key_another_host_took_is_recorded_without_its_answer(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let (first, second) = (RunWriter::start(store.clone()), RunWriter::start(store.clone()));
    let (token, fingerprint) = (id::<TokenId>("0123456789ab"), [1; 32]);
    let kept = |answer: u8| {
        let (token, key) = (token.clone(), "k".to_owned());
        Some(KeptAnswer { token, key, fingerprint, answer: vec![answer], created_us: 1 })
    };
    let (one, other) = (record(), record());
    let append = |writer: &RunWriter, record: &Record, kept| {
        let (writer, record, acme) = (writer.clone(), record.clone(), acme.clone());
        async move { writer.append(acme, Some(record), vec![event("skill.invoke")], kept).await }
    };
    append(&first, &one, kept(1)).await.unwrap();
    let late = append(&second, &other, kept(2)).await.unwrap_err();
    assert!(matches!(late, StoreError::Conflict(Conflict::Answer)), "{late}");
    let mut tx = store.tenant(&acme).await.unwrap();
    for run in [&one, &other] {
        assert!(tx.run(&run.id).await.unwrap().is_some(), "it took place and is in no log");
    }
    drop(tx);
    let answer = store.kept_answer(Chain::Tenant(&acme), &token, "k", 2).await.unwrap().unwrap();
    assert_eq!(answer, (fingerprint, vec![1]));
    assert_eq!(entries(store, &acme).await, 2);
}

pub(crate) async fn a_bad_append_does_not_take_its_neighbours_along(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let writer = RunWriter::start(store.clone());
    let held = hold(store, &acme).await;
    let twice = record();
    let good = [taken(&writer, &acme, record()).await, taken(&writer, &acme, twice.clone()).await];
    let again = taken(&writer, &acme, twice).await;
    let unknown = taken(&writer, &id("nobody"), record()).await;
    let last = taken(&writer, &acme, record()).await;
    drop(held);
    for append in good {
        append.await.unwrap();
    }
    let refused = again.await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict(Conflict::Exists(_))), "{refused}");
    let refused = unknown.await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict(Conflict::Missing(_))), "{refused}");
    last.await.unwrap();
    assert_eq!(entries(store, &acme).await, 3);
    assert_eq!(entries(store, &id("nobody")).await, 0);
}

pub(crate) async fn closing_writes_what_was_taken(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let writer = RunWriter::start(store.clone());
    let held = hold(store, &acme).await;
    let mut appends = Vec::new();
    for _ in 0..20 {
        appends.push(taken(&writer, &acme, record()).await);
    }
    let other = writer.clone();
    let closer = tokio::spawn(async move { other.close().await });
    drop(held);
    writer.close().await;
    assert_eq!(entries(store, &acme).await, 20, "committed before `close` returned");
    closer.await.unwrap();
    for append in appends {
        append.await.unwrap();
    }
    let refused = writer.append(acme, None, vec![event("x.y")], None).await.unwrap_err();
    assert!(matches!(refused, StoreError::Closed), "{refused}");
}

pub(crate) async fn a_caller_that_goes_away_loses_nothing(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let writer = RunWriter::start(store.clone());
    let held = hold(store, &acme).await;
    for _ in 0..3 {
        drop(taken(&writer, &acme, record()).await);
    }
    drop(held);
    writer.close().await;
    assert_eq!(entries(store, &acme).await, 3);
}

pub(crate) async fn a_database_out_of_reach_is_told_to_every_caller(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let writer = RunWriter::start(store.clone());
    let held = hold(store, &acme).await;
    let mut appends = Vec::new();
    for _ in 0..20 {
        appends.push(taken(&writer, &acme, record()).await);
    }
    drop(held);
    store.close().await;
    // The first may have been committed before the end.
    let refused = appends.pop().unwrap().await;
    assert!(refused.is_ok() || refused.is_err_and(|e| e.is_retryable()));
    let refused = writer.append(acme, None, vec![event("x.y")], None).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    for append in appends {
        let answer = append.await;
        assert!(answer.is_ok() || answer.is_err_and(|e| e.is_retryable()));
    }
}
