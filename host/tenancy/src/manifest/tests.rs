use super::check::HOST_WORDS;
use super::*;

const GOOD: &str = r#"
[package]
name = "northwind/crm"
version = "1.4.0"
description = "Look up accounts"
license = "Apache-2.0"

[[secrets]]
name = "salesforce"
purpose = "Bearer token for the CRM API"

[[http]]
host = "*.my.salesforce.com"
methods = ["GET"]
paths = ["/services/data/*"]
credentials = ["salesforce"]

[audit]
actions = ["crm.account.read"]

[limits]
memory_mb = 32
timeout_ms = 5000
"#;

#[track_caller]
fn check(from: &str, to: &str, expected: &[&str]) {
    let text = GOOD.replacen(from, to, 1);
    assert_ne!(text, GOOD, "the case changes nothing");
    let error = Manifest::parse(&text).expect_err(to).to_string();
    for part in expected {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}

#[test]
fn a_good_manifest_says_what_it_needs() {
    let manifest = Manifest::parse(GOOD).unwrap();
    assert_eq!(manifest.limits().memory_bytes, 32 * MIB);
    assert_eq!(manifest.limits().wall_ms, 5000);
    assert_eq!(manifest.limits().fuel, RunLimits::default().fuel);
}

#[test]
fn a_manifest_asks_for_wasi_and_for_scratch_files() {
    assert_eq!((Manifest::parse(GOOD).unwrap().wasi, RunLimits::default().scratch_bytes), (None, 0));
    let bare = Manifest::parse(&format!("{GOOD}\n[wasi]\n")).unwrap();
    assert_eq!((bare.wasi.clone(), bare.limits().scratch_bytes), (Some(WasiAsk::default()), 0));
    let with_files = Manifest::parse(&format!("{GOOD}\n[wasi]\nscratch_mb = 3\n")).unwrap();
    assert_eq!(with_files.limits().scratch_bytes, 3 * MIB);
}

#[test]
fn a_refusal_quotes_no_more_than_people_read() {
    let long = "x".repeat(50_000);
    for (from, to, place) in [
        ("northwind/crm", long.as_str(), "line 3"),
        ("version = ", &format!("{long} = "), "line 4"),
        ("crm.account.read", &"\u{200b}".repeat(10_000), "audit.actions[0]"),
        ("/services/data/*", &format!("/{long}"), "http[0].paths[0]"),
        ("*.my.salesforce.com", &long, "http[0].host"),
    ] {
        let error = Manifest::parse(&GOOD.replacen(from, to, 1)).expect_err(place).to_string();
        assert!(error.contains(place) && error.len() <= ERROR_BYTES, "{} bytes: {error:.300}", error.len());
    }
}

#[test]
fn a_bad_manifest_is_refused_with_place_and_remedy() {
    check("license", "licence", &["line 6", "unknown field `licence`", "expected one of"]);
    check("[audit]", "[audits]", &["unknown field `audits`"]);
    check("northwind/crm", "Northwind CRM", &["line 3", "not a package name", "publisher/name"]);
    check("1.4.0", "1.4", &["line 4", "unexpected end of input"]);
    check("1.4.0", "1.4.0+deadbeef", &["package.version", "build metadata", "drop"]);
    check("\"GET\"", "\"FETCH\"", &["FETCH", "GET"]);
    check("[\"GET\"]", "[]", &["http[0].methods", "is empty"]);
    check("/services/data/*", "/services/*/data", &["http[0].paths[0]", "last character"]);
    check("/services/data/*", "/services/../admin", &["http[0].paths[0]"]);
    for odd in ["{id}", "a b", "`", "\"quoted\"", "<>"] {
        check("/services/data/*", &format!("/{}", odd.replace('"', "\\\"")), &["http[0].paths[0]", "URL encodes"]);
    }
    check("*.my.salesforce.com", "*.com", &["http[0].host", "*.com"]);
    check("*.my.salesforce.com", "https://x.example.com/", &["http[0].host"]);
    check("host = ", "host_setting = \"instance_url\"\nhost = ", &["http[0]", "exactly one"]);
    check("credentials = [\"salesforce\"]", "credentials = [\"jira\"]", &["http[0].credentials[0]", "[[secrets]]"]);
    check("crm.account.read", "Read Account", &["audit.actions[0]", "joined by dots"]);
    check("crm.account.read", "token.create", &["audit.actions[0]", "the host's own", "crm.token.create"]);
    check("crm.account.read", "secret.reveal", &["audit.actions[0]", "the host's own"]);
    check("memory_mb = 32", "memory_mb = 0", &["limits.memory_mb", "1 or more"]);
    check("memory_mb = 32", "memory_mb = -1", &["line 22"]);
    check("[limits]", "[wasi]\nscratch_mb = 0\n[limits]", &["wasi.scratch_mb", "1 or more"]);
    check("[limits]", "[wasi]\nscratch = 1\n[limits]", &["unknown field `scratch`", "scratch_mb"]);
    check("[limits]", "[wasi]\nenvironment = []\n[limits]", &["unknown field `environment`"]);
    check("description = \"Look up accounts\"", "description = \"\"", &["package.description", "is empty"]);
}

#[test]
fn no_action_of_the_host_can_be_a_skills() {
    for row in crate::permit::TABLE {
        let first = row.name.split(['.', '-']).next().unwrap();
        assert!(HOST_WORDS.contains(&first), "{} can be declared by a skill", row.name);
    }
}

#[test]
fn a_huge_manifest_is_refused_before_it_is_parsed() {
    let text = format!("{GOOD}\n# {}", "x".repeat(MANIFEST_BYTES));
    assert!(Manifest::parse(&text).unwrap_err().to_string().contains("are allowed"));
}
