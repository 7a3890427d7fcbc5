//! Guests that want all the memory there is.

use serde_json::json;

use super::check::{NEAR, SMALL, check, refused, stopped};

/// What a guest may hold that fills the memory it may have, and what is near.
const FULL: u64 = (64 << 20) + NEAR;

#[test]
fn hostile_12_memory_grows_to_the_cap_and_no_further() {
    let run = check("grow-memory", &json!({}), "memory", FULL);
    let used = run["memory_bytes"].as_u64().unwrap();
    assert!(used <= 64 << 20 && used > 63 << 20, "{run}");
}

#[test]
fn hostile_12_memory_that_is_asked_for_at_once_is_not_given() {
    stopped("grow-memory-at-once", "memory");
}

#[test]
fn hostile_12_a_table_grows_to_the_cap_and_no_further() {
    stopped("grow-table", "memory");
}

#[test]
fn hostile_12_a_table_that_is_asked_for_at_once_is_not_given() {
    stopped("grow-table-at-once", "memory");
}

#[test]
fn hostile_12_handles_that_are_kept_are_counted() {
    stopped("hoard-handles", "host_calls");
}

#[test]
fn hostile_12_resources_of_a_guests_own_are_counted() {
    stopped("own-resources", "trap");
}

#[test]
fn hostile_12_a_thousand_header_fields_are_refused_by_the_host_function() {
    check("too-many-headers", &json!({}), "ok", SMALL);
}

#[test]
fn hostile_12_millions_of_header_fields_are_stopped_before_the_host_holds_them() {
    stopped("many-headers", "host_bytes");
}

#[test]
fn hostile_12_many_memories_share_one_cap() {
    refused("many-memories", &["memory"]);
}

#[test]
fn hostile_12_more_memories_than_a_slot_has_are_refused() {
    refused("too-many-memories", &["memories"]);
}

#[test]
fn data_next_to_the_limit_is_there_and_data_over_it_is_refused() {
    let run = check("data-near-the-limit", &json!({}), "ok", FULL);
    assert!(run["memory_bytes"].as_u64().unwrap() <= 64 << 20, "{run}");
    refused("data-over-the-limit", &["memory"]);
}
