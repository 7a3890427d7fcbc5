//! Whose access tokens are whose, and how often a token server is asked for one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clawhold_test_support::python::Served;
use serde_json::{Value, json};

use super::{client, seen, signer};
use crate::support::{Answer, Peer, TestHost, answer_with, becomes, served};

/// The guest that sends, as another package whose name is as long: `signer` and its skill are called otherwise, and its manifest says another
/// number of milliseconds.
fn as_package(name: &str, timeout_ms: u32) -> Vec<u8> {
    let text = |from: &str, to: &str, wasm: Vec<u8>| {
        assert_eq!(from.len(), to.len(), "what stands behind it stays where it is");
        let mut renamed = Vec::with_capacity(wasm.len());
        let (mut rest, mut times) = (wasm.as_slice(), 0);
        while let Some(at) = rest.windows(from.len()).position(|part| part == from.as_bytes()) {
            renamed.extend([&rest[..at], to.as_bytes()].concat());
            (rest, times) = (&rest[at + from.len()..], times + 1);
        }
        assert!(times > 0, "{from} is nowhere");
        [renamed, rest.to_vec()].concat()
    };
    let wasm = text("signer", name, signer().to_vec());
    text("timeout_ms = 30000", &format!("timeout_ms = {timeout_ms:>5}"), wasm)
}

/// The tenant's secret and its packages at one token server.
struct Tenant<'t> {
    id: &'static str,
    admin: String,
    server: &'t Served,
}

impl<'t> Tenant<'t> {
    /// Made on this host, with these packages and this value of its secret.
    fn new(host: &TestHost, id: &'static str, server: &'t Served, packages: &[&str], crm: &Value) -> Self {
        let tenant = Self { id, admin: host.tenant(id), server };
        for package in packages {
            tenant.install(host, package, server.origin(), server.origin());
        }
        tenant.put(host, crm).ok();
        tenant
    }

    fn install(&self, host: &TestHost, package: &str, origin: &str, identity: &str) {
        let settings = json!({ "origin": origin, "identity": identity });
        host.install(self.id, &self.admin, &format!("northwind/{package}"), &settings, &[]);
    }

    fn put(&self, host: &TestHost, crm: &Value) -> Answer {
        let path = format!("/v1/tenants/{}/secrets/crm", self.id);
        host.send("PUT", &path, &self.admin, &json!({ "value": crm }))
    }

    /// The newest version of its secret.
    fn version(&self, host: &TestHost) -> i64 {
        let listed = host.get(&format!("/v1/tenants/{}/secrets", self.id), &self.admin).ok();
        listed["items"][0]["version"].as_i64().unwrap()
    }

    /// Reads the accounts with an access token, as `who` in the server's notes.
    fn run(&self, host: &TestHost, package: &str, who: &str) -> Answer {
        let ask = json!({ "url": format!("{}/accounts?who={who}", self.server.origin()), "secret_name": "crm" });
        host.invoke(self.id, &self.admin, &format!("{package}.send"), &ask)
    }

    fn reads(&self, host: &TestHost, package: &str, who: &str) -> String {
        let answer = self.run(host, package, who);
        answer.body["output"].as_str().map_or_else(|| answer.body.to_string(), str::to_owned)
    }

    /// All that the tenant can read of what was done for it.
    fn told(&self, host: &TestHost) -> String {
        let runs = host.get(&format!("/v1/tenants/{}/runs?limit=200", self.id), &self.admin).ok();
        let runs = runs["items"].as_array().unwrap().iter();
        let shown = runs.map(|run| {
            let id = run["id"].as_str().unwrap();
            host.get(&format!("/v1/tenants/{}/runs/{id}", self.id), &self.admin).ok().to_string()
        });
        shown.collect::<String>() + &Value::from(host.audit(self.id, &self.admin)).to_string()
    }
}

/// What a token server has seen.
struct Seen(Value);

impl Seen {
    fn of(server: &Served) -> Self {
        Self(seen(server))
    }

    fn exchanges(&self) -> &[Value] {
        self.0["exchanges"].as_array().unwrap()
    }

    /// The access tokens that came from `who`.
    fn tokens(&self, who: &str) -> BTreeSet<&str> {
        let calls = self.0["calls"].as_array().unwrap().iter().filter(|call| call["who"] == who);
        calls.map(|call| call["token"].as_str().unwrap()).collect()
    }

    /// Each refresh token came once, and was good.
    #[track_caller]
    fn is_without_replay(&self) {
        let sent: BTreeSet<&str> = self.exchanges().iter().map(|one| one["sent"].as_str().unwrap()).collect();
        assert_eq!(sent.len(), self.exchanges().len(), "one was sent twice: {}", self.0["exchanges"]);
        assert!(self.exchanges().iter().all(|one| one["status"] == 200), "{}", self.0["exchanges"]);
    }
}

