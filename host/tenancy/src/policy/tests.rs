use super::*;
use crate::manifest::HttpAsk;

fn policy() -> Policy {
    let manifest = Manifest::parse(
        r#"
[package]
name = "northwind/crm"
version = "1.0.0"
description = "x"
license = "MIT"
[[secrets]]
name = "salesforce"
purpose = "x"
reveal = true
[[secrets]]
name = "other"
purpose = "x"
[[http]]
host = "*.my.salesforce.com"
methods = ["GET", "POST"]
paths = ["/services/data/*", "/exact"]
credentials = ["salesforce"]
[[http]]
host_setting = "crm_url"
methods = ["GET"]
paths = ["/*"]
"#,
    )
    .unwrap();
    let settings = serde_json::json!({"crm_url": "http://127.0.0.1:8099"});
    Policy::from_manifest(&manifest, &settings, &BTreeSet::new(), &RunLimits::default_ceiling()).unwrap()
}

#[track_caller]
fn check(method: Method, url: &str, secret: Option<&str>, expected: Result<(), &str>) {
    let secret = secret.map(|s| s.parse().unwrap());
    let said = policy().allows(method, &Url::parse(url).unwrap(), secret.as_ref()).map_err(|denial| match denial.by {
        By::Request => "url",
        By::Manifest => "rule",
        other => other.as_str(),
    });
    assert_eq!(said, expected, "{url}");
}

#[test]
fn a_request_goes_out_only_under_a_rule() {
    use Method::{Delete, Get, Post};
    let sf = Some("salesforce");
    check(Get, "https://acme.my.salesforce.com/services/data/v59.0/query", sf, Ok(()));
    check(Post, "https://a.b.my.salesforce.com/exact", sf, Ok(()));
    check(Get, "https://ACME.MY.SALESFORCE.COM/exact", sf, Ok(()));
    check(Delete, "https://acme.my.salesforce.com/services/data/x", sf, Err("rule"));
    check(Get, "https://acme.my.salesforce.com/exact/more", sf, Err("rule"));
    check(Get, "https://acme.my.salesforce.com/services/database", sf, Err("rule"));
    check(Get, "https://acme.my.salesforce.com:8443/services/data/x", sf, Err("rule"));
    check(Get, "http://acme.my.salesforce.com/services/data/x", sf, Err("rule"));
    check(Get, "https://my.salesforce.com/services/data/x", sf, Err("rule"));
    check(Get, "https://evilmy.salesforce.com/services/data/x", sf, Err("rule"));
    check(Get, "https://acme.my.salesforce.com.evil.com/services/data/x", sf, Err("rule"));
    check(Get, "https://acme.my.salesforce.com/services/data/../../admin", sf, Err("rule"));
    check(Get, "https://acme.my.salesforce.com/services/data/%2e%2e/%2e%2e/admin", sf, Err("rule"));
    check(Get, "https://acme.my.salesforce.com/services/data/..%2f..%2fadmin", sf, Err("url"));
    check(Get, "https://acme.my.salesforce.com/services/data/..%5Cadmin", sf, Err("url"));
    check(Get, "https://acme.my.salesforce.com/services/data/group%2Fproject", sf, Ok(()));
    check(Get, "http://127.0.0.1:8099/anything", None, Ok(()));
    check(Get, "http://127.0.0.1:8100/anything", None, Err("rule"));
    check(Get, "https://127.0.0.1:8099/anything", None, Err("rule"));
}

#[test]
fn a_secret_goes_only_where_its_rule_says() {
    check(Method::Get, "http://127.0.0.1:8099/x", Some("salesforce"), Err("credential"));
    check(Method::Get, "https://acme.my.salesforce.com/exact", Some("other"), Err("credential"));
}

#[test]
fn what_the_operator_forbids_is_known_before_a_request() {
    let patterns = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect::<Vec<HostPattern>>();
    let forbidden = |allow: &[&str], deny: &[&str]| -> Vec<String> {
        let ceiling = HostCeiling { allow: patterns(allow), deny: patterns(deny) };
        policy().http.iter().filter(|rule| ceiling.forbids(rule).is_some()).map(|rule| rule.host.to_string()).collect()
    };
    let (salesforce, local) = ("*.my.salesforce.com".to_owned(), "127.0.0.1:8099".to_owned());
    let all: Vec<String> = vec![salesforce.clone(), local.clone()];
    assert_eq!(forbidden(&[], &[]), Vec::<String>::new());
    assert_eq!(forbidden(&["other.example.com"], &[]), all);
    assert_eq!(forbidden(&["*.salesforce.com"], &[]), std::slice::from_ref(&local));
    assert_eq!(forbidden(&["acme.my.salesforce.com"], &[]), std::slice::from_ref(&local), "some of it is allowed");
    assert_eq!(forbidden(&[], &["*.salesforce.com"]), [salesforce]);
    assert_eq!(forbidden(&[], &["acme.my.salesforce.com"]), Vec::<String>::new(), "some of it is allowed");
    assert_eq!(forbidden(&[], &["127.0.0.1"]), [local]);
}

#[test]
fn reveal_needs_both_the_manifest_and_the_admin() {
    let sf: SecretName = "salesforce".parse().unwrap();
    assert!(!policy().secrets[&sf], "the manifest alone is not enough");
}

#[test]
fn a_setting_that_names_a_host_must_be_an_origin() {
    let ask = HttpAsk {
        host: None,
        host_setting: Some("u".to_owned()),
        methods: vec![Method::Get],
        paths: vec!["/*".to_owned()],
        credentials: vec![],
        follow_redirects: true,
    };
    for bad in [
        "",
        "acme",
        "ftp://x.com",
        "https://x.com/path",
        "https://u:p@x.com",
        "https://x.com?q",
        "https://",
        "https://*.example.com",
        "https://my_host.example.com",
        "https://acme.com.",
        "https://a!b.com",
    ] {
        assert!(rule(&ask, &serde_json::json!({"u": bad})).is_err(), "{bad:?}");
    }
    assert!(rule(&ask, &serde_json::json!({})).unwrap_err().to_string().contains("it is not set"));
    assert!(rule(&ask, &serde_json::json!({"u": "https://x.com/"})).is_ok());
}

#[test]
fn a_setting_is_bound_to_its_very_port() {
    for (origin, port) in [
        ("http://127.0.0.1", 80),
        ("http://127.0.0.1:443", 443),
        ("http://127.0.0.1:80", 80),
        ("https://x.com", 443),
        ("https://x.com:443", 443),
        ("https://x.com:80", 80),
        ("https://[::1]:8443", 8443),
    ] {
        let ask = HttpAsk {
            host: None,
            host_setting: Some("u".to_owned()),
            methods: vec![Method::Get],
            paths: vec!["/*".to_owned()],
            credentials: vec![],
            follow_redirects: true,
        };
        let made = rule(&ask, &serde_json::json!({"u": origin})).unwrap();
        let kept: HttpRule = serde_json::from_str(&serde_json::to_string(&made).unwrap()).unwrap();
        let url = Url::parse(origin).unwrap();
        let default = if url.scheme() == "http" { 80 } else { 443 };
        for other in [80, 443, 8443, 9] {
            assert_eq!(kept.host.covers(url.host_str().unwrap(), other, default), other == port, "{origin} {other}");
        }
    }
}

#[test]
fn a_policy_reads_back_what_it_writes() {
    let text = serde_json::to_string(&policy()).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy());
}
