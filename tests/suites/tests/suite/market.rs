//! The marketplace: who sees what, who signs it, what is agreed to, and how what is bad is stopped.

mod broken;
mod channels;
mod deleted;
mod forged;
mod owned;
mod rollback;
mod signed;
mod stopped;
mod told;
mod two_hosts;

use clawhold_marketplace::embed;
use serde_json::{Value, json};

use crate::support::{Answer, TestHost, on_each_database};

on_each_database![hostile_30_what_was_not_granted_does_not_exist_on_any_surface, a_tenants_own_packages_are_its_own,];

/// A package that answers `yes`, of this name and version, with these lines in its manifest.
fn package(name: &str, version: &str, more: &str) -> Vec<u8> {
    guest(name, version, more, "(func $run (result i32) (call $yes))")
}

/// The same that computes until it is stopped.
fn endless(name: &str, version: &str) -> Vec<u8> {
    let limits = "[limits]\nfuel = 1_000_000_000_000\ntimeout_ms = 60_000\n";
    guest(name, version, limits, "(func $run (result i32) (loop $again (br $again)) (unreachable))")
}

fn guest(name: &str, version: &str, more: &str, run: &str) -> Vec<u8> {
    let short = name.split('/').next_back().unwrap();
    let component = clawhold_test_support::guest::component_of(short, run).unwrap();
    let about = format!(
        "[package]\nname = {name:?}\nversion = {version:?}\ndescription = \"Says yes\"\nlicense = \"MIT\"\n\n{more}"
    );
    embed(&component, &about).unwrap()
}

impl TestHost {
    /// Publishes for its publisher, which is registered if it is not yet.
    fn publishes(&self, wasm: &[u8]) -> Answer {
        let name = clawhold_marketplace::read(wasm).unwrap().manifest.package.name;
        self.ask("POST", "/v1/market/packages", &self.publisher(name.publisher().as_str()), Some(wasm))
    }

    fn becomes(&self, token: &str, package: &str, version: &str, status: &str) -> Answer {
        let path = format!("/v1/market/packages/{package}/versions/{version}/status");
        self.send("PUT", &path, token, &json!({ "status": status, "advisory": "it rounds prices; take 1.0.1" }))
    }
}

/// Puts a version with what its plan says, and whatever else; gives the answer.
fn put(test: &TestHost, tenant: &str, admin: &str, package: &str, ask: &Value) -> Answer {
    let path = format!("/v1/tenants/{tenant}/installs/{package}");
    let mut planned = ask.clone();
    if let Some(planned) = planned.as_object_mut() {
        planned.remove("channel");
    }
    let plan = test.send("POST", &format!("{path}/plan"), admin, &planned).ok();
    let mut yes = ask.clone();
    yes["version"] = plan["version"].clone();
    yes["consent"] = plan["consent"].clone();
    test.send("PUT", &path, admin, &yes)
}

/// A package of which acme has had two versions.
pub(crate) fn installed_twice(test: &TestHost, admin: &str) {
    for version in ["1.0.0", "1.1.0"] {
        test.publishes(&package("northwind/crm-lite", version, "")).ok();
        put(test, "acme-corp", admin, "northwind/crm-lite", &json!({})).ok();
    }
}

