//! The matrix of roles: one table, one file that a person can read, and every route asked by every role.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use clawhold_api::Row;
use clawhold_tenancy::Role;
use serde_json::json;

use crate::market::installed_twice;
use crate::support::{TestHost, golden, on_each_database};

on_each_database![every_route_answers_every_role_as_the_matrix_says, every_mutation_leaves_an_audit_entry,];

#[test]
fn the_matrix_is_the_golden_file() {
    let test = TestHost::start();
    let mut text = format!("{:82} {:20}", "route", "action");
    for role in Role::ALL {
        let _infallible = write!(text, " {:9}", role.as_str());
    }
    for row in clawhold_api::table(Arc::clone(&test.host)) {
        let _infallible = write!(text, "\n{:6} {:75} {:20}", row.method, row.path, row.action);
        for role in Role::ALL {
            let _infallible = write!(text, " {:9}", if row.roles.contains(&role) { "yes" } else { "-" });
        }
    }
    let text: String = text.lines().fold(String::new(), |all, line| all + line.trim_end() + "\n");
    golden("roles.txt", &text);
}

/// A path of a route with something in each place.
fn filled(path: &str) -> String {
    path.replace("{tenant}", "acme-corp")
        .replace("{publisher}/{name}", "northwind/probe")
        .replace("{publisher}", "northwind")
        .replace("{version}", "1.0.0")
        .replace("{grantee}", "tenant:acme-corp")
        .replace("{key}", &"0".repeat(64))
        .replace("{secret}", "token")
        .replace("{token}", "0123456789abcdef0123456789abcdef")
        .replace("{skill}", "probe.echo")
        .replace("{run}", "01900000-0000-7000-8000-000000000000")
        .replace("{upload}", "01900000-0000-7000-8000-000000000000")
        .replace("{reference}", "1.0.0")
        .replace("{digest}", &format!("sha256:{}", "0".repeat(64)))
}

fn every_route_answers_every_role_as_the_matrix_says(test: &TestHost) {
    test.with_probe("acme-corp", "https://acme.example.com");
    let mut tokens =
        BTreeMap::from([(Role::Operator, test.operator.clone()), (Role::Publisher, test.publisher("northwind"))]);
    for role in [Role::Admin, Role::Auditor, Role::Caller] {
        tokens.insert(role, test.token("acme-corp", role.as_str()));
    }
    for Row { method, path, roles, .. } in clawhold_api::table(Arc::clone(&test.host)) {
        let ask = |token: &str| test.ask(method, &filled(path), token, (method != "GET").then_some(b"{".as_slice()));
        assert_eq!(ask("").status, 401, "{method} {path} without a token");
        assert_eq!(ask("clw_0123456789abcdef_wrong").status, 401, "{method} {path} with a wrong token");
        for role in Role::ALL {
            let answer = ask(&tokens[&role]);
            let elsewhere = answer.body["detail"] == "tenant does not exist"
                || path.starts_with("/v2/") && answer.body["errors"][0]["code"] == "NAME_UNKNOWN";
            let refused = answer.status == 403 || elsewhere;
            assert_eq!(refused, !roles.contains(&role), "{method} {path} by {role}: {} {}", answer.status, answer.body);
            assert_ne!(answer.status, 500, "{method} {path} by {role}");
            // Clients of the registry may send keys of extensions that it does not know.
            if roles.contains(&role) && !path.starts_with("/v2/") {
                let typo = test.ask(method, &format!("{}?nonsense=1", filled(path)), &tokens[&role], None);
                assert!(typo.status == 422 && typo.body["place"] == "query", "{method} {path}: {}", typo.body);
            }
        }
    }
}

