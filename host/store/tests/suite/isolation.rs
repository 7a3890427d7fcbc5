//! No tenant's transaction reaches another tenant's rows.

use clawhold_store::{RunWriter, Store, TenantTx, Write};
use clawhold_tenancy::RunId;

use crate::support::{event, id, install, publish, run, tenant, token};

/// What one tenant can find, by each way there is.
async fn visible(tx: &mut TenantTx<Write>, run: &RunId) -> Vec<(&'static str, bool)> {
    vec![
        ("install", tx.install(&id("northwind/crm")).await.unwrap().is_some()),
        ("install_of_skill", tx.install_of_skill(&id("crm.lookup")).await.unwrap().is_some()),
        ("installs", !tx.installs(None, 10).await.unwrap().is_empty()),
        ("skills", !tx.skills(None, 10).await.unwrap().is_empty()),
        ("secret", tx.secret(&id("salesforce")).await.unwrap().is_some()),
        ("secrets", !tx.secrets(None, 10).await.unwrap().is_empty()),
        ("run", tx.run(run).await.unwrap().is_some()),
        ("runs", !tx.runs(None, 10).await.unwrap().is_empty()),
        ("tokens", !tx.tokens(None, 10).await.unwrap().is_empty()),
        ("audit", !tx.audit(None, 10).await.unwrap().is_empty()),
        ("audit_after", !tx.audit_after(0, 10).await.unwrap().is_empty()),
        ("audit_head", tx.audit_head().await.unwrap().seq > 0),
    ]
}

/// Each change of a row that is not one's own. `true` is a change.
async fn changes(tx: &mut TenantTx<Write>) -> Vec<(&'static str, bool)> {
    vec![
        ("remove_install", tx.remove_install(&id("northwind/crm"), None).await.unwrap()),
        ("delete_secret", tx.delete_secret(&id("salesforce")).await.unwrap()),
        ("revoke_token", tx.revoke_token(&id("0123456789ab"), 9).await.unwrap()),
    ]
}

pub(crate) async fn a_tenant_neither_sees_nor_changes_anothers_rows(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let globex = tenant(store, "globex").await;
    publish(store, "northwind/crm", "1.0.0").await;
    install(store, &acme, "northwind/crm", &["crm.lookup"]).await;
    let mut tx = store.tenant_write(&acme).await.unwrap();
    tx.create_token(&token("0123456789ab")).await.unwrap();
    tx.put_secret(&id("salesforce"), (1, "a"), |_| Ok::<_, clawhold_store::StoreError>(b"acme's".to_vec()))
        .await
        .unwrap();
    tx.commit(event("secret.put")).await.unwrap();
    let writer = RunWriter::start(store.clone());
    let run = run(&writer, &acme).await;

    let mut tx = store.tenant_write(&globex).await.unwrap();
    for (what, seen) in visible(&mut tx, &run).await {
        assert!(!seen, "globex sees acme's: {what}");
    }
    for (what, changed) in changes(&mut tx).await {
        assert!(!changed, "globex changed acme's: {what}");
    }
    // The same names are free for globex, and what it puts there is its own.
    tx.put_secret(&id("salesforce"), (1, "g"), |_| Ok::<_, clawhold_store::StoreError>(b"globex's".to_vec()))
        .await
        .unwrap();
    tx.commit(event("secret.put")).await.unwrap();

    let mut tx = store.tenant_write(&acme).await.unwrap();
    assert_eq!(tx.secret(&id("salesforce")).await.unwrap().unwrap().sealed, b"acme's");
    for (what, seen) in visible(&mut tx, &run).await {
        assert!(seen, "acme does not see its own: {what}");
    }
    for (what, changed) in changes(&mut tx).await {
        assert!(changed, "acme cannot change its own: {what}");
    }
}
