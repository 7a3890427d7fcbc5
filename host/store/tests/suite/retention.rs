//! Removing months of the audit log, on PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clawhold_store::audit::Verification;
use clawhold_store::{KeyHolder, Store};

use crate::postgres::{connect, run};
use crate::support::{Database, Postgres, broken_at, event, event_at, tenant};

#[tokio::test]
async fn retention_removes_old_months_and_the_chains_still_verify() {
    let database = Postgres::new().await;
    let store = &database.store;
    let (acme, globex) = (tenant(store, "acme-corp").await, tenant(store, "globex").await);
    // Entries of a month long ago first lie in the default partition; then in one of their own.
    let long_ago = 1_600_000_000_000_000;
    let old: Vec<_> = (0..5).map(|n| event_at("x.old", long_ago + n)).collect();
    store.tenant_write(&acme).await.unwrap().commit_all(&old[0], &old[1..]).await.unwrap();
    let mut owner = connect(&database.at.owner).await;
    run(&mut owner, "SELECT add_audit_month('2020-09-01')").await.unwrap();
    let now = clawhold_tenancy::audit::now_us();
    for id in [&acme, &globex] {
        store.tenant_write(id).await.unwrap().commit(event_at("x.new", now)).await.unwrap();
    }
    let verified = async |id| store.tenant(id).await.unwrap().audit_verify().await.unwrap();
    assert!(matches!(verified(&acme).await, Verification::Verified { entries: 6, .. }));

    let kept = Store::keep_partitions(&database.at.owner, Some(3)).await.unwrap();
    assert_eq!((kept.made, kept.removed), (0, vec!["audit_2020_09".to_owned()]));
    let found = verified(&acme).await;
    assert!(matches!(found, Verification::Verified { entries: 2, start, .. } if start.seq == 5), "{found:?}");
    let mut tx = store.tenant(&acme).await.unwrap();
    let left: Vec<_> =
        tx.audit(None, 10).await.unwrap().into_iter().map(|e| (e.seq, e.event.action, e.event.resource)).collect();
    assert_eq!(left[0], (7, "audit.retain".to_owned(), "audit:1-5".to_owned()));
    assert_eq!(left[1].1, "x.new");
    drop(tx);
    assert!(matches!(verified(&globex).await, Verification::Verified { entries: 1, start, .. } if start.seq == 0));
    // What is left is as tamper-evident as before.
    let mut superuser = connect(&database.at.superuser).await;
    run(&mut superuser, "DELETE FROM audit WHERE tenant_id = 'acme-corp' AND seq = 6").await.unwrap();
    assert_eq!(broken_at(store, &acme, "deleted behind the start").await, 6);
    assert!(
        run(&mut connect(&database.at.app).await, "INSERT INTO chain_starts VALUES ('acme-corp', 9, '')")
            .await
            .is_err()
    );
}

/// Hosts take a chain's head and then the log, and whoever removes a month must not take them the other way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_at_work_lose_nothing_while_months_are_removed() {
    let database = Postgres::new().await;
    let store = &database.store;
    let mut owner = connect(&database.at.owner).await;
    let mut tenants = Vec::new();
    for name in ["acme-corp", "globex", "initech"] {
        tenants.push(tenant(store, name).await);
    }
    for month in 1..=9 {
        run(&mut owner, &format!("SELECT add_audit_month('2020-0{month}-01')")).await.unwrap();
        // The first days of each month of 2020, near enough.
        let at = 1_577_923_200_000_000 + (month - 1) * 31 * 86_400_000_000;
        for id in &tenants {
            store.tenant_write(id).await.unwrap().commit(event_at("x.old", at)).await.unwrap();
        }
    }
    let done = Arc::new(AtomicBool::new(false));
    let mut hosts = Vec::new();
    for id in tenants.clone() {
        let (store, done) = (store.clone(), Arc::clone(&done));
        hosts.push(tokio::spawn(async move {
            let mut written = 0;
            while !done.load(Ordering::Relaxed) {
                store.tenant_write(&id).await.unwrap().commit(event("x.new")).await.unwrap();
                let found = store.verify_audit(&id).await.unwrap();
                assert!(matches!(found, Verification::Verified { .. }), "{found:?}");
                written += 1;
            }
            written
        }));
    }
    let kept = Store::keep_partitions(&database.at.owner, Some(3)).await.unwrap();
    done.store(true, Ordering::Relaxed);
    assert_eq!(kept.removed.len(), 9);
    for (host, id) in hosts.into_iter().zip(&tenants) {
        let written: i64 = host.await.unwrap();
        let found = store.tenant(id).await.unwrap().audit_verify().await.unwrap();
        let expected = written + 9;
        assert!(matches!(found, Verification::Verified { entries, .. } if entries == expected), "{found:?} {written}");
    }
}

