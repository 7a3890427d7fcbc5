//! Back to the version before, without what was taken from the package since.

use serde_json::{Value, json};

use super::{package, put};
use crate::support::{Answer, TestHost, becomes, on_each_database};

on_each_database![
    what_was_left_out_since_stays_left_out_when_an_older_version_is_put_back,
    hostile_26_what_a_changed_row_says_was_there_before_is_not_put_back,
];

const HTTP: &str = "[[http]]\nhost = \"api.example.com\"\nmethods = [\"GET\"]\npaths = [\"/*\"]\n";
const MORE: &str = "[[http]]\nhost = \"evil.example.com\"\nmethods = [\"POST\"]\npaths = [\"/*\"]\n";
const READS: &str = "[[secrets]]\nname = \"salesforce\"\npurpose = \"to sign in\"\nreveal = true\n";
const PATH: &str = "/v1/tenants/acme-corp/installs/northwind/crm";

fn back(test: &TestHost, admin: &str) -> Answer {
    test.send("POST", &format!("{PATH}/rollback"), admin, &json!({}))
}

fn hosts(install: &Value) -> Vec<&str> {
    install["policy"]["http"].as_array().unwrap().iter().map(|rule| rule["host"].as_str().unwrap()).collect()
}

fn what_was_left_out_since_stays_left_out_when_an_older_version_is_put_back(test: &TestHost) {
    let acme = test.tenant("acme-corp");
    for version in ["1.0.0", "1.1.0"] {
        test.publishes(&package("northwind/crm", version, &format!("{HTTP}{MORE}"))).ok();
    }
    let limits = |ms: u64, mb: u64| json!({ "timeout_ms": ms, "memory_mb": mb });
    let ask = json!({ "version": "1.0.0", "narrowing": { "limits": limits(400, 8) } });
    put(test, "acme-corp", &acme, "northwind/crm", &ask).ok();
    let less = json!({ "without_hosts": ["evil.example.com"], "limits": limits(200, 16) });
    put(test, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.1.0", "narrowing": less })).ok();
    let both = json!({ "without_hosts": ["evil.example.com"], "limits": limits(200, 8) });
    for version in ["1.0.0", "1.1.0", "1.0.0"] {
        let done = back(test, &acme).ok();
        assert_eq!((&done["version"], hosts(&done)), (&json!(version), vec!["api.example.com"]), "{done}");
        assert_eq!(done["narrowing"], both, "{version}");
        let run_may = &done["policy"]["limits"];
        assert_eq!((&run_may["wall_ms"], &run_may["memory_bytes"]), (&json!(200), &json!(8 << 20)), "{version}");
        let explained =
            test.get(&format!("{PATH}/explain?method=POST&url=https%3A%2F%2Fevil.example.com%2F"), &acme).ok();
        assert_eq!(explained["denied"]["by"], "manifest", "{version}: {explained}");
        // What it was agreed to with is worked out anew, or it would not run.
        let run = test.invoke("acme-corp", &acme, "guest.crm", &json!({}));
        assert_eq!((run.status, &run.body["run"]["version"]), (200, &json!(version)), "{}", run.body);
        let plan = test.send("POST", &format!("{PATH}/plan"), &acme, &json!({ "version": version, "narrowing": both }));
        let plan = plan.ok();
        assert_eq!((&plan["adds"], &plan["consent"]), (&json!([]), &done["consent"]), "the same is the same");
    }
    // To have it again it must be asked for.
    let plan = test.send("POST", &format!("{PATH}/plan"), &acme, &json!({ "version": "1.0.0" })).ok();
    assert!(plan["adds"].to_string().contains("POST https://evil.example.com/*"), "{plan}");
}

#[test]
fn a_secret_that_the_admin_lets_be_read_no_longer_is_not_read_by_what_is_put_back() {
    let test = TestHost::start();
    let acme = test.tenant("acme-corp");
    for (version, more) in [("1.0.0", READS), ("1.1.0", READS), ("1.2.0", "")] {
        test.publishes(&package("northwind/crm", version, more)).ok();
    }
    let install = |version: &str, reveal: &[&str]| {
        let ask = json!({ "version": version, "reveal": reveal });
        put(&test, "acme-corp", &acme, "northwind/crm", &ask).ok();
    };
    install("1.0.0", &["salesforce"]);
    install("1.1.0", &[]);
    let done = back(&test, &acme).ok();
    assert_eq!((&done["version"], &done["reveal"]), (&json!("1.0.0"), &json!([])));
    assert_eq!(done["policy"]["secrets"], json!({ "salesforce": false }), "{done}");
    // A version that does not ask for it says nothing about it.
    install("1.0.0", &["salesforce"]);
    install("1.2.0", &[]);
    let done = back(&test, &acme).ok();
    assert_eq!((&done["version"], &done["reveal"]), (&json!("1.0.0"), &json!(["salesforce"])));
    assert_eq!(done["policy"]["secrets"], json!({ "salesforce": true }), "{done}");
}

fn hostile_26_what_a_changed_row_says_was_there_before_is_not_put_back(test: &TestHost) {
    let acme = test.tenant("acme-corp");
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        test.publishes(&package("northwind/crm", version, HTTP)).ok();
    }
    for version in ["1.0.0", "1.1.0"] {
        let ask = json!({ "version": version, "channel": "minor" });
        put(test, "acme-corp", &acme, "northwind/crm", &ask).ok();
    }
    super::forged::change(test, "UPDATE installs SET before = replace(before, 'api.example.com', 'evil.example.com')");
    let before = test.host_chain();
    let refused = back(test, &acme);
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("changed past the host"), "{}", refused.body);
    assert!(becomes(|| test.host_chain() > before));
    // Nor does it come in with a version that follows, or that the admin takes: that makes an install of its own of it.
    test.runtime.block_on(test.host.follow_all()).unwrap();
    assert_eq!(test.get(PATH, &acme).ok()["version"], "1.1.0");
    put(test, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.2.0" })).ok();
    assert_eq!(back(test, &acme).status, 409, "there is nothing to go back to");
    assert_eq!(test.invoke("acme-corp", &acme, "guest.crm", &json!({})).status, 200);
}
