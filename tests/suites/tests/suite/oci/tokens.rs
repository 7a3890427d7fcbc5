//! What OCI clients authenticate with.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{code, push_blob};
use crate::support::{Answer, TestHost, probe};

fn basic(token: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("anybody:{token}")))
}

fn with(test: &TestHost, method: &str, path: &str, authorization: &str) -> Answer {
    test.ask_with(&[("authorization", authorization)], method, path, "", None)
}

/// A short-lived token for this scope.
fn token_for(test: &TestHost, token: &str, scope: &str) -> String {
    let given = with(test, "GET", &format!("/v2/token?service=clawhold&scope={scope}"), &basic(token)).ok();
    assert_eq!((&given["token"], given["expires_in"].as_u64()), (&given["access_token"], Some(300)));
    given["token"].as_str().unwrap().to_owned()
}

fn challenge(answer: &Answer) -> &str {
    assert_eq!(answer.status, 401, "{}", answer.body);
    answer.headers["www-authenticate"].to_str().unwrap()
}

#[test]
fn who_has_no_token_is_told_where_to_get_one_and_for_what() {
    let test = TestHost::start();
    test.with_probe("acme-corp", "https://acme.example.com");
    let realm = format!("Bearer realm=\"{}/v2/token\",service=\"clawhold\"", test.url);
    for (method, path, scope) in [
        ("GET", "/v2/", ""),
        ("HEAD", "/v2/northwind/probe/manifests/1.0.0", ",scope=\"repository:northwind/probe:pull\""),
        ("GET", "/v2/northwind/not-there/manifests/1.0.0", ",scope=\"repository:northwind/not-there:pull\""),
        ("POST", "/v2/northwind/probe/blobs/uploads/", ",scope=\"repository:northwind/probe:pull,push\""),
        ("GET", "/v2/northwind/\"%22,x=/tags/list", ""),
    ] {
        let refused = test.ask(method, path, "", None);
        assert_eq!(challenge(&refused), format!("{realm}{scope}"), "{method} {path}");
        if method != "HEAD" {
            assert_eq!(code(&refused), "UNAUTHORIZED");
        }
    }
    // There a token is what lacks.
    assert_eq!(challenge(&test.get("/v2/token", "")), "Basic realm=\"clawhold\"");
    let elsewhere = |host: &str| {
        let refused = test.ask_with(&[("host", host)], "GET", "/v2/", "", None);
        challenge(&refused).split('"').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(elsewhere("registry.example.com"), "https://registry.example.com/v2/token", "never in the clear");
    assert_eq!(elsewhere("localhost:5000"), "http://localhost:5000/v2/token");
    assert_eq!(elsewhere("[::1]:5000"), "http://[::1]:5000/v2/token");
    assert_eq!(elsewhere("localhost.example.com"), "https://localhost.example.com/v2/token");
    let test = test.restarted("public_url: https://clawhold.example.com/\n");
    let refused = test.get("/v2/", "");
    assert!(challenge(&refused).starts_with("Bearer realm=\"https://clawhold.example.com/v2/token\","));
}

#[test]
fn a_token_is_taken_as_a_bearer_as_a_password_and_for_a_short_lived_one() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let short = token_for(&test, &admin, "repository:northwind/probe:pull");
    let manifest = "/v2/northwind/probe/manifests/1.0.0";
    for good in
        [format!("Bearer {admin}"), basic(&admin), format!("bearer {short}"), basic(&admin).replace("Basic", "basic")]
    {
        assert_eq!(with(&test, "GET", "/v2/", &good).status, 200);
        assert_eq!(with(&test, "GET", manifest, &good).status, 200);
    }
    for bad in [
        String::new(),
        "Bearer".to_owned(),
        format!("Bearer {admin}x"),
        format!("Bearer {short}x"),
        format!("Bearer {}", short.replace("clwr_", "clw_")),
        basic("wrong"),
        basic(&short),
        format!("Digest {admin}"),
        "Basic !!".to_owned(),
    ] {
        assert_eq!(with(&test, "GET", manifest, &bad).status, 401, "{bad}");
    }
    // It is good for the registry alone.
    assert_eq!(test.get("/v1/market/packages", &short).status, 401);
    assert_eq!(test.ask_with(&[("authorization", &basic(&admin))], "GET", "/v1/market/packages", "", None).status, 401);
}

