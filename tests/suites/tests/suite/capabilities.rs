//! Secrets, HTTP and audit as a guest meets them.

use serde_json::{Value, json};

use crate::support::{Peer, TestHost, answer_with, probe};

fn fetch(test: &TestHost, admin: &str, input: &Value) -> String {
    let answer = test.invoke("acme-corp", admin, "probe.fetch", input);
    answer.body["output"].as_str().map_or_else(|| answer.body.to_string(), str::to_owned)
}

#[test]
fn a_request_that_the_policy_does_not_allow_is_not_sent() {
    let peer = Peer::start(|_| answer_with("hello"));
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", &peer.origin);
    let at = |path: &str| format!("{}{path}", peer.origin);
    assert_eq!(fetch(&test, &admin, &json!({ "url": at("/allowed/x") })), "200 hello");
    let sent = peer.heads().len();
    for (input, rule) in [
        (json!({ "url": at("/forbidden") }), "Policy"),
        (json!({ "url": at("/allowed/../forbidden") }), "Policy"),
        (json!({ "url": at("/allowed/%2e%2e/forbidden") }), "Policy"),
        (json!({ "url": at("/allowed/..%2fforbidden") }), "InvalidRequest"),
        (json!({ "url": at("/allowed/x"), "method": "POST" }), "Policy"),
        (json!({ "url": at("/allowed/x"), "method": "DELETE" }), "Policy"),
        (json!({ "url": at("/allowed/x").replace("127.0.0.1", "localhost") }), "Policy"),
        (json!({ "url": at("/allowed/x").replace("http:", "https:") }), "Policy"),
        (json!({ "url": "http://169.254.169.254/latest/meta-data/" }), "Policy"),
        (json!({ "url": "file:///etc/passwd" }), "InvalidRequest"),
        (json!({ "url": at("/allowed/x"), "header": "Host=evil.example.com" }), "InvalidRequest"),
        (json!({ "url": at("/allowed/x"), "header": "Transfer-Encoding=chunked" }), "InvalidRequest"),
        (json!({ "url": at("/allowed/x"), "header": "X-A=b\r\nGET /admin HTTP/1.1" }), "InvalidRequest"),
    ] {
        let said = fetch(&test, &admin, &input);
        assert!(said.contains(rule), "{input}: {said}");
    }
    assert_eq!(peer.heads().len(), sent, "a refused request was sent");
}

#[test]
fn hostile_15_an_allowed_name_that_leads_into_the_hosts_network_is_refused() {
    // The policy allows it, the operator did not open it.
    for origin in [
        "http://127.0.0.2:9",
        "http://0x7f.2:9",
        "http://2130706434:9",
        "http://[::1]:9",
        "https://10.0.0.1",
        "https://[::ffff:10.0.0.1]",
        "https://169.254.169.254",
        "https://[fd00:ec2::254]",
        "https://100.64.0.1",
    ] {
        let test = TestHost::start();
        let admin = test.tenant("acme-corp");
        test.publish(probe());
        test.install("acme-corp", &admin, "northwind/probe", &json!({ "origin": origin }), &[]);
        let said = fetch(&test, &admin, &json!({ "url": format!("{origin}/allowed/x") }));
        assert!(said.contains("Address"), "{origin}: {said}");
        assert!(said.contains("sent: false"), "{origin}: {said}");
    }
}