fn delay(server: &Served, seconds: u32) {
    ureq::get(format!("{}/delay?seconds={seconds}", server.origin())).call().unwrap();
}

/// Room for all runs of a test at once.
const ROOM: &str = "run_slots: 32\ntenant_quotas: {default: {max_concurrent_runs: 40}}\n";

/// Another host on the database of this one.
fn beside(one: &TestHost) -> TestHost {
    TestHost::beside(one, &format!("{ROOM}database_url: {}\n", one.store()))
}

#[test]
fn two_tenants_with_the_same_client_have_tokens_of_their_own_and_see_none() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = served("oauth_server.py", &[folder.path().to_str().unwrap(), "600"]) else { return };
    let host = TestHost::start();
    host.publish(signer());
    let crm = client(&server, "machine");
    let both = ["acme-corp", "globex"].map(|id| Tenant::new(&host, id, &server, &["signer"], &crm));
    for _ in 0..3 {
        for tenant in &both {
            assert_eq!(tenant.reads(&host, "signer", tenant.id), "200 accounts");
        }
    }
    let [acme, globex] = &both;
    let seen = Seen::of(&server);
    let tokens = |who| seen.tokens(who).into_iter().collect::<Vec<_>>();
    let (of_acme, of_globex) = (tokens("acme-corp"), tokens("globex"));
    assert_eq!((of_acme.len(), of_globex.len(), seen.exchanges().len()), (1, 1, 2), "{}", seen.0);
    assert_ne!(of_acme, of_globex, "one tenant sends the other's token");
    assert_eq!(seen.exchanges()[0]["client_id"], seen.exchanges()[1]["client_id"], "they are the same client");
    // Who cannot fetch a token gets none from a neighbour that could.
    let mut wrong = crm.clone();
    wrong["client_secret"] = json!("wr0ng-s3cret");
    globex.put(&host, &wrong).ok();
    let said = globex.reads(&host, "signer", "globex");
    assert!(said.contains("does not accept the secret crm"), "{said}");
    assert_eq!(acme.reads(&host, "signer", "acme-corp"), "200 accounts");
    let later = Seen::of(&server);
    assert_eq!((later.tokens("acme-corp").len(), later.tokens("globex").len()), (1, 1), "{}", later.0);
    for tenant in &both {
        let told = tenant.told(&host);
        for token in of_acme.iter().chain(&of_globex) {
            assert!(!told.contains(token), "{} is told {token}: {told}", tenant.id);
        }
        assert!(told.contains(server.origin()), "it is told nothing: {told}");
    }
}

#[test]
fn two_packages_of_one_tenant_have_tokens_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = served("oauth_server.py", &[folder.path().to_str().unwrap(), "600"]) else { return };
    let host = TestHost::start();
    for wasm in [signer().to_vec(), as_package("second", 30_000), as_package("thirds", 30_000)] {
        host.publish(&wasm);
    }
    let acme = Tenant::new(&host, "acme-corp", &server, &["signer", "second"], &client(&server, "machine"));
    for package in ["signer", "second", "signer", "second"] {
        assert_eq!(acme.reads(&host, package, package), "200 accounts");
    }
    let seen = Seen::of(&server);
    let (first, second) = (seen.tokens("signer"), seen.tokens("second"));
    assert_eq!((first.len(), second.len(), seen.exchanges().len()), (1, 1, 2), "{}", seen.0);
    assert!(first.is_disjoint(&second), "a package sends another's token: {}", seen.0);
    // A package that may not ask the token server does not get what another has fetched.
    let peer = Peer::start(|_| answer_with("hello"));
    acme.install(&host, "thirds", &peer.origin, "https://identity.example.com");
    let ask = json!({ "url": format!("{}/x", peer.origin), "secret_name": "crm" });
    let said = host.invoke(acme.id, &acme.admin, "thirds.send", &ask).ok()["output"].to_string();
    assert!(said.contains("Policy") && said.contains("no access token"), "{said}");
    assert_eq!((peer.heads().len(), Seen::of(&server).exchanges().len()), (0, 2), "nobody was asked");
}

#[test]
fn two_hosts_on_one_database_mix_up_no_tokens_and_believe_one_another_about_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = served("oauth_server.py", &[folder.path().to_str().unwrap(), "600"]) else { return };
    let one = TestHost::on_postgres_with(ROOM);
    let hosts = [&one, &beside(&one)];
    one.publish(signer());
    let crm = client(&server, "machine");
    let both = ["acme-corp", "globex"].map(|id| Tenant::new(&one, id, &server, &["signer"], &crm));
    std::thread::scope(|scope| {
        for (host, tenant) in hosts.iter().flat_map(|host| both.iter().map(move |tenant| (host, tenant))) {
            for _ in 0..4 {
                scope.spawn(move || assert_eq!(tenant.reads(host, "signer", tenant.id), "200 accounts"));
            }
        }
    });
    let seen = Seen::of(&server);
    let (of_acme, of_globex) = (seen.tokens("acme-corp"), seen.tokens("globex"));
    assert!(of_acme.is_disjoint(&of_globex), "one tenant sends the other's token: {}", seen.0);
    // A host has what it fetched itself.
    assert_eq!((of_acme.len(), of_globex.len(), seen.exchanges().len()), (2, 2, 4), "{}", seen.0);
    // What is deleted on one is used by no other, whatever that has fetched.
    one.send("DELETE", "/v1/tenants/acme-corp/secrets/crm", &both[0].admin, &Value::Null).ok();
    for host in hosts {
        assert!(becomes(|| both[0].reads(host, "signer", "acme-corp") != "200 accounts"), "it is used on");
        assert_eq!(both[1].reads(host, "signer", "globex"), "200 accounts");
    }
}

