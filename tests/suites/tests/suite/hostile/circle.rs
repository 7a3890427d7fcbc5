//! A guest that calls itself through the host's own API.

use serde_json::json;

use crate::support::TestHost;

/// What bounds a circle is the tenant's number of runs at a time: the call that is one too many is answered with 429, and
/// every run above it ends with an answer.
#[test]
fn hostile_24_a_circle_through_the_api_is_as_deep_as_the_tenant_may_have_runs() {
    let test = TestHost::with("run_slots: 8\ntenant_quotas:\n  default:\n    max_concurrent_runs: 4\n");
    let admin = test.tenant("acme-corp");
    test.publish_guest("circle");
    test.send("PUT", "/v1/tenants/acme-corp/secrets/token", &admin, &json!({ "value": admin })).ok();
    test.install_guest("acme-corp", &admin, "circle");
    let itself = format!("{}/v1/tenants/acme-corp/skills/guest.circle/invoke", test.url);
    assert_eq!(test.invoke("acme-corp", &admin, "guest.circle", &json!(itself)).ok()["output"], 200);
    let runs = test.get("/v1/tenants/acme-corp/runs", &admin).ok();
    let runs = runs["items"].as_array().unwrap();
    assert_eq!(runs.len(), 4, "{runs:?}");
    assert!(runs.iter().all(|run| run["reason"] == "ok"), "{runs:?}");
    let statuses: Vec<_> = test
        .audit("acme-corp", &admin)
        .iter()
        .filter(|e| e["action"] == "skill.invoke")
        .map(|e| e["detail"]["egress"][0]["status"].clone())
        .collect();
    assert_eq!(statuses, [429, 200, 200, 200].map(|status| json!(status)));
    assert_eq!(test.host.running(), 0);
}

/// With fewer slots than that, the innermost waits for a slot that its own caller holds; the deadline of the outermost
/// ends it all.
#[test]
fn hostile_24_a_circle_in_one_slot_ends_at_the_deadline() {
    let test = TestHost::with("run_slots: 1\nlimits:\n  timeout_ms: 400\n");
    let admin = test.tenant("acme-corp");
    test.publish_guest("circle");
    test.publish_guest("clean");
    test.send("PUT", "/v1/tenants/acme-corp/secrets/token", &admin, &json!({ "value": admin })).ok();
    test.install_guest("acme-corp", &admin, "circle");
    test.install_guest("acme-corp", &admin, "clean");
    let itself = format!("{}/v1/tenants/acme-corp/skills/guest.circle/invoke", test.url);
    let answer = test.invoke("acme-corp", &admin, "guest.circle", &json!(itself));
    assert!(answer.status >= 400, "{}", answer.body);
    assert!(super::served::becomes(|| test.host.running() == 0), "a run of the circle goes on");
    assert_eq!(test.invoke("acme-corp", &admin, "guest.clean", &json!({})).ok()["output"], true);
}
