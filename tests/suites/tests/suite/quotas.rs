//! Quotas, from what was said of them to the answer of a call that goes beyond one.

mod fleet;
mod queue;
mod use_of;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Answer, Peer, TestHost, answer_with, becomes, on_each_database};

on_each_database![
    hostile_39_a_quota_that_cannot_be_is_refused_and_its_key_is_named,
    what_is_set_holds_at_once_and_says_where_it_comes_from,
];

const QUOTA: &str = "/v1/tenants/acme-corp/quota";

fn echo(test: &TestHost, token: &str) -> Answer {
    test.invoke("acme-corp", token, "probe.echo", &json!({ "text": "x" }))
}

fn set(test: &TestHost, quota: &Value) -> Value {
    test.send("PATCH", QUOTA, &test.operator, quota).ok()
}

/// A dimension's value and source.
fn of(quota: &Value, dimension: &str) -> (u64, String) {
    let row = quota["dimensions"].as_array().unwrap().iter().find(|row| row["dimension"] == dimension).unwrap();
    (row["value"].as_u64().unwrap(), row["source"].as_str().unwrap().to_owned())
}

fn hostile_39_a_quota_that_cannot_be_is_refused_and_its_key_is_named(test: &TestHost) {
    let admin = test.tenant("acme-corp");
    let before = test.chains();
    let refuse = |body: &str, place: &str, says: &str| {
        let refused = test.ask("PATCH", QUOTA, &test.operator, Some(body.as_bytes()));
        assert_eq!((refused.status, refused.body["place"].as_str()), (422, Some(place)), "{body}: {}", refused.body);
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains(says), "{body}: {detail}");
    };
    for wrong in ["-1", "0", "100001", "99999999999999999999999", "1e3", "1.5", "\"10\"", "[]", "true"] {
        refuse(&format!("{{\"max_concurrent_runs\": {wrong}}}"), "max_concurrent_runs", "1 to 100000 (runs)");
    }
    refuse(r#"{"max_memory_mb": "512 MiB"}"#, "max_memory_mb", "1 to 1048576 (MiB)");
    refuse(r#"{"max_runs": 1}"#, "max_runs", "max_concurrent_runs");
    refuse(&format!("{{\"{}\": 1}}", "x".repeat(5000)), &"x".repeat(64), "there is no such key");
    refuse(r#"{"max_queue": 5, "weight": 0}"#, "weight", "1 to 1000");
    refuse("{}", "body", "it changes nothing");
    refuse("[1]", "body", "");
    let tier = |method: &str, path: &str, body: &Value| {
        let refused = test.send(method, path, &test.operator, body);
        assert_eq!(refused.status, 422, "{}", refused.body);
        refused.body
    };
    let refused = tier("PATCH", "/v1/tenants/acme-corp", &json!({ "tier": "gold" }));
    assert_eq!(refused["place"], "tier");
    assert!(refused["detail"].as_str().unwrap().contains("standard, free, pro, enterprise"), "{refused}");
    assert_eq!(tier("POST", "/v1/tenants", &json!({ "id": "globex", "tier": "gold" }))["place"], "tier");
    assert_eq!(tier("POST", "/v1/tenants", &json!({ "id": "enterprise" }))["place"], "id");
    // Who is bounded by it may read it, and not change it.
    assert_eq!(test.get(QUOTA, &admin).status, 200);
    for (path, body) in [(QUOTA, json!({ "max_queue": 9 })), ("/v1/tenants/acme-corp", json!({ "tier": "pro" }))] {
        assert_eq!(test.send("PATCH", path, &admin, &body).status, 403);
    }
    let nobody = test.send("PATCH", "/v1/tenants/hooli/quota", &test.operator, &json!({ "max_queue": 9 }));
    assert_eq!(nobody.status, 404);
    // The two that were forbidden are noted. Nothing else was.
    assert_eq!(test.chains(), (before.0, before.1 + 2));
    assert_eq!(of(&test.get(QUOTA, &admin).body, "max_queue"), (50, "built-in".to_owned()));
}

fn what_is_set_holds_at_once_and_says_where_it_comes_from(test: &TestHost) {
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    echo(test, &admin).ok();
    let quota = set(test, &json!({ "max_skill_calls_per_minute": 1, "max_queue": 7 }));
    assert_eq!(of(&quota, "max_skill_calls_per_minute"), (1, "override".to_owned()));
    assert_eq!(of(&quota, "max_tokens_per_minute"), (100_000, "built-in".to_owned()));
    // The call before counts under the new limit.
    let refused = echo(test, &admin);
    assert_eq!((refused.status, refused.problem()), (429, "quota".to_owned()));
    let quota = set(test, &json!({ "max_skill_calls_per_minute": null }));
    assert_eq!(of(&quota, "max_skill_calls_per_minute"), (500, "built-in".to_owned()));
    assert_eq!(of(&quota, "max_queue"), (7, "override".to_owned()));
    echo(test, &admin).ok();
    let told: Vec<Value> =
        test.audit("acme-corp", &admin).into_iter().filter(|entry| entry["action"] == "quota.set").collect();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0]["detail"], json!({ "max_skill_calls_per_minute": 1, "max_queue": 7 }));
    let tier = test.send("PATCH", "/v1/tenants/acme-corp", &test.operator, &json!({ "tier": "pro" })).ok();
    assert_eq!(tier["tier"], "pro");
    assert_eq!(test.get(QUOTA, &admin).ok()["tier"], "pro");
}

