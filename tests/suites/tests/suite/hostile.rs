//! What a hostile skill does, and how it ends: with its reason, and with nobody else noticing.

mod answers;
mod arguments;
mod audit;
mod bombs;
mod check;
mod circle;
mod endings;
mod memory;
mod publish;
mod realloc;
mod served;
mod state;
mod time;

use serde_json::{Value, json};

use crate::support::{Peer, TestHost, answer_with};

/// Small ceilings, so that each end is reached soon.
const TIGHT: &str = "limits:\n  fuel: 50000000\n  timeout_ms: 3000\n  memory_mb: 8\n";

/// Calls a skill that must be stopped for `reason`, then one that must still work.
#[track_caller]
fn stopped(yaml: &str, skill: &str, input: &Value, status: u16, reason: &str) -> Value {
    let test = TestHost::with(yaml);
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let answer = test.invoke("acme-corp", &admin, skill, input);
    assert_eq!((answer.status, answer.body["reason"].as_str()), (status, Some(reason)), "{}", answer.body);
    assert_eq!(answer.problem(), "run-limit");
    assert!(answer.body["remedy"].as_str().is_some_and(|remedy| remedy.len() > 10));
    let run = test.run_of("acme-corp", &admin, &answer);
    assert_eq!(run["reason"], reason);
    let entry = test.audit("acme-corp", &admin).pop().unwrap();
    assert_eq!(
        (&entry["run"], &entry["outcome"], &entry["detail"]["reason"]),
        (&run["id"], &json!("failure"), &run["reason"])
    );
    assert_eq!(
        test.invoke("acme-corp", &admin, "probe.echo", &json!({ "text": "still here" })).ok()["output"],
        "still here"
    );
    run
}

#[test]
fn hostile_11_an_endless_loop_runs_out_of_fuel() {
    let run = stopped(TIGHT, "probe.spin", &json!({}), 422, "out_of_fuel");
    assert_eq!(run["fuel"], 50_000_000);
}

#[test]
fn hostile_11_an_endless_loop_with_fuel_ends_at_its_deadline() {
    stopped("limits:\n  timeout_ms: 200\n", "probe.spin", &json!({}), 504, "deadline");
}

#[test]
fn hostile_11_a_loop_over_host_calls_is_stopped() {
    let run = stopped(TIGHT, "probe.chatter", &json!({}), 422, "host_calls");
    let lines = run["log"].as_array().unwrap().iter().filter(|line| **line == "debug again").count();
    assert_eq!((run["host_calls"].as_u64(), lines), (Some(257), 256));
}

#[test]
fn hostile_11_a_guest_that_waits_in_a_host_call_ends_at_its_deadline() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let peer = Peer::start(move |_| {
        let _never = held.lock().unwrap().recv();
        answer_with("late")
    });
    let test = TestHost::with("limits:\n  timeout_ms: 300\n");
    let admin = test.with_probe("acme-corp", &peer.origin);
    let input = json!({ "url": format!("{}/allowed/slow", peer.origin) });
    let answer = test.invoke("acme-corp", &admin, "probe.fetch", &input);
    // The request's own deadline is the run's, so either of the two may be first to say so.
    let said = answer.body.to_string();
    assert!(said.contains("deadline") || said.contains("Deadline"), "{said}");
    assert_eq!(peer.heads().len(), 1);
    drop(hold);
}

#[test]
fn hostile_12_a_guest_that_hoards_memory_is_stopped() {
    let run = stopped(TIGHT, "probe.hoard", &json!({}), 422, "memory");
    assert!(run["memory_bytes"].as_u64().unwrap() <= 8 << 20, "{run}");
}

#[test]
fn hostile_13_a_huge_argument_to_the_host_is_stopped() {
    stopped("", "probe.shout", &json!({ "bytes": 9 << 20 }), 422, "host_bytes");
}

#[test]
fn hostile_14_deep_recursion_is_a_trap_and_the_process_lives() {
    let run = stopped("", "probe.recurse", &json!({ "depth": 0 }), 422, "trap");
    assert!(run["log"].to_string().contains("wasm backtrace"), "{}", run["log"]);
}