#[test]
fn a_short_lived_token_reaches_what_it_names_and_no_more_than_its_token() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let publisher = test.publisher("northwind");
    let manifest = "/v2/northwind/probe/manifests/1.0.0";
    let upload = "/v2/northwind/probe/blobs/uploads/";
    let none = token_for(&test, &admin, "");
    assert_eq!(test.get("/v2/", &none).status, 200, "what `docker login` tries");
    let refused = test.get(manifest, &none);
    assert!(challenge(&refused).contains("scope=\"repository:northwind/probe:pull\""), "so that the client asks again");
    assert_eq!(test.get(manifest, &token_for(&test, &admin, "repository:northwind/other:pull")).status, 401);
    assert_eq!(
        test.get(
            manifest,
            &token_for(
                &test,
                &admin,
                "repository:northwind/other:pull repository:northwind/probe:pull".replace(' ', "%20").as_str()
            )
        )
        .status,
        200
    );
    // An admin who asks to push gets a token, and is refused by the role.
    let eager = token_for(&test, &admin, "repository:northwind/probe:pull,push");
    assert_eq!(test.get(manifest, &eager).status, 200);
    let refused = test.ask("POST", upload, &eager, None);
    assert_eq!((refused.status, code(&refused)), (404, "NAME_UNKNOWN"));
    // A publisher who asks only to pull does not push, and nobody pushes for another.
    assert_eq!(
        test.ask("POST", upload, &token_for(&test, &publisher, "repository:northwind/probe:pull"), None).status,
        401
    );
    assert_eq!(
        test.ask("POST", upload, &token_for(&test, &publisher, "repository:northwind/probe:pull,push"), None).status,
        202
    );
    let other = test.publisher("globex");
    let theirs = token_for(&test, &other, "repository:northwind/probe:pull,push");
    assert_eq!(test.ask("POST", upload, &theirs, None).status, 404);
    // A short-lived token gives no other, or it would live for ever.
    assert_eq!(test.get("/v2/token", &none).status, 401);
    let many = "repository:northwind/probe:pull%20".repeat(9);
    let refused = with(&test, "GET", &format!("/v2/token?scope={many}"), &basic(&admin));
    assert_eq!((refused.status, code(&refused)), (400, "UNSUPPORTED"));
}

#[test]
fn hostile_10_a_short_lived_token_ends_with_the_token_that_it_was_given_for() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let auditor = test.token("acme-corp", "auditor");
    let short = token_for(&test, &auditor, "repository:northwind/probe:pull");
    let manifest = "/v2/northwind/probe/manifests/1.0.0";
    assert_eq!(test.get(manifest, &short).status, 200);
    let id = auditor.split('_').nth(1).unwrap();
    test.ask("DELETE", &format!("/v1/tenants/acme-corp/tokens/{id}"), &admin, None).ok();
    assert_eq!(test.get(manifest, &short).status, 401);
    assert_eq!(with(&test, "GET", "/v2/token", &basic(&auditor)).status, 401);
}

#[test]
fn roles_are_those_of_the_api() {
    let test = TestHost::start();
    test.with_probe("acme-corp", "https://acme.example.com");
    let caller = test.token("acme-corp", "caller");
    for path in ["/v2/", "/v2/token", "/v2/northwind/probe/manifests/1.0.0"] {
        let refused = test.get(path, &caller);
        assert_eq!((refused.status, code(&refused)), (403, "DENIED"), "{path}");
    }
    let auditor = test.token("acme-corp", "auditor");
    assert_eq!(test.get("/v2/northwind/probe/manifests/1.0.0", &auditor).status, 200);
    let guests = test.publisher("guests");
    let before = test.host_chain();
    let refused = push_blob(&test, &guests, "northwind/probe", probe());
    assert_eq!((refused.status, code(&refused)), (404, "NAME_UNKNOWN"));
    assert_eq!(test.host_chain(), before + 1, "who tried it is noted");
}
