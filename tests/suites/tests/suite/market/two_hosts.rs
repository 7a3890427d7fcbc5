//! Two hosts on one database: what one does holds on the other within a second.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _};

use super::{guest, package, put};
use crate::support::{TestHost, becomes};

const SECOND: Duration = Duration::from_secs(1);
const PATH: &str = "/v1/tenants/acme-corp/installs/northwind/crm";
const HTTP: &str = "[[http]]\nhost = \"api.example.com\"\nmethods = [\"GET\"]\npaths = [\"/*\"]\n";

fn two() -> (TestHost, TestHost, String) {
    let one = TestHost::on_postgres();
    let other = TestHost::beside(&one, &format!("database_url: {}\n", one.store()));
    let acme = one.tenant("acme-corp");
    (one, other, acme)
}

impl TestHost {
    /// Cuts every connection that tells of changes, on all hosts of this one's database.
    pub(super) fn deafen(&self) {
        let superuser = self.postgres.as_ref().unwrap().superuser.clone();
        self.runtime.block_on(async {
            let mut connection = AnyConnection::connect(&superuser).await.unwrap();
            let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query = 'SELECT 1'";
            sqlx::raw_sql(cut).execute(&mut connection).await.unwrap();
        });
    }
}

/// The table that components' code is read from, which nobody can read meanwhile.
struct Held<'t> {
    test: &'t TestHost,
    holder: AnyConnection,
    watcher: AnyConnection,
}

impl<'t> Held<'t> {
    fn components(test: &'t TestHost) -> Self {
        let superuser = test.postgres.as_ref().unwrap().superuser.clone();
        let connect = || test.runtime.block_on(AnyConnection::connect(&superuser)).unwrap();
        let mut held = Self { test, holder: connect(), watcher: connect() };
        held.run("BEGIN; LOCK TABLE components IN ACCESS EXCLUSIVE MODE");
        held
    }

    fn somebody_waits(&mut self) -> bool {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'components'::regclass";
        let count = sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut self.watcher);
        self.test.runtime.block_on(count).unwrap() > 0
    }

    fn let_go(&mut self) {
        self.run("ROLLBACK");
    }

    fn run(&mut self, statement: &'static str) {
        self.test.runtime.block_on(sqlx::raw_sql(statement).execute(&mut self.holder)).unwrap();
    }
}

/// Calls until a call is answered as it should be from now on: none that begins after a second is answered otherwise.
#[track_caller]
fn within_a_second(what: &str, mut call: impl FnMut() -> Value, is: &Value) {
    let began = Instant::now();
    loop {
        let at = began.elapsed();
        let answered = call();
        if answered == *is {
            return;
        }
        assert!(at < SECOND, "{what}: {answered} in place of {is}, {at:?} after it");
    }
}

#[test]
fn a_grant_an_upgrade_what_is_left_out_and_a_rollback_reach_another_node_within_a_second_also_when_nobody_tells_it() {
    let (one, other, acme) = two();
    for version in ["1.0.0", "1.1.0"] {
        one.publishes(&package("northwind/crm", version, HTTP)).ok();
    }
    let path = "/v1/market/packages/northwind/crm/grants/tier:standard";
    one.ask("DELETE", path, &one.operator, None);
    let plan = || json!(other.send("POST", &format!("{PATH}/plan"), &acme, &json!({ "version": "1.0.0" })).status);
    assert_eq!(plan(), 404);
    one.grant("northwind/crm", "tenant:acme-corp", "*").ok();
    within_a_second("a grant", plan, &json!(200));
    let take = |version: &str, narrowing: Value| {
        let ask = json!({ "version": version, "narrowing": narrowing });
        put(&one, "acme-corp", &acme, "northwind/crm", &ask).ok()["revision"].clone()
    };
    // Which version ran, and under the policy of which revision of the install.
    let ran = || {
        let run = other.invoke("acme-corp", &acme, "guest.crm", &json!({}));
        assert_eq!(run.status, 200, "{}", run.body);
        let record = other.run_of("acme-corp", &acme, &run);
        json!([record["version"], record["policy_version"]])
    };
    take("1.0.0", json!({}));
    assert!(becomes(|| other.invoke("acme-corp", &acme, "guest.crm", &json!({})).status == 200));
    for is_deaf in [false, true] {
        let cut = || {
            if is_deaf {
                one.deafen();
            }
        };
        cut();
        let revision = take("1.1.0", json!({}));
        within_a_second("an upgrade", ran, &json!(["1.1.0", revision]));
        cut();
        let revision = take("1.1.0", json!({ "without_hosts": ["api.example.com"] }));
        within_a_second("what is left out", ran, &json!(["1.1.0", revision]));
        cut();
        let back = one.send("POST", &format!("{PATH}/rollback"), &acme, &json!({})).ok();
        assert_eq!((&back["version"], &back["policy"]["http"]), (&json!("1.0.0"), &json!([])), "{back}");
        within_a_second("a rollback", ran, &json!(["1.0.0", back["revision"]]));
    }
}

