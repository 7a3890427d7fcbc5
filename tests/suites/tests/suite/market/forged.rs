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
    hostile_26_what_was_changed_of_one_version_in_the_index_leaves_out_that_package_alone,
    hostile_26_publishers_grants_lists_and_advisories_that_no_host_wrote_count_for_nothing,
    hostile_26_what_was_not_agreed_to_does_not_run_under_a_good_mark,
    hostile_26_a_version_whose_row_was_changed_is_revoked_all_the_same_and_stops_nothing_else,
    hostile_26_a_good_mark_of_another_version_is_none,
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
    assert!(becomes(|| test.host_chain() >= before + 3), "each is in the host's chain");
    call("row");
    assert_eq!(test.host_chain(), before + 3, "and not with each call");
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
    assert!(becomes(|| test.host_chain() > before));
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
    test.publishes(&package("northwind/new", "1.0.0", "")).ok();
    put(&test, "acme-corp", &acme, "northwind/new", &json!({})).ok();
    let calls = |test: &TestHost| {
        ["new", "crm"].map(|name| test.invoke("acme-corp", &acme, &format!("guest.{name}"), &json!({})).status)
    };
    assert_eq!(calls(&test), [200, 403], "what is in memory is what was signed");
    let test = test.restarted("");
    assert_eq!(calls(&test), [200, 503], "the row is not what was signed");
    // Put right, everything goes on: nothing of it stays refused.
    change(&test, "UPDATE versions SET status = 'revoked' WHERE package = 'northwind/crm'");
    let test = test.restarted("");
    assert_eq!(calls(&test), [200, 403]);
}

fn hostile_26_what_was_changed_of_one_version_in_the_index_leaves_out_that_package_alone(test: &TestHost) {
    let (acme, globex) = (test.tenant("acme-corp"), test.tenant("globex"));
    let names = ["status", "word", "digest", "counter", "good"];
    for name in names {
        test.publishes(&package(&format!("northwind/{name}"), "1.0.0", "")).ok();
        put(test, "acme-corp", &acme, &format!("northwind/{name}"), &json!({})).ok();
    }
    let reset = |statements: &'static str| {
        change(test, statements);
        // As a host that has just been started and knows nothing.
        test.runtime.block_on(test.host.forget_index());
        forget(test);
    };
    let before = test.host_chain();
    reset(
        "UPDATE versions SET status = 'yanked' WHERE package = 'northwind/status';
         UPDATE versions SET status = 'as you like it' WHERE package = 'northwind/word';
         UPDATE versions SET digest = (SELECT digest FROM versions WHERE package = 'northwind/good') WHERE package = 'northwind/digest';
         UPDATE versions SET counter = 1000000 WHERE package = 'northwind/counter';",
    );
    for name in names {
        let answer = test.invoke("acme-corp", &acme, &format!("guest.{name}"), &json!({}));
        assert_eq!(answer.status, if name == "good" { 200 } else { 503 }, "{name}: {}", answer.body);
    }
    assert!(becomes(|| test.host_chain() > before), "it is in the host's chain");
    // Others go on being published, revoked and granted.
    test.publishes(&package("northwind/new", "1.0.0", "")).ok();
    test.becomes(&test.operator, "northwind/good", "1.0.0", "revoked").ok();
    assert_eq!(test.invoke("acme-corp", &acme, "guest.good", &json!({})).status, 403);
    // Of what is left out nothing is published, and nothing is said to those who would not see it.
    let refused = test.publishes(&package("northwind/status", "1.0.1", ""));
    assert_eq!(refused.status, 503, "{}", refused.body);
    let show = |token: &str, name: &str| test.ask("GET", &format!("/v1/market/packages/northwind/{name}"), token, None);
    test.ask("DELETE", "/v1/market/packages/northwind/status/grants/tier:standard", &test.operator, None);
    assert_eq!(show(&acme, "word").status, 503);
    assert_eq!(show(&globex, "never").status, 404);
    // The row is put right, and the next head that anybody signs brings it back.
    change(test, "UPDATE versions SET status = 'active' WHERE package = 'northwind/status'");
    test.publishes(&package("northwind/newer", "1.0.0", "")).ok();
    forget(test);
    assert_eq!(test.invoke("acme-corp", &acme, "guest.status", &json!({})).status, 200);
}

