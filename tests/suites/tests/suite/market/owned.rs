//! Publishers of a tenant's own: how many there may be, and whose their tokens are.

use serde_json::{Value, json};

use super::package;
use crate::support::{TestHost, becomes, on_each_database};

on_each_database![
    an_admin_makes_and_ends_the_tokens_of_its_own_publishers_and_of_no_others,
    publishers_of_a_tenant_are_bounded,
    what_a_suspended_tenant_owns_publishes_nothing,
];

#[test]
fn a_token_is_made_for_no_publisher_that_there_is_not() {
    let test = TestHost::start();
    let ask = json!({ "name": "ci", "role": "publisher", "publisher": "nobody" });
    let refused = test.send("POST", "/v1/tokens", &test.operator, &ask);
    assert_eq!((refused.status, refused.body["place"].as_str()), (422, Some("publisher")), "{}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("clawhold publisher add"), "{}", refused.body);
}

fn an_admin_makes_and_ends_the_tokens_of_its_own_publishers_and_of_no_others(test: &TestHost) {
    let (acme, globex) = (test.tenant("acme-corp"), test.tenant("globex"));
    test.send("POST", "/v1/tenants/acme-corp/publishers", &acme, &json!({ "name": "acme-internal" })).ok();
    test.publisher("northwind");
    let tokens = |tenant: &str, publisher: &str| format!("/v1/tenants/{tenant}/publishers/{publisher}/tokens");
    let own = tokens("acme-corp", "acme-internal");
    let ends = || (test.host_chain(), test.audit("acme-corp", &acme).len());
    let before = ends();
    let made = test.send("POST", &own, &acme, &json!({ "name": "ci", "expires": "2999-01-01T00:00:00Z" })).ok();
    assert_eq!(ends(), (before.0 + 1, before.1 + 1), "both logs tell of it");
    let told = test.audit("acme-corp", &acme).pop().unwrap();
    assert_eq!(told["action"], "token.create");
    assert!(told["resource"].as_str().unwrap().starts_with("publisher:acme-internal token:"), "{told}");
    let author = made["token"].as_str().unwrap();
    let wasm = package("acme-internal/sauce", "1.0.0", "");
    test.ask_ungranted("POST", "/v1/market/packages", author, Some(&wasm)).ok();
    let listed = test.get(&own, &acme).ok();
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["role"]), (&made["id"], &json!("publisher")));
    // It is no token of the tenant, and not among them.
    assert_eq!(test.get("/v1/tenants/acme-corp/installs", author).status, 404);
    let of_tenant = test.get("/v1/tenants/acme-corp/tokens", &acme).ok();
    assert!(!of_tenant.to_string().contains(made["id"].as_str().unwrap()), "{of_tenant}");
    // The same bounds as for any token.
    for body in [json!({ "name": "" }), json!({ "name": "x", "expires": "2001-01-01T00:00:00Z" })] {
        assert_eq!(test.send("POST", &own, &acme, &body).status, 422, "{body}");
    }
    // Another's publisher, one of the operator's and none are one answer.
    let answers = |token: &str, path: &str| {
        let id = made["id"].as_str().unwrap();
        let asked = [
            test.send("POST", path, token, &json!({ "name": "ci" })),
            test.get(path, token),
            test.ask("DELETE", &format!("{path}/{id}"), token, None),
        ];
        asked.map(|answer| (answer.status, answer.body["detail"].clone()))
    };
    let none = answers(&globex, &tokens("globex", "nobody"));
    assert!(none.iter().all(|(status, _)| *status == 404), "{none:?}");
    for other in ["acme-internal", "northwind"] {
        assert_eq!(answers(&globex, &tokens("globex", other)), none, "{other}");
    }
    assert!(answers(&globex, &own).iter().all(|(status, _)| *status == 404));
    for role in ["auditor", "caller"] {
        let token = test.token("acme-corp", role);
        assert_eq!(test.send("POST", &own, &token, &json!({ "name": "ci" })).status, 403, "{role}");
    }
    // Ended at once.
    let end = format!("{own}/{}", made["id"].as_str().unwrap());
    let before = ends();
    assert_eq!(test.ask("DELETE", &end, &acme, None).status, 204);
    assert_eq!(ends(), (before.0 + 1, before.1 + 1));
    assert_eq!(test.ask("DELETE", &end, &acme, None).status, 404);
    assert_eq!(test.get("/v1/market/packages", author).status, 401);
}

fn publishers_of_a_tenant_are_bounded(test: &TestHost) {
    let (acme, globex) = (test.tenant("acme-corp"), test.tenant("globex"));
    // Far enough from each other that none is taken for another.
    let words = ["amber", "birch", "cedar", "delta", "ivory", "fjord", "grove", "heron"];
    let names: Vec<String> =
        ["north", "south"].iter().flat_map(|side| words.iter().map(move |word| format!("{word}-{side}"))).collect();
    let add = |tenant: &str, token: &str, name: &str| {
        test.send("POST", &format!("/v1/tenants/{tenant}/publishers"), token, &json!({ "name": name }))
    };
    for name in &names {
        add("acme-corp", &acme, name).ok();
    }
    let refused = add("acme-corp", &acme, "one-too-many");
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("16 publishers"), "{}", refused.body);
    add("globex", &globex, "one-too-many").ok();
    let listed = test.get("/v1/tenants/acme-corp/publishers", &acme).ok();
    let mut expected = names.clone();
    expected.sort();
    let listed: Vec<&str> =
        listed["items"].as_array().unwrap().iter().map(|one: &Value| one["name"].as_str().unwrap()).collect();
    assert_eq!(listed, expected);
}

fn what_a_suspended_tenant_owns_publishes_nothing(test: &TestHost) {
    let (acme, globex) = (test.tenant("acme-corp"), test.tenant("globex"));
    test.send("POST", "/v1/tenants/acme-corp/publishers", &acme, &json!({ "name": "acme-internal" })).ok();
    let tokens = "/v1/tenants/acme-corp/publishers/acme-internal/tokens";
    let made = test.send("POST", tokens, &acme, &json!({ "name": "ci" })).ok();
    let author = made["token"].as_str().unwrap();
    let publish = |version: &str| {
        let wasm = package("acme-internal/sauce", version, "");
        test.ask_ungranted("POST", "/v1/market/packages", author, Some(&wasm)).status
    };
    assert_eq!(publish("1.0.0"), 201);
    super::forged::change(test, "UPDATE tenants SET state = 'suspended' WHERE id = 'acme-corp'");
    assert!(becomes(|| publish("1.0.1") == 401), "its tokens go on");
    // A name whose row is gone stays taken: its packages would be whoever's takes it.
    super::forged::change(test, "DELETE FROM publishers WHERE name = 'acme-internal'");
    let refused = test.send("POST", "/v1/tenants/globex/publishers", &globex, &json!({ "name": "acme-internal" }));
    assert_eq!(refused.status, 409, "{}", refused.body);
}