#[test]
fn hostile_31_a_run_on_another_node_is_cut_within_a_second_of_the_revocation() {
    let (one, other, acme) = two();
    let limits = "[limits]\nfuel = 1_000_000_000_000\ntimeout_ms = 3_000\n";
    let endless =
        guest("northwind/spin", "1.0.0", limits, "(func $run (result i32) (loop $again (br $again)) (unreachable))");
    one.publishes(&endless).ok();
    put(&one, "acme-corp", &acme, "northwind/spin", &json!({})).ok();
    let call = || other.invoke("acme-corp", &acme, "guest.spin", &json!({}));
    // Once to its own end, so that the code is there.
    assert!(becomes(|| call().problem() == "run-limit"));
    std::thread::scope(|scope| {
        let run = scope.spawn(call);
        assert!(becomes(|| other.host.running() > 0));
        let began = Instant::now();
        one.becomes(&one.operator, "northwind/spin", "1.0.0", "revoked").ok();
        let cut = run.join().unwrap();
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
        assert_eq!(cut.body["reason"], "cancelled", "{}", cut.body);
    });
    assert_eq!(call().status, 403);
}

#[test]
fn hostile_31_what_is_quarantined_while_it_is_being_made_ready_does_not_run() {
    let (one, other, acme) = two();
    one.publishes(&package("northwind/crm", "1.0.0", "")).ok();
    put(&one, "acme-corp", &acme, "northwind/crm", &json!({})).ok();
    assert_eq!(one.invoke("acme-corp", &acme, "guest.crm", &json!({})).status, 200);
    // The other node has no code of it yet, and reads it from here.
    let mut held = Held::components(&one);
    std::thread::scope(|scope| {
        let called = scope.spawn(|| other.invoke("acme-corp", &acme, "guest.crm", &json!({})));
        assert!(becomes(|| held.somebody_waits()), "nothing is being made ready");
        one.becomes(&one.operator, "northwind/crm", "1.0.0", "quarantined").ok();
        let status = || {
            let listed = other.get("/v1/market/packages/northwind/crm/versions", &other.operator).ok();
            listed["items"][0]["status"].clone()
        };
        assert!(becomes(|| status() == "quarantined"));
        held.let_go();
        let refused = called.join().unwrap();
        assert_eq!(refused.status, 403, "{}", refused.body);
        assert!(refused.body["detail"].as_str().unwrap().contains("is quarantined"), "{}", refused.body);
    });
}

#[test]
fn a_version_that_was_being_made_ready_does_not_run_after_another_is_installed() {
    let (one, other, acme) = two();
    for version in ["1.0.0", "1.1.0"] {
        one.publishes(&package("northwind/crm", version, "")).ok();
    }
    let ran = || other.invoke("acme-corp", &acme, "guest.crm", &json!({})).body["run"]["version"].clone();
    put(&other, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.0.0" })).ok();
    assert_eq!(ran(), "1.0.0");
    let mut held = Held::components(&one);
    put(&other, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.1.0" })).ok();
    assert!(becomes(|| held.somebody_waits()), "nothing is being made ready");
    put(&other, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.0.0" })).ok();
    std::thread::scope(|scope| {
        let called = scope.spawn(ran);
        // Time to find the look-up that is under way.
        std::thread::sleep(Duration::from_millis(200));
        held.let_go();
        assert_eq!(called.join().unwrap(), "1.0.0");
    });
    assert_eq!(ran(), "1.0.0", "what was found meanwhile is not kept");
}

#[test]
fn what_the_operator_stopped_on_one_host_its_publisher_does_not_take_back_on_another() {
    let (one, other, _) = two();
    let author = one.publisher("northwind");
    for (version, status) in [("1.0.0", "revoked"), ("1.0.1", "quarantined"), ("1.0.2", "revoked")] {
        one.publishes(&package("northwind/crm", version, "")).ok();
        one.becomes(&author, "northwind/crm", version, "yanked").ok();
        let path = format!("/v1/market/packages/northwind/crm?version={version}");
        assert!(becomes(|| other.get(&path, &author).body["status"] == "yanked"), "the other host does not hear of it");
        // The other host has not looked yet.
        one.deafen();
        one.becomes(&one.operator, "northwind/crm", version, status).ok();
        let refused = other.becomes(&author, "northwind/crm", version, "active");
        assert_eq!((refused.status, refused.problem().as_str()), (403, "forbidden"), "{}", refused.body);
        assert_eq!(one.get(&path, &author).ok()["status"], status);
    }
}
