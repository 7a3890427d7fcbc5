//! Guests that want all the time there is.

use super::check::stopped;

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
