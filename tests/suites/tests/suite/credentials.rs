//! What the host makes of secrets: values, access tokens and signatures, as those who check them see it.

mod tokens;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use clawhold_test_support::python::Served;
use serde_json::{Value, json};

use crate::support::{Answer, Peer, TestHost, answer_with, build, python, root, served};

/// The guest that sends.
fn signer() -> &'static [u8] {
    static SIGNER: OnceLock<Vec<u8>> = OnceLock::new();
    SIGNER.get_or_init(|| build(&format!("tests/guests/{}", "signer")))
}

/// A host with the guest that sends, installed for acme.
struct Fixture {
    test: TestHost,
    admin: String,
}

impl Fixture {
    fn new(origin: &str, identity: &str) -> Self {
        let test = TestHost::start();
        let admin = test.tenant("acme-corp");
        test.publish(signer());
        let settings = json!({ "origin": origin, "identity": identity });
        test.install("acme-corp", &admin, "northwind/signer", &settings, &[]);
        Self { test, admin }
    }

    fn put(&self, name: &str, value: &Value) -> Answer {
        let path = format!("/v1/tenants/acme-corp/secrets/{name}");
        self.test.send("PUT", &path, &self.admin, &json!({ "value": value }))
    }

    fn run(&self, input: &Value) -> Answer {
        self.test.invoke("acme-corp", &self.admin, "signer.send", input)
    }

    fn sends(&self, input: &Value) -> String {
        let answer = self.run(input);
        answer.body["output"].as_str().map_or_else(|| answer.body.to_string(), str::to_owned)
    }

    /// The requests of a run as its record has them: method, status, credential.
    fn requests(&self, answer: &Answer) -> Vec<(String, Value, Value)> {
        let record = self.test.run_of("acme-corp", &self.admin, answer);
        let of = |one: &Value| {
            (one["method"].as_str().unwrap().to_owned(), one["status"].clone(), one["credential"].clone())
        };
        record["egress"].as_array().unwrap().iter().map(of).collect()
    }
}

/// What a server in Python says of what came.
fn seen(server: &Served) -> Value {
    let said = ureq::get(format!("{}/seen", server.origin())).call().unwrap().body_mut().read_to_string().unwrap();
    serde_json::from_str(&said).unwrap()
}

/// The secret that a client of the identity provider is.
fn client(server: &Served, which: &str) -> Value {
    let mut client = server.said[which].clone();
    client["token_url"] = json!(format!("{}/o/token/", server.origin()));
    client["scope"] = json!("accounts");
    client
}

#[test]
fn an_access_token_is_fetched_once_used_until_it_is_refused_and_never_seen() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let Some(server) = served("oauth_server.py", &[folder, "600"]) else { return };
    let fix = Fixture::new(server.origin(), server.origin());
    let url = format!("{}/accounts", server.origin());
    let ask = json!({ "url": url, "secret_name": "crm" });
    fix.put("crm", &client(&server, "machine")).ok();
    let first = fix.run(&ask);
    assert_eq!(first.body["output"], "200 accounts", "{}", first.body);
    let fetch = ("POST".to_owned(), json!(200), json!("crm"));
    let used = ("GET".to_owned(), json!(200), json!("crm"));
    assert_eq!(fix.requests(&first), [used.clone(), fetch.clone()]);
    assert_eq!(fix.requests(&fix.run(&ask)), std::slice::from_ref(&used), "the token is kept");
    // As a header of another name, and not as a password.
    assert!(fix.sends(&json!({ "url": url, "secret_name": "crm", "place": "header" })).starts_with("401"));
    assert_eq!(fix.sends(&json!({ "url": url, "secret_name": "crm" })), "200 accounts");
    let said = fix.sends(&json!({ "url": url, "secret_name": "crm", "place": "basic" }));
    assert!(said.contains("Credential") && said.contains("no access token"), "{said}");
    // The server forgets it: the run that finds out fails, and a later one has another. Not at once: a skill that is told so by a server of its
    // own must not have a token fetched with each request.
    let exchanges = || seen(&server)["exchanges"].as_array().unwrap().len();
    let before = exchanges();
    assert_eq!(fix.sends(&json!({ "url": format!("{}/revoke", server.origin()), "secret_name": "crm" })), "200 done");
    let began = Instant::now();
    assert_eq!(fix.sends(&ask), "401 no token");
    while fix.sends(&ask) != "200 accounts" {
        assert!(began.elapsed() < Duration::from_secs(15), "the token that nobody knows is used for ever");
        // A few calls a second: the tenant may make no more than so many.
        std::thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(exchanges(), before + 1, "one other is enough");
    // In the body, for servers that want it there.
    let mut in_body = client(&server, "machine");
    in_body["client_authentication"] = json!("body");
    fix.put("crm", &in_body).ok();
    let anew = fix.run(&ask);
    assert_eq!((&anew.body["output"], fix.requests(&anew).len()), (&json!("200 accounts"), 2), "another secret");
    // One that is not good.
    let mut wrong = client(&server, "machine");
    wrong["client_secret"] = json!("wr0ng-s3cret");
    fix.put("crm", &wrong).ok();
    let refused = fix.run(&ask);
    let said = refused.body["output"].as_str().unwrap();
    assert!(said.contains("does not accept the secret crm") && said.contains("sent: false"), "{said}");
    let record = fix.test.run_of("acme-corp", &fix.admin, &refused).to_string();
    assert!(record.contains("does not accept the secret crm") && !record.contains("wr0ng-s3cret"), "{record}");
}

