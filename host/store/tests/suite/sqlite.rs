//! SQLite's own: the file, and what happens when somebody else writes to it.

use std::os::unix::fs::PermissionsExt as _;

use clawhold_store::audit::Verification;
use clawhold_store::{Store, StoreError};
use clawhold_tenancy::TenantId;
use sqlx::{AnyConnection, Connection as _};

use crate::support::{Database, broken_at, event, five_entries, id, install, publish, record, tenant, token, url};

/// Runs statements behind the store's back, with no rule in the way.
async fn behind(database: &Database, statements: &[&'static str]) {
    let mut connection = AnyConnection::connect(&url(&database.path())).await.unwrap();
    for statement in ["PRAGMA foreign_keys = OFF"].iter().chain(statements) {
        sqlx::raw_sql(*statement).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

async fn verify(store: &Store, tenant: &TenantId) -> Verification {
    store.tenant(tenant).await.unwrap().audit_verify().await.unwrap()
}

#[tokio::test]
async fn hostile_42_a_changed_chain_is_broken_where_it_was_changed() {
    let cases: [(&str, i64, &'static str); 16] = [
        ("edited action", 3, "UPDATE audit SET action = 'x.z' WHERE tenant_id = 'acme-corp' AND seq = 3"),
        ("edited time", 1, "UPDATE audit SET at_us = at_us + 1 WHERE tenant_id = 'acme-corp' AND seq = 1"),
        ("edited detail", 5, "UPDATE audit SET detail = x'00' WHERE tenant_id = 'acme-corp' AND seq = 5"),
        ("edited outcome", 2, "UPDATE audit SET outcome = 'fine' WHERE tenant_id = 'acme-corp' AND seq = 2"),
        ("another run", 2, "UPDATE audit SET run_id = upper(run_id) WHERE tenant_id = 'acme-corp' AND seq = 2"),
        ("no run", 2, "UPDATE audit SET run_id = NULL WHERE tenant_id = 'acme-corp' AND seq = 2"),
        (
            "text that is not UTF-8",
            4,
            "UPDATE audit SET actor = CAST(x'ff' AS TEXT) WHERE tenant_id = 'acme-corp' AND seq = 4",
        ),
        ("another type", 4, "UPDATE audit SET actor = x'00' WHERE tenant_id = 'acme-corp' AND seq = 4"),
        ("edited hash", 3, "UPDATE audit SET hash = zeroblob(32) WHERE tenant_id = 'acme-corp' AND seq = 3"),
        ("deleted entry", 3, "DELETE FROM audit WHERE tenant_id = 'acme-corp' AND seq = 3"),
        ("deleted first", 1, "DELETE FROM audit WHERE tenant_id = 'acme-corp' AND seq = 1"),
        ("cut tail", 4, "DELETE FROM audit WHERE tenant_id = 'acme-corp' AND seq >= 4"),
        ("all gone", 1, "DELETE FROM audit WHERE tenant_id = 'acme-corp'"),
        ("head set back", 4, "UPDATE chain_heads SET seq = 3 WHERE tenant_id = 'acme-corp'"),
        (
            "added behind the end",
            6,
            "INSERT INTO audit SELECT tenant_id, 6, at_us, actor, action, resource, outcome, run_id, trace_id, detail, \
             prev_hash, hash FROM audit WHERE tenant_id = 'acme-corp' AND seq = 5",
        ),
        (
            "two exchanged",
            2,
            "UPDATE audit SET seq = -seq WHERE tenant_id = 'acme-corp' AND seq IN (2, 3);
             UPDATE audit SET seq = 5 + seq WHERE tenant_id = 'acme-corp' AND seq < 0",
        ),
    ];
    for (what, place, statement) in cases {
        let database = Database::new().await;
        let (acme, globex) = (tenant(&database.store, "acme-corp").await, tenant(&database.store, "globex").await);
        for tenant in [&acme, &globex] {
            five_entries(&database.store, tenant).await;
        }
        behind(&database, &[statement]).await;
        assert_eq!(broken_at(&database.store, &acme, what).await, place, "{what}");
        let other = verify(&database.store, &globex).await;
        assert!(matches!(other, Verification::Verified { entries: 5, .. }), "{what}: {other:?}");
    }
}

#[tokio::test]
async fn what_was_not_written_by_the_host_is_corrupt_and_no_panic() {
    let database = Database::new().await;
    let store = &database.store;
    let acme = tenant(store, "acme-corp").await;
    publish(store, "northwind/crm", "1.0.0").await;
    install(store, &acme, "northwind/crm", &["crm.lookup"]).await;
    let run = record();
    let mut tx = store.tenant_write(&acme).await.unwrap();
    tx.insert_run(&run).await.unwrap();
    tx.create_token(&token("0123456789ab")).await.unwrap();
    tx.commit(event("x.y")).await.unwrap();
    behind(
        &database,
        &[
            "UPDATE tenants SET state = 'sleeping'",
            "UPDATE tokens SET hash = x'00'",
            "UPDATE installs SET policy = '{\"secrets\": \"hunter2\"}'",
            "UPDATE runs SET fuel = -1",
            "UPDATE versions SET digest = 'sha256:ABC'; UPDATE components SET bytes = x'00'",
        ],
    )
    .await;
    let mut tx = store.tenant(&acme).await.unwrap();
    let mut system = store.system("x").await.unwrap();
    let refusals = [
        ("tenants.state", system.tenant(&acme).await.map(drop)),
        ("tokens.hash", tx.tokens(None, 1).await.map(drop)),
        ("installs.policy", tx.installs(None, 1).await.map(drop)),
        ("runs.fuel", tx.run(&run.id).await.map(drop)),
        ("versions.digest", system.versions(&id("northwind/crm"), None, 1).await.map(drop)),
        ("components.bytes", system.component(&clawhold_tenancy::Digest::of(b"northwind/crm@1.0.0")).await.map(drop)),
    ];
    for (place, refusal) in refusals {
        let refusal = refusal.unwrap_err();
        assert!(matches!(&refusal, StoreError::Corrupt { what, .. } if what == place), "{place}: {refusal}");
        assert!(!refusal.to_string().contains("hunter2"), "{refusal}");
    }
}

#[tokio::test]
async fn the_file_is_its_owners_alone() {
    let database = Database::new().await;
    tenant(&database.store, "acme-corp").await;
    for entry in std::fs::read_dir(database.path().parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn a_store_dropped_without_close_keeps_what_was_committed() {
    let mut database = Database::new().await;
    let acme = tenant(&database.store, "acme-corp").await;
    for entries in 1..4 {
        let mut tx = database.store.tenant_write(&acme).await.unwrap();
        tx.insert_run(&record()).await.unwrap();
        tx.commit(event("skill.invoke")).await.unwrap();
        // Open at the drop, never committed.
        let mut lost = database.store.tenant_write(&acme).await.unwrap();
        lost.insert_run(&record()).await.unwrap();
        drop(lost);
        database = database.reopen().await;
        let verified = verify(&database.store, &acme).await;
        assert!(matches!(verified, Verification::Verified { entries: n, .. } if n == entries), "{verified:?}");
        let runs = database.store.tenant(&acme).await.unwrap().runs(None, 10).await.unwrap().len();
        assert_eq!(i64::try_from(runs), Ok(entries));
    }
}

#[tokio::test]
async fn what_was_still_to_be_told_is_told_by_the_queue_that_takes_its_place() {
    let database = Database::new().await;
    publish(&database.store, "northwind/crm", "1.0.0").await;
    publish(&database.store, "northwind/crm", "1.1.0").await;
    // As it was before.
    behind(
        &database,
        &[
            "DROP TABLE market_tellings; ALTER TABLE versions ADD COLUMN told TEXT; DELETE FROM _sqlx_migrations WHERE version = 20",
            "UPDATE versions SET status = 'revoked', counter = 3, changed_us = 5, advisory = 'x', told = 'acme-corp' WHERE version = '1.1.0'",
        ],
    )
    .await;
    let database = database.reopen().await;
    let mut tx = database.store.system("x").await.unwrap();
    let telling = tx.next_telling().await.unwrap().unwrap();
    assert_eq!((telling.package, telling.version.to_string()), (id("northwind/crm"), "1.1.0".to_owned()));
    assert_eq!(
        (telling.status.as_str(), telling.advisory.as_str(), telling.told.as_str()),
        ("revoked", "x", "acme-corp")
    );
    assert_eq!((telling.counter, telling.changed_us), (3, 5));
    assert_eq!(tx.count_tellings(&id("northwind/crm")).await.unwrap(), 1, "the other was told");
}

#[tokio::test]
async fn a_path_may_hold_any_character_and_an_address_only_a_known_one() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("a b%20c?#&\u{fc}.db");
    let store = Store::open(&url(&odd)).await.unwrap();
    store.ready().await.unwrap();
    assert!(odd.exists());
    store.close().await;
    let closed = store.ready().await.unwrap_err();
    assert!(closed.is_retryable(), "{closed}");

    let nowhere = url(&folder.path().join("none/x.db"));
    for address in ["", "sqlite:", "clawhold.db", "mysql://x", nowhere.as_str()] {
        let refusal = Store::open(address).await.err().unwrap();
        assert!(matches!(refusal, StoreError::Open { .. }), "{address}: {refusal}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_said_to_be_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clawhold.db");
    std::fs::write(&path, "no database ".repeat(1000)).unwrap();
    let refusal = Store::open(&url(&path)).await.err().unwrap();
    assert!(matches!(refusal, StoreError::Corrupt { .. }), "{refusal:?}");
}
