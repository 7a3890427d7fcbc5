//! Guests whose answer is none.

use serde_json::json;

use super::check::{Case, NEAR, SMALL, check, stopped};
use crate::support::TestHost;

/// Calls a guest that answers with what stands between the quotes of its input.
#[track_caller]
fn invalid(texts: &[&str]) {
    let case = Case::of("unquote");
    for text in texts {
        let answer = case.call(&json!(text));
        let run = case.ended(&answer, "output_invalid");
        assert!(run["message"].as_str().unwrap().contains("JSON"), "{text}: {run}");
        assert!(!answer.body.to_string().contains("confidential"), "{text} was passed on: {}", answer.body);
    }
    case.is_clean();
    case.memory_is_back(SMALL);
}

#[test]
fn hostile_22_an_output_that_is_no_json_is_not_passed_on() {
    invalid(&["", " ", "confidential", "tru", "[1,]", "{confidential: 1}", "01", "1 2", "[", "'confidential'"]);
}

#[test]
fn hostile_22_numbers_that_json_has_not_are_not_passed_on() {
    invalid(&["NaN", "-NaN", "Infinity", "-Infinity", "1e999", "[1, NaN]", "0x10", "+1", ".5", "1."]);
}

#[test]
fn hostile_22_an_output_of_50_mebibytes_is_stopped_before_the_host_holds_it() {
    check("answer-huge", &json!({}), "output_too_large", (64 << 20) + NEAR);
}

#[test]
fn hostile_22_ten_thousand_nested_arrays_are_not_passed_on() {
    let run = stopped("answer-nested", "output_invalid");
    assert!(run["message"].as_str().unwrap().contains("recursion"), "{run}");
}

#[test]
fn hostile_22_what_it_takes_to_check_an_output_is_the_tenants_memory() {
    let quota = "tenant_quotas:\n  acme-corp:\n    max_memory_mb: 24\n";
    let test = TestHost::with(quota);
    let admins = ["acme-corp", "globex"].map(|tenant| test.tenant(tenant));
    test.publish_guest("unquote");
    for (tenant, admin) in ["acme-corp", "globex"].iter().zip(&admins) {
        test.install_guest(tenant, admin, "unquote");
    }
    let numbers = |count: usize| json!(format!("[{}0]", "0,".repeat(count)));
    let invoke = |tenant: &str, admin: &str, input| test.invoke(tenant, admin, "guest.unquote", &input);
    // A value takes fifty times the two bytes of its text: 38 MiB.
    let answer = invoke("acme-corp", &admins[0], numbers(400_000));
    assert_eq!((answer.status, &answer.body["reason"]), (422, &json!("memory")), "{}", answer.body);
    assert!(answer.body["detail"].as_str().unwrap().contains("max_memory_mb"), "{}", answer.body);
    assert_eq!(invoke("globex", &admins[1], numbers(400_000)).status, 200, "others have more");
    assert_eq!(invoke("acme-corp", &admins[0], numbers(1000)).status, 200, "and it was given back");
    let answer = invoke("acme-corp", &admins[0], json!(vec![0; 400_000]));
    assert_eq!((answer.status, answer.problem().as_str()), (422, "invalid-input"), "{}", answer.body);
    assert!(answer.body["detail"].as_str().unwrap().contains("max_memory_mb is 24"), "{}", answer.body);
}

#[test]
fn hostile_13_an_answer_of_a_gibibyte_allocates_nothing() {
    stopped("answer-out-of-bounds", "trap");
}

#[test]
fn an_answer_that_wraps_around_the_memory_is_a_trap() {
    stopped("answer-wraps", "trap");
}

#[test]
fn an_answer_outside_of_the_memory_is_a_trap() {
    stopped("answer-nowhere", "trap");
}

#[test]
fn an_answer_at_an_odd_address_is_a_trap() {
    stopped("answer-misaligned", "trap");
}

#[test]
fn an_answer_that_is_neither_good_nor_bad_is_a_trap() {
    stopped("answer-neither", "trap");
}

#[test]
fn an_answer_with_an_error_that_there_is_not_is_a_trap() {
    stopped("answer-unknown-error", "trap");
}

#[test]
fn an_answer_that_is_no_utf8_is_a_trap() {
    stopped("answer-invalid-utf8", "trap");
}

#[test]
fn an_answer_with_a_lone_surrogate_is_a_trap() {
    stopped("answer-lone-surrogate", "trap");
}
