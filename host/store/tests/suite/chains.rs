//! The audit chains.

use clawhold_store::audit::Verification;
use clawhold_store::{RunWriter, Store};
use clawhold_tenancy::TenantId;

use crate::support::{event, record, tenant};

pub(crate) async fn entries(store: &Store, tenant: &TenantId) -> i64 {
    let mut tx = store.tenant(tenant).await.unwrap();
    match tx.audit_verify().await.unwrap() {
        Verification::Verified { entries, head, .. } => {
            assert_eq!(tx.audit_head().await.unwrap(), head);
            entries
        }
        Verification::Broken { seq, why } => panic!("{tenant} is broken at {seq}: {why}"),
    }
}

pub(crate) async fn concurrent_appends_make_unbroken_chains(store: &Store) {
    let mut tenants = Vec::new();
    for n in 0..8 {
        tenants.push(tenant(store, &format!("tenant-{n}")).await);
    }
    let writer = RunWriter::start(store.clone());
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..200 {
        let (writer, store, tenant) = (writer.clone(), store.clone(), tenants[n % 8].clone());
        callers.spawn(async move {
            // Some of the entries come by the other door.
            if n % 10 == 0 {
                store.tenant_write(&tenant).await.unwrap().commit(event("install.put")).await.map(drop)
            } else {
                writer.append(tenant, Some(record()), vec![event("skill.invoke"), event("secret.read")], None).await
            }
        });
    }
    while let Some(written) = callers.join_next().await {
        written.unwrap().unwrap();
    }
    let mut total = 0;
    for tenant in &tenants {
        total += entries(store, tenant).await;
    }
    assert_eq!(total, 20 + 180 * 2);
}

pub(crate) async fn a_long_chain_is_verified_page_by_page(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    assert_eq!(entries(store, &acme).await, 0, "an empty chain is whole");
    for count in [1, 499, 500, 3] {
        let more = vec![event("x.y"); count - 1];
        store.tenant_write(&acme).await.unwrap().commit_all(&event("x.y"), &more).await.unwrap();
        entries(store, &acme).await;
    }
    assert_eq!(entries(store, &acme).await, 1003);

    let mut tx = store.tenant(&acme).await.unwrap();
    let newest: Vec<_> = tx.audit(None, 3).await.unwrap().iter().map(|entry| entry.seq).collect();
    assert_eq!(newest, [1003, 1002, 1001]);
    let older: Vec<_> = tx.audit(Some(1001), 2).await.unwrap().iter().map(|entry| entry.seq).collect();
    assert_eq!(older, [1000, 999]);
    let forward: Vec<_> = tx.audit_after(1001, 10).await.unwrap().iter().map(|entry| entry.seq).collect();
    assert_eq!(forward, [1002, 1003]);
}
