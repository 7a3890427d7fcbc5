//! Newer versions: followed, held, accepted, put back.

use serde_json::{Value, json};

use super::{package, put};
use crate::support::{TestHost, becomes, on_each_database};

on_each_database![an_admin_may_agree_to_less];

const HTTP: &str = "[[http]]\nhost = \"api.example.com\"\nmethods = [\"GET\"]\npaths = [\"/*\"]\n";
const MORE: &str = "[[http]]\nhost = \"evil.example.com\"\nmethods = [\"POST\"]\npaths = [\"/*\"]\n";

const AT_ONCE: &str = "market:\n  signatures: optional\n  cool_down_h: 0\n";

fn installed(test: &TestHost, admin: &str) -> Value {
    test.get("/v1/tenants/acme-corp/installs/northwind/crm", admin).ok()
}

fn follow(test: &TestHost) {
    test.runtime.block_on(test.host.follow_all()).unwrap();
}

#[test]
fn hostile_27_what_asks_for_more_is_held_and_the_old_version_keeps_running() {
    let test = TestHost::with(AT_ONCE);
    let acme = test.tenant("acme-corp");
    let publish = |version: &str, more: &str| test.publishes(&package("northwind/crm", version, more)).ok();
    publish("1.0.0", HTTP);
    let path = "/v1/tenants/acme-corp/installs/northwind/crm";
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({ "channel": "minor" })).ok();
    // The same rights follow, within the channel.
    publish("1.1.0", HTTP);
    publish("2.0.0", HTTP);
    follow(&test);
    let now = installed(&test, &acme);
    assert_eq!(
        (&now["version"], &now["channel"], &now["by"]),
        (&json!("1.1.0"), &json!("minor"), &json!("host:channel"))
    );
    // More is held, told of once, and asked for.
    publish("1.2.0", &format!("{HTTP}{MORE}"));
    follow(&test);
    follow(&test);
    let now = installed(&test, &acme);
    assert_eq!((&now["version"], &now["held"]), (&json!("1.1.0"), &json!("1.2.0")));
    let entries = test.audit("acme-corp", &acme);
    let of = |action: &str| entries.iter().filter(|entry| entry["action"] == action).count();
    assert_eq!((of("install.follow"), of("install.hold")), (1, 1));
    let held = entries.iter().find(|entry| entry["action"] == "install.hold").unwrap();
    assert!(held["detail"].to_string().contains("POST https://evil.example.com/*"), "{held}");
    let run = test.invoke("acme-corp", &acme, "guest.crm", &json!({}));
    assert_eq!((run.status, &run.body["run"]["package"]), (200, &json!("northwind/crm")), "{}", run.body);
    let plan = test.send("POST", &format!("{path}/plan"), &acme, &json!({ "version": "1.2.0" })).ok();
    assert_eq!((&plan["adds"], &plan["removes"]), (&json!(["POST https://evil.example.com/*"]), &json!([])));
    // The word for another plan does not do.
    let old = json!({ "version": "1.2.0", "consent": now["consent"], "channel": "minor" });
    assert_eq!(test.send("PUT", path, &acme, &old).problem(), "consent-required");
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.2.0", "channel": "minor" })).ok();
    let now = installed(&test, &acme);
    assert_eq!((&now["version"], &now["held"]), (&json!("1.2.0"), &Value::Null));
    // Less follows again.
    publish("1.3.0", HTTP);
    follow(&test);
    assert_eq!(installed(&test, &acme)["version"], "1.3.0");
    // Back to the version before, with one command; and it stays there.
    let back = test.send("POST", &format!("{path}/rollback"), &acme, &json!({})).ok();
    assert_eq!((&back["version"], &back["channel"]), (&json!("1.2.0"), &json!("pinned")));
    follow(&test);
    assert_eq!(installed(&test, &acme)["version"], "1.2.0");
    assert_eq!(test.invoke("acme-corp", &acme, "guest.crm", &json!({})).status, 200);
    // What was revoked meanwhile is not gone back to.
    test.becomes(&test.operator, "northwind/crm", "1.3.0", "revoked").ok();
    let refused = test.send("POST", &format!("{path}/rollback"), &acme, &json!({}));
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert_eq!(installed(&test, &acme)["version"], "1.2.0");
}