#[test]
fn a_panic_tells_its_message_and_place() {
    let run = stopped("", "probe.panic", &json!({ "message": "no greeting for Mallory" }), 422, "trap");
    let message = run["message"].as_str().unwrap();
    assert!(message.contains("no greeting for Mallory") && message.contains("src/lib.rs:"), "{message}");
}

#[test]
fn hostile_21_state_that_one_run_plants_is_not_there_for_the_next() {
    let test = TestHost::with("run_slots: 1\n");
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    for _ in 0..3 {
        assert_eq!(test.invoke("acme-corp", &admin, "probe.remember", &json!({})).ok()["output"], 1);
    }
}

#[test]
fn hostile_22_a_huge_output_is_a_run_error_and_is_not_passed_on() {
    stopped("", "probe.flood", &json!({ "bytes": 5 << 20 }), 422, "output_too_large");
}

#[test]
fn hostile_22_an_output_that_breaks_its_schema_is_a_run_error_and_is_not_passed_on() {
    let run = stopped("", "probe.lie", &json!({}), 422, "output_invalid");
    assert!(run["message"].as_str().unwrap().contains("/number"), "{run}");
    assert!(!run.to_string().contains("confidential"), "{run}");
}

#[test]
fn hostile_25_a_flood_of_audit_entries_is_counted_and_capped() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let flood = json!({ "action": "probe.done", "times": 200 });
    assert_eq!(test.invoke("acme-corp", &admin, "probe.record", &flood).ok()["output"], 64);
    let undeclared = json!({ "action": "secret.put", "times": 1 });
    assert_eq!(test.invoke("acme-corp", &admin, "probe.record", &undeclared).ok()["output"], 0);
    let entries = test.audit("acme-corp", &admin);
    assert_eq!(entries.iter().filter(|entry| entry["action"] == "probe.done").count(), 64);
    let run = entries.iter().find(|entry| entry["action"] == "skill.invoke").unwrap();
    assert_eq!(run["detail"]["audit_entries_refused"], 136);
    assert_eq!(test.get("/v1/tenants/acme-corp/audit/verify", &admin).ok()["verified"], true);
}

const ONE_RUN: &str = "tenant_quotas:\n  default:\n    max_concurrent_runs: 1\nlimits:\n  timeout_ms: 1500\n";

#[test]
fn hostile_06_a_tenant_at_its_limit_gets_429_and_another_gets_answers() {
    at_its_limit(&TestHost::with(ONE_RUN));
}

#[test]
fn hostile_06_a_tenant_at_its_limit_gets_429_on_postgres() {
    at_its_limit(&TestHost::on_postgres_with(ONE_RUN));
}

fn at_its_limit(test: &TestHost) {
    let acme = test.with_probe("acme-corp", "https://acme.example.com");
    let globex = test.tenant("globex");
    test.install("globex", &globex, "northwind/probe", &json!({ "origin": "https://globex.example.com" }), &[]);
    std::thread::scope(|scope| {
        let spinning = scope.spawn(|| test.invoke("acme-corp", &acme, "probe.spin", &json!({})));
        while test.host.running() == 0 {
            std::thread::yield_now();
        }
        let refused = test.invoke("acme-corp", &acme, "probe.echo", &json!({ "text": "x" }));
        assert_eq!((refused.status, refused.problem()), (429, "quota".to_owned()));
        assert_eq!(refused.body["dimension"], "max_concurrent_runs");
        assert_eq!((&refused.body["limit"], &refused.body["used"]), (&json!(1), &json!(1)));
        assert!(refused.headers.contains_key("retry-after"));
        assert_eq!(test.invoke("globex", &globex, "probe.echo", &json!({ "text": "x" })).status, 200);
        // Fuel or time, whichever this machine uses up first.
        assert!(matches!(spinning.join().unwrap().status, 422 | 504));
    });
}

#[test]
fn a_skills_own_error_keeps_its_kind() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    for kind in ["invalid-input", "denied", "unavailable", "failed"] {
        let answer = test.invoke("acme-corp", &admin, "probe.fail", &json!({ "kind": kind }));
        assert_eq!(
            (answer.status, answer.problem().as_str(), answer.body["kind"].as_str()),
            (422, "skill-error", Some(kind))
        );
    }
}
