//! Guests that never get as far as a run.

use super::check::refused;

#[test]
fn hostile_33_a_describe_that_never_ends_is_refused() {
    refused("describe-loops", &["did not say what it offers", "out_of_fuel"]);
}

#[test]
fn hostile_33_a_describe_that_takes_memory_for_ever_is_refused() {
    refused("describe-allocates", &["did not say what it offers", "memory"]);
}

#[test]
fn hostile_33_a_describe_that_traps_is_refused() {
    refused("describe-traps", &["did not say what it offers", "trap"]);
}

#[test]
fn hostile_33_a_describe_that_calls_the_host_for_ever_is_refused() {
    refused("describe-calls-the-host", &["did not say what it offers", "host_calls"]);
}

#[test]
fn hostile_33_a_describe_is_given_no_secret() {
    refused("describe-asks-for-secrets", &["describes no skill"]);
}

#[test]
fn hostile_33_a_describe_that_offers_what_is_not_there_is_refused() {
    refused("describe-lies", &["did not say what it offers", "trap"]);
}

#[test]
fn hostile_33_a_describe_that_offers_nothing_is_refused() {
    refused("describe-nothing", &["describes no skill"]);
}

#[test]
fn hostile_33_a_describe_that_offers_billions_is_refused() {
    refused("describe-billions", &["did not say what it offers", "trap"]);
}

#[test]
fn hostile_33_a_describe_that_offers_a_million_nothings_is_refused() {
    refused("describe-the-same", &["did not say what it offers"]);
}

#[test]
fn a_start_that_never_ends_is_refused() {
    refused("start-loops", &["did not say what it offers", "out_of_fuel"]);
}

#[test]
fn a_start_that_traps_is_refused() {
    refused("start-traps", &["did not say what it offers", "trap"]);
}

#[test]
fn a_start_that_calls_the_host_for_ever_is_refused() {
    refused("start-calls-the-host", &["did not say what it offers"]);
}
