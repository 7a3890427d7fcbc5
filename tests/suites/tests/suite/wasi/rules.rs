//! Who may publish, install and run what is not pure.

use serde_json::json;

use super::{OnWasi, guest};
use crate::support::{TestHost, build_failed, root};

#[test]
fn sockets_are_refused_at_publish() {
    let said = build_failed(&format!("tests/guests/{}", "sockets"));
    assert!(said.contains("wasi:sockets/") && said.contains("`http`"), "{said}");

    let manifest = std::fs::read_to_string(root().join("tests/guests/sockets/skill.toml")).unwrap();
    let test = TestHost::start();
    let publisher = test.publisher("northwind");
    for import in ["wasi:sockets/tcp@0.2.0", "wasi:sockets/ip-name-lookup@0.2.6", "wasi:sockets/network@0.2.12"] {
        let wasm = format!(
            r#"(component (import "{import}" (instance)) (instance $i)
                (export "clawhold:skill/handler@0.1.0" (instance $i))
                (@custom "clawhold:manifest" "{}"))"#,
            manifest.replace('"', "\\\"").replace('\n', "\\n")
        );
        let answer = test.ask("POST", "/v1/market/packages", &publisher, Some(&wat::parse_str(&wasm).unwrap()));
        let said = answer.body["detail"].as_str().unwrap();
        assert_eq!(answer.status, 422, "{said}");
        assert!(said.contains(import) && said.contains("wasi:http/outgoing-handler"), "{said}");
    }
}

#[test]
fn the_plan_says_that_a_skill_runs_on_wasi_and_how_many_files_it_may_have() {
    let test = TestHost::start();
    let admin = test.tenant("acme-corp");
    test.publish(guest());
    let path = "/v1/tenants/acme-corp/installs/northwind/wasi/plan";
    let plan = test.send("POST", path, &admin, &json!({ "settings": { "origin": "https://acme.example.com" } })).ok();
    let adds = plan["adds"].to_string();
    for right in ["run on WASI: clocks, randomness", "use 1 MiB of scratch files, 256 at most, until a run ends"] {
        assert!(adds.contains(right), "{adds}");
    }
}

#[test]
fn where_only_pure_skills_may_run_one_on_wasi_is_neither_installed_nor_run() {
    let tenant = "tenant_quotas:\n  acme-corp:\n    require_pure: true\n";
    for (yaml, key, free) in
        [("require_pure: true\n", "`require_pure`", false), (tenant, "acme-corp.require_pure", true)]
    {
        let test = TestHost::with(yaml);
        let (admin, globex) = (test.tenant("acme-corp"), test.tenant("globex"));
        test.publish(guest());
        test.publish(crate::support::probe());
        let ask = json!({ "settings": { "origin": "https://acme.example.com" } });
        let plan = |tenant: &str, token: &str| {
            test.send("POST", &format!("/v1/tenants/{tenant}/installs/northwind/wasi/plan"), token, &ask)
        };
        let refused = plan("acme-corp", &admin);
        let said = refused.body["detail"].as_str().unwrap_or_default();
        assert_eq!(refused.status, 403, "{}", refused.body);
        assert!(said.contains("pure skills only") && said.contains(key), "{said}");
        assert_eq!(plan("globex", &globex).status == 200, free);
        test.install("acme-corp", &admin, "northwind/probe", &ask["settings"], &[]);
        assert_eq!(test.invoke("acme-corp", &admin, "probe.echo", &json!({ "text": "x" })).status, 200);
    }
}

#[test]
fn an_install_from_before_the_rule_is_refused_when_it_is_called() {
    let on = OnWasi::start();
    assert_eq!(on.invoke("wasi.echo", &json!({ "text": "x" })).status, 200);
    let test = on.test.restarted("require_pure: true\n");
    let answer = test.invoke("acme-corp", &on.admin, "wasi.echo", &json!({ "text": "x" }));
    assert_eq!((answer.status, answer.body["reason"].as_str()), (422, Some("denied")), "{}", answer.body);
    assert!(answer.body["detail"].as_str().unwrap().contains("pure skills only"), "{}", answer.body);
    let run = test.run_of("acme-corp", &on.admin, &answer);
    assert_eq!((&run["reason"], &run["host_calls"]), (&json!("denied"), &json!(0)));
    let entry = test.audit("acme-corp", &on.admin).pop().unwrap();
    assert_eq!((&entry["outcome"], &entry["detail"]["reason"]), (&json!("denied"), &json!("denied")));
}
