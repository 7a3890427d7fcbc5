//! Rows, files and whole databases that were changed past the host.

use clawhold_runtime::Authentic;
use clawhold_secret_store::local::MasterKey;
use clawhold_store::{PutInstall, Store};
use serde_json::json;
use sqlx::{AnyConnection, Connection as _};

use super::{package, put};
use crate::support::{TestHost, becomes, on_each_database};

on_each_database![
    hostile_26_what_was_changed_in_the_database_is_refused_and_takes_nothing_else_down,
    hostile_26_what_was_not_agreed_to_does_not_run_under_a_good_mark,
    hostile_28_an_older_state_of_the_database_is_not_believed,
];

pub(super) fn change(test: &TestHost, statements: &'static str) {
    let address = test.database();
    test.runtime.block_on(async {
        let mut connection = AnyConnection::connect(&address).await.unwrap();
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    });
}

/// As if the host had just been started, with nothing in memory.
fn forget(test: &TestHost) {
    test.runtime.block_on(async { test.host.forget_resolved() });
}

fn hostile_26_what_was_changed_in_the_database_is_refused_and_takes_nothing_else_down(test: &TestHost) {
    let acme = test.tenant("acme-corp");
    for name in ["row", "digest", "schema", "good"] {
        test.publishes(&package(&format!("northwind/{name}"), "1.0.0", "")).ok();
        put(test, "acme-corp", &acme, &format!("northwind/{name}"), &json!({})).ok();
    }
    let call = |name: &str| test.invoke("acme-corp", &acme, &format!("guest.{name}"), &json!({}));
    for name in ["row", "digest", "schema", "good"] {
        assert_eq!(call(name).status, 200);
    }
    change(
        test,
        "UPDATE installs SET settings = '{\"origin\":\"https://evil.example.com\"}' WHERE package = 'northwind/row';
         UPDATE installs SET digest = (SELECT digest FROM versions WHERE package = 'northwind/good') WHERE package = 'northwind/digest';
         UPDATE versions SET descriptors = replace(descriptors, 'guest.schema', 'guest.other') WHERE package = 'northwind/schema';",
    );
    forget(test);
    let before = test.host_chain();
    for name in ["row", "digest", "schema"] {
        let refused = call(name);
        assert_eq!(refused.status, 503, "{name}: {}", refused.body);
        assert!(refused.body["detail"].as_str().unwrap().contains("changed past the host"), "{}", refused.body);
    }
    assert_eq!(call("good").status, 200, "others go on");
    assert!(test.host_chain() >= before + 3, "each is in the host's chain");
}

fn hostile_26_what_was_not_agreed_to_does_not_run_under_a_good_mark(test: &TestHost) {
    let acme = test.tenant("acme-corp");
    test.publishes(&package("northwind/crm", "1.0.0", "")).ok();
    put(test, "acme-corp", &acme, "northwind/crm", &json!({})).ok();
    let key = MasterKey::open_or_create(test.folder()).unwrap().derive("market-rows");
    let (authentic, tenant) = (Authentic::new(key), "acme-corp".parse().unwrap());
    let agreed = test.runtime.block_on(async {
        let store = Store::open(&test.store()).await.unwrap();
        let package = "northwind/crm".parse().unwrap();
        store.tenant(&tenant).await.unwrap().install(&package).await.unwrap().unwrap().put
    });
    let run_under = |put: &PutInstall| {
        let address = test.database();
        test.runtime.block_on(async {
            let mut connection = AnyConnection::connect(&address).await.unwrap();
            let changed = sqlx::query("UPDATE installs SET policy = $1, settings = $2, mac = $3")
                .bind(serde_json::to_string(&put.policy).unwrap())
                .bind(put.settings.to_string())
                .bind(authentic.install(&tenant, put));
            changed.execute(&mut connection).await.unwrap();
        });
        forget(test);
        test.invoke("acme-corp", &acme, "guest.crm", &json!({})).status
    };
    let mut more = agreed.clone();
    more.policy.limits.fuel += 1;
    let other = PutInstall { settings: json!({ "currency": "EUR" }), ..agreed.clone() };
    assert_eq!((run_under(&agreed), run_under(&more), run_under(&other)), (200, 503, 503));
    assert_eq!(run_under(&agreed), 200);
}