/// An answer that leads there.
fn leads_to(status: u16, to: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Elsewhere\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

#[test]
fn hostile_16_a_redirect_is_followed_only_where_the_request_itself_could_go() {
    let target = Peer::start(|_| answer_with("secret"));
    let other = target.origin.clone();
    let peer = Peer::start(move |head| {
        let path = head.split(' ').nth(1).unwrap();
        match path.strip_prefix("/allowed/to/") {
            Some("other") => leads_to(302, &format!("{other}/allowed/x")),
            Some("name") => leads_to(302, &format!("{}/allowed/x", other.replace("127.0.0.1", "localhost"))),
            Some("metadata") => leads_to(307, "http://169.254.169.254/latest/meta-data/"),
            Some("forbidden") => leads_to(302, "/forbidden"),
            Some("up") => leads_to(302, "../%2e%2e/forbidden"),
            Some("file") => leads_to(302, "file:///etc/passwd"),
            Some("secure") => leads_to(302, "https://127.0.0.1:1/allowed/x"),
            Some("nothing") => leads_to(302, "http://"),
            Some("user") => leads_to(302, "//u:p@127.0.0.1:1/allowed/x"),
            Some("circle") => leads_to(302, "/allowed/to/circle"),
            Some("3") => leads_to(301, "/allowed/to/2#part"),
            Some("2") => leads_to(303, "1"),
            Some("1") => leads_to(308, "/allowed/x?q"),
            _ => answer_with("hello"),
        }
    });
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", &peer.origin);
    test.send("PUT", "/v1/tenants/acme-corp/secrets/token", &admin, &json!({ "value": "t0k3n-v4lue" })).ok();
    let ask = |to: &str| {
        let url = format!("{}/allowed/to/{to}", peer.origin);
        fetch(&test, &admin, &json!({ "url": url, "with_token": true }))
    };
    assert_eq!(ask("3"), "200 hello");
    let heads = peer.heads();
    let paths: Vec<_> = heads.iter().map(|head| head.split(' ').nth(1).unwrap()).collect();
    assert_eq!(paths, ["/allowed/to/3", "/allowed/to/2", "/allowed/to/1", "/allowed/x?q"]);
    assert!(heads.iter().all(|head| head.contains("authorization: Bearer t0k3n-v4lue")), "it stays with its origin");
    for (to, rule) in [
        ("other", "Policy"),
        ("name", "Policy"),
        ("metadata", "Policy"),
        ("forbidden", "Policy"),
        ("up", "Policy"),
        ("file", "Policy"),
        ("secure", "Policy"),
        ("nothing", "Policy"),
        ("user", "InvalidRequest"),
    ] {
        let before = peer.heads().len();
        let said = ask(to);
        assert!(said.contains(rule) && said.contains("sent: true") && said.contains("a redirect"), "{to}: {said}");
        assert_eq!(peer.heads().len(), before + 1, "{to}");
    }
    let before = peer.heads().len();
    let said = ask("circle");
    assert!(said.contains("Policy") && said.contains("a 4th time"), "{said}");
    assert_eq!(peer.heads().len(), before + 4, "three are followed");
    assert!(target.heads().is_empty(), "a redirect was followed to where nothing may go");
}

#[test]
fn a_denial_is_explained_to_the_tenant_and_not_to_the_guest() {
    let peer = Peer::start(|_| answer_with("hello"));
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", &peer.origin);
    for (url, by, why, remedy) in [
        (format!("{}/forbidden", peer.origin), "manifest", "/forbidden; allowed: GET http://127.0.0.1", "[[http]]"),
        ("https://127.0.0.1/%2e%2e".to_owned() + "%2fx", "request", "encoded `.`", "the path that you mean"),
    ] {
        let answer = test.invoke("acme-corp", &admin, "probe.fetch", &json!({ "url": url }));
        let run = test.run_of("acme-corp", &admin, &answer);
        let denied = &run["egress"][0]["denied"];
        assert_eq!(denied["by"], by, "{run}");
        assert!(denied["why"].as_str().unwrap().contains(why), "{run}");
        assert!(denied["remedy"].as_str().unwrap().contains(remedy), "{run}");
        let line = run["log"][0].as_str().unwrap();
        assert!(line.contains(&format!("refused by the {by}: ")) && line.contains(why), "{line}");
        // The same answer without a run.
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let query = query.append_pair("url", &url).finish();
        let explained =
            test.get(&format!("/v1/tenants/acme-corp/installs/northwind/probe/explain?{query}"), &admin).ok();
        assert_eq!(explained, json!({ "allowed": false, "denied": denied }));
        if by == "manifest" {
            let said = answer.body["output"].as_str().unwrap();
            assert!(said.contains("not allowed") && !said.contains("allowed: GET"), "{said}");
        }
    }
    let asked = format!("/v1/tenants/acme-corp/installs/northwind/probe/explain?url={}/allowed/x", peer.origin);
    assert_eq!(test.get(&asked, &admin).ok(), json!({ "allowed": true }));
    let with_secret = test.get(&format!("{asked}&secret=readable"), &admin).ok();
    assert_eq!(with_secret["denied"]["by"], "credential");
    assert_eq!(test.get(&asked.replace("probe", "other"), &admin).status, 404);
    assert!(peer.heads().is_empty(), "nothing was sent");
}

#[test]
fn hostile_20_a_secret_that_a_skill_gives_away_is_taken_out_wherever_it_is() {
    const VALUE: &str = "s3cr3t/v4lue+of the \"CRM\"";
    let peer = Peer::start(answer_with);
    let test = TestHost::start();
    let admin = test.tenant("acme-corp");
    test.publish(probe());
    test.install("acme-corp", &admin, "northwind/probe", &json!({ "origin": peer.origin }), &["readable"]);
    for name in ["token", "readable"] {
        test.send("PUT", &format!("/v1/tenants/acme-corp/secrets/{name}"), &admin, &json!({ "value": VALUE })).ok();
    }
    for (form, place) in [
        ("plain", "output"),
        ("hex", "output"),
        ("percent", "output"),
        ("plain", "log"),
        ("hex", "two lines"),
        ("plain", "error"),
        ("hex", "panic"),
        ("plain", "audit"),
        ("hex", "request"),
        ("hex", "path"),
    ] {
        let url = format!("{}/allowed/x", peer.origin);
        let input = json!({ "name": "readable", "form": form, "place": place, "url": url });
        let answer = test.invoke("acme-corp", &admin, "probe.leak", &input);
        let run = test.run_of("acme-corp", &admin, &answer);
        let found_in = match place {
            "two lines" => "log",
            "panic" => "error",
            "path" => "request",
            other => other,
        };
        let leaks = run["leaks"].to_string();
        assert!(leaks.contains(&format!("readable in the {found_in}")), "{form} {place}: {leaks}");
        if place == "request" {
            assert!(answer.body["output"].as_str().unwrap().contains("Credential"), "{}", answer.body);
        }
        // Whatever can be seen of the run.
        let events = json!(test.audit("acme-corp", &admin));
        let seen = format!("{} {run} {events}", answer.body);
        let hex = hex::encode(VALUE);
        for part in ["s3cr3t", "v4lue", &hex[..20], &hex[hex.len() - 20..]] {
            assert!(!seen.contains(part), "{form} {place}: {part} in {seen}");
        }
    }
    assert!(peer.heads().is_empty(), "the request with the value was sent");
    // A value that was put on a request, and that the peer gives back.
    let fetched = fetch(&test, &admin, &json!({ "url": format!("{}/allowed/x", peer.origin), "with_token": true }));
    assert!(fetched.contains("[redacted: "), "{fetched}");
    assert!(peer.heads()[0].contains(VALUE), "the peer got it");
    let told = test.audit("acme-corp", &admin);
    let leaks: Vec<_> = told.iter().filter(|event| event["action"] == "secret.leak").collect();
    assert!(leaks.len() >= 10 && leaks.iter().all(|event| event["outcome"] == "denied"), "{leaks:?}");
    // What the documentation says of its limits.
    let reversed = json!({ "name": "readable", "form": "reversed", "place": "output" });
    let answer = test.invoke("acme-corp", &admin, "probe.leak", &reversed);
    assert!(answer.ok()["output"].as_str().unwrap().contains("eul4v"));
}

#[test]
fn an_operator_has_outputs_kept_back_that_hold_a_secret() {
    let test = TestHost::with("secrets:\n  on_leak: refuse\n");
    let admin = test.tenant("acme-corp");
    test.publish(probe());
    test.install("acme-corp", &admin, "northwind/probe", &json!({ "origin": "https://a.example" }), &["readable"]);
    test.send("PUT", "/v1/tenants/acme-corp/secrets/readable", &admin, &json!({ "value": "s3cr3t-v4lue" })).ok();
    let input = json!({ "name": "readable", "form": "plain", "place": "output" });
    let answer = test.invoke("acme-corp", &admin, "probe.leak", &input);
    assert_eq!((answer.status, &answer.body["reason"]), (422, &json!("denied")), "{}", answer.body);
    assert!(!answer.body.to_string().contains("v4lue"), "{}", answer.body);
}

#[test]
fn hostile_34_an_answer_without_end_is_cut_off() {
    let peer = Peer::start(|head| {
        if head.contains("/allowed/body") {
            let mut answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec();
            answer.resize(9 << 20, b'x');
            answer
        } else {
            let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
            for n in 0..100_000 {
                answer.extend_from_slice(format!("x-{n}: y\r\n").as_bytes());
            }
            answer.extend_from_slice(b"\r\n");
            answer
        }
    });
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", &peer.origin);
    let body = fetch(&test, &admin, &json!({ "url": format!("{}/allowed/body", peer.origin) }));
    assert!(body.contains("Size") && body.contains("sent: true"), "{body}");
    let headers = fetch(&test, &admin, &json!({ "url": format!("{}/allowed/headers", peer.origin) }));
    assert!(headers.contains("Size") || headers.contains("Protocol"), "{headers}");
}

#[test]
fn a_secret_is_put_on_the_wire_by_the_host_and_read_only_where_the_tenant_lets_it_be() {
    let peer = Peer::start(|_| answer_with("hello"));
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", &peer.origin);
    for (name, value) in [("token", json!("t0k3n-v4lue")), ("readable", json!({ "user": "ada", "pass": "p4ss-w0rd" }))]
    {
        test.send("PUT", &format!("/v1/tenants/acme-corp/secrets/{name}"), &admin, &json!({ "value": value })).ok();
    }
    let url = format!("{}/allowed/x", peer.origin);
    assert_eq!(fetch(&test, &admin, &json!({ "url": url, "with_token": true })), "200 hello");
    let head = peer.heads().pop().unwrap();
    assert!(head.to_lowercase().contains("authorization: bearer t0k3n-v4lue"), "{head}");

    let reveal = |name: &str| test.invoke("acme-corp", &admin, "probe.reveal", &json!({ "name": name }));
    for name in ["token", "readable"] {
        let refused = reveal(name);
        assert_eq!((refused.status, &refused.body["kind"]), (422, &json!("denied")), "{}", refused.body);
    }
    test.install("acme-corp", &admin, "northwind/probe", &json!({ "origin": peer.origin }), &["readable"]);
    // It may read it, and give it to nobody.
    assert_eq!(reveal("readable").ok()["output"], "[redacted: readable]");
    assert_eq!(reveal("token").status, 422);
    let entries = test.audit("acme-corp", &admin);
    let reveals: Vec<_> = entries
        .iter()
        .filter(|e| e["action"] == "secret.reveal")
        .map(|e| (e["resource"].clone(), e["outcome"].clone()))
        .collect();
    let expected = [("token", "denied"), ("readable", "denied"), ("readable", "success"), ("token", "denied")]
        .map(|(name, outcome)| (json!(format!("secret:{name}")), json!(outcome)));
    assert_eq!(reveals, expected);

    // RFC 4231, test case 2.
    test.send("PUT", "/v1/tenants/acme-corp/secrets/token", &admin, &json!({ "value": { "key": "Jefe" } })).ok();
    let input = json!({ "name": "token", "field": "key", "message": "what do ya want for nothing?" });
    let signed = test.invoke("acme-corp", &admin, "probe.sign", &input).ok();
    assert_eq!(signed["output"], "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    let log = format!("{:?}", test.audit("acme-corp", &admin));
    assert!(!log.contains("t0k3n") && !log.contains("p4ss"), "a secret is in the audit log");
}

#[test]
fn a_guest_is_told_who_it_runs_for() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let told = test.invoke("acme-corp", &admin, "probe.whoami", &json!({})).ok();
    assert_eq!((&told["output"][0], &told["output"][1]), (&json!("acme-corp"), &json!("probe.whoami")));
    assert!(told["output"][2].as_str().unwrap().starts_with("token:admin#"));
    let secret_half = admin.split('_').next_back().unwrap();
    assert!(!told.to_string().contains(secret_half), "a guest saw its caller's credential");
}

#[test]
fn secrets_are_listed_page_by_page() {
    let test = TestHost::start();
    let admin = test.tenant("acme-corp");
    for name in ["a", "b", "c"] {
        test.send("PUT", &format!("/v1/tenants/acme-corp/secrets/{name}"), &admin, &json!({ "value": "x" })).ok();
    }
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = test.get(&format!("/v1/tenants/acme-corp/secrets?limit=2{after}"), &admin).ok();
        seen.extend(page["items"].as_array().unwrap().iter().map(|secret| secret["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["a", "b", "c"]);
}
