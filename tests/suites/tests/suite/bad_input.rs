//! What cannot be used is refused with a place and a remedy, and changes nothing.

use serde_json::{Value, json};

use crate::support::{TestHost, on_each_database, probe};

on_each_database![
    an_input_that_cannot_be_used_says_where,
    a_request_that_cannot_be_used_says_where,
    hostile_09_odd_tenant_ids_are_refused_alike_on_every_surface,
];

/// Sends it, and checks the status, the type of the problem, and what the answer says.
#[track_caller]
fn check(test: &TestHost, token: &str, request: (&str, &str, &[u8]), status: u16, problem: &str, says: &[&str]) {
    let before = test.chains();
    let (method, path, body) = request;
    let answer = test.ask(method, path, token, Some(body));
    let said = answer.body.to_string();
    assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{method} {path}: {said}");
    for part in says {
        assert!(said.contains(part), "{method} {path}: {said} does not say {part:?}");
    }
    assert!(said.len() < 4000, "{said}");
    // Every change leaves an entry, which another test shows; a refused role leaves one that says so.
    if problem != "forbidden" {
        assert_eq!(test.chains(), before, "{method} {path} changed something");
    }
}

fn with_manifest(manifest: &str) -> Vec<u8> {
    let text = r#"(component (instance $i) (export "clawhold:skill/handler@0.1.0" (instance $i)))"#;
    with_section(&wat::parse_str(text).unwrap(), manifest)
}

fn with_section(component: &[u8], manifest: &str) -> Vec<u8> {
    let leb = |mut n: usize, to: &mut Vec<u8>| loop {
        let byte = u8::try_from(n & 0x7f).unwrap();
        n >>= 7;
        to.push(if n == 0 { byte } else { byte | 0x80 });
        if n == 0 {
            return;
        }
    };
    let mut content = Vec::new();
    leb("clawhold:manifest".len(), &mut content);
    content.extend_from_slice(b"clawhold:manifest");
    content.extend_from_slice(manifest.as_bytes());
    let mut wasm = component.to_vec();
    wasm.push(0);
    leb(content.len(), &mut wasm);
    wasm.extend(content);
    wasm
}

#[test]
fn a_package_that_cannot_be_published_says_why() {
    let test = TestHost::start();
    let publisher = test.publisher("northwind");
    let good = "[package]\nname = \"northwind/xx\"\nversion = \"1.0.0\"\ndescription = \"x\"\nlicense = \"MIT\"\n";
    let publish = |wasm: &[u8], says: &[&str]| {
        check(&test, &publisher, ("POST", "/v1/market/packages", wasm), 422, "package-refused", says);
    };
    publish(&with_manifest(&format!("{good}licence = \"MIT\"\n")), &["line 6", "licence", "expected one of"]);
    publish(&with_manifest(&good.replace("northwind/xx", "North Wind")), &["line 2", "package name", "publisher/name"]);
    publish(&with_manifest(&good.replace("1.0.0", "one")), &["line 3"]);
    publish(
        &with_manifest(&format!(
            "{good}[[http]]\nhost = \"x.com\"\nmethods = [\"GET\"]\npaths = [\"/\"]\ncredentials = [\"t\"]\n"
        )),
        &["http[0].credentials[0]", "[[secrets]]"],
    );
    let http = r#"(component (import "clawhold:skill/http@0.1.0" (instance)) (instance $i) (export "clawhold:skill/handler@0.1.0" (instance $i)))"#;
    publish(&with_section(&wat::parse_str(http).unwrap(), good), &["uses http", "[[http]]"]);
    let foreign = r#"(component (import "wasi:nn/graph@0.2.0" (instance)) (instance $i) (export "clawhold:skill/handler@0.1.0" (instance $i)))"#;
    publish(&with_section(&wat::parse_str(foreign).unwrap(), good), &["wasi:nn/graph@0.2.0", "does not offer"]);
    publish(&wat::parse_str("(module)").unwrap(), &["core module", "skill build"]);
    publish(&probe()[..probe().len() / 2], &["damaged", "build it again"]);
    publish(b"MZ this is no component", &["not WebAssembly"]);
    publish(b"", &["not WebAssembly"]);
    let artifacts = || std::fs::read_dir(test.folder().join("artifacts")).unwrap().count();
    assert_eq!(artifacts(), 0);
    // A handler without functions of its own passes the first look, and fails when it is linked.
    publish(&with_manifest(good), &["cannot be compiled"]);
    assert_eq!(artifacts(), 0, "a refused package left native code");
    let other = test.publisher("southwind");
    check(&test, &other, ("POST", "/v1/market/packages", probe()), 403, "forbidden", &["southwind", "northwind/probe"]);
}

/// Announces a body of this length and sends none of it, so an answer shows that none was waited for.
#[track_caller]
fn refused_by_its_length(test: &TestHost, token: &str, path: &str, length: u64, limit: u64) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(test.url.trim_start_matches("http://")).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains(&limit.to_string()), "{answer}");
}