#[test]
fn where_the_newest_is_held_the_newest_that_asks_for_no_more_is_followed_to() {
    let test = TestHost::with(AT_ONCE);
    let acme = test.tenant("acme-corp");
    let publish = |version: &str, more: &str| test.publishes(&package("northwind/crm", version, more)).ok();
    publish("1.0.0", HTTP);
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({ "channel": "minor" })).ok();
    let more = format!("{HTTP}{MORE}");
    for (version, more) in [("1.1.0", HTTP), ("1.2.0", HTTP), ("1.3.0", &more), ("1.4.0", &more)] {
        publish(version, more);
    }
    let holds = || {
        let entries = test.audit("acme-corp", &acme);
        let holds = entries.iter().filter(|entry| entry["action"] == "install.hold");
        holds.map(|entry| entry["detail"]["version"].clone()).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        follow(&test);
        let now = installed(&test, &acme);
        assert_eq!((&now["version"], &now["held"]), (&json!("1.2.0"), &json!("1.4.0")));
        assert_eq!(holds(), ["1.4.0"], "of the newest that is held, once");
    }
    // Once told stays told when it follows further.
    publish("1.2.1", HTTP);
    follow(&test);
    let now = installed(&test, &acme);
    assert_eq!((&now["version"], &now["held"], holds().len()), (&json!("1.2.1"), &json!("1.4.0"), 1));
    publish("1.5.0", &more);
    follow(&test);
    assert_eq!((installed(&test, &acme)["held"].clone(), holds().len()), (json!("1.5.0"), 2));
    // One look has its bounds: what is behind eight that ask for more is not reached.
    for patch in 1..=7 {
        publish(&format!("1.5.{patch}"), &more);
    }
    publish("1.4.1", HTTP);
    follow(&test);
    assert_eq!(installed(&test, &acme)["version"], "1.2.1");
    test.becomes(&test.publisher("northwind"), "northwind/crm", "1.5.3", "yanked").ok();
    follow(&test);
    assert_eq!(installed(&test, &acme)["version"], "1.4.1");
}

#[test]
fn a_version_with_a_skill_of_another_packages_name_is_held_and_told() {
    let test = TestHost::with(AT_ONCE);
    let acme = test.tenant("acme-corp");
    for name in ["northwind/crm", "northwind/quote"] {
        test.publishes(&package(name, "1.0.0", "")).ok();
        put(&test, "acme-corp", &acme, name, &json!({ "channel": "minor" })).ok();
    }
    // It offers `guest.quote`, under the name of the other package.
    let component =
        clawhold_test_support::guest::component_of("quote", "(func $run (result i32) (call $yes))").unwrap();
    let about =
        "[package]\nname = \"northwind/crm\"\nversion = \"1.1.0\"\ndescription = \"Says yes\"\nlicense = \"MIT\"\n";
    test.publishes(&clawhold_marketplace::embed(&component, about).unwrap()).ok();
    follow(&test);
    follow(&test);
    let now = installed(&test, &acme);
    assert_eq!((&now["version"], &now["held"]), (&json!("1.0.0"), &json!("1.1.0")));
    let entries = test.audit("acme-corp", &acme);
    let held: Vec<_> = entries.iter().filter(|entry| entry["action"] == "install.hold").collect();
    assert_eq!(held.len(), 1);
    let why = held[0]["detail"]["why"].as_str().unwrap();
    assert!(why.contains("skill guest.quote is offered by the installed package northwind/quote already"), "{why}");
    for skill in ["guest.crm", "guest.quote"] {
        assert_eq!(test.invoke("acme-corp", &acme, skill, &json!({})).status, 200, "{skill}");
    }
}

