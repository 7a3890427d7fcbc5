//! `Idempotency-Key` and `If-Match`: a write is done once, and on what the caller saw.

use serde_json::{Value, json};

use crate::market::installed_twice;
use crate::support::{Answer, TestHost, becomes, on_each_database};

on_each_database![
    each_write_with_a_key_is_done_once_and_answered_alike,
    repeats_at_the_same_time_are_done_once,
    an_install_is_changed_only_as_it_was_seen,
];

fn keyed(test: &TestHost, key: &str, method: &str, path: &str, token: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let body = (method != "DELETE").then_some(body.as_bytes());
    test.ask_with(&[("idempotency-key", key)], method, path, token, body)
}

fn each_write_with_a_key_is_done_once_and_answered_alike(test: &TestHost) {
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let publisher = test.publisher("northwind");
    let settings = json!({ "origin": "https://other.example.com" });
    let install = "/v1/tenants/acme-corp/installs/northwind/probe";
    let plan = test.send("POST", &format!("{install}/plan"), &admin, &json!({ "settings": settings })).ok();
    let consent = json!({ "version": "1.0.0", "settings": settings, "consent": plan["consent"] });
    let made = |path: &str, token: &str, body| test.send("POST", path, token, &body).ok()["id"].clone();
    let spare = made("/v1/tenants/acme-corp/tokens", &admin, json!({ "name": "spare", "role": "caller" }));
    let spare_host = made("/v1/tokens", &test.operator, json!({ "name": "spare", "role": "operator" }));
    let of_tenant = |rest: &str| format!("/v1/tenants/acme-corp/{rest}");
    test.send("POST", &of_tenant("publishers"), &admin, &json!({ "name": "sauces" })).ok();
    let spare_own = made(&of_tenant("publishers/sauces/tokens"), &admin, json!({ "name": "spare" }));
    test.send("PUT", &of_tenant("secrets/token"), &admin, &json!({ "value": "an older value" })).ok();
    let echo = "/v1/tenants/{tenant}/skills/{skill}/invoke";
    installed_twice(test, &admin);
    let key = |seed| clawhold_marketplace::key::SigningKey::from_seed(&[seed; 32]).public();
    let market = |rest: &str| format!("/v1/market/{rest}");
    let walked: Vec<(&str, &str, String, &str, Value)> = vec![
        (
            "POST",
            "/v1/market/publishers",
            market("publishers"),
            &test.operator,
            json!({ "name": "southwind", "key": key(1).to_string() }),
        ),
        (
            "POST",
            "/v1/market/publishers/{publisher}/keys",
            market("publishers/southwind/keys"),
            &test.operator,
            json!({ "key": key(2).to_string() }),
        ),
        (
            "POST",
            "/v1/market/publishers/{publisher}/keys/{key}/revoke",
            market(&format!("publishers/southwind/keys/{}/revoke", key(1).id())),
            &test.operator,
            json!({}),
        ),
        (
            "POST",
            "/v1/tenants/{tenant}/publishers",
            of_tenant("publishers"),
            &admin,
            json!({ "name": "acme-internal" }),
        ),
        (
            "POST",
            "/v1/tenants/{tenant}/publishers/{publisher}/tokens",
            of_tenant("publishers/sauces/tokens"),
            &admin,
            json!({ "name": "ci" }),
        ),
        (
            "DELETE",
            "/v1/tenants/{tenant}/publishers/{publisher}/tokens/{token}",
            of_tenant(&format!("publishers/sauces/tokens/{}", spare_own.as_str().unwrap())),
            &admin,
            Value::Null,
        ),
        (
            "PUT",
            "/v1/market/packages/{publisher}/{name}/grants/{grantee}",
            market("packages/northwind/probe/grants/tenant:acme-corp"),
            &publisher,
            json!({}),
        ),
        (
            "DELETE",
            "/v1/market/packages/{publisher}/{name}/grants/{grantee}",
            market("packages/northwind/probe/grants/tenant:acme-corp"),
            &publisher,
            Value::Null,
        ),
        (
            "PUT",
            "/v1/market/packages/{publisher}/{name}/versions/{version}/status",
            market("packages/northwind/probe/versions/1.0.0/status"),
            &publisher,
            json!({ "status": "yanked", "advisory": "x" }),
        ),
        (
            "POST",
            "/v1/tenants/{tenant}/installs/{publisher}/{name}/rollback",
            of_tenant("installs/northwind/crm-lite/rollback"),
            &admin,
            json!({}),
        ),
        ("POST", "/v1/tenants", "/v1/tenants".into(), &test.operator, json!({ "id": "globex" })),
        ("POST", "/v1/tokens", "/v1/tokens".into(), &test.operator, json!({ "name": "x", "role": "operator" })),
        (
            "DELETE",
            "/v1/tokens/{token}",
            format!("/v1/tokens/{}", spare_host.as_str().unwrap()),
            &test.operator,
            Value::Null,
        ),
        ("POST", "/v1/tenants/{tenant}/tokens", of_tenant("tokens"), &admin, json!({ "name": "x", "role": "caller" })),
        (
            "DELETE",
            "/v1/tenants/{tenant}/tokens/{token}",
            of_tenant(&format!("tokens/{}", spare.as_str().unwrap())),
            &admin,
            Value::Null,
        ),
        (
            "PUT",
            "/v1/tenants/{tenant}/secrets/{secret}",
            of_tenant("secrets/token"),
            &admin,
            json!({ "value": "secret-value" }),
        ),
        (
            "POST",
            "/v1/tenants/{tenant}/secrets/{secret}/rollback",
            of_tenant("secrets/token/rollback"),
            &admin,
            json!({ "version": 1 }),
        ),
        ("POST", "/v1/tenants/{tenant}/keys/rotate", of_tenant("keys/rotate"), &admin, json!({})),
        ("POST", "/v1/host/keys/rotate", "/v1/host/keys/rotate".into(), &test.operator, json!({ "add_master": true })),
        ("DELETE", "/v1/tenants/{tenant}/secrets/{secret}", of_tenant("secrets/token"), &admin, Value::Null),
        ("PUT", "/v1/tenants/{tenant}/installs/{publisher}/{name}", install.into(), &admin, consent),
        ("POST", echo, of_tenant("skills/probe.echo/invoke"), &admin, json!({ "text": "x" })),
        ("POST", echo, of_tenant("skills/probe.fail/invoke"), &admin, json!({ "kind": "denied" })),
        ("DELETE", "/v1/tenants/{tenant}/installs/{publisher}/{name}", install.into(), &admin, Value::Null),
        (
            "PATCH",
            "/v1/tenants/{tenant}",
            of_tenant("").replace("corp/", "corp"),
            &test.operator,
            json!({ "tier": "pro" }),
        ),
        ("PATCH", "/v1/tenants/{tenant}/quota", of_tenant("quota"), &test.operator, json!({ "max_queue": 3 })),
        (
            "POST",
            "/v1/market/packages/{publisher}/{name}/delete",
            market("packages/northwind/crm-lite/delete"),
            &test.operator,
            json!({ "advisory": "x" }),
        ),
    ];
    let ends = |test: &TestHost| test.chains();
    for (n, (method, path, url, token, body)) in walked.iter().enumerate() {
        let key = format!("key-{n}");
        let first = keyed(test, &key, method, url, token, body);
        assert_ne!(first.status, 404, "{method} {url}: {}", first.body);
        assert!(first.headers.get("idempotency-replayed").is_none());
        // Its tenants are told a moment later.
        let becomes_of = [("/status", "package.yanked"), ("/delete", "package.revoked")];
        if let Some((_, action)) = becomes_of.iter().find(|(end, _)| path.ends_with(end)) {
            let told = |entry: &Value| entry["action"] == *action;
            assert!(becomes(|| test.audit("acme-corp", &admin).iter().any(told)));
        }
        let before = ends(test);
        let again = keyed(test, &key, method, url, token, body);
        assert_eq!((first.status, &first.body), (again.status, &again.body), "{method} {path}");
        assert_eq!(again.headers["idempotency-replayed"], "true", "{method} {path}");
        for name in ["clawhold-run", "etag", "content-type"] {
            assert_eq!(first.headers.get(name), again.headers.get(name), "{method} {path}: {name}");
        }
        assert_eq!(before, ends(test), "{method} {path} was done twice");
        if *method != "DELETE" {
            // As much another body as any.
            let other = format!("{body} ");
            let other = test.ask_with(&[("idempotency-key", &key)], method, url, token, Some(other.as_bytes()));
            assert_eq!((other.status, other.body["place"].as_str()), (422, Some("Idempotency-Key")), "{}", other.body);
        }
    }
    let wasm = crate::support::crm();
    let publish = || test.ask_with(&[("idempotency-key", "p")], "POST", "/v1/market/packages", &publisher, Some(wasm));
    let (first, again) = (publish(), publish());
    assert_eq!((first.status, &first.body), (201, &again.body));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    // A route that changes something and is not walked above would escape the test.
    for row in clawhold_api::table(std::sync::Arc::clone(&test.host)).iter().filter(|row| row.method != "GET") {
        // Clients of the registry have no such keys: a push is the same whenever it is done again.
        let known = row.path.ends_with("/plan")
            || row.path.starts_with("/v2/")
            || row.path == "/v1/market/packages"
            // Clients of OCI registries have no such keys.
            || row.path.starts_with("/v2/")
            || walked.iter().any(|(method, path, ..)| (*method, *path) == (row.method, row.path));
        assert!(known, "{} {} is not walked by this test", row.method, row.path);
    }
    // Another token's key of the same name is another key, and a key that is none is refused.
    let caller = test.token("acme-corp", "admin");
    let theirs = keyed(test, "key-5", "PUT", &of_tenant("secrets/token"), &caller, &json!({ "value": "theirs" }));
    assert!(theirs.headers.get("idempotency-replayed").is_none() && theirs.status == 200);
    for bad in ["", "two words", &"x".repeat(256)] {
        let answer = keyed(test, bad, "PUT", &of_tenant("secrets/token"), &caller, &json!({ "value": "x" }));
        assert_eq!((answer.status, answer.body["place"].as_str()), (422, Some("Idempotency-Key")), "{bad:?}");
    }
}