#[test]
fn a_file_of_200_megabytes_is_refused_before_it_is_read() {
    let test = TestHost::start();
    let publisher = test.publisher("northwind");
    refused_by_its_length(&test, &publisher, "/v1/market/packages", 200 << 20, 64 << 20);
}

fn an_input_that_cannot_be_used_says_where(test: &TestHost) {
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let path = "/v1/tenants/acme-corp/skills/probe.echo/invoke";
    let runs = |test: &TestHost| test.get("/v1/tenants/acme-corp/runs", &admin).ok()["items"].as_array().unwrap().len();
    let invoke = |body: &[u8], says: &[&str]| {
        check(test, &admin, ("POST", path, body), 422, "invalid-input", says);
    };
    invoke(b"{", &["not JSON", "line 1"]);
    invoke(b"", &["not JSON"]);
    invoke(b"\xff\xfe", &["not UTF-8"]);
    invoke(b"{}", &["text", "required"]);
    invoke(br#"{"text": 5}"#, &["input/text", "string"]);
    invoke(br#"{"text": "x", "txet": 1}"#, &["txet"]);
    invoke(br#"{"text": 5, "text": "x"}"#, &["text", "stands twice"]);
    invoke(format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)).as_bytes(), &["not JSON", "recursion"]);
    refused_by_its_length(test, &admin, path, 2 << 20, 1 << 20);
    check(
        test,
        &admin,
        ("POST", "/v1/tenants/acme-corp/skills/no.such/invoke", b"{}"),
        404,
        "not-found",
        &["skill does not exist"],
    );
    check(test, &admin, ("POST", "/v1/tenants/acme-corp/skills/%20%00/invoke", b"{}"), 404, "not-found", &[]);
    check(test, "", ("POST", path, b"{}"), 401, "unauthenticated", &["Authorization: Bearer"]);
    assert_eq!(runs(test), 0, "a refused input made a run");
}

fn a_request_that_cannot_be_used_says_where(test: &TestHost) {
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let operator = test.operator.clone();
    let send = |token: &str, method: &str, path: &str, body: Value, status: u16, problem: &str, says: &[&str]| {
        check(test, token, (method, path, body.to_string().as_bytes()), status, problem, says);
    };
    send(&operator, "POST", "/v1/tenants", json!({ "id": "Acme Corp" }), 422, "invalid-input", &["tenant id", "a-z"]);
    send(
        &operator,
        "POST",
        "/v1/tenants",
        json!({ "id": "globex", "teir": "pro" }),
        422,
        "invalid-input",
        &["teir", "tier"],
    );
    send(&operator, "POST", "/v1/tenants", json!({ "id": "globex", "tier": "P R O" }), 422, "invalid-input", &["tier"]);
    send(&operator, "POST", "/v1/tenants", json!({ "id": "acme-corp" }), 409, "conflict", &["acme-corp", "another id"]);
    let tokens = "/v1/tenants/acme-corp/tokens";
    send(&admin, "POST", tokens, json!({ "name": "x", "role": "root" }), 422, "invalid-input", &["role", "admin"]);
    send(&admin, "POST", tokens, json!({ "name": "x", "role": "operator" }), 422, "invalid-input", &["auditor"]);
    send(
        &admin,
        "POST",
        tokens,
        json!({ "name": "a#b", "role": "admin" }),
        422,
        "invalid-input",
        &["name", "without #"],
    );
    send(&admin, "POST", tokens, json!({ "name": "", "role": "admin" }), 422, "invalid-input", &["name"]);
    send(
        &admin,
        "POST",
        tokens,
        json!({ "name": "x", "role": "admin", "expires": "2001-01-01T00:00:00Z" }),
        422,
        "invalid-input",
        &["expires", "past"],
    );
    send(
        &operator,
        "POST",
        "/v1/tenants/nobody/tokens",
        json!({ "name": "x", "role": "admin" }),
        404,
        "not-found",
        &["tenant"],
    );
    let secret = "/v1/tenants/acme-corp/secrets";
    send(&admin, "PUT", &format!("{secret}/UPPER"), json!({ "value": "x" }), 422, "invalid-input", &["secret name"]);
    send(&admin, "PUT", &format!("{secret}/token"), json!({ "value": "" }), 422, "invalid-input", &["value", "1 to"]);
    send(
        &admin,
        "PUT",
        &format!("{secret}/token"),
        json!({ "value": 5 }),
        422,
        "invalid-input",
        &["value", "named fields"],
    );
    let echoed = test.send("PUT", &format!("{secret}/token"), &admin, &json!("my-s3cret-value")).body.to_string();
    assert!(echoed.contains("named fields") && !echoed.contains("s3cret"), "{echoed}");
    send(
        &admin,
        "PUT",
        &format!("{secret}/token"),
        json!({ "value": "x".repeat(70_000) }),
        422,
        "invalid-input",
        &["65536"],
    );
    send(&admin, "DELETE", &format!("{secret}/nothing"), json!(null), 404, "not-found", &["secret"]);
    let plan = "/v1/tenants/acme-corp/installs/northwind/probe/plan";
    send(&admin, "POST", plan, json!({}), 422, "invalid-input", &["settings.origin", "not set"]);
    send(
        &admin,
        "POST",
        plan,
        json!({ "settings": { "origin": "acme" } }),
        422,
        "invalid-input",
        &["settings.origin", "no URL"],
    );
    send(
        &admin,
        "POST",
        plan,
        json!({ "settings": { "origin": "https://x.com" }, "reveal": ["token"] }),
        422,
        "invalid-input",
        &["reveal", "token"],
    );
    send(&admin, "POST", plan, json!({ "version": "9.9.9" }), 404, "not-found", &["package version"]);
    send(&admin, "POST", "/v1/tenants/acme-corp/installs/northwind/nothing/plan", json!({}), 404, "not-found", &[]);
    let zeros = format!("sha256:{}", "0".repeat(64));
    let put = json!({ "version": "1.0.0", "settings": { "origin": "https://evil.example.com" }, "consent": zeros });
    send(
        &admin,
        "PUT",
        "/v1/tenants/acme-corp/installs/northwind/probe",
        put,
        409,
        "consent-required",
        &["adds", "evil.example.com", "consent"],
    );
    send(
        &admin,
        "GET",
        "/v1/tenants/acme-corp/runs?limit=0",
        json!(null),
        422,
        "invalid-input",
        &["limit", "1 to 200"],
    );
    send(&admin, "GET", "/v1/tenants/acme-corp/runs?limt=5", json!(null), 422, "invalid-input", &["limt"]);
    send(&admin, "GET", "/v1/tenants/acme-corp/runs?after=!!", json!(null), 422, "invalid-input", &["after", "next"]);
    let odd = test.get("/v1/tenants/%ff/runs", &admin);
    assert_eq!((odd.status, odd.problem()), (404, "not-found".to_owned()));
    assert_eq!(test.get("/v1/tenants/%ff/runs", "").status, 401);
    send(&admin, "GET", "/v1/nothing", json!(null), 404, "not-found", &["path"]);
    send(&admin, "PATCH", "/v1/tenants", json!(null), 405, "method-not-allowed", &["Allow"]);
}

#[test]
fn each_problem_is_documented() {
    let test = TestHost::start();
    let listed = test.get("/problems", "").ok();
    for problem in listed.as_array().unwrap() {
        let shown = test.get(problem["type"].as_str().unwrap(), "").ok();
        assert!(shown["help"].as_str().unwrap().len() > 20, "{shown}");
    }
}

/// Ids that are none: other spellings, other alphabets, other parts of a system.
const ODD_TENANTS: [&str; 14] = [
    "",
    "a",
    "..",
    "../b",
    "a/b",
    "a:b",
    "a b",
    "a\0b",
    "Acme-corp",
    "ACME",
    "_host",
    "acme_corp",
    "\u{430}cme-corp",
    "acme-corp\u{200b}",
];

fn hostile_09_odd_tenant_ids_are_refused_alike_on_every_surface(test: &TestHost) {
    let long = "a".repeat(10 << 10);
    let unknown = test.get("/v1/tenants/nobody", &test.operator);
    for odd in ODD_TENANTS.into_iter().chain([long.as_str()]) {
        let shown = odd.chars().take(20).collect::<String>();
        // The one parser, which all surfaces share.
        assert!(odd.parse::<clawhold_tenancy::TenantId>().is_err(), "{shown:?}");
        // A path: as a tenant that does not exist. An empty one is another route.
        if !odd.is_empty() {
            let encoded = odd.bytes().fold(String::new(), |all, byte| all + &format!("%{byte:02x}"));
            for rest in ["", "/tokens", "/audit"] {
                let answer = test.get(&format!("/v1/tenants/{encoded}{rest}"), &test.operator);
                let as_unknown = answer.status == 404 && answer.body["detail"] == "tenant does not exist";
                // An operator may not read a tenant's log, whoever that is.
                let as_forbidden = rest == "/audit" && answer.status == 404;
                assert!(as_unknown || as_forbidden, "{shown:?}{rest}: {} {}", answer.status, answer.body);
            }
            assert_eq!(test.get(&format!("/v1/tenants/{encoded}"), &test.operator).body, unknown.body, "{shown:?}");
        }
        // A body: refused, with the place, and not echoed whole.
        let made = test.send("POST", "/v1/tenants", &test.operator, &json!({ "id": odd }));
        assert_eq!(made.status, 422, "{shown:?}: {}", made.body);
        assert!(made.body.to_string().len() < 1000, "{shown:?}");
        // The configuration.
        let yaml = format!("tenant_quotas:\n  {}:\n    max_concurrent_runs: 1\n", serde_json::to_string(odd).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clawhold.yaml");
        std::fs::write(&file, yaml).unwrap();
        assert!(
            clawhold_cli::config::Config::load(Some(&file), &std::collections::HashMap::new()).is_err(),
            "{shown:?}"
        );
    }
    let listed = test.get("/v1/tenants", &test.operator).ok();
    assert_eq!(listed["items"], json!([]), "one of them was made");
}
