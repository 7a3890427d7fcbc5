use std::collections::{BTreeMap, BTreeSet};

use clawhold_tenancy::limits::MIB;
use clawhold_tenancy::policy::{HttpRule, Method};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree as _;
use url::Url;

use super::*;

fn rule(line: &str) -> HttpRule {
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap();
    let (methods, url) = (word(), word());
    let (scheme, rest) = url.split_once("://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap());
    let more: Vec<&str> = words.collect();
    HttpRule {
        scheme: scheme.to_owned(),
        host: host.parse().unwrap(),
        methods: methods.split('|').map(method).collect(),
        paths: path.split('|').map(str::to_owned).collect(),
        credentials: more.iter().filter(|word| **word != "returns").map(|word| word.parse().unwrap()).collect(),
        returns_redirects: more.contains(&"returns"),
    }
}

fn method(word: &str) -> Method {
    serde_json::from_value(word.into()).unwrap()
}

/// A policy with these ways out, and the secrets `crm` and `mail`.
fn policy(lines: &[&str]) -> Policy {
    Policy {
        secrets: ["crm", "mail"].into_iter().map(|name| (name.parse().unwrap(), false)).collect(),
        kinds: BTreeMap::new(),
        http: lines.iter().map(|line| rule(line)).collect(),
        audit_actions: BTreeSet::from(["crm.read".to_owned()]),
        wasi: false,
        limits: RunLimits::default(),
    }
}

#[test]
fn ways_out_are_compared_by_what_they_let_out() {
    for (old, new, adds) in [
        // The same, less, or the same in other words.
        ("GET https://a.com/v1/*", "GET https://a.com/v1/*", &[][..]),
        ("GET|POST https://a.com/v1/*", "GET https://a.com/v1/*", &[]),
        ("GET https://*.a.com/*", "GET https://x.a.com/*", &[]),
        ("GET https://*.a.com/*", "GET https://*.x.a.com/*", &[]),
        ("GET https://a.com/*", "GET https://a.com/v1/*", &[]),
        ("GET https://a.com/v1/*", "GET https://a.com/v1/me", &[]),
        ("GET https://a.com/v1/*|/v1/me", "GET https://a.com/v1/*", &[]),
        ("GET https://a.com:443/*", "GET https://a.com/*", &[]),
        ("GET http://a.com:80/*", "GET http://a.com/*", &[]),
        ("GET https://a.com/* crm", "GET https://a.com/*", &[]),
        ("GET https://*.a.com/* crm mail", "GET https://x.a.com/v1 mail", &[]),
        ("GET https://a.com/*", "", &[]),
        // More.
        ("", "GET https://a.com/*", &["GET https://a.com/*"]),
        ("GET https://a.com/*", "GET|POST https://a.com/*", &["POST https://a.com/*"]),
        ("GET https://a.com/*", "GET https://b.com/*", &["GET https://b.com/*"]),
        ("GET https://*.a.com/*", "GET https://a.com/*", &["GET https://a.com/*"]),
        ("GET https://x.a.com/*", "GET https://*.a.com/*", &["GET https://*.a.com/*"]),
        ("GET https://*.a.com/*", "GET https://*.ba.com/*", &["GET https://*.ba.com/*"]),
        ("GET https://*.x.a.com/*", "GET https://*.a.com/*", &["GET https://*.a.com/*"]),
        ("GET https://a.com/v1/*", "GET https://a.com/v1*", &["GET https://a.com/v1*"]),
        ("GET https://a.com/v1/me", "GET https://a.com/v1/me*", &["GET https://a.com/v1/me*"]),
        ("GET https://a.com/v1", "GET https://a.com/v1/me", &["GET https://a.com/v1/me"]),
        ("GET https://a.com/*", "GET https://a.com:8443/*", &["GET https://a.com:8443/*"]),
        ("GET https://a.com/*", "GET http://a.com/*", &["GET http://a.com/*"]),
        ("GET http://a.com/*", "GET http://a.com:443/*", &["GET http://a.com:443/*"]),
        ("GET https://[::1]:8443/*", "GET https://[::1]/*", &["GET https://[::1]/*"]),
        ("GET https://a.com/*", "GET https://a.com/* crm", &["GET https://a.com/* with crm"]),
        ("GET https://a.com/* crm", "GET https://a.com/* crm mail", &["GET https://a.com/* with mail"]),
        ("GET https://a.com/* crm", "GET https://b.com/* crm", &["GET https://b.com/* with crm"]),
        ("GET https://a.com/v1/* crm", "GET https://a.com/* crm", &["GET https://a.com/* with crm"]),
        // Redirects.
        ("GET https://a.com/*", "GET https://a.com/v1/* returns", &["see where GET https://a.com/v1/* redirects to"]),
        ("GET https://a.com/v1/* returns", "GET https://a.com/v1/*", &["follow redirects of GET https://a.com/v1/*"]),
        ("GET https://a.com/* returns", "GET https://a.com/v1/* returns", &[]),
        ("GET https://a.com/* returns", "", &[]),
    ] {
        let lines = |line: &'static str| if line.is_empty() { policy(&[]) } else { policy(&[line]) };
        assert_eq!(increases(&lines(old), &lines(new)), adds, "{old} to {new}");
    }
}

#[test]
fn a_credential_must_be_carried_by_a_rule_that_lets_the_same_request_out() {
    let old = policy(&["GET https://*.a.com/*", "GET https://x.a.com/v1/* crm", "POST https://x.a.com/* crm"]);
    assert_eq!(increases(&old, &policy(&["GET https://x.a.com/v1/me crm"])), Vec::<String>::new());
    for (new, adds) in [
        ("GET https://y.a.com/v1/* crm", "GET https://y.a.com/v1/* with crm"),
        ("GET https://x.a.com/* crm", "GET https://x.a.com/* with crm"),
        ("GET https://x.a.com/v1/* mail", "GET https://x.a.com/v1/* with mail"),
    ] {
        assert_eq!(increases(&old, &policy(&[new])), [adds]);
    }
}

#[test]
fn a_rule_whose_redirects_come_back_rules_over_one_whose_redirects_are_followed() {
    let both = policy(&["GET https://*.a.com/* returns", "GET https://x.a.com/*"]);
    assert_eq!(increases(&both, &both), Vec::<String>::new());
    let one = policy(&["GET https://x.a.com/*"]);
    let elsewhere = policy(&["GET https://b.a.com/* returns", "GET https://x.a.com/*"]);
    for new in [one, elsewhere] {
        assert_eq!(increases(&both, &new), ["follow redirects of GET https://x.a.com/*"]);
    }
}

#[test]
fn what_is_no_way_out_is_compared_as_well() {
    type Edit = fn(&mut Policy);
    let cases: [(&str, Edit, &[&str]); 13] = [
        ("nothing", |_| {}, &[]),
        ("a secret less", |p| drop(p.secrets.pop_last()), &[]),
        ("a secret more", |p| p.secrets.extend([("new".parse().unwrap(), false)]), &["use the secret new"]),
        (
            "a secret more that it reads",
            |p| p.secrets.extend([("new".parse().unwrap(), true)]),
            &["read the value of the secret new"],
        ),
        (
            "reads a secret that it used",
            |p| p.secrets.extend([("crm".parse().unwrap(), true)]),
            &["read the value of the secret crm"],
        ),
        (
            "a secret of another kind",
            |p| drop(p.kinds.insert("crm".parse().unwrap(), SecretKind::AwsSigv4 { service: "s3".to_owned() })),
            &["have requests signed for AWS s3 with the secret crm (aws-sigv4)"],
        ),
        ("an action less", |p| p.audit_actions.clear(), &[]),
        ("an action more", |p| p.audit_actions.extend(["crm.write".to_owned()]), &["record crm.write"]),
        ("on WASI", |p| p.wasi = true, &["run on WASI: clocks, randomness"]),
        ("files", |p| p.limits.scratch_bytes = 8 * MIB, &["use 8 MiB of scratch files, 256 at most, until a run ends"]),
        (
            "lower and higher limits",
            |p| (p.limits.memory_bytes, p.limits.wall_ms) = (32 * MIB, 20_000),
            &["use 20000 ms (timeout_ms), was 10000 ms"],
        ),
        (
            "a limit between two units",
            |p| p.limits.memory_bytes = 64 * MIB + 1,
            &["use 67108865 bytes (memory_mb), was 64 MiB"],
        ),
        (
            "more scratch files than there is room for",
            |p| p.limits.scratch_files = 300,
            &["use 300 files (scratch_files), was 256 files"],
        ),
    ];
    for (case, edit, adds) in cases {
        let (old, mut new) = (policy(&[]), policy(&[]));
        edit(&mut new);
        assert_eq!(increases(&old, &new), adds, "{case}");
    }
}

#[test]
fn every_limit_that_grows_is_said() {
    let small: RunLimits = serde_json::from_value(serde_json::json!({"fuel": 1})).unwrap();
    let written = serde_json::to_value(&small).unwrap();
    for field in written.as_object().unwrap().keys() {
        let mut grown = written.clone();
        grown[field] = (written[field].as_u64().unwrap() + 1).into();
        let (old, mut new) = (Policy { limits: small.clone(), ..policy(&[]) }, policy(&[]));
        new.limits = serde_json::from_value(grown).unwrap();
        assert_eq!(increases(&old, &new).len(), 1, "{field}");
        assert_eq!(increases(&new, &old), Vec::<String>::new(), "{field}");
    }
}

#[test]
fn the_numbers_stand_beside_the_right_names() {
    for (limit, (default, ceiling)) in
        TABLE.iter().zip(values(&RunLimits::default()).into_iter().zip(values(&RunLimits::default_ceiling())))
    {
        assert_eq!((default, ceiling), (limit.default * limit.scale, limit.ceiling * limit.scale), "{}", limit.key);
    }
}

#[test]
fn a_change_says_what_comes_and_what_goes() {
    let mut old = policy(&["GET https://a.com/*"]);
    let new = policy(&["GET https://b.com/*"]);
    old.limits.memory_bytes = 128 * MIB;
    assert_eq!(
        diff(&old, &new),
        Diff {
            adds: vec!["GET https://b.com/*".to_owned()],
            removes: vec!["GET https://a.com/*".to_owned(), "use 128 MiB (memory_mb), now 64 MiB".to_owned()],
        }
    );
}

const SCHEMES: [&str; 2] = ["https", "http"];
const HOSTS: [&str; 7] = ["a.com", "x.a.com", "*.a.com", "*.x.a.com", "*.a.com:8443", "a.com:80", "b.a.com"];
const PATHS: [&str; 6] = ["/*", "/v1*", "/v1/*", "/v1", "/v1/me", "/v1/me*"];
const METHODS: [Method; 2] = [Method::Get, Method::Post];
const SECRETS: [&str; 2] = ["crm", "mail"];

/// Requests: at least one for each way in which patterns of the above can differ.
fn requests() -> Vec<(Method, Url, Option<SecretName>)> {
    let mut requests = Vec::new();
    let hosts = ["a.com", "x.a.com", "b.a.com", "q.a.com", "q.x.a.com", "q.b.a.com", "qa.com"];
    let paths = ["/", "/q", "/v1", "/v1q", "/v1/", "/v1/q", "/v1/me", "/v1/meq", "/v1/%2e%2e/me"];
    for scheme in SCHEMES {
        for host in hosts {
            for port in ["", ":80", ":443", ":8443"] {
                for path in paths {
                    for method in METHODS {
                        let url = Url::parse(&format!("{scheme}://{host}{port}{path}")).unwrap();
                        requests.push((method, url.clone(), None));
                        requests.extend(SECRETS.map(|name| (method, url.clone(), Some(name.parse().unwrap()))));
                    }
                }
            }
        }
    }
    requests
}

fn any_rule() -> impl Strategy<Value = HttpRule> {
    let some = |most| 1..=most;
    (
        select(&SCHEMES[..]),
        select(&HOSTS[..]),
        subsequence(&METHODS[..], some(2)),
        subsequence(&PATHS[..], some(3)),
        subsequence(&SECRETS[..], 0..=2),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(scheme, host, methods, paths, credentials, returns_redirects)| HttpRule {
            scheme: scheme.to_owned(),
            host: host.parse().unwrap(),
            methods: methods.into_iter().collect(),
            paths: paths.into_iter().map(str::to_owned).collect(),
            credentials: credentials.into_iter().map(|name| name.parse().unwrap()).collect(),
            returns_redirects,
        })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let secret = (prop::option::of(any::<bool>()), any::<bool>());
    (prop::collection::vec(any_rule(), 0..4), [secret.clone(), secret], 1..3u64).prop_map(|(http, secrets, fuel)| {
        let mut made = Policy { http, secrets: BTreeMap::new(), ..policy(&[]) };
        made.limits.fuel = fuel;
        for (name, (reveal, signs)) in SECRETS.into_iter().zip(secrets) {
            let name: SecretName = name.parse().unwrap();
            made.secrets.extend(reveal.map(|reveal| (name.clone(), reveal)));
            if signs && reveal == Some(false) {
                made.kinds.insert(name, SecretKind::HttpSignature);
            }
        }
        made
    })
}

/// Two policies of which one is often, and not always, within the other.
fn pairs() -> impl Strategy<Value = (Policy, Policy)> {
    let narrowed = (any_policy(), any_policy(), any::<[bool; 8]>()).prop_map(|(old, mut new, keep)| {
        let all = new.http.iter().chain(&old.http).zip(keep);
        new.http = all.filter(|(_, keep)| *keep).map(|(rule, _)| rule.clone()).collect();
        (old, new)
    });
    let within = (any_policy(), prop::collection::vec((any::<bool>(), select(&HOSTS[..]), select(&PATHS[..])), 4))
        .prop_map(|(old, cuts)| {
            let mut new = old.clone();
            for (rule, (cut, host, path)) in new.http.iter_mut().zip(cuts) {
                if cut {
                    (rule.host, rule.paths) = (host.parse().unwrap(), vec![path.to_owned()]);
                }
            }
            (old, new)
        });
    prop_oneof![1 => (any_policy(), any_policy()), 2 => narrowed, 3 => within]
}

/// Whether each thing that the new policy allows, the old one allows too.
fn within(old: &Policy, new: &Policy, requests: &[(Method, Url, Option<SecretName>)]) -> Result<(), String> {
    for (method, url, secret) in requests {
        if new.allows(*method, url, secret.as_ref()).is_ok() {
            if old.allows(*method, url, secret.as_ref()).is_err() {
                return Err(format!("{method:?} {url} {secret:?}"));
            }
            if old.follows(*method, url) != new.follows(*method, url) {
                return Err(format!("redirects of {method:?} {url}"));
            }
        }
    }
    for (secret, reveal) in &new.secrets {
        if old.secrets.get(secret).is_none_or(|had| *reveal && !had) || old.kind(secret) != new.kind(secret) {
            return Err(format!("{secret}"));
        }
    }
    if new.limits.fuel > old.limits.fuel { Err("fuel".to_owned()) } else { Ok(()) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn if_nothing_is_said_to_be_more_then_nothing_is((old, new) in pairs()) {
        let requests = requests();
        if increases(&old, &new).is_empty() {
            prop_assert_eq!(within(&old, &new, &requests), Ok(()));
        }
    }

    /// Without redirects, where what is in doubt counts as more.
    #[test]
    fn if_something_is_said_to_be_more_then_something_is((mut old, mut new) in pairs()) {
        for rule in old.http.iter_mut().chain(&mut new.http) {
            rule.returns_redirects = false;
        }
        if !increases(&old, &new).is_empty() {
            prop_assert!(within(&old, &new, &requests()).is_err(), "{:?}", increases(&old, &new));
        }
    }

    #[test]
    fn a_policy_is_no_more_than_itself(policy in any_policy()) {
        prop_assert_eq!(increases(&policy, &policy), Vec::<String>::new());
    }
}

#[test]
fn the_cases_above_are_of_both_kinds() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut same, mut more) = (0, 0);
    for _ in 0..1000 {
        let (old, new) = pairs().new_tree(&mut runner).unwrap().current();
        let within = increases(&old, &new).is_empty();
        let moot = new.http.is_empty();
        if within && !moot && old != new {
            same += 1;
        } else if !within {
            more += 1;
        }
    }
    assert!(same > 30 && more > 300, "{same} {more}");
}