/// The article's block as it stands there, a tier, and a ceiling.
const ARTICLE: &str = "tenant_quotas:
  default:
    max_concurrent_runs: 10
    max_tokens_per_minute: 100000
    max_skill_calls_per_minute: 500
    max_memory_mb: 512
  enterprise-acme:
    max_concurrent_runs: 100
    max_tokens_per_minute: 1000000
    max_skill_calls_per_minute: 5000
  pro:
    max_concurrent_runs: 20
quota_ceiling:
  max_skill_calls_per_minute: 5000
  max_installs: 50
";

#[test]
fn the_articles_configuration_is_taken_as_it_stands() {
    let test = TestHost::with(ARTICLE);
    for id in ["enterprise-acme", "globex"] {
        test.tenant(id);
    }
    let show = |id: &str| test.get(&format!("/v1/tenants/{id}/quota"), &test.operator).ok();
    let from = |value: u64, source: &str| (value, source.to_owned());
    assert_eq!(of(&show("enterprise-acme"), "max_skill_calls_per_minute"), from(5000, "tenant"));
    assert_eq!(of(&show("enterprise-acme"), "max_memory_mb"), from(512, "default"));
    assert_eq!(of(&show("globex"), "max_concurrent_runs"), from(10, "default"));
    // The built-in value is above the ceiling.
    assert_eq!(of(&show("globex"), "max_installs"), from(50, "ceiling"));
    test.send("PATCH", "/v1/tenants/globex", &test.operator, &json!({ "tier": "pro" })).ok();
    assert_eq!(of(&show("globex"), "max_concurrent_runs"), from(20, "tier"));
    let above = test.send("PATCH", "/v1/tenants/globex/quota", &test.operator, &json!({ "max_installs": 51 }));
    assert_eq!((above.status, above.body["place"].as_str()), (422, Some("max_installs")));
    assert!(above.body["detail"].as_str().unwrap().contains("ceiling of 50"), "{}", above.body);
    // A ceiling that came later does not lift what was said before, and says so.
    test.send("PATCH", "/v1/tenants/globex/quota", &test.operator, &json!({ "max_installs": 40 })).ok();
    let test = test.restarted("quota_ceiling:\n  max_installs: 30\n");
    let quota = test.get("/v1/tenants/globex/quota", &test.operator).ok();
    assert_eq!(of(&quota, "max_installs"), from(30, "ceiling"));
    let row = quota["dimensions"].as_array().unwrap().iter().find(|row| row["dimension"] == "max_installs").unwrap();
    assert_eq!(row["asked"], 40);
}

