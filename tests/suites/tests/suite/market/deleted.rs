//! Packages that are deleted: they run nowhere, nobody finds them, and their names are never given again.

use serde_json::{Value, json};

use super::{package, put};
use crate::oci::{manifest_of, push_blob};
use crate::support::{Answer, TestHost, becomes, on_each_database};

on_each_database![
    hostile_29_a_deleted_package_is_gone_for_everybody_and_its_name_is_never_given_again,
    a_deletion_that_broke_off_is_gone_on_with,
];

fn delete(test: &TestHost, token: &str, name: &str) -> Answer {
    let body = json!({ "advisory": "its publisher has closed; install southwind/crm" });
    test.send("POST", &format!("/v1/market/packages/{name}/delete"), token, &body)
}

fn hostile_29_a_deleted_package_is_gone_for_everybody_and_its_name_is_never_given_again(test: &TestHost) {
    let (acme, globex, author) = (test.tenant("acme-corp"), test.tenant("globex"), test.publisher("northwind"));
    let (first, second) = (package("northwind/crm", "1.0.0", ""), package("northwind/crm", "2.0.0", ""));
    for wasm in [&first, &second, &package("northwind/quote", "1.0.0", "")] {
        test.publishes(wasm).ok();
    }
    put(test, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.0.0" })).ok();
    let call = || test.invoke("acme-corp", &acme, "guest.crm", &json!({}));
    assert_eq!(call().status, 200);
    assert_eq!(delete(test, &author, "northwind/crm").status, 403, "it is the operator's to do");
    assert_eq!(delete(test, &test.operator, "northwind/nothing").status, 404);
    let silent = json!({ "advisory": " " });
    assert_eq!(test.send("POST", "/v1/market/packages/northwind/crm/delete", &test.operator, &silent).status, 422);
    let done = delete(test, &test.operator, "northwind/crm").ok();
    assert_eq!((&done["name"], &done["versions"]), (&json!("northwind/crm"), &json!(2)));

    // It does not run, and its tenants are told, each of what it has installed.
    let refused = call();
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("southwind/crm"), "{}", refused.body);
    let revoked = |entry: &Value| entry["action"] == "package.revoked";
    assert!(becomes(|| test.audit("acme-corp", &acme).iter().any(revoked)));

    // For everybody but the operator it is what never was there.
    for token in [&acme, &globex, &author] {
        let names = |path: &str| {
            let items = test.get(path, token).ok()["items"].clone();
            items.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("/v1/market/packages"), ["northwind/quote"]);
        assert_eq!(names("/v1/market/packages?search=crm"), [""; 0]);
        for rest in ["", "?version=1.0.0", "/versions", "/grants"] {
            let ask = |name: &str| {
                let answer = test.get(&format!("/v1/market/packages/northwind/{name}{rest}"), token);
                (answer.status, answer.body)
            };
            let (gone, never) = (ask("crm"), ask("nothing"));
            assert_eq!(gone, never, "{rest}");
            assert!(matches!(gone.0, 403 | 404), "{rest}: {}", gone.1);
        }
        for path in ["manifests/1.0.0", "manifests/latest", "tags/list"] {
            let answer = test.get(&format!("/v2/northwind/crm/{path}"), token);
            assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        }
    }
    let plan = test.send("POST", "/v1/tenants/globex/installs/northwind/crm/plan", &globex, &json!({}));
    assert_eq!(plan.status, 404, "{}", plan.body);
    assert_eq!(test.becomes(&author, "northwind/crm", "1.0.0", "yanked").status, 404);
    let grant = |token: &str| {
        test.send("PUT", "/v1/market/packages/northwind/crm/grants/tenant:globex", token, &json!({})).status
    };
    assert_eq!((grant(&author), grant(&test.operator)), (404, 404));
    let listed = test.get("/v1/market/packages", &test.operator).ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");
    let shown = test.get("/v1/market/packages/northwind/crm", &test.operator).ok();
    assert_eq!((&shown["version"], &shown["status"]), (&json!("2.0.0"), &json!("revoked")));

    // For good.
    assert_eq!(test.becomes(&test.operator, "northwind/crm", "1.0.0", "active").status, 409);
    assert_eq!(delete(test, &test.operator, "northwind/crm").status, 409);
    for wasm in [&first, &second, &package("northwind/crm", "9.0.0", "")] {
        let refused = test.ask_ungranted("POST", "/v1/market/packages", &author, Some(wasm));
        assert_eq!((refused.status, refused.problem().as_str()), (422, "package-refused"), "{}", refused.body);
        assert!(refused.body["faults"][0]["what"].as_str().unwrap().contains("not given again"), "{}", refused.body);
    }
    let next = package("northwind/crm", "9.0.0", "");
    for blob in [b"{}".as_slice(), &next] {
        assert_eq!(push_blob(test, &author, "northwind/crm", blob).status, 201);
    }
    let kind = [("content-type", "application/vnd.oci.image.manifest.v1+json")];
    let manifest = manifest_of(&next).to_string();
    let refused = test.ask_with(&kind, "PUT", "/v2/northwind/crm/manifests/9.0.0", &author, Some(manifest.as_bytes()));
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.to_string().contains("not given again"), "{}", refused.body);
    assert_eq!(test.get("/v1/market/packages/northwind/crm?version=9.0.0", &test.operator).status, 404);
    // What was installed can be removed, and the others go on.
    let remove = test.ask("DELETE", "/v1/tenants/acme-corp/installs/northwind/crm", &acme, None);
    assert_eq!(remove.status, 204, "{}", remove.body);
    test.publishes(&package("northwind/quote", "1.0.1", "")).ok();
    put(test, "acme-corp", &acme, "northwind/quote", &json!({})).ok();
}

/// Each version is revoked by itself, and the host may stop in between.
fn a_deletion_that_broke_off_is_gone_on_with(test: &TestHost) {
    let author = test.publisher("northwind");
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        test.publishes(&package("northwind/crm", version, "")).ok();
    }
    test.becomes(&test.operator, "northwind/crm", "1.1.0", "revoked").ok();
    let before = test.host_chain();
    assert_eq!(delete(test, &test.operator, "northwind/crm").ok()["versions"], 3);
    // One entry for each that was not revoked yet, one for the package; and those that tell tenants are of a host with some.
    assert_eq!(test.host_chain(), before + 3);
    let advisory = |version: &str| {
        let path = format!("/v1/market/packages/northwind/crm?version={version}");
        test.get(&path, &test.operator).ok()["advisory"].as_str().unwrap().to_owned()
    };
    assert_eq!(advisory("1.1.0"), "it rounds prices; take 1.0.1", "what was said before is not said over");
    assert_eq!(advisory("1.0.0"), "its publisher has closed; install southwind/crm");
    assert_eq!(test.get("/v1/market/packages/northwind/crm/versions", &author).status, 404);
}