#[test]
fn settings_that_a_version_does_not_take_keep_the_old_one_running() {
    let test = TestHost::with(AT_ONCE);
    let acme = test.tenant("acme-corp");
    let of = |setting: &str| format!("[[http]]\nhost_setting = {setting:?}\nmethods = [\"GET\"]\npaths = [\"/*\"]\n");
    test.publishes(&package("northwind/crm", "1.0.0", &of("origin"))).ok();
    let settings = json!({ "origin": "https://api.example.com" });
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({ "settings": settings, "channel": "minor" })).ok();
    test.publishes(&package("northwind/crm", "1.1.0", &of("instance_url"))).ok();
    let path = "/v1/tenants/acme-corp/installs/northwind/crm";
    let ask = json!({ "version": "1.1.0", "settings": settings });
    let mut yes = ask.clone();
    yes["consent"] = installed(&test, &acme)["consent"].clone();
    for (method, path, ask) in [("POST", format!("{path}/plan"), &ask), ("PUT", path.to_owned(), &yes)] {
        let refused = test.send(method, &path, &acme, ask);
        assert_eq!(refused.status, 422, "{method}: {}", refused.body);
        let said = refused.body.to_string();
        assert!(said.contains("settings.instance_url") && said.contains("set it to an origin such as"), "{said}");
    }
    follow(&test);
    let now = installed(&test, &acme);
    assert_eq!((&now["version"], &now["held"]), (&json!("1.0.0"), &json!("1.1.0")));
    let entries = test.audit("acme-corp", &acme);
    let held = entries.iter().find(|entry| entry["action"] == "install.hold").unwrap();
    assert!(held["detail"]["why"].as_str().unwrap().contains("settings.instance_url: it is not set"), "{held}");
    let run = test.invoke("acme-corp", &acme, "guest.crm", &json!({}));
    assert_eq!((run.status, &run.body["run"]["version"]), (200, &json!("1.0.0")), "{}", run.body);
    // With what it needs it is taken.
    let settings = json!({ "instance_url": "https://api.example.com" });
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.1.0", "settings": settings })).ok();
    assert_eq!(test.invoke("acme-corp", &acme, "guest.crm", &json!({})).body["run"]["version"], "1.1.0");
}

#[test]
fn nothing_follows_before_it_has_cooled_down_nor_what_was_yanked_nor_where_nobody_chose_so() {
    let test = TestHost::with("market:\n  signatures: optional\n");
    let (acme, globex) = (test.tenant("acme-corp"), test.tenant("globex"));
    test.publishes(&package("northwind/crm", "1.0.0", HTTP)).ok();
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({ "channel": "patch" })).ok();
    put(&test, "globex", &globex, "northwind/crm", &json!({})).ok();
    test.publishes(&package("northwind/crm", "1.0.1", HTTP)).ok();
    follow(&test);
    assert_eq!(installed(&test, &acme)["version"], "1.0.0", "three days are not over");
    let test = test.restarted(AT_ONCE);
    test.becomes(&test.operator, "northwind/crm", "1.0.1", "yanked").ok();
    follow(&test);
    assert_eq!(installed(&test, &acme)["version"], "1.0.0");
    test.publishes(&package("northwind/crm", "1.1.0", HTTP)).ok();
    test.publishes(&package("northwind/crm", "1.0.2", HTTP)).ok();
    follow(&test);
    assert_eq!(installed(&test, &acme)["version"], "1.0.2", "a patch, and not the minor one");
    assert_eq!(test.get("/v1/tenants/globex/installs/northwind/crm", &globex).ok()["version"], "1.0.0");
    let nothing = test.send("POST", "/v1/tenants/globex/installs/northwind/crm/rollback", &globex, &json!({}));
    assert_eq!(nothing.status, 409, "{}", nothing.body);
}

#[test]
fn what_was_yanked_cools_down_anew_when_that_is_taken_back() {
    let test = TestHost::with(AT_ONCE);
    let acme = test.tenant("acme-corp");
    for version in ["1.0.0", "1.0.1"] {
        test.publishes(&package("northwind/crm", version, HTTP)).ok();
    }
    let listed = || test.get("/v1/market/packages/northwind/crm/versions", &acme).ok()["items"][0].clone();
    let published = listed()["changed"].clone();
    let author = test.publisher("northwind");
    for status in ["yanked", "active"] {
        test.becomes(&author, "northwind/crm", "1.0.1", status).ok();
    }
    assert_eq!(test.becomes(&author, "northwind/crm", "1.0.1", "active").status, 409, "it is that already");
    // The time that the cool-down counts from.
    assert!(listed()["changed"].as_str() > published.as_str(), "{} {published}", listed());
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.0.0", "channel": "patch" })).ok();
    follow(&test);
    assert_eq!(installed(&test, &acme)["version"], "1.0.1");
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.0.0", "channel": "patch" })).ok();
    let test = test.restarted("market:\n  signatures: optional\n  cool_down_h: 1\n");
    follow(&test);
    assert_eq!(installed(&test, &acme)["version"], "1.0.0");
}