#[test]
fn a_refusal_says_which_quota_how_much_and_when() {
    let test = TestHost::with("tenant_quotas:\n  default:\n    max_skill_calls_per_minute: 3\n");
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let field = |answer: &Answer, name: &str| answer.headers.get(name).map(|v| v.to_str().unwrap().to_owned());
    let first = echo(&test, &admin);
    assert_eq!(field(&first, "ratelimit").unwrap(), "\"max_skill_calls_per_minute\";r=2;t=20");
    assert_eq!(field(&first, "ratelimit-policy").unwrap(), "\"max_skill_calls_per_minute\";q=3;w=60");
    echo(&test, &admin).ok();
    echo(&test, &admin).ok();
    let refused = echo(&test, &admin);
    assert_eq!(refused.status, 429);
    let reset = refused.body["reset"].as_u64().unwrap();
    assert!((18..=20).contains(&reset), "{}", refused.body);
    let expected = json!({
        "type": "/problems/quota",
        "title": "A quota is used up",
        "status": 429,
        "detail": format!("the tenant uses 3 of 3 max_skill_calls_per_minute; call again in {reset} s, or ask the operator for more"),
        "dimension": "max_skill_calls_per_minute",
        "limit": 3,
        "used": 3,
        "reset": reset,
    });
    assert_eq!(refused.body, expected);
    assert_eq!(field(&refused, "content-type").unwrap(), "application/problem+json");
    assert_eq!(field(&refused, "retry-after").unwrap(), reset.to_string());
    assert_eq!(field(&refused, "ratelimit").unwrap(), format!("\"max_skill_calls_per_minute\";r=0;t={reset}"));
    assert_eq!(field(&refused, "ratelimit-policy").unwrap(), "\"max_skill_calls_per_minute\";q=3;w=60");
}