#[test]
fn a_refresh_token_that_is_good_once_is_replaced_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    // Good for a second beyond the half minute in which a token is used no more.
    let Some(server) = served("oauth_server.py", &[folder.path().to_str().unwrap(), "31"]) else { return };
    let fix = Fixture::new(server.origin(), server.origin());
    fix.put("crm", &client(&server, "person")).ok();
    let ask = json!({ "url": format!("{}/accounts", server.origin()), "secret_name": "crm" });
    let version = || fix.test.get("/v1/tenants/acme-corp/secrets", &fix.admin).ok()["items"][0]["version"].clone();
    let first = fix.run(&ask);
    assert_eq!((&first.body["output"], version()), (&json!("200 accounts"), json!(2)), "{}", first.body);
    std::thread::sleep(Duration::from_millis(1500));
    let second = fix.run(&ask);
    assert_eq!((&second.body["output"], version()), (&json!("200 accounts"), json!(3)), "{}", second.body);
    let third = fix.run(&ask);
    assert_eq!((fix.requests(&third).len(), version()), (1, json!(3)), "runs that begin later have the same token");
    let renewed = fix.test.audit("acme-corp", &fix.admin);
    let renewed: Vec<_> = renewed.iter().filter(|entry| entry["action"] == "secret.renew").collect();
    assert_eq!(renewed.len(), 2);
    assert_eq!((&renewed[0]["actor"], &renewed[0]["resource"]), (&json!("host"), &json!("secret:crm")));
    assert_eq!(renewed[0]["run"], first.headers["clawhold-run"].to_str().unwrap());
}

