//! Scratch files: within their bounds, below their directory, and gone with the run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use clawhold_capabilities::{Bounds, Incoming, Outgoing, Transport, TransportError};
use serde_json::{Value, json};

use super::OnWasi;
use crate::support::TestHost;

const MIB: u64 = 1 << 20;

/// What is in the scratch directory of the host's process.
fn left(on: &OnWasi) -> Vec<PathBuf> {
    let names = |path: &Path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let own = names(&on.test.folder().join("scratch"));
    assert_eq!(own.len(), 1, "{own:?}");
    names(&own[0])
}

fn step(does: &str, path: &str, bytes: u64) -> Value {
    json!({ "does": does, "path": path, "bytes": bytes })
}

/// Does the steps in one run.
#[track_caller]
fn check(on: &OnWasi, steps: &[(Value, &str)]) {
    let asked: Vec<&Value> = steps.iter().map(|(step, _)| step).collect();
    let said = on.output("wasi.files", &json!({ "steps": asked }));
    let expected: Vec<&str> = steps.iter().map(|(_, said)| *said).collect();
    assert_eq!(said, json!(expected), "{asked:?}");
    assert_eq!(left(on), Vec::<PathBuf>::new());
}

#[test]
fn scratch_files_work_as_files_do() {
    check(
        &OnWasi::start(),
        &[
            (step("mkdir", "/tmp/a", 0), "ok"),
            (step("write", "/tmp/a/b", 100_000), "ok"),
            (step("append", "/tmp/a/b", 5), "ok"),
            (step("read", "/tmp/a/b", 0), "100005"),
            (step("set_size", "/tmp/a/b", 7), "ok"),
            (step("size", "/tmp/a/b", 0), "7"),
            (json!({ "does": "rename", "path": "/tmp/a/b", "to": "/tmp/c" }), "ok"),
            (step("list", "/tmp", 0), "a c"),
            (step("rmdir", "/tmp/a", 0), "ok"),
            (step("remove", "/tmp/c", 0), "ok"),
            (step("list", "/tmp", 0), ""),
        ],
    );
}

#[test]
fn scratch_files_are_gone_after_every_kind_of_end() {
    let yaml = "limits:\n  timeout_ms: 1500\n  fuel: 300000000\n";
    let on = OnWasi::with(yaml, "https://acme.example.com");
    let steps = json!([
        step("mkdir", "/tmp/deep", 0),
        step("write", "/tmp/deep/file", 1000),
        step("keep", "/tmp/kept", 0),
        step("grow_kept", "", 10),
    ]);
    for (how, reason) in [
        ("ok", None),
        ("error", None),
        ("panic", Some("trap")),
        ("exit", Some("trap")),
        ("spin", Some("out_of_fuel")),
        ("sleep", Some("deadline")),
        ("hoard", Some("memory")),
        ("chatter", Some("host_calls")),
    ] {
        let answer = on.invoke("wasi.files", &json!({ "steps": steps, "ends": how }));
        assert_eq!(answer.body["reason"].as_str(), reason, "{how}: {}", answer.body);
        assert_eq!(left(&on), Vec::<PathBuf>::new(), "{how}");
    }
}

#[test]
fn scratch_files_are_gone_when_the_host_stops_and_cuts_the_run() {
    let mut on = OnWasi::start();
    let url = format!("{}/v1/tenants/acme-corp/skills/wasi.files/invoke", on.test.url);
    let input = json!({ "steps": [step("write", "/tmp/file", 1000)], "ends": "sleep" }).to_string();
    let token = format!("Bearer {}", on.admin);
    let asking = std::thread::spawn(move || {
        ureq::post(&url).header("authorization", &token).send(input.as_bytes()).map(|answer| answer.status())
    });
    while left(&on).is_empty() {
        std::thread::yield_now();
    }
    on.test.runtime.block_on(on.test.host.stop(std::time::Duration::ZERO));
    let _ended = asking.join().unwrap();
    assert_eq!(left(&on), Vec::<PathBuf>::new());
    drop(on.test.begin_stop());
}

struct Failing;

#[async_trait]
impl Transport for Failing {
    async fn send(&self, _: Outgoing, _: Bounds) -> Result<Incoming, TransportError> {
        panic!("a mistake in the host")
    }
}

