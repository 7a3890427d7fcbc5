//! What cannot be a skill is refused with a sentence that says what to write instead.

#[test]
fn every_refusal_says_what_to_write_instead() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
