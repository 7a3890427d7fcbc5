//! Guests that pass to the host what is not there, not allowed, or not what it says.

use serde_json::json;

use super::check::{SMALL, check, check_much, refused, stopped};

#[test]
fn hostile_13_a_string_of_a_gibibyte_allocates_nothing() {
    stopped("giant-string", "trap");
}

#[test]
fn hostile_13_a_string_that_is_there_and_too_large_is_stopped() {
    stopped("giant-string-of-its-own", "host_bytes");
}

#[test]
fn hostile_13_a_list_of_a_billion_empty_things_allocates_nothing() {
    stopped("giant-list", "trap");
}

#[test]
fn a_string_that_wraps_around_the_memory_is_a_trap() {
    stopped("wrapping-string", "trap");
}

#[test]
fn a_list_whose_size_overflows_is_a_trap() {
    stopped("wrapping-list", "trap");
}

#[test]
fn a_misaligned_list_is_a_trap() {
    stopped("misaligned-list", "trap");
}

#[test]
fn a_misaligned_place_for_a_result_is_a_trap() {
    stopped("misaligned-result", "trap");
}

#[test]
fn a_place_for_a_result_that_is_not_all_there_is_a_trap() {
    stopped("result-out-of-bounds", "trap");
}

#[test]
fn bytes_that_are_no_utf8_are_a_trap() {
    stopped("invalid-utf8", "trap");
}

#[test]
fn a_lone_surrogate_in_utf8_is_a_trap() {
    stopped("lone-surrogate", "trap");
}

#[test]
fn a_lone_surrogate_in_utf16_is_a_trap() {
    stopped("lone-surrogate-utf16", "trap");
}

#[test]
fn a_misaligned_utf16_string_is_a_trap() {
    stopped("misaligned-utf16", "trap");
}

#[test]
fn a_utf16_string_whose_size_overflows_is_a_trap() {
    stopped("wrapping-utf16", "trap");
}

#[test]
fn a_guest_may_speak_utf16() {
    check("utf16", &json!("b\u{fc}ro \u{1f980}"), "ok", SMALL);
}

#[test]
fn an_enum_out_of_range_is_a_trap() {
    stopped("enum-out-of-range", "trap");
}

#[test]
fn an_enum_in_memory_that_is_out_of_range_is_a_trap() {
    stopped("enum-in-memory-out-of-range", "trap");
}

#[test]
fn an_option_out_of_range_is_a_trap() {
    stopped("option-out-of-range", "trap");
}

#[test]
fn a_variant_out_of_range_is_a_trap() {
    stopped("variant-out-of-range", "trap");
}

#[test]
fn a_handle_that_was_made_up_is_a_trap() {
    stopped("made-up-handle", "trap");
}

#[test]
fn a_handle_that_was_dropped_is_a_trap() {
    stopped("dropped-handle", "trap");
}

#[test]
fn a_handle_that_is_dropped_twice_is_a_trap() {
    stopped("handle-dropped-twice", "trap");
}

#[test]
fn hostile_13_strings_that_are_small_each_are_counted_together() {
    let run = check_much("much-in-all", "host_bytes");
    assert!(run["host_calls"].as_u64().unwrap() < 256, "{run}");
}

/// Between two components inside of a package the engine itself copies strings, and changes their encoding. They meet when
/// they start, so all but the first of these are refused when they are published.
#[test]
fn a_string_between_components_that_ends_with_the_memory_is_passed() {
    check("between-the-last-letters", &json!({}), "ok", SMALL);
}

#[test]
fn a_misaligned_string_between_components_is_a_trap() {
    refused("between-misaligned", &["did not say what it offers", "unaligned pointer"]);
}

#[test]
fn a_string_between_components_that_ends_behind_the_memory_is_a_trap() {
    refused("between-over-the-end", &["did not say what it offers", "out-of-bounds"]);
}

#[test]
fn a_string_between_components_without_room_for_it_is_a_trap() {
    refused("between-no-room", &["did not say what it offers", "out-of-bounds"]);
    refused("between-no-room-utf8", &["did not say what it offers", "out-of-bounds"]);
}