#[test]
fn a_run_that_is_under_way_finishes_on_the_version_that_it_began_with() {
    let test = TestHost::with(AT_ONCE);
    let acme = test.tenant("acme-corp");
    let counts = "(func $run (result i32) (local $i i32) (loop $again (local.set $i (i32.add (local.get $i) (i32.const 1))) \
                  (br_if $again (i32.lt_u (local.get $i) (i32.const 900_000_000)))) (call $yes))";
    let limits = "[limits]\nfuel = 100_000_000_000\ntimeout_ms = 60_000\n";
    let slow = super::guest("northwind/crm", "1.0.0", limits, counts);
    test.publishes(&slow).ok();
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({ "channel": "patch" })).ok();
    let digest = installed(&test, &acme)["digest"].clone();
    test.publishes(&package("northwind/crm", "1.0.1", "")).ok();
    std::thread::scope(|scope| {
        let run = scope.spawn(|| test.invoke("acme-corp", &acme, "guest.crm", &json!({})));
        assert!(becomes(|| test.host.running() > 0));
        // It is counted before its install is looked up.
        std::thread::sleep(std::time::Duration::from_millis(300));
        follow(&test);
        assert_eq!(installed(&test, &acme)["version"], "1.0.1");
        let other = test.invoke("acme-corp", &acme, "guest.crm", &json!({}));
        assert_ne!(other.ok()["run"]["digest"], digest, "who calls now gets the new one");
        let run = run.join().unwrap();
        assert_eq!((run.status, &run.body["run"]["digest"]), (200, &digest), "{}", run.body);
    });
}

fn an_admin_may_agree_to_less(test: &TestHost) {
    let acme = test.tenant("acme-corp");
    test.publishes(&package("northwind/crm", "1.0.0", &format!("{HTTP}{MORE}"))).ok();
    let less = json!({ "without_hosts": ["evil.example.com"], "limits": { "timeout_ms": 50 } });
    let done = put(test, "acme-corp", &acme, "northwind/crm", &json!({ "narrowing": less })).ok();
    assert_eq!(done["policy"]["http"].as_array().unwrap().len(), 1, "{done}");
    assert_eq!(done["policy"]["limits"]["wall_ms"], 50, "{done}");
    let explained = |url: &str| {
        let path = format!("/v1/tenants/acme-corp/installs/northwind/crm/explain?method=POST&url={url}");
        test.get(&path, &acme).ok()["denied"]["by"].clone()
    };
    assert_eq!(explained("https%3A%2F%2Fevil.example.com%2F"), "manifest");
    let path = "/v1/tenants/acme-corp/installs/northwind/crm/plan";
    let wrong = test.send("POST", path, &acme, &json!({ "narrowing": { "without_hosts": ["api.example.org"] } }));
    assert_eq!(wrong.status, 422);
    assert!(wrong.body.to_string().contains("api.example.com, evil.example.com"), "{}", wrong.body);
    // What was agreed to less is agreed to anew when it is to be more.
    let plan = test.send("POST", path, &acme, &json!({})).ok();
    assert!(plan["adds"].to_string().contains("evil.example.com"), "{plan}");
}

