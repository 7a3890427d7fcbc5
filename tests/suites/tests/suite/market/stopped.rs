//! Yanked, quarantined, revoked; on every node.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _};

use super::{endless, package, put};
use crate::support::{TestHost, becomes, on_each_database};

on_each_database![
    hostile_31_what_is_revoked_runs_no_more_and_its_tenants_are_told,
    what_is_yanked_runs_where_it_is_and_is_installed_nowhere_else,
];

fn statuses(test: &TestHost, package: &str) -> Value {
    let listed = test.get(&format!("/v1/market/packages/{package}/versions"), &test.operator).ok();
    listed["items"].as_array().unwrap().iter().map(|one| one["status"].clone()).collect()
}

fn hostile_31_what_is_revoked_runs_no_more_and_its_tenants_are_told(test: &TestHost) {
    let (acme, globex) = (test.tenant("acme-corp"), test.tenant("globex"));
    test.publishes(&endless("northwind/spin", "1.0.0")).ok();
    test.publishes(&package("northwind/other", "1.0.0", "")).ok();
    for (tenant, admin) in [("acme-corp", &acme), ("globex", &globex)] {
        put(test, tenant, admin, "northwind/other", &json!({})).ok();
    }
    put(test, "acme-corp", &acme, "northwind/spin", &json!({})).ok();
    let author = test.publisher("northwind");
    std::thread::scope(|scope| {
        let run = scope.spawn(|| test.invoke("acme-corp", &acme, "guest.spin", &json!({})));
        assert!(becomes(|| test.host.running() > 0));
        let began = Instant::now();
        test.becomes(&author, "northwind/spin", "1.0.0", "revoked").ok();
        let cut = run.join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!((cut.problem().as_str(), &cut.body["reason"]), ("run-limit", &json!("cancelled")), "{}", cut.body);
        assert!(cut.body["detail"].as_str().unwrap().contains("northwind/spin 1.0.0 was revoked"), "{}", cut.body);
    });
    let refused = test.invoke("acme-corp", &acme, "guest.spin", &json!({}));
    assert_eq!(refused.status, 403);
    assert!(refused.body["detail"].as_str().unwrap().contains("is revoked: it rounds prices"), "{}", refused.body);
    let plan =
        test.send("POST", "/v1/tenants/globex/installs/northwind/spin/plan", &globex, &json!({ "version": "1.0.0" }));
    assert_eq!(plan.status, 403, "{}", plan.body);
    assert_eq!(test.invoke("acme-corp", &acme, "guest.other", &json!({})).status, 200, "others are not touched");
    // Whoever has it is told, and nobody else.
    let told = |tenant: &str, admin: &str| {
        let entries = test.audit(tenant, admin);
        entries.into_iter().filter(|entry| entry["action"] == "package.revoked").collect::<Vec<_>>()
    };
    assert!(becomes(|| !told("acme-corp", &acme).is_empty()), "a tenant is not told");
    let entries = told("acme-corp", &acme);
    assert_eq!(entries.len(), 1);
    assert!(entries[0]["detail"].to_string().contains("it rounds prices"), "{}", entries[0]);
    assert_eq!(told("globex", &globex), [Value::Null; 0]);
    // What a publisher revoked the operator alone takes back, and that leaves a trace.
    assert_eq!(test.becomes(&author, "northwind/spin", "1.0.0", "active").status, 403);
    let before = test.host_chain();
    test.becomes(&test.operator, "northwind/spin", "1.0.0", "active").ok();
    assert!(test.host_chain() > before);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| test.invoke("acme-corp", &acme, "guest.spin", &json!({})));
        assert!(becomes(|| test.host.running() > 0), "it runs again");
        // A quarantine lets what runs go on.
        test.becomes(&test.operator, "northwind/spin", "1.0.0", "quarantined").ok();
        assert_eq!(test.invoke("acme-corp", &acme, "guest.spin", &json!({})).status, 403);
        assert_eq!(test.host.running(), 1);
        assert_eq!(test.becomes(&author, "northwind/spin", "1.0.0", "active").status, 403, "the operator's");
        test.becomes(&author, "northwind/spin", "1.0.0", "revoked");
        test.becomes(&test.operator, "northwind/spin", "1.0.0", "revoked").ok();
        assert_eq!(run.join().unwrap().body["reason"], "cancelled");
    });
    assert_eq!(statuses(test, "northwind/spin"), json!(["revoked"]));
}