#[test]
fn scratch_files_are_gone_when_a_host_function_panics() {
    let on = OnWasi::on(TestHost::over("", Some(Arc::new(Failing))), "https://acme.example.com");
    for ends in ["ask", "ask_by_wasi"] {
        let steps = json!([step("write", "/tmp/file", 1000), step("keep", "/tmp/kept", 0)]);
        let answer = on.invoke("wasi.files", &json!({ "steps": steps, "ends": ends }));
        assert_eq!(answer.body["reason"], "cancelled", "{ends}: {}", answer.body);
        assert_eq!(left(&on), Vec::<PathBuf>::new(), "{ends}");
    }
    assert_eq!(on.output("wasi.echo", &json!({ "text": "still here" })), "still here");
}

#[test]
fn scratch_files_of_a_killed_host_are_gone_when_the_next_one_starts() {
    let on = OnWasi::start();
    let killed = on.test.folder().join("scratch/of-a-killed-host/of-a-run");
    std::fs::create_dir_all(killed.join("deep/er")).unwrap();
    std::fs::write(killed.join("deep/er/secret"), "x").unwrap();
    let on = OnWasi { test: on.test.restarted(""), admin: on.admin };
    assert!(!on.test.folder().join("scratch/of-a-killed-host").exists());
    check(&on, &[(step("write", "/tmp/a", 1), "ok")]);
}

#[test]
fn what_a_run_keeps_is_bounded_in_bytes_however_it_is_written() {
    let on = OnWasi::start();
    check(&on, &[(step("write", "/tmp/a", MIB), "ok"), (step("write", "/tmp/b", 1), "full")]);
    check(&on, &[(step("write", "/tmp/a", MIB + 1), "full")]);
    check(
        &on,
        &[
            (step("write", "/tmp/a", MIB - 5), "ok"),
            (step("append", "/tmp/a", 6), "full"),
            (step("append", "/tmp/a", 5), "ok"),
        ],
    );
    // A hole is as long as it is, whoever makes it.
    check(
        &on,
        &[
            (step("keep", "/tmp/a", 0), "ok"),
            (step("set_size", "/tmp/a", MIB), "ok"),
            (step("set_size", "/tmp/a", MIB + 1), "full"),
            (step("write", "/tmp/b", 1), "full"),
        ],
    );
    check(&on, &[(json!({ "does": "write_at", "path": "/tmp/a", "at": MIB, "bytes": 1 }), "full")]);
    for offset in [MIB, MIB << 20, i64::MAX as u64, u64::MAX] {
        let said = on.output("wasi.write_far", &json!({ "offset": offset }));
        let full = |said: &Value| ["insufficient-space", "file-too-large", "ok"].contains(&said.as_str().unwrap());
        assert!(full(&said[0]) && said[0] != "ok" && full(&said[1]) && said[2] == "failed", "{offset}: {said}");
        assert!(said[3].as_str().unwrap().parse::<u64>().unwrap() <= MIB, "{offset}: {said}");
    }
}