fn hostile_30_what_was_not_granted_does_not_exist_on_any_surface(test: &TestHost) {
    // The fixture grants what it publishes itself; this is about that.
    let (acme, globex) = (test.tenant("acme-corp"), test.tenant("globex"));
    for (name, version) in [("northwind/crm", "1.0.0"), ("northwind/crm", "2.0.0"), ("northwind/quote", "1.0.0")] {
        test.publishes(&package(name, version, "")).ok();
    }
    for name in ["northwind/crm", "northwind/quote"] {
        test.ask("DELETE", &format!("/v1/market/packages/{name}/grants/tier:standard"), &test.operator, None);
    }
    test.grant("northwind/crm", "tenant:acme-corp", "^1").ok();
    let names = |token: &str| {
        let listed = test.get("/v1/market/packages", token).ok();
        let items = listed["items"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned());
        items.collect::<Vec<_>>()
    };
    assert_eq!(names(&acme), ["northwind/crm"]);
    assert_eq!(names(&globex), [""; 0]);
    assert_eq!(names(&test.operator), ["northwind/crm", "northwind/quote"]);
    assert_eq!(names(&test.publisher("northwind")), ["northwind/crm", "northwind/quote"]);
    assert_eq!(names(&test.publisher("southwind")), [""; 0]);
    // What is not granted is answered as what does not exist, on each surface.
    let surfaces: [(&str, &str, Option<Value>); 6] = [
        ("GET", "/v1/market/packages/{}", None),
        ("GET", "/v1/market/packages/{}?version=1.0.0", None),
        ("GET", "/v1/market/packages/{}/versions", None),
        ("POST", "/v1/tenants/globex/installs/{}/plan", Some(json!({}))),
        ("POST", "/v1/tenants/globex/installs/{}/plan", Some(json!({ "version": "1.0.0" }))),
        (
            "PUT",
            "/v1/tenants/globex/installs/{}",
            Some(json!({ "version": "1.0.0", "consent": format!("sha256:{}", "0".repeat(64)) })),
        ),
    ];
    for (method, path, body) in &surfaces {
        let ask = |package: &str| {
            let body = body.as_ref().map(|body| body.to_string().into_bytes());
            let answer = test.ask(method, &path.replace("{}", package), &globex, body.as_deref());
            (answer.status, answer.body)
        };
        let (hidden, missing) = (ask("northwind/crm"), ask("northwind/nothing"));
        assert_eq!(hidden, missing, "{method} {path}");
        assert_eq!(hidden.0, 404, "{method} {path}: {}", hidden.1);
    }
    // Of what is granted in part, the other part does not exist either, and the newest is the newest of the part.
    let shown = test.get("/v1/market/packages/northwind/crm", &acme).ok();
    assert_eq!(shown["version"], "1.0.0");
    assert_eq!(test.get("/v1/market/packages/northwind/crm?version=2.0.0", &acme).status, 404);
    let versions = test.get("/v1/market/packages/northwind/crm/versions", &acme).ok();
    assert_eq!(versions["items"].as_array().unwrap().len(), 1, "{versions}");
    assert_eq!(put(test, "acme-corp", &acme, "northwind/crm", &json!({})).ok()["version"], "1.0.0");
    for path in ["/v1/market/packages/northwind/crm", "/v1/market/packages?search=crm"] {
        let of = |token: &str| {
            let shown = test.get(path, token).ok();
            let one = if shown["items"].is_array() { shown["items"][0].clone() } else { shown };
            (one["installed"].clone(), one["installed_skills"].clone())
        };
        assert_eq!(of(&acme), (json!("1.0.0"), json!(1)), "{path}");
        assert_eq!(of(&test.operator), (Value::Null, Value::Null), "{path}");
    }
    // Nor is it found, by what only the version that is not seen says of itself: neither by what comes nor by whether more would.
    let component = clawhold_test_support::guest::component_of("crm", "(func $run (result i32) (call $yes))").unwrap();
    let about = "[package]\nname = \"northwind/crm\"\nversion = \"3.0.0\"\ndescription = \"Finds a unicorn\"\nlicense = \"MIT\"\n";
    let other = embed(&component, about).unwrap();
    test.ask_ungranted("POST", "/v1/market/packages", &test.publisher("northwind"), Some(&other)).ok();
    let searched =
        |token: &str, words: &str| test.get(&format!("/v1/market/packages?limit=1&search={words}"), token).ok();
    for (words, count) in [("northwind", 1), ("crm%20says", 1), ("quote", 0), ("unicorn", 0), ("nothing", 0)] {
        assert_eq!(searched(&acme, words)["items"].as_array().unwrap().len(), count, "{words}");
    }
    assert_eq!(searched(&acme, "crm")["items"][0]["version"], "1.0.0");
    for hidden in ["quote", "unicorn"] {
        assert_eq!(searched(&acme, hidden), searched(&acme, "nothing"), "{hidden}: with no next page either");
    }
    assert_eq!(searched(&test.operator, "unicorn")["items"][0]["version"], "3.0.0");
    assert!(searched(&test.operator, "northwind")["next"].is_string(), "there is another");
    // A publisher is told nothing of another's, and of no tenant.
    let southwind = test.publisher("southwind");
    for (method, path) in [
        ("GET", "/v1/market/packages/northwind/crm/grants"),
        ("DELETE", "/v1/market/packages/northwind/crm/grants/tenant:acme-corp"),
    ] {
        assert_eq!(test.ask(method, path, &southwind, None).status, 404, "{method} {path}");
    }
    assert_eq!(test.becomes(&southwind, "northwind/crm", "1.0.0", "yanked").status, 404);
    let grant = |to: &str| {
        let path = format!("/v1/market/packages/northwind/crm/grants/{to}");
        test.send("PUT", &path, &test.publisher("northwind"), &json!({})).status
    };
    assert_eq!((grant("tenant:globex"), grant("tenant:nobody")), (200, 200), "they are not told apart");
    assert_eq!(names(&globex), ["northwind/crm"]);
    // Taken back: no new install, and what is installed goes on.
    let taken =
        |to: &str| test.ask("DELETE", &format!("/v1/market/packages/northwind/crm/grants/{to}"), &test.operator, None);
    assert_eq!((taken("tenant:acme-corp").status, taken("tenant:acme-corp").status), (204, 404));
    assert_eq!(names(&acme), [""; 0]);
    let run = test.invoke("acme-corp", &acme, "guest.crm", &json!({}));
    assert_eq!((run.status, &run.body["output"]), (200, &json!(true)), "{}", run.body);
}

