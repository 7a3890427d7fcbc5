//! Publishers, their keys and signatures, and names.

use clawhold_marketplace::key::SigningKey;
use clawhold_marketplace::publisher::KeyRotation;
use clawhold_marketplace::signing::{PackageStatement, sign};
use clawhold_tenancy::Digest;
use clawhold_tenancy::audit::now_us;
use serde_json::{Value, json};

use super::{package, put};
use crate::support::{Answer, TestHost, becomes};

const REQUIRED: &str = "market:\n  signatures: required\n";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn statement(wasm: &[u8]) -> PackageStatement {
    let about = clawhold_marketplace::read(wasm).unwrap().manifest.package;
    PackageStatement { package: about.name, version: about.version, digest: Digest::of(wasm), signed_us: now_us() }
}

fn signed(wasm: &[u8], by: &SigningKey) -> String {
    sign(by, &statement(wasm))
}

/// A host where northwind has key 1.
fn host() -> (TestHost, String) {
    let test = TestHost::with(REQUIRED);
    let ask = json!({ "name": "northwind", "key": key(1).public().to_string() });
    test.send("POST", "/v1/market/publishers", &test.operator, &ask).ok();
    let author = test.publisher("northwind");
    (test, author)
}

fn publish(test: &TestHost, author: &str, wasm: &[u8], signature: Option<&str>) -> Answer {
    let fields: Vec<_> = signature.into_iter().map(|text| ("clawhold-signature", text)).collect();
    test.ask_with(&fields, "POST", "/v1/market/packages", author, Some(wasm))
}

fn keys(test: &TestHost, token: &str, body: &Value) -> Answer {
    test.send("POST", "/v1/market/publishers/northwind/keys", token, body)
}

#[test]
fn hostile_26_what_its_publisher_did_not_sign_is_not_published() {
    let (test, author) = host();
    let wasm = package("northwind/crm", "1.0.0", "");
    // One that is for later, and one that is trusted no more.
    let later = json!({ "key": key(2).public().to_string(), "not_before": "2999-01-01T00:00:00Z" });
    keys(&test, &test.operator, &later).ok();
    keys(&test, &test.operator, &json!({ "key": key(3).public().to_string() })).ok();
    let path = format!("/v1/market/publishers/northwind/keys/{}/revoke", key(3).public().id());
    test.send("POST", &path, &test.operator, &json!({})).ok();
    let about = statement(&wasm);
    let other = |change: &dyn Fn(&mut PackageStatement)| {
        let mut about = about.clone();
        change(&mut about);
        sign(&key(1), &about)
    };
    let good = signed(&wasm, &key(1));
    for (name, signature, says) in [
        ("unsigned", None, "is not signed"),
        ("no envelope", Some("x".to_owned()), "is no envelope"),
        ("wrong key", Some(signed(&wasm, &key(9))), "has no key"),
        ("revoked key", Some(signed(&wasm, &key(3))), "is revoked"),
        ("key not yet valid", Some(signed(&wasm, &key(2))), "is valid from 2999"),
        (
            "another package",
            Some(other(&|of| of.package = "northwind/quote".parse().unwrap())),
            "is for northwind/quote 1.0.0",
        ),
        ("another version", Some(other(&|of| of.version = "1.0.1".parse().unwrap())), "is for northwind/crm 1.0.1"),
        ("another file", Some(other(&|of| of.digest = Digest::of(b"x"))), "is for a file with"),
        ("yet to come", Some(other(&|of| of.signed_us += 3_600_000_000)), "is yet to come"),
        ("changed", Some(good.replacen("\"sig\":\"", "\"sig\":\"AAAA", 1).replace("==\"}]", "\"}]")), "sig"),
    ] {
        let before = test.host_chain();
        let refused = publish(&test, &author, &wasm, signature.as_deref());
        assert_eq!((refused.status, refused.problem().as_str()), (422, "package-refused"), "{name}: {}", refused.body);
        let fault = &refused.body["faults"][0];
        assert!(fault["what"].as_str().unwrap().contains(says), "{name}: {fault} does not say {says:?}");
        assert!(!fault["remedy"].as_str().unwrap().is_empty(), "{name}");
        assert_eq!(test.host_chain(), before, "{name}");
        assert_eq!(test.get("/v1/market/packages/northwind/crm", &author).status, 404, "{name}");
    }
    let files = || std::fs::read_dir(test.folder().join("artifacts")).map_or(0, Iterator::count);
    assert_eq!(files(), 0, "nothing of it was compiled");
    publish(&test, &author, &wasm, Some(&good)).ok();
    let shown = test.get("/v1/market/packages/northwind/crm", &author).ok();
    assert_eq!(shown["signed"], true);
    // The very same again does no harm, and the same version with other bytes is no other one.
    assert_eq!(publish(&test, &author, &wasm, Some(&good)).status, 200);
    let other = package("northwind/crm", "1.0.0", "[limits]\nmemory_mb = 8\n");
    assert_eq!(publish(&test, &author, &other, Some(&signed(&other, &key(1)))).status, 409);
}