#[test]
fn hostile_26_a_file_that_was_changed_is_not_compiled_and_takes_nothing_else_down() {
    let test = TestHost::start();
    let acme = test.tenant("acme-corp");
    for name in ["blob", "good"] {
        test.publishes(&package(&format!("northwind/{name}"), "1.0.0", "")).ok();
        put(&test, "acme-corp", &acme, &format!("northwind/{name}"), &json!({})).ok();
    }
    change(
        &test,
        "UPDATE components SET bytes = (SELECT bytes FROM components WHERE digest = (SELECT digest FROM versions WHERE package = 'northwind/good'))
         WHERE digest = (SELECT digest FROM versions WHERE package = 'northwind/blob')",
    );
    std::fs::remove_dir_all(test.folder().join("artifacts")).unwrap();
    let test = test.restarted("");
    let before = test.host_chain();
    let refused = test.invoke("acme-corp", &acme, "guest.blob", &json!({}));
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("changed past the host"), "{}", refused.body);
    assert!(test.host_chain() > before);
    assert_eq!(test.invoke("acme-corp", &acme, "guest.good", &json!({})).status, 200);
}

fn hostile_28_an_older_state_of_the_database_is_not_believed(test: &TestHost) {
    let acme = test.tenant("acme-corp");
    test.publishes(&package("northwind/crm", "1.0.0", "")).ok();
    put(test, "acme-corp", &acme, "northwind/crm", &json!({})).ok();
    let call = || test.invoke("acme-corp", &acme, "guest.crm", &json!({})).status;
    assert_eq!(call(), 200);
    change(
        test,
        "CREATE TABLE old_index AS SELECT * FROM market_index; CREATE TABLE old_versions AS SELECT * FROM versions;",
    );
    test.becomes(&test.operator, "northwind/crm", "1.0.0", "revoked").ok();
    assert_eq!(call(), 403);
    // All that the host has signed once, put back: the very bytes.
    change(
        test,
        "UPDATE market_index SET counter = (SELECT counter FROM old_index), head = (SELECT head FROM old_index);
         UPDATE versions SET status = 'active', counter = (SELECT counter FROM old_versions), changed_us = (SELECT changed_us FROM old_versions);",
    );
    assert!(becomes(|| test.host.index_refused().is_some()), "nobody notices");
    assert!(test.host.index_refused().unwrap().contains("older than one that this node has seen"));
    forget(test);
    assert_eq!(call(), 403, "what was revoked runs again");
    let refused = test.publishes(&package("northwind/new", "1.0.0", ""));
    assert_eq!(refused.status, 503, "nothing is signed on top of it: {}", refused.body);
}

#[test]
fn hostile_28_a_host_that_starts_again_remembers_what_it_has_seen() {
    let test = TestHost::start();
    let acme = test.tenant("acme-corp");
    test.publishes(&package("northwind/crm", "1.0.0", "")).ok();
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({})).ok();
    change(
        &test,
        "CREATE TABLE old_index AS SELECT * FROM market_index; CREATE TABLE old_versions AS SELECT * FROM versions;",
    );
    test.becomes(&test.operator, "northwind/crm", "1.0.0", "revoked").ok();
    change(
        &test,
        "UPDATE market_index SET counter = (SELECT counter FROM old_index), head = (SELECT head FROM old_index);
         UPDATE versions SET status = 'active', counter = (SELECT counter FROM old_versions), changed_us = (SELECT changed_us FROM old_versions);",
    );
    let test = test.restarted("");
    assert_eq!(test.invoke("acme-corp", &acme, "guest.crm", &json!({})).status, 503);
    assert!(test.host.index_refused().unwrap().contains("older than one that this node has seen"));
}

#[test]
fn a_status_that_somebody_changes_past_the_host_is_not_signed_with_the_next_change() {
    let test = TestHost::start();
    let acme = test.tenant("acme-corp");
    test.publishes(&package("northwind/crm", "1.0.0", "")).ok();
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({})).ok();
    test.becomes(&test.operator, "northwind/crm", "1.0.0", "revoked").ok();
    change(&test, "UPDATE versions SET status = 'active'");
    let refused = test.publishes(&package("northwind/new", "1.0.0", ""));
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(test.invoke("acme-corp", &acme, "guest.crm", &json!({})).status, 403);
    // Put right, everything goes on: nothing of it stays refused.
    change(&test, "UPDATE versions SET status = 'revoked'");
    test.publishes(&package("northwind/new", "1.0.0", "")).ok();
    put(&test, "acme-corp", &acme, "northwind/new", &json!({})).ok();
    assert_eq!(test.invoke("acme-corp", &acme, "guest.new", &json!({})).status, 200);
}