fn a_tenants_own_packages_are_its_own(test: &TestHost) {
    let (acme, globex) = (test.tenant("acme-corp"), test.tenant("globex"));
    let own = test.send("POST", "/v1/tenants/acme-corp/publishers", &acme, &json!({ "name": "acme-internal" })).ok();
    assert_eq!((&own["name"], &own["owner"]), (&json!("acme-internal"), &json!("acme-corp")));
    // Nobody else registers it for that tenant, and nobody has the name twice or one that looks like it.
    let add = |token: &str, name: &str| {
        test.send("POST", "/v1/tenants/acme-corp/publishers", token, &json!({ "name": name }))
    };
    assert_eq!((add(&globex, "x-internal").status, add(&acme, "acme-internal").status), (404, 409));
    let alike = test.send("POST", "/v1/tenants/globex/publishers", &globex, &json!({ "name": "acme-lnternal" }));
    assert_eq!(alike.status, 409, "{}", alike.body);
    assert!(
        !alike.body.to_string().contains("acme-internal"),
        "of another tenant's own nothing is told: {}",
        alike.body
    );
    let author = test.publisher("acme-internal");
    let wasm = package("acme-internal/secret-sauce", "1.0.0", "");
    test.ask_ungranted("POST", "/v1/market/packages", &author, Some(&wasm)).ok();
    assert_eq!(test.get("/v1/market/packages/acme-internal/secret-sauce", &acme).status, 200);
    assert_eq!(put(test, "acme-corp", &acme, "acme-internal/secret-sauce", &json!({})).status, 200);
    assert_eq!(test.get("/v1/market/packages/acme-internal/secret-sauce", &globex).status, 404);
    assert_eq!(test.get("/v1/market/packages", &globex).ok()["items"], json!([]));
    for token in [&test.operator, &author] {
        let refused =
            test.send("PUT", "/v1/market/packages/acme-internal/secret-sauce/grants/tenant:globex", token, &json!({}));
        assert_eq!(refused.status, 409, "{}", refused.body);
    }
    assert_eq!(test.get("/v1/market/packages/acme-internal/secret-sauce", &globex).status, 404);
}