#[test]
fn a_key_that_is_revoked_takes_with_it_what_it_signed_if_the_operator_says_so() {
    let (test, author) = host();
    let acme = test.tenant("acme-corp");
    for (name, by) in [("northwind/one", 1), ("northwind/two", 2)] {
        let wasm = package(name, "1.0.0", "");
        if by == 2 {
            // The publisher's own token adds no key by itself; one of its keys may vouch for it.
            assert_eq!(keys(&test, &author, &json!({ "key": key(2).public().to_string() })).status, 403);
            let rotation = KeyRotation {
                publisher: "northwind".parse().unwrap(),
                key: key(2).public(),
                not_before_us: now_us(),
                not_after_us: None,
            };
            assert_eq!(keys(&test, &author, &json!({ "rotation": rotation.sign(&key(9)) })).status, 422);
            keys(&test, &author, &json!({ "rotation": rotation.sign(&key(1)) })).ok();
        }
        publish(&test, &author, &wasm, Some(&signed(&wasm, &key(by)))).ok();
        put(&test, "acme-corp", &acme, name, &json!({})).ok();
    }
    let call = |name: &str| test.invoke("acme-corp", &acme, &format!("guest.{name}"), &json!({})).status;
    assert_eq!((call("one"), call("two")), (200, 200));
    let revoke = |seed: u8, body: &Value| {
        let path = format!("/v1/market/publishers/northwind/keys/{}/revoke", key(seed).public().id());
        test.send("POST", &path, &test.operator, body).ok()
    };
    revoke(1, &json!({}));
    assert_eq!((call("one"), call("two")), (200, 200), "what came before stays");
    let wasm = package("northwind/three", "1.0.0", "");
    assert_eq!(publish(&test, &author, &wasm, Some(&signed(&wasm, &key(1)))).status, 422);
    revoke(1, &json!({ "earlier_falls": true }));
    assert_eq!((call("one"), call("two")), (403, 403), "and so does what it vouched for");
}

#[test]
fn a_key_that_is_revoked_is_never_trusted_more_by_a_further_word() {
    let (test, _author) = host();
    let path = format!("/v1/market/publishers/northwind/keys/{}/revoke", key(1).public().id());
    let revoke = |body: &Value| test.send("POST", &path, &test.operator, body);
    let shown = || {
        let shown = test.get("/v1/market/publishers/northwind", &test.operator).ok()["keys"][0].clone();
        (shown["revoked"].clone(), shown["earlier_falls"].clone())
    };
    let early = "2020-01-01T00:00:00Z";
    let later = revoke(&json!({ "at": "2999-01-01T00:00:00Z" }));
    assert_eq!(later.status, 422, "{}", later.body);
    assert!(later.body.to_string().contains("\"at\""), "it names the place: {}", later.body);
    assert_eq!(shown(), (Value::Null, Value::Null), "nothing is revoked");
    // Each is stronger than the one before; and the same again, or weaker, is not done.
    for (stronger, at, falls) in [
        (json!({ "at": "2021-01-01T00:00:00Z" }), "2021-01-01", Value::Null),
        (json!({ "at": early }), "2020-01-01", Value::Null),
        (json!({ "earlier_falls": true }), "2020-01-01", json!(true)),
    ] {
        revoke(&stronger).ok();
        let now = shown();
        assert!(now.0.as_str().unwrap().starts_with(at) && now.1 == falls, "{stronger}: {now:?}");
        for weaker in [json!({}), json!({ "at": "2022-01-01T00:00:00Z" }), json!({ "at": early }), stronger] {
            if weaker["at"] == early && at != "2020-01-01" {
                continue;
            }
            let refused = revoke(&weaker);
            assert_eq!(refused.status, 409, "{weaker}: {}", refused.body);
            assert!(refused.body["detail"].as_str().unwrap().contains("revoked already"), "{}", refused.body);
            assert_eq!(shown(), now, "{weaker}");
        }
    }
}