/// What no clock of the host's can hold is refused, and ends nothing.
#[test]
fn times_that_there_are_not_are_refused() {
    let on = OnWasi::start();
    let stamped = |seconds: u64, nanoseconds: u32| {
        let said = on.output("wasi.stamp", &json!({ "seconds": seconds, "nanoseconds": nanoseconds }));
        said.as_array().unwrap().iter().map(|said| said.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(stamped(1_700_000_000, 0), ["ok", "ok", "ok"]);
    for (seconds, nanoseconds) in [(u64::MAX, u32::MAX), (u64::MAX, 0), (i64::MAX as u64 + 1, 0)] {
        let said = stamped(seconds, nanoseconds);
        assert!(said[0] != "ok" && said[1] != "ok", "{seconds}, {nanoseconds}: {said:?}");
    }
    // Whether the file system takes these is its own affair.
    for (seconds, nanoseconds) in [(i64::MAX as u64, 999_999_999), (i64::MAX as u64, u32::MAX), (0, u32::MAX)] {
        stamped(seconds, nanoseconds);
    }
    assert_eq!(stamped(0, 0), ["ok", "ok", "ok"]);
}

#[test]
fn removing_and_cutting_make_room_only_when_the_bytes_are_gone() {
    let on = OnWasi::start();
    check(
        &on,
        &[
            (step("write", "/tmp/a", MIB), "ok"),
            (step("remove", "/tmp/a", 0), "ok"),
            (step("write", "/tmp/b", MIB), "ok"),
        ],
    );
    check(
        &on,
        &[
            (step("write", "/tmp/a", MIB), "ok"),
            (step("set_size", "/tmp/a", 0), "ok"),
            (step("write", "/tmp/b", MIB), "ok"),
        ],
    );
    check(
        &on,
        &[
            (step("write", "/tmp/a", MIB), "ok"),
            (step("write", "/tmp/a", MIB), "ok"),
            (step("write", "/tmp/a", 3), "ok"),
        ],
    );
    // Removed and still open: the bytes are there until it is closed.
    check(
        &on,
        &[
            (step("keep", "/tmp/a", 0), "ok"),
            (step("grow_kept", "", MIB), "ok"),
            (step("remove", "/tmp/a", 0), "ok"),
            (step("write", "/tmp/b", 1), "full"),
            (step("let_go", "", 0), "ok"),
            (step("write", "/tmp/b", MIB), "ok"),
        ],
    );
    // Replaced by another and still open.
    check(
        &on,
        &[
            (step("keep", "/tmp/a", 0), "ok"),
            (step("grow_kept", "", MIB - 1), "ok"),
            (step("write", "/tmp/b", 1), "ok"),
            (json!({ "does": "rename", "path": "/tmp/b", "to": "/tmp/a" }), "ok"),
            (step("append", "/tmp/a", 1), "full"),
        ],
    );
}

#[test]
fn what_a_run_keeps_is_bounded_in_number_and_depth() {
    let on = OnWasi::start();
    check(
        &on,
        &[
            (step("fill", "/tmp", 300), "256 StorageFull"),
            (step("mkdir", "/tmp/d", 0), "full"),
            (step("remove", "/tmp/7", 0), "ok"),
            (step("mkdir", "/tmp/d", 0), "ok"),
            (step("write", "/tmp/e", 0), "full"),
        ],
    );
    // Existing ones can still be written, and a failed attempt takes no place.
    check(
        &on,
        &[
            (step("fill", "/tmp", 255), "255"),
            (step("mkdir", "/tmp/none/d", 0), "NotFound"),
            (step("write", "/tmp/3", 3), "ok"),
            (step("write", "/tmp/last", 0), "ok"),
            (step("write", "/tmp/more", 0), "full"),
        ],
    );
    assert_eq!(on.output("wasi.dig", &json!({})), 16);
    assert_eq!(left(&on), Vec::<PathBuf>::new());
    assert_eq!(on.output("wasi.open_many", &json!({})), 16);
}

#[test]
fn files_have_no_second_name_and_none_outside() {
    let on = OnWasi::start();
    check(
        &on,
        &[
            (step("write", "/tmp/a", 3), "ok"),
            (json!({ "does": "link", "path": "/tmp/a", "to": "/tmp/b" }), "PermissionDenied"),
            (json!({ "does": "symlink", "path": "a", "to": "b" }), "not-permitted"),
            (json!({ "does": "symlink", "path": "/etc/passwd", "to": "b" }), "not-permitted"),
            (json!({ "does": "symlink", "path": "../../..", "to": "b" }), "not-permitted"),
            (step("mkdir", "/tmp/d", 0), "ok"),
            (json!({ "does": "rename", "path": "/tmp/d", "to": "/tmp/e" }), "PermissionDenied"),
            (step("list", "/tmp", 0), "a d"),
        ],
    );
    let raw = |path: &str| json!({ "does": "create_raw", "path": path });
    let long = format!("{}x", "x/".repeat(600));
    let steps = [
        (step("mkdir", "/tmp/d", 0), "ok"),
        (raw("../out"), "not-permitted"),
        (raw("d/../../out"), "not-permitted"),
        (raw("/tmp/out"), "not-permitted"),
        (raw("/etc/out"), "not-permitted"),
        (raw(&long), "name-too-long"),
        (raw(&"x".repeat(300)), "name-too-long"),
        (raw(""), "no-entry"),
    ];
    check(&on, &steps);
    // A slash at the end names a directory, and does not make a file.
    let said = on.output("wasi.files", &json!({ "steps": [raw("slash/"), step("list", "/tmp", 0)] }));
    assert!(said[0] != "ok" && said[1] == "", "{said}");
}

#[test]
fn a_run_never_sees_the_files_of_another() {
    let on = OnWasi::with("run_slots: 1\n", "https://acme.example.com");
    check(&on, &[(step("write", "/tmp/secret", 3), "ok")]);
    check(&on, &[(step("list", "/tmp", 0), ""), (step("read", "/tmp/secret", 0), "NotFound")]);
}
