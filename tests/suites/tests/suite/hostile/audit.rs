//! Guests that write more than anybody wants to read.

use serde_json::json;

use super::check::{Case, SMALL};

#[test]
fn hostile_25_a_flood_of_large_audit_entries_is_counted_and_capped_and_the_chain_holds() {
    let case = Case::of("flood-audit");
    let answer = case.call(&json!({}));
    let run = case.ended(&answer, "host_calls");
    let entries = case.host.api.audit(&case.tenant, &case.admin);
    let of_run = |action: &str| entries.iter().filter(|e| e["action"] == action && e["run"] == run["id"]).count();
    assert_eq!((of_run("guest.done"), of_run("skill.invoke")), (64, 1));
    let end = entries.iter().find(|e| e["action"] == "skill.invoke" && e["run"] == run["id"]).unwrap();
    assert_eq!(end["detail"]["audit_entries_refused"], 192);
    let path = format!("/v1/tenants/{}/audit/verify", case.tenant);
    assert_eq!(case.host.api.get(&path, &case.admin).ok()["verified"], true);
    case.is_clean();
    case.memory_is_back(SMALL);
}

#[test]
fn hostile_25_a_flood_of_reveals_leaves_one_entry() {
    let case = Case::of("flood-reveals");
    let answer = case.call(&json!({}));
    let run = case.ended(&answer, "host_calls");
    let entries = case.host.api.audit(&case.tenant, &case.admin);
    let reveals: Vec<_> = entries.iter().filter(|e| e["action"] == "secret.reveal" && e["run"] == run["id"]).collect();
    assert_eq!(reveals.len(), 1, "{reveals:?}");
    assert_eq!(reveals[0]["outcome"], "denied");
}
