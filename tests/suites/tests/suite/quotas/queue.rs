//! The queue for run slots: bounded, left by whoever goes away, and not waited in for nothing.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::echo;
use crate::support::{Answer, Peer, TestHost, answer_with, becomes};

/// Milliseconds that a request takes, by its path.
fn slow_peer() -> Peer {
    Peer::start(|head| {
        let ms = head.split(' ').nth(1).and_then(|path| path.rsplit('/').next()?.parse().ok()).unwrap_or(0);
        std::thread::sleep(Duration::from_millis(ms));
        answer_with("done")
    })
}

fn fetch(test: &TestHost, token: &str, peer: &Peer, ms: u64) -> Answer {
    test.invoke("acme-corp", token, "probe.fetch", &json!({ "url": format!("{}/allowed/{ms}", peer.origin) }))
}

/// A metric of a tenant's.
fn level(test: &TestHost, name: &str) -> u64 {
    let text = test.host.metrics();
    let of = |line: &&str| line.starts_with(name) && line.contains("other");
    text.lines().find(of).and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

fn queued(test: &TestHost) -> u64 {
    level(test, "clawhold_queue_depth")
}

#[test]
fn a_full_queue_is_429_and_another_tenants_is_its_own() {
    let test = TestHost::with("run_slots: 1\ntenant_quotas:\n  acme-corp:\n    max_queue: 2\n");
    let peer = slow_peer();
    let acme = test.with_probe("acme-corp", &peer.origin);
    let globex = test.tenant("globex");
    test.install("globex", &globex, "northwind/probe", &json!({ "origin": peer.origin }), &[]);
    echo(&test, &acme).ok();
    std::thread::scope(|scope| {
        let holds = scope.spawn(|| fetch(&test, &acme, &peer, 1500));
        assert!(becomes(|| peer.heads().len() == 1));
        let wait: Vec<_> = (0..2).map(|_| scope.spawn(|| echo(&test, &acme))).collect();
        assert!(becomes(|| queued(&test) == 2));
        let refused = echo(&test, &acme);
        assert_eq!((refused.status, &refused.body["dimension"]), (429, &json!("max_queue")));
        assert_eq!((&refused.body["limit"], &refused.body["used"]), (&json!(2), &json!(2)));
        assert!(refused.headers.contains_key("retry-after"));
        let beside = scope.spawn(|| test.invoke("globex", &globex, "probe.echo", &json!({ "text": "x" })));
        assert_eq!(holds.join().unwrap().status, 200);
        assert!(wait.into_iter().all(|one| one.join().unwrap().status == 200));
        assert_eq!(beside.join().unwrap().status, 200);
    });
    assert_eq!(queued(&test), 0);
}

/// Sends a call and does not wait for its answer.
fn begin(test: &TestHost, token: &str, skill: &str, input: &Value) -> TcpStream {
    let mut stream = TcpStream::connect(test.url.trim_start_matches("http://")).unwrap();
    let body = input.to_string();
    let head = format!(
        "POST /v1/tenants/acme-corp/skills/{skill}/invoke HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    stream
}

#[test]
fn hostile_11_whoever_hangs_up_leaves_the_queue_and_frees_everything() {
    let test = TestHost::with("run_slots: 1\ntenant_quotas:\n  acme-corp:\n    max_concurrent_runs: 9\n");
    let peer = slow_peer();
    let acme = test.with_probe("acme-corp", &peer.origin);
    echo(&test, &acme).ok();
    let runs = || test.get("/v1/tenants/acme-corp/runs", &acme).ok()["items"].as_array().unwrap().len();
    let before = runs();
    std::thread::scope(|scope| {
        let holds = scope.spawn(|| fetch(&test, &acme, &peer, 2000));
        assert!(becomes(|| peer.heads().len() == 1));
        let callers: Vec<TcpStream> =
            (0..8).map(|_| begin(&test, &acme, "probe.echo", &json!({ "text": "x" }))).collect();
        assert!(becomes(|| queued(&test) == 8));
        assert_eq!(echo(&test, &acme).body["dimension"], "max_concurrent_runs");
        let gone = Instant::now();
        drop(callers);
        assert!(becomes(|| queued(&test) == 0 && test.host.running() == 1));
        assert!(gone.elapsed() < Duration::from_secs(1), "{:?}", gone.elapsed());
        // There is room again for as many.
        let callers: Vec<TcpStream> =
            (0..8).map(|_| begin(&test, &acme, "probe.echo", &json!({ "text": "x" }))).collect();
        assert!(becomes(|| queued(&test) == 8));
        drop(callers);
        assert_eq!(holds.join().unwrap().status, 200);
    });
    assert!(becomes(|| test.host.running() == 0));
    // The one that had a slot has run. The sixteen that had none have not.
    assert_eq!(runs(), before + 1);
    echo(&test, &acme).ok();
}

#[test]
fn the_run_of_a_caller_that_hangs_up_goes_on_and_is_recorded() {
    let test = TestHost::start();
    let peer = slow_peer();
    let acme = test.with_probe("acme-corp", &peer.origin);
    let caller = begin(&test, &acme, "probe.fetch", &json!({ "url": format!("{}/allowed/300", peer.origin) }));
    assert!(becomes(|| peer.heads().len() == 1));
    drop(caller);
    let recorded = || test.get("/v1/tenants/acme-corp/runs", &acme).ok()["items"].as_array().unwrap().clone();
    assert!(becomes(|| recorded().len() == 1));
    assert_eq!(recorded()[0]["reason"], "ok");
    assert!(becomes(|| test.host.running() == 0));
}

#[test]
fn a_run_that_could_not_end_in_time_any_more_is_refused_before_its_time_is_over() {
    let test = TestHost::with("run_slots: 1\nlimits:\n  timeout_ms: 3000\n");
    let peer = slow_peer();
    let acme = test.with_probe("acme-corp", &peer.origin);
    // The skill's quickest run takes 2 s of the 3 that a run has.
    assert_eq!(fetch(&test, &acme, &peer, 2000).status, 200);
    std::thread::scope(|scope| {
        let holds = scope.spawn(|| fetch(&test, &acme, &peer, 2500));
        assert!(becomes(|| peer.heads().len() == 2));
        let began = Instant::now();
        let shed = fetch(&test, &acme, &peer, 2000);
        let took = began.elapsed();
        assert_eq!((shed.status, &shed.body["reason"]), (504, &json!("deadline")), "{}", shed.body);
        assert!(took > Duration::from_millis(500) && took < Duration::from_millis(1600), "{took:?}");
        assert_eq!(holds.join().unwrap().status, 200);
    });
    assert_eq!(peer.heads().len(), 2, "it was not begun");
}

#[test]
fn slots_go_round_among_tenants_and_not_among_runs() {
    let test = TestHost::with(
        "run_slots: 2\ntenant_quotas:\n  default:\n    max_concurrent_runs: 100\n    max_queue: 100\n    max_fuel_per_minute: 100000000000000\n",
    );
    let peer = slow_peer();
    let acme = test.with_probe("acme-corp", &peer.origin);
    let globex = test.tenant("globex");
    test.install("globex", &globex, "northwind/probe", &json!({ "origin": peer.origin }), &[]);
    let done = AtomicU64::new(0);
    let quiet = || test.invoke("globex", &globex, "probe.echo", &json!({ "text": "x" }));
    assert_eq!((echo(&test, &acme).status, quiet().status), (200, 200));
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let answer = fetch(&test, &acme, &peer, 100);
                assert_eq!(answer.status, 200, "{}", answer.body);
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert!(becomes(|| queued(&test) >= 30));
        for _ in 0..3 {
            let began = Instant::now();
            assert_eq!(quiet().status, 200);
            // The next slot that comes back is its: a tenth of a second, and not the two that the others wait.
            assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
        }
        assert!(done.load(Ordering::Relaxed) < 30, "the others are still at it");
    });
}