fn hostile_26_publishers_grants_lists_and_advisories_that_no_host_wrote_count_for_nothing(test: &TestHost) {
    let (acme, globex) = (test.tenant("acme-corp"), test.tenant("globex"));
    for name in ["crm", "quote"] {
        test.publishes(&package(&format!("northwind/{name}"), "1.0.0", "")).ok();
        test.ask("DELETE", &format!("/v1/market/packages/northwind/{name}/grants/tier:standard"), &test.operator, None);
    }
    test.publishes(&package("contoso/mail", "1.0.0", "")).ok();
    test.grant("northwind/crm", "tenant:acme-corp", "^1").ok();
    test.becomes(&test.operator, "contoso/mail", "1.0.0", "yanked").ok();
    let list = |token: &str| test.ask("GET", "/v1/market/packages", token, None).ok();
    let names = |token: &str| -> Vec<String> {
        let items = list(token)["items"].as_array().unwrap().clone();
        items.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&acme), ["contoso/mail", "northwind/crm"]);
    let before = test.host_chain();
    change(
        test,
        "INSERT INTO grants (grantee, package, range, created_us, created_by)
            VALUES ('tenant:globex', 'northwind/quote', '*', 1, 'token:somebody');
         UPDATE grants SET range = '*', package = 'northwind/quote' WHERE package = 'northwind/crm' AND grantee = 'tenant:acme-corp';
         UPDATE packages SET about = replace(about, 'Says yes', 'Trusted by all') WHERE name = 'contoso/mail';
         UPDATE versions SET advisory = 'send your keys to mallory' WHERE package = 'contoso/mail';",
    );
    assert_eq!(names(&globex), ["contoso/mail"], "a grant that nobody gave");
    assert_eq!(names(&acme), ["contoso/mail"], "a grant of something else");
    let plan = test.send("POST", "/v1/tenants/globex/installs/northwind/quote/plan", &globex, &json!({}));
    assert_eq!(plan.status, 404, "{}", plan.body);
    let shown = list(&acme).to_string();
    assert!(shown.contains("Says yes") && !shown.contains("Trusted by all"), "{shown}");
    let shown = test.ask("GET", "/v1/market/packages/contoso/mail?version=1.0.0", &acme, None).body.to_string();
    assert!(!shown.contains("mallory"), "{shown}");
    change(test, "UPDATE publishers SET owner = 'globex' WHERE name = 'northwind'");
    assert_eq!(names(&globex), ["contoso/mail"], "an owner that it does not have");
    let token = test.publisher("northwind");
    let refused = test.ask("POST", "/v1/market/packages", &token, Some(&package("northwind/crm", "1.0.1", "")));
    assert_eq!(refused.status, 503, "a publisher that no host wrote: {}", refused.body);
    let publishers = test.ask("GET", "/v1/market/publishers", &test.operator, None).ok().to_string();
    assert!(publishers.contains("contoso") && !publishers.contains("northwind"), "{publishers}");
    assert!(becomes(|| test.host_chain() >= before + 4), "each is in the host's chain");
}

#[test]
fn hostile_28_no_index_is_begun_where_there_has_been_one() {
    let test = TestHost::start();
    let acme = test.tenant("acme-corp");
    test.publishes(&package("northwind/crm", "1.0.0", "")).ok();
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({})).ok();
    test.becomes(&test.operator, "northwind/crm", "1.0.0", "revoked").ok();
    change(&test, "DELETE FROM market_index; UPDATE versions SET status = 'active', counter = 0");
    std::fs::remove_file(test.folder().join("index-seen")).unwrap();
    let test = test.restarted("");
    assert_eq!(test.invoke("acme-corp", &acme, "guest.crm", &json!({})).status, 503);
    assert!(test.host.index_refused().unwrap().contains("there has been one"));
}

fn hostile_26_a_version_whose_row_was_changed_is_revoked_all_the_same_and_stops_nothing_else(test: &TestHost) {
    let acme = test.tenant("acme-corp");
    for name in ["crm", "good"] {
        test.publishes(&package(&format!("northwind/{name}"), "1.0.0", "")).ok();
        put(test, "acme-corp", &acme, &format!("northwind/{name}"), &json!({})).ok();
    }
    let call = |name: &str| test.invoke("acme-corp", &acme, &format!("guest.{name}"), &json!({})).status;
    assert_eq!((call("crm"), call("good")), (200, 200));
    // On a running host, which has no reason to look: nobody signs this digest with the next change.
    change(
        test,
        "UPDATE versions SET digest = (SELECT digest FROM versions WHERE package = 'northwind/good') WHERE package = 'northwind/crm'",
    );
    test.becomes(&test.operator, "northwind/crm", "1.0.0", "revoked").ok();
    assert!(matches!(call("crm"), 403 | 503), "it still runs");
    test.publishes(&package("northwind/new", "1.0.0", "")).ok();
    assert_eq!(call("good"), 200, "others go on");
    test.runtime.block_on(test.host.forget_index());
    forget(test);
    assert_eq!((call("crm"), call("good")), (503, 200), "{:?}", test.host.index_refused());
}

fn hostile_26_a_good_mark_of_another_version_is_none(test: &TestHost) {
    let acme = test.tenant("acme-corp");
    for version in ["1.0.0", "2.0.0"] {
        test.publishes(&package("northwind/crm", version, "")).ok();
    }
    test.ask("DELETE", "/v1/market/packages/northwind/crm/grants/tier:standard", &test.operator, None);
    test.grant("northwind/crm", "tenant:acme-corp", "^1").ok();
    // The row of what is granted says all that the other one says, mark included.
    change(
        test,
        "UPDATE versions SET manifest = other.manifest, descriptors = other.descriptors, published_us = other.published_us, \
            published_by = other.published_by, signature = other.signature, mac = other.mac, digest = other.digest \
         FROM (SELECT * FROM versions WHERE version = '2.0.0') AS other WHERE versions.version = '1.0.0'",
    );
    let plan =
        test.send("POST", "/v1/tenants/acme-corp/installs/northwind/crm/plan", &acme, &json!({ "version": "1.0.0" }));
    assert_eq!(plan.status, 503, "{}", plan.body);
}