fn repeats_at_the_same_time_are_done_once(test: &TestHost) {
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let before = test.chains().1;
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let ask = || {
            let body = json!({ "text": "x" });
            keyed(test, "same", "POST", "/v1/tenants/acme-corp/skills/probe.echo/invoke", &admin, &body)
        };
        let asked: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    assert!(!done.is_empty() && done.iter().all(|answer| answer.body == done[0].body));
    assert!(refused.iter().all(|answer| answer.status == 409), "{refused:?}");
    assert_eq!(test.chains().1, before + 1, "one run is recorded");
}

fn an_install_is_changed_only_as_it_was_seen(test: &TestHost) {
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let path = "/v1/tenants/acme-corp/installs/northwind/probe";
    let seen = test.get(path, &admin);
    let tag = seen.headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(tag, format!("\"{}\"", seen.body["revision"]));
    let settings = json!({ "origin": "https://other.example.com" });
    let plan = test.send("POST", &format!("{path}/plan"), &admin, &json!({ "settings": settings })).ok();
    let body = json!({ "version": "1.0.0", "settings": settings, "consent": plan["consent"] }).to_string();
    let put = |tag: &str| test.ask_with(&[("if-match", tag)], "PUT", path, &admin, Some(body.as_bytes()));
    let changed = put(&tag);
    assert_eq!(changed.status, 200, "{}", changed.body);
    let stale = put(&tag);
    // What is asked for under a key is the condition too.
    let key = |tag: &str| {
        test.ask_with(&[("idempotency-key", "k"), ("if-match", tag)], "PUT", path, &admin, Some(body.as_bytes())).status
    };
    let now = changed.headers["etag"].to_str().unwrap();
    assert_eq!((key(now), key(now), key(&tag)), (200, 200, 422));
    let changed = test.get(path, &admin);
    assert_eq!((stale.status, stale.problem()), (412, "precondition-failed".to_owned()));
    let stale = test.ask_with(&[("if-match", &tag)], "DELETE", path, &admin, None);
    assert_eq!(stale.status, 412);
    assert_eq!(put("revision 7").body["place"], "If-Match");
    let now = changed.headers["etag"].to_str().unwrap();
    assert_eq!(test.ask_with(&[("if-match", now)], "DELETE", path, &admin, None).status, 204);
    assert_eq!(put(now).status, 412, "there is none any more");
    assert_eq!(test.get(path, &admin).status, 404);
}

#[test]
fn a_kept_answer_outlives_the_host_and_is_sealed() {
    let test = TestHost::start();
    let admin = test.tenant("acme-corp");
    let body = json!({ "name": "ci", "role": "caller" });
    let path = "/v1/tenants/acme-corp/tokens";
    let first = keyed(&test, "token", "POST", path, &admin, &body).ok();
    let secret = first["token"].as_str().unwrap().to_owned();
    let test = test.restarted("");
    assert_eq!(keyed(&test, "token", "POST", path, &admin, &body).ok(), first);
    let folder = test.folder().to_owned();
    drop(test);
    for name in ["clawhold.db", "clawhold.db-wal"] {
        let bytes = std::fs::read(folder.join(name)).unwrap_or_default();
        assert!(!bytes.windows(20).any(|window| window == &secret.as_bytes()[secret.len() - 20..]), "{name}");
    }
}
