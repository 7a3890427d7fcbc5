//! A host that is killed while it seals everything anew.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawhold_runtime::{Details, StoreKeys, StoreRows};
use clawhold_secret_store::SecretStore as _;
use clawhold_secret_store::keys::{DataKeys, version_of};
use clawhold_secret_store::local::{LocalSecrets, MasterKey};
use clawhold_store::Store;
use clawhold_tenancy::{SecretName, TenantId};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::faults::Prepared;
use crate::{CLAWHOLD, Desk};

/// Twice as many rows, each sealed anew by a commit of its own: after the last kill there are enough left for the host to be caught at it.
const SECRETS: usize = 250;
const VALUES: [&str; 2] = ["one", "two"];
const KILLS: usize = 5;
/// Rows from one kill to the next.
const STEP: usize = 50;
/// The data key of the beginning, and the one that the rotation makes.
const OLD: u32 = 1;
const NEW: u32 = 2;

fn ask(desk: &Desk, token: &str, method: http::Method, path: &str, body: &Value) -> Value {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{}/v1/{path}", desk.url))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(body.to_string())
        .unwrap();
    let mut answer = agent.run(request).unwrap();
    let said: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    assert!(answer.status().is_success(), "{path}: {said}");
    said
}

/// The tenant's rows as they lie in the database, for somebody who asks no host.
struct Rows {
    runtime: Runtime,
    store: Store,
    tenant: TenantId,
}

impl Rows {
    fn of(data: &Path) -> Self {
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(Store::open(&format!("sqlite:{}", data.join("clawhold.db").display()))).unwrap();
        Self { runtime, store, tenant: "acme-corp".parse().unwrap() }
    }

    /// Each value that is kept, in the order in which they are sealed anew, and the version of the data key that has sealed it.
    fn sealed_by(&self) -> Vec<((SecretName, i64), u32)> {
        self.runtime.block_on(async {
            let mut tx = self.store.tenant(&self.tenant).await.unwrap();
            let rows = tx.sealed_secrets(None, 10_000).await.unwrap();
            let key = |sealed: &[u8]| version_of(&sealed[1..]).unwrap();
            rows.into_iter().map(|(name, row)| ((name, row.version), key(&row.sealed))).collect()
        })
    }

    /// The versions of the data keys that have sealed the rows.
    fn keys(&self) -> BTreeSet<u32> {
        self.sealed_by().into_iter().map(|(_, key)| key).collect()
    }

    /// The same of one row.
    fn key_of(&self, (name, version): &(SecretName, i64)) -> u32 {
        self.runtime.block_on(async {
            let mut tx = self.store.tenant(&self.tenant).await.unwrap();
            let row = tx.secret_version(name, *version).await.unwrap().unwrap();
            version_of(&row.sealed[1..]).unwrap()
        })
    }

    /// The newest data key.
    fn newest_key(&self) -> u32 {
        let found = self.runtime.block_on(self.store.data_key(self.tenant.as_str(), None));
        found.unwrap().unwrap().version
    }

    /// What a row opens to, with the key file of this folder.
    fn opened(&self, data: &Path, rows: &[(SecretName, i64)]) -> Vec<String> {
        self.runtime.block_on(async {
            let master = Arc::new(MasterKey::open_or_create(data).unwrap());
            let keys = DataKeys::new(Arc::clone(&master) as _, Arc::new(StoreKeys(self.store.clone())));
            let rows_of = StoreRows::new(self.store.clone(), Details::new(Arc::clone(&keys)));
            let secrets = LocalSecrets::new(keys, master, rows_of);
            let mut opened = Vec::new();
            for (name, version) in rows {
                let value = secrets.get_version(&self.tenant, name, *version).await.unwrap().unwrap();
                opened.push(value.expose_str().unwrap().to_owned());
            }
            opened
        })
    }
}

/// A rotation that has begun, and the time that it says to go on with.
struct Rotating {
    command: Child,
    /// Kept: a command that cannot say more would end for that.
    said: BufReader<ChildStderr>,
    made_before: String,
}

impl Rotating {
    /// Starts one, and waits until it has said how to go on: then the tenants' turn comes.
    fn begin(desk: &Desk, operator: &str, made_before: Option<&str>) -> Self {
        let mut command = desk.command(CLAWHOLD);
        command.args(["--token", operator, "keys", "rotate"]).stdout(Stdio::null()).stderr(Stdio::piped());
        command.args(made_before.iter().flat_map(|time| ["--made-before", time]));
        let mut command = command.spawn().unwrap();
        let mut said = BufReader::new(command.stderr.take().unwrap());
        let mut before = String::new();
        while said.read_line(&mut before).unwrap() > 0 {
            if let Some((_, time)) = before.split_once("go on with: clawhold keys rotate --made-before ") {
                let made_before = time.trim().to_owned();
                return Self { command, said, made_before };
            }
        }
        panic!("it does not say how to go on, and ends with {}: {before}", command.wait().unwrap());
    }