#[test]
fn settings_fit_the_schema_of_the_version_or_nothing_is_switched() {
    let test = TestHost::with(AT_ONCE);
    let acme = test.tenant("acme-corp");
    let path = "/v1/tenants/acme-corp/installs/northwind/crm";
    let publish = |version: &str, more: &str| test.publishes(&package("northwind/crm", version, more)).ok();
    let currency = "[settings]\nrequired = [\"currency\"]\nproperties = { currency = { pattern = \"^[A-Z]{3}$\" } }\n";
    publish("1.0.0", currency);
    let plan = |version: &str, settings: &Value| {
        test.send("POST", &format!("{path}/plan"), &acme, &json!({ "version": version, "settings": settings }))
    };
    for (settings, place) in [(json!({}), "settings"), (json!({ "currency": "euro" }), "settings.currency")] {
        let refused = plan("1.0.0", &settings);
        assert_eq!((refused.status, refused.body["place"].as_str()), (422, Some(place)), "{}", refused.body);
        let said = refused.body["detail"].as_str().unwrap();
        assert!(said.contains("northwind/crm 1.0.0 wants it so") && !said.contains("euro"), "{said}");
    }
    let settings = json!({ "currency": "EUR" });
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({ "settings": settings, "channel": "minor" })).ok();
    // A version that wants more settings is not switched to, by nobody; the old one keeps running.
    publish("1.1.0", &currency.replace("[\"currency\"]", "[\"currency\", \"places\"]"));
    let refused = plan("1.1.0", &settings);
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("places"), "{}", refused.body);
    let put_it = json!({ "version": "1.1.0", "settings": settings, "consent": installed(&test, &acme)["consent"] });
    assert_eq!(test.send("PUT", path, &acme, &put_it).status, 422);
    follow(&test);
    let now = installed(&test, &acme);
    assert_eq!((&now["version"], &now["held"]), (&json!("1.0.0"), &json!("1.1.0")));
    assert_eq!(test.invoke("acme-corp", &acme, "guest.crm", &json!({})).status, 200);
    let entries = test.audit("acme-corp", &acme);
    let held = entries.iter().find(|entry| entry["action"] == "install.hold").unwrap();
    assert!(held["detail"]["why"].as_str().unwrap().contains("places"), "{held}");
    let settings = json!({ "currency": "EUR", "places": 2 });
    put(&test, "acme-corp", &acme, "northwind/crm", &json!({ "version": "1.1.0", "settings": settings })).ok();
}

#[test]
fn a_plan_says_what_is_asked_for_what_lacks_and_what_is_forbidden() {
    let test = TestHost::with("market:\n  signatures: optional\negress:\n  deny: [evil.example.com]\n");
    let acme = test.tenant("acme-corp");
    let asks = format!(
        "{HTTP}credentials = [\"salesforce\"]\n{MORE}\
         [[secrets]]\nname = \"salesforce\"\npurpose = \"Reads accounts\"\n\
         [[secrets]]\nname = \"signing\"\npurpose = \"Signs\"\nreveal = true\n\
         [audit]\nactions = [\"crm.account.read\"]\n\
         [wasi]\n[limits]\nmemory_mb = 32\n"
    );
    test.publishes(&package("northwind/crm", "1.0.0", &asks)).ok();
    let plan = |ask: &Value| test.send("POST", "/v1/tenants/acme-corp/installs/northwind/crm/plan", &acme, ask).ok();
    let said = plan(&json!({ "reveal": ["signing"] }));
    let adds: Vec<&str> = said["adds"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    let words = [
        "use the secret salesforce",
        "read the value of the secret signing",
        "GET https://api.example.com/* with salesforce",
        "POST https://evil.example.com/*",
        "record crm.account.read",
        "run on WASI: clocks, randomness",
        "use 32 MiB of memory, 10000 ms and 1000000000 fuel in a run",
    ];
    assert_eq!(adds, words);
    let lacks: Vec<&str> =
        said["lacks"].as_array().unwrap().iter().map(|one| one["secret"].as_str().unwrap()).collect();
    assert_eq!(lacks, ["salesforce", "signing"]);
    let forbidden = said["forbidden"].to_string();
    assert!(forbidden.contains("evil.example.com") && !forbidden.contains("api.example.com"), "{forbidden}");
    // Not asked to be read, it is not; what is there lacks no more.
    test.send("PUT", "/v1/tenants/acme-corp/secrets/salesforce", &acme, &json!({ "value": "a token" }));
    let said = plan(&json!({}));
    assert!(said["adds"].to_string().contains("\"use the secret signing\""), "{said}");
}