#[test]
fn hostile_29_names_that_are_taken_for_others_and_versions_that_were_there_are_refused_all_at_once() {
    let test = TestHost::start();
    test.publishes(&package("northwind/crm", "1.2.0", "")).ok();
    test.publishes(&package("northwind/crm", "1.10.0", "")).ok();
    for name in ["northw1nd", "north-wind", "nothwind", "norhtwind"] {
        let refused = test.send("POST", "/v1/market/publishers", &test.operator, &json!({ "name": name }));
        assert_eq!(refused.status, 409, "{name}: {}", refused.body);
        assert!(refused.body["detail"].as_str().unwrap().contains("northwind"), "{}", refused.body);
    }
    for (version, says) in
        [("1.1.0", "201"), ("1.2.1", "201"), ("1.2.0-rc.1", "below 1.2.1"), ("1.10.0-rc.1", "below 1.10.0")]
    {
        let answer = test.publishes(&package("northwind/crm", version, ""));
        let said = format!("{} {}", answer.status, answer.body);
        assert!(said.contains(says), "{version}: {said} does not say {says}");
    }
    for odd in ["1.0", "v1.0.0", "01.0.0", "1.0.0.0", "1.3.0+build"] {
        let about =
            format!("[package]\nname = \"northwind/crm\"\nversion = {odd:?}\ndescription = \"x\"\nlicense = \"MIT\"\n");
        let component =
            clawhold_test_support::guest::component_of("crm", "(func $run (result i32) (call $yes))").unwrap();
        let wasm = clawhold_test_support::guest::with_manifest(&component, &about);
        let refused = test.ask("POST", "/v1/market/packages", &test.publisher("northwind"), Some(&wasm));
        assert_eq!((refused.status, refused.problem().as_str()), (422, "package-refused"), "{odd}: {}", refused.body);
    }
    // Each fault with its remedy, and nothing is kept by a check.
    let wasm = package("northwind/crm", "1.2.0-rc.1", "");
    let author = test.publisher("northwind");
    let checked =
        test.ask_with(&[("clawhold-signature", "x")], "POST", "/v1/market/packages?check=true", &author, Some(&wasm));
    let faults = checked.body["faults"].as_array().unwrap();
    assert!(faults.len() >= 2, "{}", checked.body);
    let good = package("northwind/quote", "1.0.0", "");
    let checked = test.ask("POST", "/v1/market/packages?check=true", &author, Some(&good)).ok();
    assert_eq!((&checked["new"], &checked["skills"][0]["name"]), (&json!(false), &json!("guest.quote")));
    assert_eq!(test.get("/v1/market/packages/northwind/quote", &author).status, 404);
}

#[test]
fn of_two_that_publish_a_version_at_once_one_wins_and_nothing_is_left_of_the_other() {
    let test = TestHost::on_postgres();
    let other = TestHost::beside(&test, &format!("database_url: {}\n", test.store()));
    let author = test.publisher("northwind");
    let answers = std::thread::scope(|scope| {
        let publish = |on: &'static str, memory: u32| {
            let (test, other, author) = (&test, &other, &author);
            scope.spawn(move || {
                let wasm = package("northwind/crm", "1.0.0", &format!("[limits]\nmemory_mb = {memory}\n"));
                let host = if on == "one" { test } else { other };
                host.ask("POST", "/v1/market/packages", author, Some(&wasm)).status
            })
        };
        let all = [publish("one", 8), publish("other", 9), publish("one", 10)];
        all.map(|one| one.join().unwrap())
    });
    assert_eq!(answers.iter().filter(|status| **status == 201).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status, 201 | 409 | 422 | 503)), "{answers:?}");
    let versions = test.get("/v1/market/packages/northwind/crm/versions", &author).ok();
    assert_eq!(versions["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_key_that_falls_stops_what_it_signed_on_another_node_within_a_second() {
    let one = TestHost::on_postgres_with(REQUIRED);
    let other = TestHost::beside(&one, &format!("{REQUIRED}database_url: {}\n", one.store()));
    let ask = json!({ "name": "northwind", "key": key(1).public().to_string() });
    one.send("POST", "/v1/market/publishers", &one.operator, &ask).ok();
    let (author, acme) = (one.publisher("northwind"), one.tenant("acme-corp"));
    let wasm = package("northwind/crm", "1.0.0", "");
    publish(&one, &author, &wasm, Some(&signed(&wasm, &key(1)))).ok();
    put(&one, "acme-corp", &acme, "northwind/crm", &json!({})).ok();
    let call = || other.invoke("acme-corp", &acme, "guest.crm", &json!({})).status;
    assert!(becomes(|| call() == 200));
    let path = format!("/v1/market/publishers/northwind/keys/{}/revoke", key(1).public().id());
    let began = std::time::Instant::now();
    one.send("POST", &path, &one.operator, &json!({ "earlier_falls": true })).ok();
    while call() == 200 {
        assert!(began.elapsed() < std::time::Duration::from_secs(2), "it still runs on the other node");
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
}
