//! Native code on disk and in memory: what is kept, for how long, and how often it is made.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawhold_capabilities::{RunHost, add_to_linker};
use clawhold_sandbox::{Sandbox, Settings};
use clawhold_tenancy::Digest;
use clawhold_test_support::guest::Guest;

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
    sandbox.load(Digest::of(&wasm), async move { Ok(wasm) }).await.unwrap();
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
