//! Native code on disk and in memory: what is kept, for how long, and how often it is made.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawhold_capabilities::{RunHost, add_to_linker};
use clawhold_sandbox::{CompilerLimits, LoadError, Payer, Sandbox, Settings};
use clawhold_tenancy::Digest;
use clawhold_tenancy::run::Reason;
use clawhold_test_support::guest::Guest;
use serde_json::json;

use crate::support::{TestHost, becomes};

/// A sandbox in this directory. Each begins with nothing in memory.
fn sandbox(folder: &Path, change: impl FnOnce(&mut Settings)) -> Sandbox<RunHost> {
    let mut settings = Settings::in_directory(folder.join("artifacts"), [7; 32]);
    settings.slots = 1;
    change(&mut settings);
    Sandbox::new(settings, |linker| add_to_linker(linker).map_err(Into::into)).unwrap()
}

fn wasm(name: &str) -> Vec<u8> {
    Guest::named(name).unwrap().wasm.clone()
}

async fn load(sandbox: &Sandbox<RunHost>, name: &str) {
    let wasm = wasm(name);
    sandbox.load(Payer::named("guests"), Digest::of(&wasm), async move { Ok(wasm) }).await.unwrap();
}

/// Files, without those that are being written.
fn files(folder: &Path) -> usize {
    fs::read_dir(folder.join("artifacts")).unwrap().count()
}

#[tokio::test]
async fn the_disk_keeps_what_was_used_last_and_no_more_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let first = sandbox(folder.path(), |_| ());
    load(&first, "spin").await;
    let most = first.counts().disk_bytes * 5 / 2;
    load(&first, "clean").await;
    // Times of files are what the next start goes by.
    load(&sandbox(folder.path(), |_| ()), "spin").await;

    let bounded = sandbox(folder.path(), |settings| settings.artifact_disk_bytes = most);
    load(&bounded, "sleep").await;
    assert_eq!(bounded.counts().evicted, 1, "{:?}", bounded.counts());
    assert!(bounded.counts().disk_bytes <= most, "{:?}", bounded.counts());
    assert_eq!(files(folder.path()), 2);

    let again = sandbox(folder.path(), |settings| settings.artifact_disk_bytes = most);
    for name in ["spin", "sleep"] {
        load(&again, name).await;
    }
    assert_eq!((again.counts().compiled, again.counts().read), (0, 2));
    load(&again, "clean").await;
    assert_eq!(again.counts().compiled, 1, "what was used longest ago had to go, and is made again");
}

#[tokio::test]
async fn a_component_is_made_once_whoever_asks() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Arc::new(sandbox(folder.path(), |_| ()));
    let askers: Vec<_> = (0..16)
        .map(|_| {
            let sandbox = Arc::clone(&sandbox);
            tokio::spawn(async move { load(&sandbox, "clean").await })
        })
        .collect();
    for asker in askers {
        asker.await.unwrap();
    }
    assert_eq!((sandbox.counts().compiled, sandbox.counts().read), (1, 0));
}

/// What memory has no room for is read again, and never refused.
#[tokio::test]
async fn memory_keeps_no_more_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let roomy = sandbox(folder.path(), |_| ());
    let tight = sandbox(folder.path(), |settings| settings.artifact_cache_bytes = 1);
    load(&roomy, "spin").await;
    load(&roomy, "spin").await;
    // What does not fit goes when the cache next tidies up.
    let until = Instant::now() + Duration::from_secs(10);
    while tight.counts().read < 3 && Instant::now() < until {
        load(&tight, "spin").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!((roomy.counts().compiled, roomy.counts().read), (1, 0));
    assert_eq!((tight.counts().compiled, tight.counts().read), (0, 3));
}

/// A package that keeps the compiler busy for seconds.
fn heavy(name: &str, functions: usize) -> Vec<u8> {
    let statement = "(if (local.get 0) (then (local.set 1 (i32.add (local.get 1) (local.get 2)))) \
                     (else (local.set 2 (i32.mul (local.get 2) (local.get 1)))))\n";
    let function = format!("(func (param i32 i32 i32)\n{})\n", statement.repeat(500));
    Guest::of(name, &format!("{}(func $run (result i32) (call $yes))", function.repeat(functions))).unwrap().wasm
}

