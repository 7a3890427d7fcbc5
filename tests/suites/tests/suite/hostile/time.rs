//! Guests that want all the time there is.

use serde_json::json;

use super::check::stopped;
use crate::support::{TestHost, becomes};

#[test]
fn hostile_11_a_loop_without_end_uses_its_fuel_and_no_more() {
    let run = stopped("spin", "out_of_fuel");
    assert_eq!(run["fuel"], 1_000_000);
}

#[test]
fn hostile_11_a_loop_with_more_fuel_than_time_ends_at_its_deadline() {
    let run = stopped("spin-on-the-clock", "deadline");
    assert!(run["fuel"].as_u64().unwrap() > 0, "{run}");
}

#[test]
fn hostile_11_a_guest_that_sleeps_in_a_host_call_ends_at_its_deadline() {
    let run = stopped("sleep", "deadline");
    assert_eq!(run["host_calls"], 1);
}

#[test]
fn hostile_11_a_loop_over_the_cheapest_host_call_is_stopped() {
    let run = stopped("chatter", "host_calls");
    assert_eq!((run["host_calls"].as_u64(), run["log_dropped"].as_u64()), (Some(257), Some(0)));
}

#[test]
fn hostile_11_a_loop_that_holds_no_handle_for_long_is_stopped() {
    stopped("get-and-drop", "host_calls");
}

/// A run that waits for a slot until its time is over ends like any other, for everybody to see.
#[test]
fn a_deadline_that_passes_before_there_is_a_slot_is_recorded() {
    let config = "run_slots: 1\ntenant_quotas:\n  globex:\n    limits:\n      timeout_ms: 20\n";
    let test = TestHost::with(config);
    let (busy, waits) = (test.tenant("acme-corp"), test.tenant("globex"));
    test.publish_guest("spin-on-the-clock");
    test.publish_guest("clean");
    test.install_guest("acme-corp", &busy, "spin-on-the-clock");
    test.install_guest("globex", &waits, "clean");
    std::thread::scope(|scope| {
        scope.spawn(|| test.invoke("acme-corp", &busy, "guest.spin-on-the-clock", &json!({})));
        assert!(becomes(|| test.host.running() == 1), "the run that holds the slot did not begin");
        let answer = test.invoke("globex", &waits, "guest.clean", &json!({}));
        assert_eq!((answer.status, &answer.body["reason"]), (504, &json!("deadline")), "{}", answer.body);
        assert_eq!(test.run_of("globex", &waits, &answer)["reason"], "deadline");
        let entries = test.audit("globex", &waits);
        assert!(entries.iter().any(|e| e["action"] == "skill.invoke" && e["detail"]["reason"] == "deadline"));
    });
}
