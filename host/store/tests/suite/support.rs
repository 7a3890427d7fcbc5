//! What tests need: a database of their own and rows to put into it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clawhold_store::audit::Verification;
use clawhold_store::{NewToken, Publication, PutInstall, RunWriter, Store, TokenHash};
use clawhold_tenancy::audit::{Event, Outcome, Sealed, SealedEvent};
use clawhold_tenancy::manifest::Manifest;
use clawhold_tenancy::policy::Policy;
use clawhold_tenancy::run::{Egress, Reason, Record, Usage};
use clawhold_tenancy::{Digest, PackageName, Role, RunId, RunLimits, SkillName, TenantId, TraceId};

/// A store on a file of its own, removed at the end.
pub(crate) struct Database {
    pub(crate) store: Store,
    folder: tempfile::TempDir,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&url(&folder.path().join("clawhold.db"))).await.unwrap();
        Self { store, folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("clawhold.db")
    }

    /// Drops the store as a killed process would, and opens the file anew.
    pub(crate) async fn reopen(self) -> Self {
        let Self { store, folder } = self;
        drop(store);
        let store = Store::open(&url(&folder.path().join("clawhold.db"))).await.unwrap();
        Self { store, folder }
    }
}

/// A store on a database of its own, in the test process's PostgreSQL, as the app's role.
pub(crate) struct Postgres {
    pub(crate) store: Store,
    pub(crate) at: clawhold_test_support::postgres::Database,
}

impl Postgres {
    pub(crate) async fn new() -> Self {
        let at = tokio::task::spawn_blocking(|| {
            clawhold_test_support::postgres::Database::new(|owner| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok(runtime.block_on(Store::migrate(owner))?)
            })
        });
        let at = at.await.unwrap().unwrap();
        let store = Store::open(&at.app).await.unwrap();
        Self { store, at }
    }
}

/// The first entry of a chain that is not what was written.
pub(crate) async fn broken_at(store: &Store, tenant: &TenantId, what: &str) -> i64 {
    match store.tenant(tenant).await.unwrap().audit_verify().await.unwrap() {
        Verification::Broken { seq, .. } => seq,
        whole @ Verification::Verified { .. } => panic!("{what}: {whole:?}"),
    }
}

/// Five entries in a tenant's chain.
pub(crate) async fn five_entries(store: &Store, tenant: &TenantId) {
    let tx = store.tenant_write(tenant).await.unwrap();
    tx.commit_all(&event("x.y"), &[event("x.y"), event("x.y"), event("x.y"), event("x.y")]).await.unwrap();
}

pub(crate) fn url(path: &std::path::Path) -> String {
    format!("sqlite:{}", path.display())
}

pub(crate) fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn event(action: &str) -> SealedEvent {
    Event {
        at_us: 1_000,
        actor: "token:ci#0123456789ab".to_owned(),
        action: action.to_owned(),
        resource: "test".to_owned(),
        outcome: Outcome::Success,
        run: Some(RunId::now()),
        trace: TraceId::random(),
        detail: Sealed::from_ciphertext(br#"{"n":1}"#.to_vec()),
    }
}

pub(crate) fn event_at(action: &str, at_us: i64) -> SealedEvent {
    SealedEvent { at_us, ..event(action) }
}

pub(crate) async fn tenant(store: &Store, name: &str) -> TenantId {
    let tenant = id(name);
    let mut tx = store.system_write("tenant.create").await.unwrap();
    tx.create_tenant(&tenant, "standard", 1).await.unwrap();
    tx.commit(event("tenant.create")).await.unwrap();
    tenant
}

pub(crate) fn manifest(package: &str, version: &str) -> Manifest {
    Manifest::parse(&format!(
        "[package]\nname = \"{package}\"\nversion = \"{version}\"\ndescription = \"x\"\nlicense = \"MIT\"\n\
         [[secrets]]\nname = \"salesforce\"\npurpose = \"x\"\nreveal = true\n\
         [[http]]\nhost = \"*.example.com\"\nmethods = [\"GET\"]\npaths = [\"/*\"]\ncredentials = [\"salesforce\"]\n"
    ))
    .unwrap()
}

pub(crate) fn publication(package: &str, version: &str) -> Publication {
    Publication {
        manifest: manifest(package, version),
        descriptors: "[]".to_owned(),
        published_us: 2,
        published_by: "token:publisher".to_owned(),
        signature: None,
        mac: "mark".to_owned(),
    }
}

/// Publishes a version whose component is its own name.
pub(crate) async fn publish(store: &Store, package: &str, version: &str) {
    let mut tx = store.system_write("package.publish").await.unwrap();
    tx.publish(&publication(package, version), format!("{package}@{version}").as_bytes(), 1).await.unwrap();
    tx.commit(event("package.publish")).await.unwrap();
}

pub(crate) fn put(package: &str, version: &str) -> PutInstall {
    let manifest = manifest(package, version);
    let settings = serde_json::json!({"url": "https://acme.example.com"});
    let reveal = BTreeSet::from([id("salesforce")]);
    let policy = Policy::from_manifest(&manifest, &settings, &reveal, &RunLimits::default_ceiling()).unwrap();
    PutInstall {
        package: id(package),
        version: version.parse().unwrap(),
        digest: Digest::of(format!("{package}@{version}").as_bytes()),
        settings,
        consent: policy.digest(),
        reveal,
        policy,
        updated_us: 3,
        updated_by: "token:admin".to_owned(),
        channel: "pinned".to_owned(),
        mac: "mark".to_owned(),
        before: None,
        narrowing: "{}".to_owned(),
    }
}

pub(crate) async fn install(store: &Store, tenant: &TenantId, package: &str, skills: &[&str]) {
    let skills: Vec<SkillName> = skills.iter().map(|skill| id(skill)).collect();
    let mut tx = store.tenant_write(tenant).await.unwrap();
    tx.put_install(&put(package, "1.0.0"), &skills, None).await.unwrap();
    tx.commit(event("install.put")).await.unwrap();
}

pub(crate) fn token(text: &str) -> NewToken {
    NewToken {
        id: id(text),
        name: "ci".to_owned(),
        role: Role::Caller,
        hash: TokenHash([7; 32]),
        skills: Some(vec![id("crm.lookup")]),
        created_us: 4,
        expires_us: Some(5),
    }
}

pub(crate) fn record() -> Record {
    Record {
        id: RunId::now(),
        skill: id("crm.lookup"),
        package: id::<PackageName>("northwind/crm"),
        version: "1.0.0".to_owned(),
        digest: Digest::of(b"component"),
        caller: "token:ci#0123456789ab".to_owned(),
        started_us: 6,
        reason: Reason::OutOfFuel,
        message: "a message with ' and \u{1F980}".to_owned(),
        usage: Usage { fuel: 1, memory_bytes: 2, host_calls: 3, duration_us: 4 },
        egress: vec![Egress {
            method: "GET".to_owned(),
            origin: "https://acme.example.com".to_owned(),
            credential: Some("salesforce".to_owned()),
            status: Some(200),
            refused: None,
            denied: None,
            response_bytes: 17,
        }],
        secrets: vec![("salesforce".to_owned(), 1)],
        policy_version: 9,
        log: vec!["info started".to_owned()],
        log_dropped: 0,
        leaks: Vec::new(),
    }
}

pub(crate) async fn run(writer: &RunWriter, tenant: &TenantId) -> RunId {
    let record = record();
    let id = record.id;
    let mut done = event("skill.invoke");
    done.run = Some(id);
    writer.append(tenant.clone(), Some(record), vec![done], None).await.unwrap();
    id
}