#[test]
fn repeats_with_a_key_count_once() {
    let test = TestHost::with("tenant_quotas:\n  default:\n    max_skill_calls_per_minute: 2\n");
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let path = "/v1/tenants/acme-corp/skills/probe.echo/invoke";
    let ask =
        |key: &str| test.ask_with(&[("idempotency-key", key)], "POST", path, &admin, Some(br#"{"text": "x"}"#)).status;
    assert_eq!((0..5).map(|_| ask("one")).collect::<Vec<_>>(), [200; 5]);
    assert_eq!((ask("two"), ask("three")), (200, 429));
    // What was refused was not done, so that the key may be used again.
    set(&test, &json!({ "max_skill_calls_per_minute": 10 }));
    assert_eq!((ask("three"), ask("one")), (200, 200));
}

#[test]
fn hostile_07_refused_calls_are_counted_and_told_in_sum_and_cost_no_write_each() {
    let test = TestHost::with("tenant_quotas:\n  acme-corp:\n    max_skill_calls_per_minute: 1\n");
    let acme = test.with_probe("acme-corp", "https://acme.example.com");
    let globex = test.tenant("globex");
    test.install("globex", &globex, "northwind/probe", &json!({ "origin": "https://globex.example.com" }), &[]);
    echo(&test, &acme).ok();
    let before = test.host.counts().1.writes;
    for _ in 0..300 {
        assert_eq!(echo(&test, &acme).status, 429);
    }
    let beside = test.invoke("globex", &globex, "probe.echo", &json!({ "text": "x" }));
    assert_eq!(beside.status, 200);
    let told = |test: &TestHost, token: &str| {
        let entries = test.audit("acme-corp", token);
        let of = |entry: &&Value| entry["action"] == "quota.refuse";
        let times = |entry: &Value| entry["detail"]["times"].as_u64().unwrap();
        let resources = entries.iter().filter(of).map(|entry| entry["resource"].as_str().unwrap().to_owned());
        (resources.collect::<Vec<_>>(), entries.iter().filter(of).map(times).sum::<u64>())
    };
    assert!(becomes(|| !told(&test, &acme).0.is_empty()), "the first is told within a second or two");
    assert_eq!(told(&test, &acme).0, ["quota:max_skill_calls_per_minute"]);
    let writes = test.host.counts().1.writes - before;
    assert!(writes < 20, "{writes} transactions that write for 300 refused calls");
    // What came after the first sum is told when the minute is over, or when the host stops.
    for _ in 0..50 {
        assert_eq!(echo(&test, &acme).status, 429);
    }
    let test = test.restarted("");
    assert_eq!(told(&test, &acme).1, 350);
}

#[test]
fn a_tenant_is_warned_once_when_it_comes_near_a_limit_and_once_when_it_is_there() {
    let test = TestHost::with("tenant_quotas:\n  default:\n    max_skill_calls_per_minute: 10\n    max_installs: 1\n");
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    for _ in 0..20 {
        echo(&test, &admin);
    }
    let warned = || -> Vec<(String, Value)> {
        let entries = test.audit("acme-corp", &admin).into_iter().filter(|entry| entry["action"] == "quota.warn");
        entries.map(|entry| (entry["resource"].as_str().unwrap().to_owned(), entry["detail"].clone())).collect()
    };
    assert!(becomes(|| warned().len() >= 4), "{:?}", warned());
    std::thread::sleep(Duration::from_millis(1500));
    let warned = warned();
    let of = |resource: &str| -> Vec<u64> {
        let mut percents: Vec<u64> =
            warned.iter().filter(|(of, _)| of == resource).map(|(_, d)| d["percent"].as_u64().unwrap()).collect();
        percents.sort_unstable();
        percents
    };
    assert_eq!((warned.len(), of("quota:max_skill_calls_per_minute")), (4, vec![80, 100]));
    assert_eq!(of("quota:max_installs"), [80, 100]);
    let (_, detail) =
        warned.iter().find(|(of, d)| of == "quota:max_skill_calls_per_minute" && d["percent"] == 80).unwrap();
    assert_eq!(detail, &json!({ "percent": 80, "used": 8, "limit": 10, "unit": "calls" }));
}

#[test]
fn what_is_kept_is_bounded_too() {
    let test = TestHost::with(
        "tenant_quotas:\n  default:\n    max_installs: 1\n    max_secrets: 2\n    max_secret_bytes: 16\n",
    );
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let put = |name: &str, value: &str| {
        let path = format!("/v1/tenants/acme-corp/secrets/{name}");
        test.send("PUT", &path, &admin, &json!({ "value": value }))
    };
    put("one", "x").ok();
    put("two", "x").ok();
    let full = put("three", "x");
    assert_eq!((full.status, &full.body["dimension"], &full.body["limit"]), (429, &json!("max_secrets"), &json!(2)));
    assert_eq!((&full.body["used"], &full.body["reset"]), (&json!(2), &Value::Null));
    assert!(full.headers.get("retry-after").is_none(), "time alone does not help");
    // A new value of one that is there is no new secret, and there is room for one that is gone.
    put("two", "y").ok();
    test.ask("DELETE", "/v1/tenants/acme-corp/secrets/one", &admin, None).ok();
    put("three", "x").ok();
    let long = put("two", &"x".repeat(17));
    assert_eq!((long.status, long.body["place"].as_str()), (422, Some("value")));
    assert!(long.body["detail"].as_str().unwrap().contains("17 bytes; write 1 to 16"), "{}", long.body);

    test.publish(crate::support::crm());
    let path = "/v1/tenants/acme-corp/installs/northwind/crm";
    let settings = json!({ "instance_url": "https://acme.example.com" });
    let plan = test.send("POST", &format!("{path}/plan"), &admin, &json!({ "settings": settings }));
    let plan = plan.ok();
    let body = json!({ "version": plan["version"], "settings": settings, "consent": plan["consent"] });
    let full = test.send("PUT", path, &admin, &body);
    assert_eq!((full.status, &full.body["dimension"], &full.body["used"]), (429, &json!("max_installs"), &json!(1)));
    set(&test, &json!({ "max_installs": 2 }));
    test.send("PUT", path, &admin, &body).ok();
    // More than may be, since it was lowered: what is there can be changed all the same.
    set(&test, &json!({ "max_installs": 1 }));
    test.send("PUT", path, &admin, &body).ok();
}

#[test]
fn requests_bytes_and_entries_of_skills_are_the_tenants() {
    let test = TestHost::with(
        "tenant_quotas:\n  default:\n    max_http_requests_per_minute: 2\n    max_audit_records_per_minute: 12\n",
    );
    let peer = Peer::start(|_| answer_with("hello"));
    let admin = test.with_probe("acme-corp", &peer.origin);
    let fetch = || {
        let input = json!({ "url": format!("{}/allowed/x", peer.origin) });
        test.invoke("acme-corp", &admin, "probe.fetch", &input).ok()["output"].as_str().unwrap().to_owned()
    };
    assert_eq!((fetch().as_str(), fetch().as_str()), ("200 hello", "200 hello"));
    let refused = fetch();
    assert!(refused.contains("max_http_requests_per_minute is used up (2 of 2 requests)"), "{refused}");
    assert_eq!(peer.heads().len(), 2, "it did not leave");
    // Three runs have used three entries, the fourth uses one and asks for more than there are.
    let record = json!({ "action": "probe.done", "times": 20 });
    let taken = test.invoke("acme-corp", &admin, "probe.record", &record).ok()["output"].as_u64().unwrap();
    assert_eq!(taken, 12 - 4);
    let refused = echo(&test, &admin);
    assert_eq!((refused.status, &refused.body["dimension"]), (429, &json!("max_audit_records_per_minute")));
}

#[test]
fn requests_that_a_token_may_not_make_fill_no_log() {
    let test = TestHost::with("tenant_quotas:\n  default:\n    max_audit_records_per_minute: 5\n");
    let admin = test.tenant("acme-corp");
    let caller = test.token("acme-corp", "caller");
    let before = test.chains().1;
    for _ in 0..50 {
        assert_eq!(test.get("/v1/tenants/acme-corp/secrets", &caller).status, 403);
    }
    assert_eq!(test.chains().1, before + 5);
    let told = || test.audit("acme-corp", &admin).into_iter().filter(|entry| entry["action"] == "quota.refuse").count();
    assert!(becomes(|| told() == 1), "the others are told in sum");
}

#[test]
fn an_answer_that_was_not_paid_for_is_owed() {
    let test = TestHost::with(
        "tenant_quotas:\n  default:\n    max_egress_mb_per_minute: 1\nlimits:\n  http_response_kb: 2048\n",
    );
    let peer = Peer::start(|_| answer_with(&"x".repeat(700 << 10)));
    let admin = test.with_probe("acme-corp", &peer.origin);
    let fetch = || {
        let input = json!({ "url": format!("{}/allowed/x", peer.origin) });
        test.invoke("acme-corp", &admin, "probe.fetch", &input)
    };
    let first = fetch();
    assert_eq!(first.status, 200, "{}", first.body);
    // What may come back is reserved, and there is not so much left.
    let refused = fetch().ok()["output"].as_str().unwrap().to_owned();
    assert!(refused.contains("max_egress_mb_per_minute is used up (1 of 1 MiB)"), "{refused}");
    assert_eq!(peer.heads().len(), 1);
}

#[test]
fn an_answer_that_breaks_off_is_paid_for_whole() {
    let test = TestHost::with("tenant_quotas:\n  default:\n    max_egress_mb_per_minute: 20\n");
    // All but the last byte, again and again.
    let peer = Peer::start(|_| {
        let body = "x".repeat(100 << 10);
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len() + 1).into_bytes()
    });
    let admin = test.with_probe("acme-corp", &peer.origin);
    let input = json!({ "url": format!("{}/allowed/x", peer.origin) });
    let fetch = || test.invoke("acme-corp", &admin, "probe.fetch", &input).ok()["output"].as_str().unwrap().to_owned();
    assert!(fetch().contains("broke off"));
    assert!(fetch().contains("broke off"));
    // An answer may be 8 MiB, and nobody knows how much of it came.
    let refused = fetch();
    assert!(refused.contains("max_egress_mb_per_minute is used up (16 of 20 MiB)"), "{refused}");
    assert_eq!(peer.heads().len(), 2);
}

#[test]
fn fuel_is_reserved_before_and_settled_after() {
    // A run may use 1,000,000,000; the tenant has a little more in a minute.
    let test = TestHost::with(
        "limits:\n  fuel: 1000000000\ntenant_quotas:\n  default:\n    max_fuel_per_minute: 1200000000\n",
    );
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    for _ in 0..20 {
        // Each reserves nearly all and gives nearly all of it back.
        echo(&test, &admin).ok();
    }
    assert_eq!(test.invoke("acme-corp", &admin, "probe.spin", &json!({})).body["reason"], "out_of_fuel");
    let refused = echo(&test, &admin);
    assert_eq!((refused.status, &refused.body["dimension"]), (429, &json!("max_fuel_per_minute")));
    let reset = refused.body["reset"].as_u64().unwrap();
    assert!((30..=41).contains(&reset), "800,000,000 must run off, of 1,200,000,000 a minute: {reset}");
}

#[test]
fn hostile_08_tenants_that_nobody_made_leave_no_trace_in_the_limiter() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    echo(&test, &admin).ok();
    let books = || {
        let text = test.host.metrics();
        let line = text.lines().find(|line| line.starts_with("clawhold_limiter_tenants ")).unwrap();
        line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(books(), 1);
    for n in 0..2000 {
        for token in [&admin, &test.operator] {
            let path = format!("/v1/tenants/made-up-{n}/skills/probe.echo/invoke");
            assert!(matches!(test.send("POST", &path, token, &json!({})).status, 403 | 404));
            assert_eq!(test.get(&format!("/v1/tenants/made-up-{n}/usage"), token).status, 404);
        }
    }
    // Its own may be idle by now, and then it is forgotten.
    assert!(books() <= 1);
}
