use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clawhold_limiter::Meter;
use clawhold_sandbox::contract::clawhold::skill::http::{Host as _, Request, Rule};
use clawhold_secret_store::{Change, SecretError, SecretInfo, SecretStore, SecretValue, Versioned};
use clawhold_tenancy::policy::{By, HostCeiling, HttpRule};
use clawhold_tenancy::{RunId, RunLimits};
use proptest::prelude::*;
use tokio::net::TcpListener;

use super::*;
use crate::{AddressRule, Authority, Egress, EgressSettings, OnLeak, RunHost, ScratchRoot, agent_of};

/// Nobody's secrets.
struct NoSecrets;

#[async_trait]
impl SecretStore for NoSecrets {
    async fn get(&self, _: &TenantId, _: &SecretName) -> Result<Option<Versioned>, SecretError> {
        Ok(None)
    }

    async fn claim(&self, _: &TenantId, _: &SecretName, _: &str, _: Duration) -> Result<bool, SecretError> {
        Ok(true)
    }

    async fn release(&self, _: &TenantId, _: &SecretName, _: &str) -> Result<(), SecretError> {
        Ok(())
    }

    async fn get_version(&self, _: &TenantId, _: &SecretName, _: i64) -> Result<Option<SecretValue>, SecretError> {
        Ok(None)
    }

    async fn versions(&self, _: &TenantId, _: &SecretName) -> Result<Vec<SecretInfo>, SecretError> {
        Ok(Vec::new())
    }

    async fn put(&self, _: &TenantId, _: &SecretName, _: SecretValue, _: Change<i64>) -> Result<i64, SecretError> {
        unreachable!("nobody puts any")
    }

    async fn delete(&self, _: &TenantId, _: &SecretName, _: Change<()>) -> Result<bool, SecretError> {
        unreachable!("nobody deletes any")
    }

    async fn count(&self, _: &TenantId) -> Result<u64, SecretError> {
        Ok(0)
    }

    async fn list(&self, _: &TenantId, _: Option<&SecretName>, _: u32) -> Result<Vec<SecretInfo>, SecretError> {
        Ok(Vec::new())
    }
}

const HOSTS: [&str; 8] =
    ["127.0.0.1", "127.0.0.2", "10.0.0.1", "169.254.169.254", "[::1]", "a.example", "b.a.example", "localhost"];
const PATHS: [&str; 6] = ["/", "/x", "/x/y", "/x/../y", "/x/%2e%2e/y", "/x/..%2fy"];

fn a_host() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(&HOSTS[..]).prop_map(str::to_owned),
        1 => Just("0x7f.1".to_owned()),
        1 => Just("2130706433".to_owned()),
        1 => Just("１２７.0.0.1".to_owned()),
        1 => Just("A.EXAMPLE.".to_owned()),
    ]
}

fn a_pattern() -> impl Strategy<Value = String> {
    prop_oneof![prop::sample::select(&HOSTS[..]).prop_map(str::to_owned), Just("*.a.example".to_owned())]
}

fn a_method() -> impl Strategy<Value = Method> {
    prop::sample::select(&[Method::Get, Method::Get, Method::Get, Method::Post, Method::Delete][..])
}

/// A rule for the port that it is told later, or for the scheme's own.
fn a_rule() -> impl Strategy<Value = (String, bool, bool, BTreeSet<Method>, String)> {
    let methods = prop::collection::btree_set(a_method(), 1..3);
    let path = prop::sample::select(&["/*", "/*", "/x", "/x/*"][..]).prop_map(str::to_owned);
    (a_pattern(), any::<bool>(), any::<bool>(), methods, path)
}

fn a_url() -> impl Strategy<Value = (String, bool, bool, String)> {
    let path = prop_oneof![
        9 => prop::sample::select(&PATHS[..]).prop_map(str::to_owned),
        1 => Just("/x#part".to_owned()),
        1 => Just("/a b".to_owned()),
    ];
    (a_host(), any::<bool>(), any::<bool>(), path)
}

fn at(scheme_is_plain: bool, host: &str, port: Option<u16>, path: &str) -> String {
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{path}", if scheme_is_plain { "http" } else { "https" })
}

/// What a run is told of the same request: who said no, or that nobody did.
async fn really(authority: Authority, method: Method, url: &str) -> (Option<Denial>, Option<Rule>) {
    use clawhold_sandbox::contract::clawhold::skill::http::Method as Guests;
    let mut host = RunHost::new(authority, RunLimits::default());
    let request = Request {
        method: match method {
            Method::Post => Guests::Post,
            Method::Delete => Guests::Delete,
            _ => Guests::Get,
        },
        url: url.to_owned(),
        headers: Vec::new(),
        body: None,
        timeout_ms: Some(2_000),
        credential: None,
    };
    let answer = host.send(request).await.unwrap();
    let journal = host.journal();
    let journal = journal.lock().unwrap();
    let denied = journal.egress[0].denied.clone();
    let denial = denied.map(|denied| Denial { by: denied.by, why: denied.why, remedy: denied.remedy });
    (denial, answer.err().map(|error| error.rule))
}

