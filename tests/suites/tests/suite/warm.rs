//! What a warm invocation does not do.

use std::fs;

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

#[test]
fn a_host_that_starts_again_compiles_nothing_and_one_with_tampered_artifacts_compiles_anew() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use clawhold_cli::config::Config;
        use clawhold_tenancy::permit::PublishPackage;
        use clawhold_tenancy::{Actor, Context, RequestId, Role, Scope, TraceId};
        let config = Config { run_slots: Some(2), ..Config::default() };
        let cx = Context {
            actor: Actor::Host("test"),
            scope: Scope::Publisher("northwind".parse().unwrap()),
            role: Role::Publisher,
            skills: None,
            request: RequestId::now(),
            trace: TraceId::random(),
        };
        let permit = cx.permit_publisher::<PublishPackage>().unwrap();
        let host = clawhold_cli::serve::host(folder.path(), &config, None).await.unwrap();
        let published = host.publish(&cx, &permit, crate::support::probe().to_vec()).await.unwrap();
        assert!(published.new);
        assert_eq!(host.counts().0.compiled, 1);
        host.stop(std::time::Duration::ZERO).await;

        // The same bytes under another version number would be another digest; the same package is only read.
        let host = clawhold_cli::serve::host(folder.path(), &config, None).await.unwrap();
        let again = host.publish(&cx, &permit, crate::support::probe().to_vec()).await.unwrap();
        assert!(!again.new);
        assert_eq!(host.counts().0.compiled, 0);
        host.stop(std::time::Duration::ZERO).await;
    });
}

#[test]
fn hostile_26_a_tampered_artifact_is_not_loaded() {
    let mut test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let caller = admin.clone();
    test.invoke("acme-corp", &caller, "probe.echo", &json!({ "text": "x" })).ok();
    let served = test.begin_stop();
    test.runtime.block_on(served).unwrap();

    let artifacts: Vec<_> = fs::read_dir(test.folder().join("artifacts")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(artifacts.len(), 1);
    let mut bytes = fs::read(&artifacts[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&artifacts[0], bytes).unwrap();

    let folder = test.folder().to_owned();
    test.runtime.block_on(async {
        use clawhold_tenancy::permit::InvokeSkill;
        use clawhold_tenancy::{Actor, Context, RequestId, Role, Scope, TenantId, TraceId};
        let config = clawhold_cli::config::Config { run_slots: Some(2), ..Default::default() };
        let host = clawhold_cli::serve::host(&folder, &config, None).await.unwrap();
        let tenant: TenantId = "acme-corp".parse().unwrap();
        let cx = Context {
            actor: Actor::Host("test"),
            scope: Scope::Tenant(tenant.clone()),
            role: Role::Admin,
            skills: None,
            request: RequestId::now(),
            trace: TraceId::random(),
        };
        let permit = cx.permit::<InvokeSkill>(&tenant).unwrap();
        let input = r#"{"text": "y"}"#.to_owned();
        let answer = host.invoke(&cx, &permit, &"probe.echo".parse().unwrap(), input).await.unwrap();
        assert_eq!(answer.output.get(), "\"y\"");
        let counts = host.counts().0;
        assert_eq!((counts.rejected, counts.compiled), (1, 1), "it was not refused and made anew");
        host.stop(std::time::Duration::ZERO).await;
    });
}
