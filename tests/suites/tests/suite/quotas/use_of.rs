//! What tenants are shown of their use, and operators of all of it.

use serde_json::{Value, json};

use super::echo;
use crate::support::{TestHost, becomes, on_each_database};

on_each_database![use_is_shown_by_dimension_and_by_skill];

fn used(test: &TestHost, token: &str) -> Value {
    test.get("/v1/tenants/acme-corp/usage", token).ok()
}

fn row<'a>(usage: &'a Value, dimension: &str) -> &'a Value {
    usage["dimensions"].as_array().unwrap().iter().find(|row| row["dimension"] == dimension).unwrap()
}

fn use_is_shown_by_dimension_and_by_skill(test: &TestHost) {
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    test.send("PATCH", super::QUOTA, &test.operator, &json!({ "max_skill_calls_per_minute": 6 })).ok();
    test.send("PUT", "/v1/tenants/acme-corp/secrets/one", &admin, &json!({ "value": "x" })).ok();
    for _ in 0..5 {
        echo(test, &admin).ok();
    }
    assert_eq!(test.invoke("acme-corp", &admin, "probe.fail", &json!({ "kind": "denied" })).status, 422);
    for _ in 0..3 {
        assert_eq!(echo(test, &admin).status, 429);
    }
    let usage = used(test, &admin);
    let calls = row(&usage, "max_skill_calls_per_minute");
    assert_eq!((&calls["limit"], &calls["unit"]), (&json!(6), &json!("calls")));
    assert!(calls["used"].as_u64().unwrap() >= 5, "{calls}");
    assert_eq!((&calls["peak_hour"], &calls["peak_day"]), (&json!(6), &json!(6)));
    assert_eq!((&calls["refused_hour"], &calls["refused_day"]), (&json!(3), &json!(3)));
    assert!(calls["reset"].as_u64().unwrap() > 30, "{calls}");
    // What small runs use runs off faster than they use it; nothing stays reserved.
    assert_eq!(row(&usage, "max_fuel_per_minute")["reserved"], 0);
    assert_eq!(row(&usage, "max_installs")["used"], 1);
    assert_eq!(row(&usage, "max_secrets")["used"], 1);
    assert_eq!(row(&usage, "weight")["used"], Value::Null);
    assert!(row(&usage, "max_memory_mb")["peak_day"].as_u64().unwrap() >= 1);
    let skills = usage["skills"].as_array().unwrap();
    assert_eq!(skills.len(), 2, "{skills:?}");
    assert_eq!((&skills[0]["skill"], &skills[0]["calls"]), (&json!("probe.echo"), &json!(5)));
    assert_eq!((&skills[0]["succeeded"], &skills[1]["succeeded"]), (&json!(5), &json!(0)));
    assert!(skills[0]["fuel"].as_u64().unwrap() > 1000);
    let times = (skills[0]["p50_us"].as_u64().unwrap(), skills[0]["p99_us"].as_u64().unwrap());
    assert!(times.0 > 0 && times.0 <= times.1, "{times:?}");
}

#[test]
fn use_outlasts_the_host() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    for _ in 0..4 {
        echo(&test, &admin).ok();
    }
    let before = used(&test, &admin);
    let test = test.restarted("");
    let after = used(&test, &admin);
    assert_eq!(before["skills"], after["skills"]);
    assert_eq!(row(&after, "max_skill_calls_per_minute")["peak_day"], 4);
    // What is counted now comes to it.
    echo(&test, &admin).ok();
    assert_eq!(used(&test, &admin)["skills"][0]["calls"], 5);
}

#[test]
fn metrics_tell_of_runs_refusals_and_fuel_by_tenant() {
    let test = TestHost::with(
        "metrics:\n  always: [acme-corp]\ntenant_quotas:\n  default:\n    max_skill_calls_per_minute: 2\n",
    );
    let acme = test.with_probe("acme-corp", "https://acme.example.com");
    let globex = test.tenant("globex");
    test.install("globex", &globex, "northwind/probe", &json!({ "origin": "https://globex.example.com" }), &[]);
    for _ in 0..4 {
        echo(&test, &acme);
    }
    assert_eq!(test.invoke("globex", &globex, "probe.fail", &json!({ "kind": "denied" })).status, 422);
    let has = |line: &str| test.host.metrics().lines().any(|known| known == line);
    assert!(has(r#"clawhold_runs_total{reason="ok",tenant_id="acme-corp"} 2"#), "{}", test.host.metrics());
    assert!(has(r#"clawhold_runs_total{reason="skill_error",tenant_id="other"} 1"#));
    assert!(becomes(|| has(
        r#"clawhold_quota_refusals_total{dimension="max_skill_calls_per_minute",tenant_id="acme-corp"} 2"#
    )));
    assert!(has(r#"clawhold_run_duration_seconds_count{tenant_id="acme-corp"} 2"#));
    assert!(has(r#"clawhold_queue_wait_seconds_count{tenant_id="acme-corp"} 2"#));
    assert!(has(r#"clawhold_runs_active{tenant_id="acme-corp"} 0"#));
    assert!(!test.host.metrics().contains("globex"), "it has no series of its own");
}