    fn is_under_way(&mut self) -> bool {
        self.command.try_wait().unwrap().is_none()
    }

    /// Waits for its end, and gives what it said.
    fn fails(mut self) -> String {
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        assert!(!self.command.wait().unwrap().success(), "it was done before: {rest}");
        rest
    }
}

#[test]
fn a_rotation_that_is_killed_again_and_again_is_gone_on_with_and_loses_nothing() {
    let (prepared, mut serving) = Prepared::at(Desk::new(), "clawhold serve --dev");
    let (desk, admin, operator) = (&prepared.desk, &prepared.admin, &prepared.operator);
    desk.done(operator, &["tenant", "set-quota", "acme-corp", "--max-secrets=1000"]);
    for (secret, value) in (0..SECRETS).flat_map(|n| VALUES.map(|value| (n, value))) {
        let path = format!("tenants/acme-corp/secrets/s{secret:03}");
        ask(desk, admin, http::Method::PUT, &path, &json!({ "value": format!("{value} of s{secret:03}") }));
    }
    let data = desk.folder.path().join(".clawhold");
    let rows = Rows::of(&data);
    let all: Vec<(SecretName, i64)> = rows.sealed_by().into_iter().map(|(row, _)| row).collect();
    assert_eq!((all.len(), rows.newest_key(), rows.keys()), (2 * SECRETS, OLD, BTreeSet::from([OLD])));

    let mut made_before: Option<String> = None;
    for kill in 1..=KILLS {
        let mut rotating = Rotating::begin(desk, operator, made_before.as_deref());
        assert_eq!(*made_before.get_or_insert(rotating.made_before.clone()), rotating.made_before);
        let began = Instant::now();
        while rows.key_of(&all[kill * STEP]) != NEW {
            assert!(rotating.is_under_way(), "kill {kill}: it has ended and not come so far");
            assert!(began.elapsed() < Duration::from_mins(1), "kill {kill}: it does not come on");
        }
        serving.0.kill().unwrap();
        serving.0.wait().unwrap();
        let said = rotating.fails();
        assert!(said.contains("no answer"), "kill {kill}: {said}");
        // What is done is done in order, once, and the rest is as it was.
        let keys: Vec<u32> = rows.sealed_by().into_iter().map(|(_, key)| key).collect();
        let done = keys.iter().take_while(|key| **key == NEW).count();
        assert!(done > kill * STEP && done < all.len(), "kill {kill}: {done} of {} are done", all.len());
        assert!(keys[done..].iter().all(|key| *key == OLD), "kill {kill}: {keys:?}");
        assert_eq!((rows.keys(), rows.newest_key()), (BTreeSet::from([OLD, NEW]), NEW), "kill {kill}");
        serving = desk.serve("clawhold serve --dev");
    }

    let made_before = made_before.expect("each rotation says how to go on");
    let said = desk.done(operator, &["keys", "rotate", "--made-before", &made_before]);
    assert!(said.contains("keys of the host and of 1 of 1 tenants are new"), "{said}");
    assert_eq!((rows.keys(), rows.newest_key()), (BTreeSet::from([NEW]), NEW), "nothing is left under the old key");
    let ask_for = json!({ "made_before": made_before });
    let rest = ask(desk, operator, http::Method::POST, "tenants/acme-corp/keys/rotate", &ask_for);
    assert_eq!((&rest["resealed"], &rest["is_new"]), (&json!(0), &json!(false)), "{rest}");
    assert_eq!(rest["unreadable"], 0, "{rest}");
    // The host itself opens an older value, and seals it as a new one.
    let path = "tenants/acme-corp/secrets/s000/rollback";
    assert_eq!(ask(desk, admin, http::Method::POST, path, &json!({ "version": 1 }))["version"], 3);
    // Also those that were killed are told of.
    let told: Value = serde_json::from_str(&desk.done(admin, &["--json", "audit", "list", "acme-corp"])).unwrap();
    let told = told["items"].as_array().unwrap().iter().filter(|entry| entry["action"] == "key.rotate");
    let (begun, done): (Vec<_>, Vec<_>) = told.partition(|entry| entry["detail"]["begun"] == true);
    assert_eq!((begun.len(), done.len()), (KILLS + 2, 2), "{begun:?} {done:?}");
    assert!(desk.done(admin, &["audit", "verify", "acme-corp"]).contains("unbroken"));
    assert!(serving.terminate().success());
    let kept: Vec<(SecretName, i64)> = rows.sealed_by().into_iter().map(|(row, _)| row).collect();
    assert_eq!(kept.len(), all.len() + 1);
    for ((name, version), value) in kept.iter().zip(rows.opened(&data, &kept)) {
        let expected = if *version == 2 { VALUES[1] } else { VALUES[0] };
        assert_eq!(value, format!("{expected} of {name}"), "version {version}");
    }
}