#[tokio::test]
async fn what_was_published_and_never_called_goes_before_what_tenants_use() {
    let folder = tempfile::tempdir().unwrap();
    let first = sandbox(folder.path(), |_| ());
    load(&first, "spin").await;
    let most = first.counts().disk_bytes * 5 / 2;
    let bounded = sandbox(folder.path(), |settings| settings.artifact_disk_bytes = most);
    for name in ["clean", "sleep", "unquote"] {
        bounded.publish(Payer::named("flood"), wasm(name)).await.unwrap();
    }
    assert_eq!(bounded.counts().evicted, 2, "{:?}", bounded.counts());
    let again = sandbox(folder.path(), |_| ());
    load(&again, "spin").await;
    assert_eq!((again.counts().compiled, again.counts().read), (0, 1), "publications drove out what a tenant uses");
}

#[tokio::test]
async fn what_tenants_call_does_not_wait_for_publications_to_be_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Arc::new(sandbox(folder.path(), |settings| {
        settings.compiler = CompilerLimits { cpu: Duration::from_secs(4), ..CompilerLimits::default() };
    }));
    let flood = tokio::spawn({
        let sandbox = Arc::clone(&sandbox);
        async move { sandbox.publish(Payer::named("flood"), heavy("heavy", 1500)).await }
    });
    while sandbox.counts().compiled == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    load(&sandbox, "spin").await;
    assert!(!flood.is_finished(), "the publication was too quick to show anything");
    assert!(matches!(flood.await.unwrap(), Err(LoadError::Refused(_))));
}

#[test]
fn a_skill_that_has_to_be_compiled_first_keeps_nobody_beyond_the_deadline() {
    let test = TestHost::start();
    let admin = test.tenant("acme-corp");
    test.ask("POST", "/v1/market/packages", &test.publisher("guests"), Some(&heavy("heavy", 100))).ok();
    test.install("acme-corp", &admin, "guests/heavy", &json!({}), &[]);
    let test = test.restarted("limits:\n  timeout_ms: 200\n");
    for entry in fs::read_dir(test.folder().join("artifacts")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let answer = test.invoke("acme-corp", &admin, "guest.heavy", &json!({}));
    assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"), "{}", answer.body);
    assert!(answer.body["detail"].as_str().unwrap().contains("being made ready"), "{}", answer.body);
    // It goes on being compiled although its caller is gone.
    assert!(becomes(|| test.invoke("acme-corp", &admin, "guest.heavy", &json!({})).status == 200));
    assert_eq!(test.host.counts().0.compiled, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_on_behalf_of_a_run_is_done_in_turns_and_waited_for_until_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Arc::new(sandbox(folder.path(), |_| ()));
    let (in_time, soon) = (Instant::now() + Duration::from_mins(1), Instant::now() + Duration::from_millis(50));
    let (let_go, waits) = std::sync::mpsc::channel::<()>();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let chore = |payer: &'static str, until: Instant| {
        let (sandbox, order) = (Arc::clone(&sandbox), Arc::clone(&order));
        async move { sandbox.on_behalf(Payer::named(payer), until, move || order.lock().unwrap().push(payer)).await }
    };
    let long = tokio::spawn({
        let sandbox = Arc::clone(&sandbox);
        async move { sandbox.on_behalf(Payer::named("a"), soon, move || waits.recv()).await }
    });
    // Its caller goes at the deadline, it goes on.
    assert_eq!(long.await.unwrap(), Err(Reason::Deadline));
    assert_eq!(chore("b", soon).await, Err(Reason::Deadline));
    let waiting = [tokio::spawn(chore("a", in_time)), tokio::spawn(chore("b", in_time))];
    // Longer than those who wait have patience for at the gate for the processor.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let_go.send(()).unwrap();
    for chore in waiting {
        assert_eq!(chore.await.unwrap(), Ok(()));
    }
    assert_eq!(*order.lock().unwrap(), ["b", "a"], "the one who used less goes first");
    let failed = sandbox.on_behalf(Payer::named("a"), in_time, || panic!("a chore panics, as the test wants")).await;
    assert_eq!(failed, Err::<(), _>(Reason::Cancelled));
    assert_eq!(chore("a", in_time).await, Ok(()), "and its turn is over");
}