#[test]
fn what_is_explained_is_what_happens_and_who_is_denied_connects_to_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let (port, connections) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, connections) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            // Whoever comes is hung up on.
            while listener.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        (port, connections)
    });
    let transport = runtime.block_on(async {
        let rule = AddressRule { open: vec!["127.0.0.1/32".parse().unwrap()] };
        // All names lead to the open address, but those that the system knows itself.
        let (server, _) = crate::egress::tests::dns(vec![vec![[127, 0, 0, 1].into()]]).await;
        let settings = EgressSettings { rule, dns: vec![server], ..EgressSettings::default() };
        Arc::new(Egress::new(settings).unwrap())
    });
    let seen_by: std::cell::RefCell<BTreeMap<&str, usize>> = std::cell::RefCell::default();
    // By chance a rare one is not among 600.
    let words =
        || [By::Request, By::Manifest, By::Operator, By::Address].map(By::as_str).into_iter().chain(["allowed"]);
    let cases = (
        prop::collection::vec(a_rule(), 0..16),
        // Mostly the operator says nothing.
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(a_pattern(), 1..4)],
        prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(a_pattern(), 1..3)],
        a_method(),
        a_url(),
    );
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    for _ in 0..10 {
        let result = runner.run(&cases, |(rules, allow, deny, method, (host, is_plain, with_port, path))| {
            let http = rules.into_iter().map(|(pattern, is_plain, with_port, methods, path)| HttpRule {
                scheme: if is_plain { "http" } else { "https" }.to_owned(),
                host: (if with_port { format!("{pattern}:{port}") } else { pattern }).parse().unwrap(),
                methods,
                paths: vec![path],
                credentials: BTreeSet::new(),
                returns_redirects: false,
            });
            let policy = Arc::new(Policy {
                secrets: BTreeMap::new(),
                kinds: BTreeMap::new(),
                http: http.collect(),
                audit_actions: BTreeSet::new(),
                wasi: false,
                limits: RunLimits::default(),
            });
            let patterns = |all: Vec<String>| all.into_iter().map(|pattern| pattern.parse().unwrap()).collect();
            let backends = Backends {
                secrets: Arc::new(NoSecrets),
                transport: Arc::clone(&transport) as _,
                ceiling: Arc::new(HostCeiling { allow: patterns(allow), deny: patterns(deny) }),
                on_leak: OnLeak::Redact,
                scratch: Arc::new(ScratchRoot::open(scratch.path()).unwrap()),
                tokens: Arc::default(),
            };
            let tenant: TenantId = "acme-corp".parse().unwrap();
            let url = at(is_plain, &host, with_port.then_some(port), &path);
            let authority = Authority {
                tenant: tenant.clone(),
                policy: Arc::clone(&policy),
                deadline: Instant::now() + Duration::from_secs(10),
                agent: agent_of(&"northwind/probe".parse().unwrap(), &semver::Version::new(1, 0, 0)),
                depth: 0,
                meter: Meter::unlimited(),
                backends: backends.clone(),
                run: RunId::now(),
                trace: "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap(),
            };
            let before = connections.load(Ordering::SeqCst);
            let explained = runtime.block_on(explain(&policy, &backends, &tenant, (method, &url), &[]));
            let (denial, rule) = runtime.block_on(really(authority, method, &url));
            let word = match &explained {
                Explained::Denied(denied) => {
                    prop_assert_eq!(Some(denied), denial.as_ref(), "{}", url);
                    prop_assert_eq!(connections.load(Ordering::SeqCst), before, "{} connected", url);
                    denied.by.as_str()
                }
                Explained::Unreachable(_) => {
                    prop_assert_eq!((denial, rule), (None, Some(Rule::Dns)), "{}", url);
                    "unreachable"
                }
                Explained::Allowed => {
                    prop_assert_eq!(denial, None, "{}", url);
                    // The peer hangs up, or nobody listens there.
                    prop_assert!(
                        matches!(rule, Some(Rule::Protocol | Rule::Connect | Rule::Tls)),
                        "{}: {:?}",
                        url,
                        rule
                    );
                    "allowed"
                }
            };
            *seen_by.borrow_mut().entry(word).or_default() += 1;
            Ok(())
        });
        result.unwrap();
        if words().all(|word| seen_by.borrow().contains_key(word)) {
            break;
        }
    }
    // Every answer was among them, so that none agrees because it never came.
    let seen = seen_by.into_inner();
    for word in words() {
        assert!(seen.contains_key(word), "{word}: {seen:?}");
    }
}
