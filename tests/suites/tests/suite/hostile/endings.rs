//! Guests that end badly: deep down, with their hands full, or when all seems done.

use serde_json::json;

use super::check::{Case, NEAR, SMALL, check, stopped};

#[test]
fn hostile_14_a_recursion_without_end_is_a_trap_with_a_backtrace() {
    let run = stopped("recurse", "trap");
    assert!(run["log"].to_string().contains("wasm backtrace"), "{}", run["log"]);
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
