//! `wasi:http` leaves by the same way as `http`: the same rules, the same budget, the same entries.

use serde_json::{Value, json};

use super::OnWasi;
use crate::support::{Peer, answer_with};

fn to(origin: &str, path: &str) -> Value {
    let (scheme, authority) = origin.split_once("://").unwrap();
    json!({ "scheme": scheme, "authority": authority, "path": path })
}

fn with(mut request: Value, key: &str, value: Value) -> Value {
    request[key] = value;
    request
}

#[track_caller]
fn fetch(on: &OnWasi, requests: &[Value]) -> Vec<String> {
    let said = on.output("wasi.fetch", &json!({ "requests": requests }));
    said.as_array().unwrap().iter().map(|said| said.as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_wasi_request_that_the_policy_allows_is_sent_and_recorded() {
    let peer = Peer::start(|_| answer_with("hello"));
    let on = OnWasi::with("", &peer.origin);
    let post = with(with(to(&peer.origin, "/allowed/x?q=1"), "method", json!("POST")), "body_bytes", json!(10_000));
    let post = with(post, "headers", json!(["content-length=10000", "x-a=b"]));
    let answer = on.invoke("wasi.fetch", &json!({ "requests": [to(&peer.origin, "/allowed/x"), post] }));
    assert_eq!(answer.body["output"], json!(["200 hello", "200 hello"]), "{}", answer.body);
    let told = json!({ "method": "GET", "origin": peer.origin, "status": 200, "response_bytes": 5 });
    assert_eq!(on.run_of(&answer)["egress"], json!([told, with(told.clone(), "method", json!("POST"))]));
    let mut heads = peer.heads();
    heads.sort();
    // By which a circle through the API is found out.
    assert!(heads.iter().all(|head| head.matches("clawhold-depth: 1").count() == 1), "{heads:?}");
    assert!(heads[1].starts_with("POST /allowed/x?q=1 HTTP/1.1\r\n") && heads[1].contains("x-a: b"), "{}", heads[1]);
    assert_eq!(heads[1].matches("content-length: 10000").count(), 1, "{}", heads[1]);
    assert_eq!(heads[1].matches("host: ").count(), 1, "{}", heads[1]);
}

#[test]
fn a_wasi_skill_reaches_no_address_that_the_policy_does_not_allow() {
    let peer = Peer::start(|_| answer_with("hello"));
    let on = OnWasi::with("", &peer.origin);
    let requests = [
        (to(&peer.origin, "/forbidden"), "HttpRequestDenied", "policy"),
        (to(&peer.origin, "/allowed/../forbidden"), "HttpRequestDenied", "policy"),
        (to(&peer.origin, "/allowed/..%2fforbidden"), "HttpRequestUriInvalid", "invalid-request"),
        (with(to(&peer.origin, "/allowed/x"), "method", json!("DELETE")), "HttpRequestDenied", "policy"),
        (with(to(&peer.origin, "/allowed/x"), "method", json!("CONNECT")), "HttpRequestUriInvalid", "invalid-request"),
        (to(&peer.origin.replace("127.0.0.1", "localhost"), "/allowed/x"), "HttpRequestDenied", "policy"),
        (to(&peer.origin.replace("http:", "https:"), "/allowed/x"), "HttpRequestDenied", "policy"),
        (to("http://169.254.169.254", "/latest/meta-data/"), "HttpRequestDenied", "policy"),
        (to("http://user@example.com", "/"), "HttpRequestUriInvalid", "invalid-request"),
    ];
    for (request, code, rule) in requests {
        let answer = on.invoke("wasi.fetch", &json!({ "requests": [request] }));
        let said = answer.body["output"][0].as_str().unwrap_or_else(|| panic!("{request}: {}", answer.body));
        assert!(said.contains(code), "{request}: {said}");
        let run = on.run_of(&answer);
        assert_eq!(run["egress"][0]["refused"], rule, "{request}");
        let line = run["log"][0].as_str().unwrap();
        assert!(line.starts_with("warn wasi:http: ") || line.starts_with("warn http: refused by the "), "{run}");
    }
    assert!(peer.heads().is_empty(), "a refused request was sent");
    for scheme in ["file", "ftp"] {
        let said = fetch(&on, &[json!({ "scheme": scheme, "authority": "x", "path": "/" })]);
        assert!(said[0].contains("HttpProtocolError"), "{said:?}");
    }
}

#[test]
fn hostile_15_an_allowed_name_that_leads_into_the_hosts_network_is_refused_on_wasi_too() {
    for origin in [
        "http://127.0.0.2:9",
        "http://[::1]:9",
        "https://10.0.0.1",
        "https://169.254.169.254",
        "https://[fd00:ec2::254]",
    ] {
        let on = OnWasi::with("", origin);
        let answer = on.invoke("wasi.fetch", &json!({ "requests": [to(origin, "/allowed/x")] }));
        assert!(answer.body["output"][0].as_str().unwrap().contains("DestinationIpProhibited"), "{}", answer.body);
        assert_eq!(on.run_of(&answer)["egress"][0]["refused"], "address");
    }
}

#[test]
fn hostile_18_a_wasi_guest_cannot_frame_a_message_itself() {
    let peer = Peer::start(|_| answer_with("hello"));
    let on = OnWasi::with("", &peer.origin);
    for header in [
        "host=evil.example.com",
        "Transfer-Encoding=chunked",
        "connection=close",
        "te=trailers",
        "expect=100-continue",
        "upgrade=h2c",
        "proxy-anything=x",
        "Clawhold-Depth=0",
    ] {
        let said = fetch(&on, &[with(to(&peer.origin, "/allowed/x"), "headers", json!([header]))]);
        assert!(said[0].contains("Forbidden"), "{header}: {said:?}");
    }
    let said = fetch(&on, &[with(to(&peer.origin, "/allowed/x"), "headers", json!(["x-a=b\r\nGET /admin HTTP/1.1"]))]);
    assert!(said[0].contains("InvalidSyntax"), "{said:?}");
    // A length that is not the body's.
    let lying = with(to(&peer.origin, "/allowed/x"), "headers", json!(["content-length=5"]));
    let lying = with(with(lying, "method", json!("POST")), "body_bytes", json!(6));
    let said = fetch(&on, &[lying]);
    assert!(!said[0].starts_with("200"), "{said:?}");
    assert!(peer.heads().is_empty(), "{:?}", peer.heads());
}

#[test]
fn wasi_requests_have_the_budget_and_the_size_limits_of_all_requests() {
    let peer = Peer::start(|head| {
        if head.contains("/allowed/large") {
            let mut answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
            answer.resize(9 << 20, b'x');
            answer
        } else {
            answer_with("hello")
        }
    });
    let on = OnWasi::with("", &peer.origin);
    let many: Vec<Value> = (0..40).map(|_| to(&peer.origin, "/allowed/x")).collect();
    let answer = on.invoke("wasi.fetch", &json!({ "requests": many, "read_each_first": true }));
    let said: Vec<&str> = answer.body["output"].as_array().unwrap().iter().map(|said| said.as_str().unwrap()).collect();
    assert!(said[..32].iter().all(|said| *said == "200 hello"), "{said:?}");
    assert!(said[32..].iter().all(|said| said.contains("ConnectionLimitReached")), "{said:?}");
    let run = on.run_of(&answer);
    // The first that was refused is told of, the others are counted.
    assert_eq!((run["egress"].as_array().unwrap().len(), &run["egress"][32]["refused"]), (33, &json!("budget")));
    let entries = on.test.audit("acme-corp", &on.admin);
    let entry = entries.iter().rfind(|entry| entry["action"] == "skill.invoke").unwrap();
    assert_eq!(entry["detail"]["requests_not_listed"], 7, "{entry}");
    assert_eq!(peer.heads().len(), 32);

    assert!(fetch(&on, &[to(&peer.origin, "/allowed/large")])[0].contains("HttpResponseBodySize"));
    let large = with(with(to(&peer.origin, "/allowed/x"), "method", json!("POST")), "body_bytes", json!((4 << 20) + 1));
    assert!(fetch(&on, &[large])[0].contains("HttpRequestBodySize"));
    assert_eq!(peer.heads().len(), 33);
    // As many at once as there may be.
    let said = fetch(&on, &many[..4]);
    assert!(said.iter().all(|said| said == "200 hello"), "{said:?}");
}

#[test]
fn a_wasi_request_ends_with_its_run_and_is_told_of() {
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let peer = Peer::start(move |_| {
        let _never = held.lock().unwrap().recv();
        answer_with("late")
    });
    let on = OnWasi::with("limits:\n  timeout_ms: 500\n", &peer.origin);
    let (scheme, authority) = peer.origin.split_once("://").unwrap();
    for (skill, input) in [
        ("wasi.fetch", json!({ "requests": [to(&peer.origin, "/allowed/slow")] })),
        ("wasi.fetch_and_go", json!({ "request": to(&peer.origin, "/allowed/slow") })),
        ("wasi.fetch_unfinished", json!({ "scheme": scheme, "authority": authority, "path": "/allowed/slow" })),
    ] {
        let answer = on.invoke(skill, &input);
        let run = on.run_of(&answer);
        assert_eq!(run["egress"][0]["status"], Value::Null, "{skill}: {run}");
        assert_eq!(run["egress"].as_array().unwrap().len(), 1, "{skill}: {run}");
        assert!(run["duration_us"].as_u64().unwrap() < 5_000_000, "{skill}: {run}");
    }
    drop(hold);
}
