//! Guests that have no room, or the wrong room, for what the host gives them.

use serde_json::json;

use super::check::{NEAR, SMALL, check, stopped};

#[test]
fn a_guest_that_never_finds_room_runs_out_of_fuel() {
    stopped("realloc-loops", "out_of_fuel");
}

#[test]
fn a_guest_that_takes_memory_for_ever_to_find_room_is_stopped() {
    check("realloc-grows", &json!({}), "memory", (64 << 20) + NEAR);
}

#[test]
fn a_guest_with_room_at_address_0_harms_itself_alone() {
    check("realloc-null", &json!({}), "ok", SMALL);
}

#[test]
fn a_guest_with_the_same_room_for_everything_harms_itself_alone() {
    stopped("realloc-overlaps", "output_invalid");
}

#[test]
fn room_outside_of_the_memory_is_a_trap() {
    stopped("realloc-out-of-bounds", "trap");
}

#[test]
fn room_that_wraps_around_the_memory_is_a_trap() {
    stopped("realloc-wraps", "trap");
}

#[test]
fn misaligned_room_is_a_trap() {
    stopped("realloc-misaligned", "trap");
}

#[test]
fn a_guest_that_gives_up_finding_room_is_a_trap() {
    stopped("realloc-traps", "trap");
}

#[test]
fn a_host_call_in_the_middle_of_finding_room_is_a_trap() {
    let run = stopped("realloc-calls-the-host", "trap");
    assert_eq!(run["host_calls"], 0);
}
