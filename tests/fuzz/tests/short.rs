//! Each target for a few seconds: its corpus, and the same seeds each time.

use clawhold_fuzz::{Campaign, Target};

/// This binary is its own compiler process, as `clawhold` is.
#[ctor::ctor(unsafe)]
fn compiler_process() {
    clawhold_cli::compiler_process();
}

#[track_caller]
fn check(target: &str, cases: u64) {
    let target = Target::named(target).expect("there is such a target");
    let mut campaign = Campaign::start(target, false).expect("the target starts");
    campaign.corpus().expect("the corpus can be read");
    for seed in 0..cases {
        campaign.seed(seed).expect("the target starts again after a finding");
    }
    println!("{campaign}");
    assert_eq!(campaign.found(), 0, "what was found stands above, with how to see it again");
}

#[test]
fn no_manifest_harms_its_reader() {
    check("manifest", 4000);
}

#[test]
fn no_package_harms_its_host() {
    check("publish", 100);
}

#[test]
fn nothing_that_a_guest_hands_over_harms_its_host() {
    check("lifting", 300);
}

#[test]
fn no_schema_harms_its_reader() {
    check("schema", 1000);
}
