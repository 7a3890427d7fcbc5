//! Whatever the host keeps for a guest has a bound.

use serde_json::{Value, json};

use super::OnWasi;

/// KiB of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn hostile_12_pollables_and_fields_cannot_grow_without_end() {
    let on = OnWasi::start();
    on.output("wasi.hello", &json!({}));
    let before = resident();
    for what in ["pollables", "fields", "bodies", "streams"] {
        for _ in 0..3 {
            let run = on.stopped("wasi.hold", &json!({ "what": what }), "trap");
            let message = run["message"].as_str().unwrap();
            assert!(message.contains("resource table"), "{what}: {message}");
        }
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 96 << 10, "the host kept {grown} KiB");
}

#[test]
fn header_fields_have_one_size_limit_whatever_their_number() {
    let on = OnWasi::start();
    let fill = |values: u64, value_bytes: u64| json!({ "values": values, "value_bytes": value_bytes });
    for (values, value_bytes) in [(100, 1), (50, 400), (7, 4096)] {
        assert_eq!(on.output("wasi.fill_fields", &fill(values, value_bytes)), true);
    }
    for (values, value_bytes) in [(2000, 0), (2000, 1), (8, 4096), (1, 1 << 20)] {
        let run = on.stopped("wasi.fill_fields", &fill(values, value_bytes), "trap");
        assert!(run["message"].as_str().unwrap().contains("size of fields exceeds limit"), "{run}");
    }
}

#[test]
fn parts_of_a_request_have_a_size_limit() {
    let on = OnWasi::start();
    assert_eq!(on.output("wasi.long_request", &json!({ "bytes": 100 })), json!([true, true, true, true]));
    assert_eq!(on.output("wasi.long_request", &json!({ "bytes": 8193 })), json!([false, false, false, true]));
    assert_eq!(on.output("wasi.long_request", &json!({ "bytes": 4 << 20 })), json!([false, false, false, true]));
}

#[test]
fn hostile_13_a_length_from_the_guest_allocates_nothing_before_it_is_checked() {
    let on = OnWasi::start();
    assert_eq!(on.output("wasi.random", &json!({ "bytes": 65_536, "insecure": false })), 65_536);
    let refused = |skill: &str, input: Value, expected: &str| {
        let run = on.stopped(skill, &input, "trap");
        assert!(run["message"].as_str().unwrap().contains(expected), "{run}");
    };
    for insecure in [false, true] {
        for bytes in [65_537, 1 << 40, u64::MAX] {
            refused("wasi.random", json!({ "bytes": bytes, "insecure": insecure }), "exceeds limit 65536");
        }
    }
    assert_eq!(on.output("wasi.poll_list", &json!({ "count": 1024 })), 1024);
    refused("wasi.poll_list", json!({ "count": 1025 }), "1024 are allowed");
    for bytes in [1 << 30, u64::MAX] {
        assert_eq!(on.output("wasi.read_at_once", &json!({ "bytes": bytes })), json!([65_536, 65_536]));
    }
}

#[test]
fn hostile_13_a_poll_list_of_a_million_ends_soon() {
    let on = OnWasi::start();
    let answer = on.invoke("wasi.poll_list", &json!({ "count": 4_000_000 }));
    let reason = answer.body["reason"].as_str().unwrap().to_owned();
    assert!(["trap", "host_bytes"].contains(&reason.as_str()), "{}", answer.body);
    let run = on.run_of(&answer);
    assert!(run["duration_us"].as_u64().unwrap() < 5_000_000, "{run}");
}
