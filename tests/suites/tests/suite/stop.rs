//! Stopping in order.

use std::sync::mpsc;

use serde_json::json;

use crate::support::{Peer, TestHost, answer_with};

#[test]
fn a_host_that_stops_lets_a_run_finish_and_commits_its_record() {
    let (began, begun) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (began, may_go_on) = (std::sync::Mutex::new(began), std::sync::Mutex::new(may_go_on));
    let peer = Peer::start(move |_| {
        began.lock().unwrap().send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        answer_with("done")
    });
    let mut test = TestHost::start();
    let admin = test.with_probe("acme-corp", &peer.origin);
    let url = format!("{}/v1/tenants/acme-corp/skills/probe.fetch/invoke", test.url);
    let input = json!({ "url": format!("{}/allowed/x", peer.origin) }).to_string();
    let running = std::thread::spawn(move || {
        let mut answer = ureq::post(url).header("authorization", format!("Bearer {admin}")).send(input).unwrap();
        answer.body_mut().read_to_string().unwrap()
    });
    begun.recv().unwrap();
    let served = test.begin_stop();
    test.runtime.block_on(async {
        // Told apart from a host that has not yet heard of it by its own word.
        while test.host.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    go_on.send(()).unwrap();
    assert!(running.join().unwrap().contains("200 done"));
    test.runtime.block_on(served).unwrap();
}

#[test]
fn a_run_that_does_not_end_is_cut_and_recorded() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let store = test.folder().join("clawhold.db");
    std::thread::scope(|scope| {
        let spinning = scope.spawn(|| test.invoke("acme-corp", &admin, "probe.spin", &json!({})));
        test.runtime.block_on(async {
            while test.host.running() == 0 {
                tokio::task::yield_now().await;
            }
            test.host.stop(std::time::Duration::ZERO).await;
        });
        let answer = spinning.join().unwrap();
        assert_eq!(answer.body["reason"], "cancelled", "{}", answer.body);
        let run = answer.body["run"].as_str().unwrap();
        let db = fs_contains(&store, run);
        assert!(db, "the run {run} is not in the database");
    });
}

/// Whether the database or its log holds this text; the host has closed both.
fn fs_contains(path: &std::path::Path, text: &str) -> bool {
    let wal = path.with_extension("db-wal");
    [path.to_owned(), wal].iter().any(|file| {
        std::fs::read(file).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
    })
}
