//! What is asked of every case: the reason stands everywhere, memory comes back, the slot is clean.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::served::{Borrowed, Served};
use crate::support::{Answer, becomes};

/// How far from where it was the host's memory may be after a case.
///
/// Sixteen mebibytes: what the allocator of a process with a dozen threads keeps of buffers of a few MiB that it has lent
/// before. A case has five runs, and a run that keeps memory keeps its guest's: those have up to 64 MiB.
pub(super) const NEAR: u64 = 16 << 20;

/// The same for a run that passes 32 MiB through the host in pieces of 8: 160 in five runs. After sixty runs no more is kept
/// than after three, 9 to 25.
const NEAR_MUCH: u64 = 32 << 20;

/// How often each case runs. What is kept for each run adds up.
const RUNS: usize = 5;

/// A tenant with a guest and a clean one.
pub(super) struct Case {
    pub(super) host: Borrowed,
    pub(super) tenant: String,
    pub(super) admin: String,
    name: String,
    resident: u64,
}

impl Case {
    /// Publishes and installs the guest for a new tenant.
    #[track_caller]
    pub(super) fn of(name: &str) -> Self {
        let host = Served::borrow();
        let (tenant, admin) = new_tenant(&host);
        host.api.publish_guest(name);
        host.api.install_guest(&tenant, &admin, name);
        let case = Self { host, tenant, admin, name: name.to_owned(), resident: 0 };
        case.is_clean();
        let resident = case.host.resident();
        case.host.forget_peak();
        Self { resident, ..case }
    }

    pub(super) fn call(&self, input: &Value) -> Answer {
        self.host.api.invoke(&self.tenant, &self.admin, &format!("guest.{}", self.name), input)
    }

    /// A well-behaved guest gives the right answer, and finds nothing but zeroes in any memory and table of the slot.
    #[track_caller]
    pub(super) fn is_clean(&self) {
        let answer = self.host.api.invoke(&self.tenant, &self.admin, "guest.clean", &json!({}));
        assert_eq!((answer.status, &answer.body["output"]), (200, &json!(true)), "not clean: {}", answer.body);
    }

    /// The host's memory is near where it was before the case, and was never more than `most` above it.
    #[track_caller]
    pub(super) fn memory_is_back(&self, most: u64) {
        self.memory_is_within(NEAR, most);
    }

    #[track_caller]
    fn memory_is_within(&self, near: u64, most: u64) {
        let above = |bytes: u64| bytes.saturating_sub(self.resident);
        let peak = above(self.host.peak());
        // An allocator gives back what was freed when it is next asked for something, so it is asked.
        let back = becomes(|| {
            let near = above(self.host.resident()) <= near;
            if !near {
                self.is_clean();
            }
            near
        });
        let kept = above(self.host.resident());
        println!("| {} | {} KiB kept | {} KiB at most |", self.name, kept >> 10, peak >> 10);
        assert!(back, "{kept} bytes are kept");
        assert!(peak <= most, "{peak} bytes were taken");
    }

    /// The answer, the run's record and its audit entry all give this reason. Gives the record.
    #[track_caller]
    pub(super) fn ended(&self, answer: &Answer, reason: &str) -> Value {
        let status = match reason {
            "ok" => 200,
            "deadline" => 504,
            _ => 422,
        };
        let said = &answer.body;
        assert_eq!(answer.status, status, "{said}");
        if reason != "ok" {
            assert_eq!((answer.problem().as_str(), &said["reason"]), ("run-limit", &json!(reason)), "{said}");
            assert!(said["remedy"].as_str().is_some_and(|remedy| remedy.len() > 5), "{said}");
        }
        let run = self.host.api.run_of(&self.tenant, &self.admin, answer);
        assert_eq!(run["reason"], reason, "{run}");
        let entries = self.host.api.audit(&self.tenant, &self.admin);
        let entry = entries.iter().rfind(|entry| entry["action"] == "skill.invoke" && entry["run"] == run["id"]);
        let outcome = if reason == "ok" { "success" } else { "failure" };
        let entry = entry.expect("the run has an audit entry");
        assert_eq!((&entry["detail"]["reason"], &entry["outcome"]), (&json!(reason), &json!(outcome)), "{entry}");
        run
    }
}

fn new_tenant(host: &Served) -> (String, String) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let tenant = format!("case-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let admin = host.api.tenant(&tenant);
    host.api.install_guest(&tenant, &admin, "clean");
    let secret = json!({ "value": "not for anybody" });
    host.api.send("PUT", &format!("/v1/tenants/{tenant}/secrets/token"), &admin, &secret).ok();
    (tenant, admin)
}

/// A guest that passes much through the host until it is stopped for `reason`.
#[track_caller]
pub(super) fn check_much(name: &str, reason: &str) -> Value {
    checked(name, &json!({}), reason, NEAR_MUCH, SMALL + NEAR_MUCH)
}

/// Runs a guest five times, each time with the same end and a clean slot afterwards, and with its memory given back.
/// `most` is what all of it may take while it lasts. Gives the record of the last run.
#[track_caller]
pub(super) fn check(name: &str, input: &Value, reason: &str, most: u64) -> Value {
    checked(name, input, reason, NEAR, most)
}

#[track_caller]
fn checked(name: &str, input: &Value, reason: &str, near: u64, most: u64) -> Value {
    let case = Case::of(name);
    let mut run = Value::Null;
    for _ in 0..RUNS {
        let answer = case.call(input);
        run = case.ended(&answer, reason);
        case.is_clean();
    }
    case.memory_is_within(near, most);
    run
}

/// A guest that ends for `reason` and takes next to nothing.
#[track_caller]
pub(super) fn stopped(name: &str, reason: &str) -> Value {
    check(name, &json!({}), reason, SMALL)
}

/// What a case may take that is stopped before it has taken anything: what is near, and the clean guest's own 33 MiB,
/// should the kernel count them.
pub(super) const SMALL: u64 = NEAR + (36 << 20);

/// A guest that cannot be published, for a reason that contains these words; afterwards the host is as it was.
#[track_caller]
pub(super) fn refused(name: &str, says: &[&str]) {
    let guest = clawhold_test_support::guest::Guest::named(name).unwrap();
    refused_package(name, &guest.wasm, says);
}

/// The same of any bytes.
#[track_caller]
pub(super) fn refused_package(name: &str, wasm: &[u8], says: &[&str]) {
    let host = Served::borrow();
    let (tenant, admin) = new_tenant(&host);
    let publisher = host.api.publisher("guests");
    let case = Case { resident: host.resident(), host, tenant, admin, name: name.to_owned() };
    case.host.forget_peak();
    let file = wasm.len() as u64;
    // The allocator keeps what three copies of a large file take, however often one comes: a copy that is kept for each
    // time would be more than that after six.
    let times = if file > NEAR / 10 { 6 } else { RUNS };
    for _ in 0..times {
        let answer = case.host.api.ask("POST", "/v1/market/packages", &publisher, Some(wasm));
        let said = answer.body.to_string();
        assert_eq!((answer.status, answer.problem().as_str()), (422, "package-refused"), "{said}");
        assert!(said.len() < 4000, "{said}");
        for part in says {
            assert!(said.contains(part), "{said} does not say {part:?}");
        }
        case.is_clean();
    }
    let there = case.host.api.get(&format!("/v1/market/packages/guests/{name}"), &publisher);
    assert_eq!(there.status, 404, "what was refused is there: {}", there.body);
    case.memory_is_within(NEAR + 3 * file, SMALL + 5 * file);
}