#[test]
fn twenty_runs_at_once_fetch_one_token() {
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = served("oauth_server.py", &[folder.path().to_str().unwrap(), "600"]) else { return };
    let host = TestHost::with(ROOM);
    host.publish(signer());
    let acme = Tenant::new(&host, "acme-corp", &server, &["signer"], &client(&server, "machine"));
    // All of them have begun when the first answer comes.
    delay(&server, 2);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(acme.reads(&host, "signer", "acme-corp"), "200 accounts"));
        }
        assert!(becomes(|| host.host.running() == 20), "they do not run at once");
    });
    let seen = Seen::of(&server);
    assert_eq!((seen.exchanges().len(), seen.tokens("acme-corp").len()), (1, 1), "{}", seen.0);
}

#[test]
fn a_refresh_token_that_is_good_once_is_sent_once_by_two_hosts_and_two_packages_in_parallel() {
    let folder = tempfile::tempdir().unwrap();
    // So short that each run needs another.
    let Some(server) = served("oauth_server.py", &[folder.path().to_str().unwrap(), "10"]) else { return };
    let one = TestHost::on_postgres_with(ROOM);
    let hosts = [&one, &beside(&one)];
    let packages = ["signer", "second"];
    one.publish(signer());
    one.publish(&as_package("second", 30_000));
    let acme = Tenant::new(&one, "acme-corp", &server, &packages, &client(&server, "person"));
    for _ in 0..3 {
        std::thread::scope(|scope| {
            for (host, package) in hosts.iter().flat_map(|host| packages.map(|package| (host, package))) {
                for _ in 0..4 {
                    let acme = &acme;
                    scope.spawn(move || assert_eq!(acme.reads(host, package, package), "200 accounts"));
                }
            }
        });
    }
    let seen = Seen::of(&server);
    seen.is_without_replay();
    let exchanges = i64::try_from(seen.exchanges().len()).unwrap();
    // Each host fetches for each package at least once.
    assert!(exchanges >= 4, "{}", seen.0);
    assert_eq!(acme.version(&one), 1 + exchanges, "each that came in its place is kept");
    // The last one that came is the one that is kept, for everybody.
    for (host, package) in hosts.iter().flat_map(|host| packages.map(|package| (host, package))) {
        assert_eq!(acme.reads(host, package, package), "200 accounts");
    }
    Seen::of(&server).is_without_replay();
}

#[test]
fn a_refresh_token_that_came_after_the_run_was_over_is_kept() {
    const LATE: u32 = 4;
    let folder = tempfile::tempdir().unwrap();
    let Some(server) = served("oauth_server.py", &[folder.path().to_str().unwrap(), "10"]) else { return };
    let host = TestHost::start();
    host.publish(&as_package("urgent", 1_500));
    host.publish(&as_package("second", 30_000));
    let acme = Tenant::new(&host, "acme-corp", &server, &["urgent", "second"], &client(&server, "person"));
    let late = Duration::from_secs(LATE.into());
    let is_over_before = || {
        let began = Instant::now();
        let run = acme.run(&host, "urgent", "urgent");
        assert!(began.elapsed() < late, "it waited for the token: {}", run.body);
        assert_ne!(run.body["output"], "200 accounts");
        assert_eq!(Seen::of(&server).tokens("urgent").len(), 0, "it had no token: {}", run.body);
    };
    // Nobody asks any more when the answer comes.
    delay(&server, LATE);
    is_over_before();
    assert_eq!(acme.version(&host), 1, "the answer is on its way");
    assert!(becomes(|| acme.version(&host) == 2), "what came in place of the refresh token is lost");
    // Somebody else asks before it comes.
    is_over_before();
    delay(&server, 0);
    assert_eq!(acme.reads(&host, "second", "second"), "200 accounts");
    let seen = Seen::of(&server);
    seen.is_without_replay();
    assert_eq!(i64::try_from(seen.exchanges().len()).unwrap(), acme.version(&host) - 1, "{}", seen.0);
    assert_eq!(acme.reads(&host, "second", "second"), "200 accounts");
    Seen::of(&server).is_without_replay();
}
