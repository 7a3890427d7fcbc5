//! A database that refuses what a run leaves behind, after the guest has run.

use serde_json::json;

use crate::audit::change;
use crate::support::TestHost;

#[test]
fn a_caller_whose_run_could_not_be_recorded_is_told_so() {
    told(
        &TestHost::start(),
        "CREATE TRIGGER refuse BEFORE INSERT ON runs BEGIN SELECT RAISE(FAIL, 'a test refuses it'); END",
        "DROP TRIGGER refuse",
    );
}

#[test]
fn a_caller_whose_run_could_not_be_recorded_is_told_so_on_postgres() {
    let (refuse, again) = ("REVOKE INSERT ON runs FROM clawhold_app", "GRANT INSERT ON runs TO clawhold_app");
    told(&TestHost::on_postgres(), refuse, again);
}

fn told(test: &TestHost, refuse: &'static str, again: &'static str) {
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let invoke = || test.invoke("acme-corp", &admin, "probe.echo", &json!({ "text": "x" }));
    invoke().ok();
    let recorded = test.audit("acme-corp", &admin).len();
    change(test, refuse);
    let lost = invoke();
    assert_eq!((lost.status, lost.problem()), (500, "unrecorded".to_owned()), "{}", lost.body);
    let run = lost.body["run"].as_str().unwrap();
    assert_eq!(test.get(&format!("/v1/tenants/acme-corp/runs/{run}"), &admin).status, 404);
    assert_eq!(test.audit("acme-corp", &admin).len(), recorded, "half of it is recorded");
    change(test, again);
    invoke().ok();
    assert_eq!(test.audit("acme-corp", &admin).len(), recorded + 1);
    assert_eq!(test.get("/v1/tenants/acme-corp/audit/verify", &admin).ok()["verified"], true);
}