#[test]
fn a_clients_secret_goes_only_where_the_policy_lets_it() {
    let peer = Peer::start(|_| answer_with("hello"));
    let elsewhere = Peer::start(|_| answer_with(r#"{"access_token":"t0k3n-of-elsewhere","token_type":"bearer"}"#));
    let fix = Fixture::new(&peer.origin, "https://identity.example.com");
    let of = |url: String| json!({ "token_url": url, "client_id": "c", "client_secret": "cl13nt-s3cret" });
    fix.put("crm", &of(format!("{}/o/token/", elsewhere.origin))).ok();
    let refused = fix.run(&json!({ "url": format!("{}/x", peer.origin), "secret_name": "crm" }));
    let said = refused.body["output"].as_str().unwrap();
    assert!(said.contains("Policy") && said.contains("no access token"), "{said}");
    let record = fix.test.run_of("acme-corp", &fix.admin, &refused);
    let log = record["log"].to_string();
    assert!(log.contains("no rule of the install allows this") && log.contains(&elsewhere.origin), "{log}");
    assert_eq!((peer.heads().len(), elsewhere.heads().len()), (0, 0), "nobody was asked");

    // The same server answers what is no token, and then nothing that a client understands.
    for (answer, says) in [
        (answer_with("hello"), "no token"),
        (answer_with(r#"{"access_token":1}"#), "no token"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n".to_vec(), "answered 302"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_vec(), "answered 503"),
        (format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", 1 << 17, "x".repeat(1 << 17)).into_bytes(), "Size"),
    ] {
        let identity = Peer::start(move |_| answer.clone());
        let fix = Fixture::new(&peer.origin, &identity.origin);
        fix.put("crm", &of(format!("{}/o/token/", identity.origin))).ok();
        let said = fix.sends(&json!({ "url": format!("{}/x", peer.origin), "secret_name": "crm" }));
        assert!(said.contains(says) && said.contains("sent: false") && !said.contains("s3cret"), "{says}: {said}");
        let head = identity.heads().remove(0).to_lowercase();
        assert!(head.contains("authorization: basic ") && head.contains("user-agent: clawhold/"), "{head}");
    }
    assert_eq!(peer.heads().len(), 0, "without a token the request is not sent");
}

#[test]
fn hostile_20_a_token_that_the_host_fetched_is_kept_from_the_guest_as_a_secret_is() {
    let echo = |head: &str| {
        let line = head.lines().find(|line| line.to_lowercase().starts_with("authorization")).unwrap_or_default();
        answer_with(line)
    };
    let peer = Peer::start(echo);
    let identity = Peer::start(|_| answer_with(r#"{"access_token":"acc3ss-t0k3n-of-acme","token_type":"Bearer"}"#));
    let fix = Fixture::new(&peer.origin, &identity.origin);
    let url = format!("{}/o/token/", identity.origin);
    fix.put("crm", &json!({ "token_url": url, "client_id": "c", "client_secret": "cl13nt-s3cret" })).ok();
    let said = fix.sends(&json!({ "url": format!("{}/x", peer.origin), "secret_name": "crm" }));
    assert!(said.contains("Bearer") && !said.contains("acc3ss"), "{said}");
    assert!(peer.heads()[0].contains("authorization: Bearer acc3ss-t0k3n-of-acme"));
}

#[test]
fn a_request_is_signed_as_aws_checks_it() {
    let Some(server) = served("aws_server.py", &[]) else { return };
    let fix = Fixture::new(server.origin(), "https://identity.example.com");
    let mut key = server.said["key"].clone();
    key["region"] = json!("us-east-1");
    let ask = json!({
        "url": format!("{}/?a=b%20c&b=", server.origin()),
        "secret_name": "aws",
        "body": r#"{"SecretId":"greeting"}"#,
        "headers": ["content-type: application/x-amz-json-1.1", "x-amz-target: secretsmanager.GetSecretValue"],
    });
    fix.put("aws", &key).ok();
    let said = fix.sends(&ask);
    assert!(said.starts_with("200") && said.contains(r#""SecretString": "hello""#), "{said}");
    let unsigned = fix.put("plain", &json!("x")).ok();
    assert_eq!(unsigned["version"], 1);
    let mut other = ask.clone();
    other["secret_name"] = json!("plain");
    let said = fix.sends(&other);
    assert!(!said.starts_with("200") && !said.contains("hello"), "who does not sign is refused: {said}");
    key["secret_access_key"] = json!("wr0ngKey/wr0ngKey+wr0ngKey");
    fix.put("aws", &key).ok();
    let said = fix.sends(&ask);
    assert!(said.starts_with("403") && said.contains("Signature"), "{said}");
    let said = fix.sends(&json!({ "url": server.origin(), "secret_name": "aws", "place": "header" }));
    assert!(said.contains("put it on as `bearer`"), "{said}");
    let mut set_already = ask;
    set_already["headers"] = json!(["authorization: Bearer mine"]);
    assert!(fix.sends(&set_already).contains("already has the header authorization"));
}

#[test]
fn a_temporary_key_of_aws_goes_with_its_session_token_which_is_signed() {
    let Some(server) = served("aws_server.py", &[]) else { return };
    let fix = Fixture::new(server.origin(), "https://identity.example.com");
    let mut key = server.said["temporary"].clone();
    key["region"] = json!("us-east-1");
    let mut ask = json!({
        "url": format!("{}/", server.origin()),
        "secret_name": "aws",
        "body": r#"{"SecretId":"greeting"}"#,
        "headers": ["content-type: application/x-amz-json-1.1", "x-amz-target: secretsmanager.GetSecretValue"],
    });
    fix.put("aws", &key).ok();
    let said = fix.sends(&ask);
    assert!(said.starts_with("200") && said.contains(r#""SecretString": "hello""#), "{said}");
    // The server would take one that stands beside the signature.
    let signed = seen(&server);
    let fields = json!(["content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target"]);
    assert_eq!(signed, json!([fields]), "each of them stands under the signature");
    // Without it, or with another, the key is nobody's.
    let mut other = key.clone();
    other["session_token"] = json!("FQoGZXIvYXdzEBYaDanother+session/token==");
    let mut without = key.clone();
    without.as_object_mut().unwrap().remove("session_token");
    for (wrong, fields) in [(other, 5), (without, 4)] {
        fix.put("aws", &wrong).ok();
        let said = fix.sends(&ask);
        assert!(said.starts_with("403") && !said.contains("hello"), "{said}");
        assert_eq!(seen(&server).as_array().unwrap().last().unwrap().as_array().unwrap().len(), fields);
    }
    fix.put("aws", &key).ok();
    ask["headers"] = json!(["x-amz-security-token: mine"]);
    assert!(fix.sends(&ask).contains("already has the header x-amz-security-token"));
}

#[test]
fn hostile_20_the_session_token_of_a_key_of_aws_is_kept_from_the_guest() {
    const SESSION: &str = "FQoGZXIvYXdzEBYaD57AcxL2+s3ss10n/t0k3n==";
    let peer = Peer::start(answer_with);
    let fix = Fixture::new(&peer.origin, "https://identity.example.com");
    let key = json!({
        "access_key_id": "ASIAEXAMPLE", "secret_access_key": "wJalrXUtnFEMI/k3y", "region": "eu-central-1", "session_token": SESSION,
    });
    fix.put("aws", &key).ok();
    let ran = fix.run(&json!({ "url": format!("{}/x", peer.origin), "secret_name": "aws" }));
    let said = ran.body["output"].as_str().unwrap();
    assert!(said.starts_with("200 GET /x") && said.contains("[redacted: aws]") && !said.contains("s3ss10n"), "{said}");
    let record = fix.test.run_of("acme-corp", &fix.admin, &ran);
    assert!(record["leaks"].to_string().contains("aws in the output (plain)"), "{record}");
    assert!(!record.to_string().contains("s3ss10n"), "{record}");
    let head = peer.heads().remove(0);
    assert_eq!(head.matches(&format!("x-amz-security-token: {SESSION}\r\n")).count(), 1, "{head}");
    let signed = head.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
    assert_eq!(signed, "host;x-amz-date;x-amz-security-token");
    assert!(head.contains("/eu-central-1/secretsmanager/aws4_request") && !head.contains("k3y"), "{head}");
}

#[test]
fn a_request_is_signed_as_rfc_9421_says() {
    let Some(python) = python() else { return };
    let peer = Peer::start(|_| answer_with("hello"));
    let fix = Fixture::new(&peer.origin, "https://identity.example.com");
    fix.put("partner", &json!({ "key_id": "acme-1", "key": "c2hhcmVkLXMzY3JldA==", "key_encoding": "base64" })).ok();
    for (body, path) in [(None, "/a?b=c%20d"), (Some(r#"{"n":1}"#), "/orders"), (Some("x"), "/?")] {
        let url = format!("{}{path}", peer.origin);
        let headers = body.map(|_| vec!["content-type: application/json"]);
        let ask = json!({ "url": url, "secret_name": "partner", "body": body, "headers": headers });
        assert_eq!(fix.sends(&ask), "200 hello");
        let head = peer.heads().pop().unwrap();
        let fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let fields: serde_json::Map<_, _> = fields.map(|(name, value)| (name.to_lowercase(), json!(value))).collect();
        let method = head.split(' ').next();
        let verify = |body: Option<&str>, key: &str| {
            let given = json!({
                "method": method, "url": url, "headers": fields, "body": body, "keys": { "acme-1": key },
            });
            let script = root().join("tests/python/verify_signature.py");
            let mut child = Command::new(&python)
                .arg(script)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
            let done = child.wait_with_output().unwrap();
            done.status.success().then(|| serde_json::from_slice::<Value>(&done.stdout).unwrap())
        };
        let covered = verify(body, "c2hhcmVkLXMzY3JldA==").expect("the signature is good")["covered"].to_string();
        for part in ["@method", "@authority", "@path", "@query"] {
            assert!(covered.contains(part), "{covered}");
        }
        assert_eq!(covered.contains("content-digest"), body.is_some(), "{covered}");
        assert_eq!(verify(body, "b3RoZXI="), None, "another key has made it");
        if body.is_some() {
            assert_eq!(verify(Some("another body"), "c2hhcmVkLXMzY3JldA=="), None);
        }
    }
}

#[test]
fn a_secret_that_does_not_fit_its_kind_is_refused_when_it_is_put() {
    let fix = Fixture::new("https://api.example.com", "https://identity.example.com");
    for (name, value, says) in [
        ("crm", json!("just-text"), "JSON object of texts with the fields token_url"),
        ("crm", json!({ "token_url": "https://x/t", "client_id": "c" }), "needs the field client_secret"),
        ("aws", json!({ "access_key_id": "a", "secret_access_key": "s3cr3t" }), "needs the field region"),
        ("aws", json!({ "access_key_id": "a", "secret_access_key": "s3cr3t", "region": "r", "x": "y" }), "no field"),
        ("partner", json!({ "key_id": "a", "key": "s3cr3t", "key_encoding": "hex" }), "text and base64"),
    ] {
        let refused = fix.put(name, &value);
        assert_eq!(refused.status, 422, "{name}: {}", refused.body);
        let said = refused.body["detail"].as_str().unwrap();
        assert!(said.contains(says) && said.contains("northwind/signer") && !said.contains("s3cr3t"), "{said}");
    }
    // What no package uses so is a text like any other.
    fix.put("other", &json!("just-text")).ok();
    fix.put("plain", &json!("just-text")).ok();
    let listed = fix.test.get("/v1/tenants/acme-corp/secrets", &fix.admin).ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2, "what was refused is not kept");
}

#[test]
fn hostile_20_a_skill_makes_no_signature_of_its_own_with_what_the_host_signs_with() {
    let fix = Fixture::new("https://api.example.com", "https://identity.example.com");
    let url = "https://identity.example.com/o/token/";
    fix.put("crm", &json!({ "token_url": url, "client_id": "c", "client_secret": "cl13nt" })).ok();
    fix.put("aws", &json!({ "access_key_id": "a", "secret_access_key": "k3y", "region": "r" })).ok();
    fix.put("partner", &json!({ "key_id": "a", "key": "k3y" })).ok();
    fix.put("plain", &json!({ "key": "k3y" })).ok();
    for (name, field) in [("crm", "client_secret"), ("aws", "secret_access_key"), ("partner", "key"), ("plain", "key")]
    {
        let ask = json!({ "secret_name": name, "field": field });
        let said = fix.test.invoke("acme-corp", &fix.admin, "signer.sign", &ask).ok()["output"].to_string();
        assert_eq!(said.contains("signed with 32 bytes"), name == "plain", "{name}: {said}");
    }
}

#[test]
fn a_credentials_name_and_prefix_are_bounded_and_a_url_is_with_its_credential() {
    let peer = Peer::start(|head| {
        let path = head.split(' ').nth(1).unwrap();
        let to = path.starts_with("/to").then(|| format!("/{}", "x".repeat(8000)));
        to.map_or_else(
            || answer_with("hello"),
            |to| format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes(),
        )
    });
    let fix = Fixture::new(&peer.origin, "https://identity.example.com");
    fix.put("plain", &json!("v4lue-".repeat(40))).ok();
    let url = |path: &str| format!("{}{path}", peer.origin);
    let ask =
        |prefix: usize| json!({ "url": url("/a"), "secret_name": "plain", "place": "header", "prefix_bytes": prefix });
    assert_eq!(fix.sends(&ask(240)), "200 hello");
    let said = fix.sends(&ask(300));
    assert!(said.contains("256 bytes together") && said.contains("sent: false"), "{said}");
    // The bytes are lifted out of the guest, and counted as such: the run ends.
    let ended = fix.run(&ask(3 << 19));
    assert_eq!(ended.body["reason"], "host_bytes", "{}", ended.body);
    assert_eq!(peer.heads().len(), 1);
    // The first request was sent, whatever becomes of what follows from it.
    let said = fix.sends(&json!({ "url": url("/to"), "secret_name": "plain", "place": "query" }));
    assert!(said.contains("has more than 8192 bytes") && said.contains("sent: true"), "{said}");
    assert_eq!(peer.heads().len(), 2);
}
