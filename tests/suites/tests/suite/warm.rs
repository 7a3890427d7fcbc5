//! What a warm invocation does not do.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clawhold_cli::config::{Config, SignaturePolicy};
use clawhold_tenancy::permit::InvokeSkill;
use clawhold_tenancy::{Context, Role, Scope, TenantId};
use serde_json::json;

use crate::support::TestHost;

#[test]
fn a_warm_invocation_compiles_nothing_reads_no_artifact_and_writes_only_its_record() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let call = || test.invoke("acme-corp", &admin, "probe.echo", &json!({ "text": "x" })).ok();
    call();
    // Without its files, a host that read one would fail.
    let artifacts = test.folder().join("artifacts");
    assert!(fs::read_dir(&artifacts).unwrap().count() > 0);
    fs::remove_dir_all(&artifacts).unwrap();

    let (sandbox_before, store_before) = test.host.counts();
    for _ in 0..20 {
        call();
    }
    let (sandbox_after, store_after) = test.host.counts();
    assert_eq!(sandbox_after, sandbox_before, "a warm call compiled, or read an artifact");
    assert_eq!(store_after.writes - store_before.writes, 20, "one write for each call: its record");
}

/// A host with the probe installed for acme-corp, that was stopped again, and its artifacts.
fn stopped() -> (TestHost, Vec<PathBuf>) {
    let mut test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    test.invoke("acme-corp", &admin, "probe.echo", &json!({ "text": "x" })).ok();
    let served = test.begin_stop();
    test.runtime.block_on(served).unwrap();
    let artifacts = fs::read_dir(test.folder().join("artifacts")).unwrap().map(|entry| entry.unwrap().path());
    let artifacts = artifacts.collect();
    (test, artifacts)
}

/// Starts a host in the folder of another, calls the probe, and tells what the sandbox did for it: components
/// compiled, artifacts read, artifacts rejected.
fn called_after_a_restart(test: &TestHost) -> (u64, u64, u64) {
    test.runtime.block_on(async {
        let mut config = Config { run_slots: Some(2), ..Config::default() };
        config.market.signatures = SignaturePolicy::Optional;
        let host = clawhold_cli::serve::host(test.folder(), &config, None).await.unwrap();
        let tenant: TenantId = "acme-corp".parse().unwrap();
        let cx = Context::of_host("test", Scope::Tenant(tenant.clone()), Role::Admin);
        let permit = cx.permit::<InvokeSkill>(&tenant).unwrap();
        let input = r#"{"text": "y"}"#.to_owned();
        let answer = host
            .invoke(&cx, &permit, &"probe.echo".parse().unwrap(), input, clawhold_tenancy::keep::Keep::nothing())
            .await
            .unwrap();
        assert_eq!(answer.output.get(), "\"y\"");
        let counts = host.counts().0;
        host.stop(Duration::ZERO).await;
        (counts.compiled, counts.read, counts.rejected)
    })
}

#[test]
fn a_host_that_starts_again_reads_its_artifact_and_compiles_nothing() {
    let (test, artifacts) = stopped();
    assert_eq!(artifacts.len(), 1);
    assert_eq!(called_after_a_restart(&test), (0, 1, 0));
}

#[test]
fn hostile_26_a_tampered_artifact_is_not_loaded() {
    let (test, artifacts) = stopped();
    let whole = fs::read(&artifacts[0]).unwrap();
    // In the MAC, in the code, at the end; and cut short, and empty.
    let mut tampered: Vec<Vec<u8>> = [0, whole.len() / 2, whole.len() - 1]
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        })
        .into();
    tampered.extend([whole[..whole.len() / 2].to_vec(), Vec::new()]);
    for bytes in tampered {
        fs::write(&artifacts[0], bytes).unwrap();
        assert_eq!(called_after_a_restart(&test), (1, 1, 1), "it was not refused and made anew");
    }
    assert_eq!(called_after_a_restart(&test), (0, 1, 0), "what was made anew is not kept");
}

#[test]
fn an_artifact_that_is_gone_is_made_again_and_kept() {
    let (test, artifacts) = stopped();
    fs::remove_file(&artifacts[0]).unwrap();
    assert_eq!(called_after_a_restart(&test), (1, 0, 0));
    assert_eq!(called_after_a_restart(&test), (0, 1, 0));
}
