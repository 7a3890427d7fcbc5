//! Guests that end badly: deep down, with their hands full, or when all seems done.

use clawhold_test_support::guest::Guest;
use serde_json::json;

use super::check::{Case, NEAR, SMALL, check, stopped};
use crate::support::TestHost;

#[test]
fn hostile_14_a_recursion_without_end_is_a_trap_with_a_backtrace() {
    let run = stopped("recurse", "trap");
    assert!(run["log"].to_string().contains("wasm backtrace"), "{}", run["log"]);
}

/// Demangled, this name of 420 bytes is one of millions; and a long one is cut.
#[test]
fn the_names_in_a_backtrace_are_cut_and_not_demangled() {
    let level = |of: &str| format!("S_I{}E", of.repeat(40));
    let bomb = format!("_Z1f1aI{}E{}{}{}", "i".repeat(40), level("S0_"), level("S1_"), level("S2_"));
    for name in [bomb, "x".repeat(90_000)] {
        let text =
            format!("(func $bad (@name \"{name}\") (unreachable)) (func $run (result i32) (call $bad) (call $yes))");
        let test = TestHost::start();
        let admin = test.tenant("acme-corp");
        let publisher = test.publisher("guests");
        let wasm = Guest::of("named", &text).unwrap().wasm;
        test.ask("POST", "/v1/market/packages", &publisher, Some(&wasm)).ok();
        test.install_guest("acme-corp", &admin, "named");
        let answer = test.invoke("acme-corp", &admin, "guest.named", &json!({}));
        assert_eq!(answer.body["reason"], "trap", "{}", answer.body);
        let log = test.run_of("acme-corp", &admin, &answer)["log"].to_string();
        assert!(log.contains(&name[..100]) && log.len() < 10_000, "{} bytes: {log:.300}", log.len());
    }
}

#[test]
fn hostile_14_host_functions_have_room_below_the_deepest_guest() {
    let run = stopped("recurse-and-call", "trap");
    assert!(run["host_calls"].as_u64().unwrap() >= 5, "the host was called too seldom to show it: {run}");
}

#[test]
fn hostile_23_a_trap_with_a_hundred_handles_leaves_the_slot_clean() {
    let run = stopped("trap-with-handles", "trap");
    assert_eq!(run["host_calls"], 100);
}

#[test]
fn hostile_23_a_panic_in_the_host_ends_one_run_and_leaves_the_slot_clean() {
    let case = Case::of("panic-in-the-host");
    for _ in 0..3 {
        let answer = case.call(&json!({}));
        let run = case.ended(&answer, "cancelled");
        assert!(run["message"].as_str().unwrap().contains("operator's log"), "{run}");
        case.is_clean();
    }
    case.memory_is_back((64 << 20) + NEAR);
}

#[test]
fn a_trap_after_the_answer_is_a_trap() {
    stopped("post-return-traps", "trap");
}

#[test]
fn a_guest_that_never_ends_after_its_answer_runs_out_of_fuel() {
    stopped("post-return-loops", "out_of_fuel");
}

#[test]
fn a_host_call_after_the_answer_is_a_trap() {
    let run = stopped("post-return-calls-the-host", "trap");
    assert_eq!(run["host_calls"], 0);
}

#[test]
fn a_trap_in_a_destructor_is_a_trap() {
    check("destructor-traps", &json!({}), "trap", SMALL);
}
