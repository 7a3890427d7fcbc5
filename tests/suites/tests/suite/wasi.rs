//! Skills on WASI: what they find, what they may, and how each way beyond it ends.

mod files;
mod growth;
mod requests;
mod rules;

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::{Answer, TestHost, build};

/// The guest that tries what a program can try on WASI.
pub(crate) fn guest() -> &'static [u8] {
    static GUEST: OnceLock<Vec<u8>> = OnceLock::new();
    GUEST.get_or_init(|| build(&format!("tests/guests/{}", "wasi")))
}

/// A host where acme-corp has the guest, which may send requests to `origin`.
pub(crate) struct OnWasi {
    pub(crate) test: TestHost,
    pub(crate) admin: String,
}

impl OnWasi {
    pub(crate) fn with(yaml: &str, origin: &str) -> Self {
        Self::on(TestHost::with(yaml), origin)
    }

    pub(crate) fn on(test: TestHost, origin: &str) -> Self {
        let admin = test.tenant("acme-corp");
        test.publish(guest());
        test.install("acme-corp", &admin, "northwind/wasi", &json!({ "origin": origin }), &[]);
        Self { test, admin }
    }

    pub(crate) fn start() -> Self {
        Self::with("", "https://acme.example.com")
    }

    pub(crate) fn invoke(&self, skill: &str, input: &Value) -> Answer {
        self.test.invoke("acme-corp", &self.admin, skill, input)
    }

    #[track_caller]
    pub(crate) fn output(&self, skill: &str, input: &Value) -> Value {
        self.invoke(skill, input).ok()["output"].take()
    }

    pub(crate) fn run_of(&self, answer: &Answer) -> Value {
        self.test.run_of("acme-corp", &self.admin, answer)
    }

    /// Calls a skill that must be stopped for `reason`; gives the run's record.
    #[track_caller]
    pub(crate) fn stopped(&self, skill: &str, input: &Value, reason: &str) -> Value {
        let answer = self.invoke(skill, input);
        assert_eq!(answer.body["reason"].as_str(), Some(reason), "{skill} {input}: {}", answer.body);
        let run = self.run_of(&answer);
        assert_eq!(self.output("wasi.echo", &json!({ "text": "still here" })), "still here");
        run
    }
}

#[test]
fn environment_arguments_and_preopens_are_empty() {
    // What the host's own process has must not shine through.
    assert!(std::env::vars().count() > 0 && std::env::args().count() > 0);
    let found = OnWasi::start().output("wasi.surroundings", &json!({}));
    let expected = json!({
        "arguments": [], "environment": [], "directories": ["/tmp"], "initial_directory": null, "input_bytes": 0,
    });
    assert_eq!(found, expected);
    let without = OnWasi::with("limits:\n  scratch_mb: 0\n", "https://acme.example.com");
    assert_eq!(without.output("wasi.surroundings", &json!({}))["directories"], json!([]));
}

#[test]
fn clocks_and_random_numbers_are_real() {
    let on = OnWasi::start();
    let (one, other) =
        (on.output("wasi.measure", &json!({ "sleep_ms": 30 })), on.output("wasi.measure", &json!({ "sleep_ms": 0 })));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(one["unix_seconds"].as_u64().unwrap()) < 60, "{one}");
    assert!((30..5000).contains(&one["slept_ms"].as_u64().unwrap()), "{one}");
    assert_ne!(one["random"], other["random"]);
    assert_ne!(one["random"][0], one["random"][1]);
}

#[test]
fn stdout_and_stderr_become_bounded_log_lines() {
    let on = OnWasi::start();
    let answer = on.invoke("wasi.print", &json!({ "out": 2, "err": 1 }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(on.run_of(&answer)["log"], json!(["info out 0", "info out 1", "warn err 0", "info logged"]));

    let run = on.run_of(&on.invoke("wasi.print", &json!({ "out": 200, "err": 100 })));
    assert_eq!((run["log"].as_array().unwrap().len(), &run["log_dropped"]), (256, &json!(45)), "{run}");

    for trap in [false, true] {
        let run = on.run_of(&on.invoke("wasi.print_endless", &json!({ "bytes": 1_000_000, "trap": trap })));
        let printed: Vec<_> =
            run["log"].as_array().unwrap().iter().filter(|line| line.as_str().unwrap().starts_with("info ")).collect();
        assert_eq!((printed.len(), printed[0].as_str().unwrap().len()), (1, 5 + 4096));
    }
}

#[test]
fn a_program_that_exits_is_told_that_a_skill_does_not() {
    let on = OnWasi::start();
    // WASI 0.2.0 knows success and failure alone.
    for (code, told) in [(0, 0), (1, 1), (7, 1)] {
        let run = on.stopped("wasi.exit", &json!({ "code": code }), "trap");
        assert!(run["message"].as_str().unwrap().contains(&format!("exit code {told}; a skill returns")), "{run}");
    }
}

#[test]
fn a_wasi_program_does_its_ordinary_work_within_the_budget_of_calls() {
    let on = OnWasi::start();
    for (skill, input, most) in [
        ("wasi.echo", json!({ "text": "x" }), 16),
        ("wasi.hello", json!({}), 32),
        ("wasi.print", json!({ "out": 200, "err": 0 }), 2048),
        ("wasi.files", json!({ "steps": [{ "does": "write" }, { "does": "read" }] }), 128),
    ] {
        let answer = on.invoke(skill, &input);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let calls = on.run_of(&answer)["host_calls"].as_u64().unwrap();
        println!("{skill} {input}: {calls} calls");
        assert!(calls <= most, "{skill} made {calls} calls");
    }
}

#[test]
fn hostile_11_a_loop_over_wasi_calls_is_stopped() {
    let on = OnWasi::start();
    let run = on.stopped("wasi.chatter", &json!({}), "host_calls");
    let calls = run["host_calls"].as_u64().unwrap();
    // The guest's own check comes at its next loop: right after the call that was too many.
    assert!((8193..8200).contains(&calls), "{calls}");
}

#[test]
fn hostile_11_a_guest_that_sleeps_on_wasi_ends_at_its_deadline() {
    let on = OnWasi::with("limits:\n  timeout_ms: 300\n", "https://acme.example.com");
    let began = std::time::Instant::now();
    on.stopped("wasi.measure", &json!({ "sleep_ms": 3_600_000 }), "deadline");
    assert!(began.elapsed() < std::time::Duration::from_secs(10));
}
