//! Guests that leave something behind, and guests that look for it.

use serde_json::json;

use super::check::{Case, NEAR, check};

/// A planted run takes what it may have.
const FULL: u64 = (64 << 20) + NEAR;

#[test]
fn hostile_21_what_one_run_plants_is_not_there_for_the_next_of_the_same_tenant() {
    let case = Case::of("plant");
    for _ in 0..3 {
        assert_eq!(case.call(&json!(1)).ok()["output"], 170, "nothing was planted");
        assert_eq!(case.call(&json!(2)).ok()["output"], 0, "what was planted is there");
    }
    case.is_clean();
    case.memory_is_back(FULL);
}

#[test]
fn hostile_21_what_one_tenants_run_plants_is_not_there_for_another_tenant() {
    let case = Case::of("plant");
    let other = format!("{}-other", case.tenant);
    let admin = case.host.api.tenant(&other);
    case.host.api.install_guest(&other, &admin, "plant");
    for _ in 0..3 {
        assert_eq!(case.call(&json!(1)).ok()["output"], 170, "nothing was planted");
        let found = case.host.api.invoke(&other, &admin, "guest.plant", &json!(2)).ok();
        assert_eq!(found["output"], 0, "what was planted is there");
    }
    case.is_clean();
    case.memory_is_back(FULL);
}

#[test]
fn hostile_21_no_memory_of_the_slot_keeps_anything_for_another_skill() {
    // It fills all of them, and the check after each run takes all of them.
    check("full-memories", &json!({}), "ok", FULL);
}