#[tokio::test]
async fn a_key_is_one_hosts_until_it_lets_go_or_dies() {
    let database = Postgres::new().await;
    let store = &database.store;
    tenant(store, "acme-corp").await;
    let holder = |host: &str, request: &str| KeyHolder {
        chain: "acme-corp".to_owned(),
        token: "0123456789ab".parse().unwrap(),
        key: "k".to_owned(),
        host: host.to_owned(),
        request: request.to_owned(),
    };
    let hold =
        async |host: &str, request: &str, now| store.hold_key(&holder(host, request), now + 60, now).await.unwrap();
    assert!(hold("a", "1", 0).await);
    assert!(!hold("b", "2", 1).await, "it is another host's");
    assert!(hold("a", "1", 30).await, "it says that it is still at it");
    assert!(!hold("b", "2", 70).await);
    assert!(hold("b", "2", 91).await, "the host has died");
    // What comes late lets nobody else's go, and a host takes over what it held itself.
    store.release_key(&holder("a", "1"), 91).await.unwrap();
    assert!(!hold("a", "3", 92).await);
    assert!(hold("b", "4", 92).await);
    store.release_key(&holder("b", "4"), 92).await.unwrap();
    assert!(hold("a", "5", 93).await);
    // What a host has died with goes with the owner's next key.
    let other = KeyHolder { key: "other".to_owned(), ..holder("b", "6") };
    assert!(store.hold_key(&other, 900, 200).await.unwrap());
    store.release_key(&other, 200).await.unwrap();
    let mut superuser = connect(&database.at.superuser).await;
    assert_eq!(run(&mut superuser, "DELETE FROM keys_under_way").await.unwrap(), 0);
}

/// What was kept of a chain that had 12,000 old entries, over two transactions and a bit, and one of now.
async fn a_tenants_oldest_entries_are_gone(store: &Store, remove: impl AsyncFn(i64) -> u64) {
    let (acme, globex) = (tenant(store, "acme-corp").await, tenant(store, "globex").await);
    let old: Vec<_> = (0..12_000).map(|n| event_at("x.old", 1_000 + n)).collect();
    for id in [&acme, &globex] {
        store.tenant_write(id).await.unwrap().commit_all(&old[0], &old[1..]).await.unwrap();
        store
            .tenant_write(id)
            .await
            .unwrap()
            .commit(event_at("x.new", clawhold_tenancy::audit::now_us()))
            .await
            .unwrap();
        // Older than the one before it: what is old and comes later stays.
        store.tenant_write(id).await.unwrap().commit(event_at("x.late", 2_000)).await.unwrap();
    }
    assert_eq!(remove(1_000).await, 0);
    assert_eq!(remove(1_000_000).await, 12_000);
    let verified = async |id| store.tenant(id).await.unwrap().audit_verify().await.unwrap();
    let found = verified(&acme).await;
    assert!(matches!(found, Verification::Verified { entries: 5, start, .. } if start.seq == 12_000), "{found:?}");
    let found = verified(&globex).await;
    assert!(matches!(found, Verification::Verified { entries: 12_002, .. }), "{found:?}");
    // Once more, when what says so is old itself.
    let later = clawhold_tenancy::audit::now_us() + 1;
    assert_eq!(remove(later).await, 5);
    let found = verified(&acme).await;
    assert!(matches!(found, Verification::Verified { entries: 1, start, .. } if start.seq == 12_005), "{found:?}");
}

#[tokio::test]
async fn a_tenants_retention_removes_its_oldest_entries_alone() {
    let database = Database::new().await;
    let acme = "acme-corp".parse().unwrap();
    let remove = async |before| database.store.retain_audit(&acme, before).await.unwrap();
    a_tenants_oldest_entries_are_gone(&database.store, remove).await;
}

#[tokio::test]
async fn a_tenants_retention_removes_its_oldest_entries_alone_on_postgres() {
    let database = Postgres::new().await;
    let remove = async |before| {
        let of = |tenant: &clawhold_store::Tenant| if tenant.id.as_str() == "acme-corp" { before } else { 0 };
        let removed = Store::retain_all(&database.at.owner, of).await.unwrap();
        removed
            .into_iter()
            .map(|(tenant, count)| {
                assert_eq!(tenant.as_str(), "acme-corp");
                count
            })
            .sum()
    };
    a_tenants_oldest_entries_are_gone(&database.store, remove).await;
}
