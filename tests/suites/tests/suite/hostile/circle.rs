//! A guest that calls itself through the host's own API.

use serde_json::{Value, json};

use crate::support::{TestHost, becomes};

/// A host that has the skill `guest.circle`, and what to call it with.
fn circle(config: &str) -> (TestHost, String, Value) {
    let test = TestHost::with(config);
    let admin = test.tenant("acme-corp");
    test.publish_guest("circle");
    test.send("PUT", "/v1/tenants/acme-corp/secrets/token", &admin, &json!({ "value": admin })).ok();
    test.install_guest("acme-corp", &admin, "circle");
    let itself = json!(format!("{}/v1/tenants/acme-corp/skills/guest.circle/invoke", test.url));
    (test, admin, itself)
}

/// The reasons of the runs and the statuses that they got from the ones they called, innermost first.
fn told(test: &TestHost, admin: &str) -> Vec<(Value, Value)> {
    let entries = test.audit("acme-corp", admin);
    let runs = entries.iter().filter(|entry| entry["action"] == "skill.invoke");
    runs.map(|run| (run["detail"]["reason"].clone(), run["detail"]["egress"][0]["status"].clone())).collect()
}

#[test]
fn hostile_24_a_circle_through_the_api_is_four_runs_deep() {
    let (test, admin, itself) = circle("run_slots: 16\n");
    assert_eq!(test.invoke("acme-corp", &admin, "guest.circle", &itself).ok()["output"], 200);
    let ok = |status: u16| (json!("ok"), json!(status));
    assert_eq!(told(&test, &admin), [(json!("denied"), Value::Null), ok(422), ok(200), ok(200), ok(200)]);
    let runs = test.get("/v1/tenants/acme-corp/runs", &admin).ok();
    let denied = runs["items"].as_array().unwrap().iter().find(|run| run["reason"] == "denied").unwrap();
    assert!(denied["message"].as_str().unwrap().contains("called one another"), "{denied}");
    assert_eq!(test.host.running(), 0);
    // Each call begins anew: nothing is held against the skill.
    assert_eq!(test.invoke("acme-corp", &admin, "guest.circle", &itself).ok()["output"], 200);
}

/// The depth is the host's word: a caller can only say that it is deeper than it is.
#[test]
fn hostile_24_a_depth_that_cannot_be_read_is_as_deep_as_can_be() {
    let (test, admin, _) = circle("run_slots: 16\n");
    test.publish_guest("clean");
    test.install_guest("acme-corp", &admin, "clean");
    let path = "/v1/tenants/acme-corp/skills/guest.clean/invoke";
    for (said, status) in [("3", 200), ("4", 422), ("-1", 422), ("a", 422), ("99999999999999999999", 422)] {
        let answer = test.ask_with(&[("clawhold-depth", said)], "POST", path, &admin, Some(b"{}"));
        assert_eq!(answer.status, status, "{said}: {}", answer.body);
    }
}

/// A tenant that may have fewer runs than that is told so within the circle, and every run above the refused one ends with
/// an answer.
#[test]
fn hostile_24_a_circle_through_the_api_is_as_deep_as_the_tenant_may_have_runs() {
    let (test, admin, itself) = circle("run_slots: 8\ntenant_quotas:\n  default:\n    max_concurrent_runs: 3\n");
    assert_eq!(test.invoke("acme-corp", &admin, "guest.circle", &itself).ok()["output"], 200);
    assert_eq!(told(&test, &admin), [429, 200, 200].map(|status| (json!("ok"), json!(status))));
    assert_eq!(test.host.running(), 0);
}

/// With fewer slots than that, the innermost waits for a slot that its own caller holds; the deadline of the outermost
/// ends it all.
#[test]
fn hostile_24_a_circle_in_one_slot_ends_at_the_deadline() {
    let (test, admin, itself) = circle("run_slots: 1\nlimits:\n  timeout_ms: 400\n");
    test.publish_guest("clean");
    test.install_guest("acme-corp", &admin, "clean");
    let answer = test.invoke("acme-corp", &admin, "guest.circle", &itself);
    assert!(answer.status >= 400, "{}", answer.body);
    assert!(becomes(|| test.host.running() == 0), "a run of the circle goes on");
    assert_eq!(test.invoke("acme-corp", &admin, "guest.clean", &json!({})).ok()["output"], true);
}