fn what_is_yanked_runs_where_it_is_and_is_installed_nowhere_else(test: &TestHost) {
    let (acme, globex) = (test.tenant("acme-corp"), test.tenant("globex"));
    for version in ["1.0.0", "1.1.0"] {
        test.publishes(&package("northwind/crm", version, "")).ok();
    }
    put(test, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.1.0" })).ok();
    let author = test.publisher("northwind");
    let unsaid = json!({ "status": "yanked" });
    let path = "/v1/market/packages/northwind/crm/versions/1.1.0/status";
    assert_eq!(test.send("PUT", path, &author, &unsaid).status, 422, "those who have it want to know why");
    test.becomes(&author, "northwind/crm", "1.1.0", "yanked").ok();
    assert_eq!(test.becomes(&author, "northwind/crm", "9.9.9", "yanked").status, 404);
    assert_eq!(test.invoke("acme-corp", &acme, "guest.crm", &json!({})).status, 200);
    // Its own install may be changed, and nobody new gets it; the newest is the one before.
    put(test, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.1.0", "channel": "patch" })).ok();
    let plan = "/v1/tenants/globex/installs/northwind/crm/plan";
    let refused = test.send("POST", plan, &globex, &json!({ "version": "1.1.0" }));
    assert_eq!(refused.status, 403);
    assert!(refused.body["detail"].as_str().unwrap().contains("yanked: it rounds prices"), "{}", refused.body);
    assert_eq!(put(test, "globex", &globex, "northwind/crm", &json!({})).ok()["version"], "1.0.0");
    test.becomes(&author, "northwind/crm", "1.1.0", "active").ok();
    assert_eq!(test.send("POST", plan, &globex, &json!({})).ok()["version"], "1.1.0");
}

#[test]
fn a_revocation_and_a_grant_reach_another_node_within_a_second_also_when_nobody_tells_it() {
    let one = TestHost::on_postgres();
    let other = TestHost::beside(&one, &format!("database_url: {}\n", one.store()));
    let acme = one.tenant("acme-corp");
    for version in ["1.0.0", "1.0.1"] {
        one.publishes(&package("northwind/crm", version, "")).ok();
    }
    put(&one, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.0.0" })).ok();
    let call = || other.invoke("acme-corp", &acme, "guest.crm", &json!({})).status;
    assert!(becomes(|| call() == 200));
    for is_deaf in [false, true] {
        if is_deaf {
            one.deafen();
        }
        let began = Instant::now();
        one.becomes(&one.operator, "northwind/crm", "1.0.0", "revoked").ok();
        while call() == 200 {
            assert!(began.elapsed() < Duration::from_secs(2), "it still runs on the other node");
        }
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        one.becomes(&one.operator, "northwind/crm", "1.0.0", "active").ok();
        assert!(becomes(|| call() == 200), "it does not come back on the other node");
    }
    // A grant that is taken back there is gone here at once.
    let plan = || {
        let path = "/v1/tenants/acme-corp/installs/northwind/crm/plan";
        other.send("POST", path, &acme, &json!({ "version": "1.0.1" })).status
    };
    assert_eq!(plan(), 200);
    one.ask("DELETE", "/v1/market/packages/northwind/crm/grants/tier:standard", &one.operator, None);
    assert_eq!(plan(), 404);
}

#[test]
fn what_nobody_can_vouch_for_any_more_does_not_run() {
    let yaml = "market:\n  signatures: optional\n  index_life_s: 2\n";
    let test = TestHost::on_postgres_with(yaml);
    let acme = test.tenant("acme-corp");
    test.publishes(&package("northwind/crm", "1.0.0", "")).ok();
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({})).ok();
    let call = || test.invoke("acme-corp", &acme, "guest.crm", &json!({})).status;
    assert_eq!(call(), 200);
    let superuser = test.postgres.as_ref().unwrap().superuser.clone();
    let run = |statement: &'static str| {
        test.runtime.block_on(async {
            let mut connection = AnyConnection::connect(&superuser).await.unwrap();
            sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        });
    };
    // As if it could not be reached: the head can be neither read nor renewed.
    run("REVOKE ALL ON market_index FROM clawhold_app");
    assert!(becomes(|| call() == 503), "it runs on what has expired");
    run("GRANT SELECT, INSERT, UPDATE ON market_index TO clawhold_app");
    assert!(becomes(|| call() == 200), "it does not recover by itself");
}