fn every_mutation_leaves_an_audit_entry(test: &TestHost) {
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let publisher = test.publisher("northwind");
    let made = |path: &str, body| {
        let made = test.send("POST", path, &test.operator, &body).ok();
        made["id"].as_str().unwrap_or_default().to_owned()
    };
    let spare = made("/v1/tenants/acme-corp/tokens", json!({ "name": "spare", "role": "caller" }));
    let spare_host = made("/v1/tokens", json!({ "name": "spare", "role": "operator" }));
    made("/v1/tenants/acme-corp/publishers", json!({ "name": "sauces" }));
    let spare_own = made("/v1/tenants/acme-corp/publishers/sauces/tokens", json!({ "name": "spare" }));
    for secret in ["readable", "token"] {
        let path = format!("/v1/tenants/acme-corp/secrets/{secret}");
        test.send("PUT", &path, &admin, &json!({ "value": "x" })).ok();
    }
    let settings = json!({ "origin": "https://other.example.com" });
    let plan = test
        .send("POST", "/v1/tenants/acme-corp/installs/northwind/probe/plan", &admin, &json!({ "settings": settings }))
        .ok();
    let consent = json!({ "version": "1.0.0", "settings": settings, "consent": plan["consent"] });
    installed_twice(test, &admin);
    let key = |seed| clawhold_marketplace::key::SigningKey::from_seed(&[seed; 32]).public();

    let guests = test.publisher("guests");
    let pushed = crate::oci::polite("1.0.0");
    for blob in [b"{}".as_slice(), &pushed] {
        assert_eq!(crate::oci::push_blob(test, &guests, "guests/polite", blob).status, 201);
    }

    let walked: Vec<(&str, &str, String, &str, Vec<u8>)> = vec![
        (
            "POST",
            "/v1/market/publishers",
            "/v1/market/publishers".into(),
            &test.operator,
            json!({ "name": "southwind", "key": key(1).to_string() }).to_string().into(),
        ),
        (
            "POST",
            "/v1/market/publishers/{publisher}/keys",
            "/v1/market/publishers/southwind/keys".into(),
            &test.operator,
            json!({ "key": key(2).to_string() }).to_string().into(),
        ),
        (
            "POST",
            "/v1/market/publishers/{publisher}/keys/{key}/revoke",
            format!("/v1/market/publishers/southwind/keys/{}/revoke", key(1).id()),
            &test.operator,
            b"{}".to_vec(),
        ),
        (
            "POST",
            "/v1/tenants/{tenant}/publishers",
            "/v1/tenants/acme-corp/publishers".into(),
            &admin,
            json!({ "name": "acme-internal" }).to_string().into(),
        ),
        (
            "POST",
            "/v1/tenants/{tenant}/publishers/{publisher}/tokens",
            "/v1/tenants/acme-corp/publishers/acme-internal/tokens".into(),
            &admin,
            json!({ "name": "ci" }).to_string().into(),
        ),
        (
            "DELETE",
            "/v1/tenants/{tenant}/publishers/{publisher}/tokens/{token}",
            format!("/v1/tenants/acme-corp/publishers/sauces/tokens/{spare_own}"),
            &admin,
            vec![],
        ),
        (
            "PUT",
            "/v1/market/packages/{publisher}/{name}/grants/{grantee}",
            "/v1/market/packages/northwind/probe/grants/tenant:acme-corp".into(),
            &publisher,
            b"{}".to_vec(),
        ),
        (
            "DELETE",
            "/v1/market/packages/{publisher}/{name}/grants/{grantee}",
            "/v1/market/packages/northwind/probe/grants/tenant:acme-corp".into(),
            &publisher,
            vec![],
        ),
        (
            "PUT",
            "/v1/market/packages/{publisher}/{name}/versions/{version}/status",
            "/v1/market/packages/northwind/probe/versions/1.0.0/status".into(),
            &publisher,
            json!({ "status": "yanked", "advisory": "x" }).to_string().into(),
        ),
        (
            "POST",
            "/v1/tenants/{tenant}/installs/{publisher}/{name}/rollback",
            "/v1/tenants/acme-corp/installs/northwind/crm-lite/rollback".into(),
            &admin,
            b"{}".to_vec(),
        ),
        ("POST", "/v1/tenants", "/v1/tenants".into(), &test.operator, json!({ "id": "globex" }).to_string().into()),
        (
            "POST",
            "/v1/tokens",
            "/v1/tokens".into(),
            &test.operator,
            json!({ "name": "x", "role": "operator" }).to_string().into(),
        ),
        ("DELETE", "/v1/tokens/{token}", format!("/v1/tokens/{spare_host}"), &test.operator, vec![]),
        (
            "POST",
            "/v1/tenants/{tenant}/tokens",
            "/v1/tenants/acme-corp/tokens".into(),
            &admin,
            json!({ "name": "x", "role": "caller" }).to_string().into(),
        ),
        (
            "DELETE",
            "/v1/tenants/{tenant}/tokens/{token}",
            format!("/v1/tenants/acme-corp/tokens/{spare}"),
            &admin,
            vec![],
        ),
        (
            "PUT",
            "/v1/tenants/{tenant}/secrets/{secret}",
            "/v1/tenants/acme-corp/secrets/token".into(),
            &admin,
            json!({ "value": "x" }).to_string().into(),
        ),
        (
            "POST",
            "/v1/tenants/{tenant}/secrets/{secret}/rollback",
            "/v1/tenants/acme-corp/secrets/token/rollback".into(),
            &admin,
            b"{}".to_vec(),
        ),
        (
            "POST",
            "/v1/tenants/{tenant}/keys/rotate",
            "/v1/tenants/acme-corp/keys/rotate".into(),
            &admin,
            b"{}".to_vec(),
        ),
        ("POST", "/v1/host/keys/rotate", "/v1/host/keys/rotate".into(), &test.operator, b"{}".to_vec()),
        (
            "DELETE",
            "/v1/tenants/{tenant}/secrets/{secret}",
            "/v1/tenants/acme-corp/secrets/readable".into(),
            &admin,
            vec![],
        ),
        (
            "PATCH",
            "/v1/tenants/{tenant}",
            "/v1/tenants/acme-corp".into(),
            &test.operator,
            json!({ "tier": "pro" }).to_string().into(),
        ),
        (
            "PATCH",
            "/v1/tenants/{tenant}/quota",
            "/v1/tenants/acme-corp/quota".into(),
            &test.operator,
            json!({ "max_concurrent_runs": 20 }).to_string().into(),
        ),
        ("POST", "/v1/market/packages", "/v1/market/packages".into(), &publisher, crate::support::crm().to_vec()),
        (
            "PUT",
            "/v2/{publisher}/{name}/manifests/{reference}",
            "/v2/guests/polite/manifests/1.0.0".into(),
            &guests,
            crate::oci::manifest_of(&pushed).to_string().into(),
        ),
        (
            "PUT",
            "/v1/tenants/{tenant}/installs/{publisher}/{name}",
            "/v1/tenants/acme-corp/installs/northwind/probe".into(),
            &admin,
            consent.to_string().into(),
        ),
        (
            "POST",
            "/v1/tenants/{tenant}/skills/{skill}/invoke",
            "/v1/tenants/acme-corp/skills/probe.echo/invoke".into(),
            &admin,
            json!({ "text": "x" }).to_string().into(),
        ),
        (
            "DELETE",
            "/v1/tenants/{tenant}/installs/{publisher}/{name}",
            "/v1/tenants/acme-corp/installs/northwind/probe".into(),
            &admin,
            vec![],
        ),
        (
            "POST",
            "/v1/market/packages/{publisher}/{name}/delete",
            "/v1/market/packages/northwind/crm-lite/delete".into(),
            &test.operator,
            json!({ "advisory": "x" }).to_string().into(),
        ),
    ];
    for (method, path, url, token, body) in &walked {
        let before = (test.host_chain(), test.audit("acme-corp", &admin).len());
        let answer = test.ask(method, url, token, Some(body));
        assert!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.body);
        let after = (test.host_chain(), test.audit("acme-corp", &admin).len());
        assert_ne!(before, after, "{method} {path} left no entry");
    }
    // A route that changes something and is not walked above would escape the test.
    for row in clawhold_api::table(Arc::clone(&test.host)).iter().filter(|row| row.method != "GET") {
        // A plan changes nothing, and an upload nothing that lasts.
        let known = row.path.ends_with("/plan")
            || row.path.contains("/blobs/uploads/")
            || walked.iter().any(|(method, path, ..)| (*method, *path) == (row.method, row.path));
        assert!(known, "{} {} is not walked by this test", row.method, row.path);
    }
}
