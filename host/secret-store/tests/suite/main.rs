//! The local driver over rows in memory: what every driver must do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use clawhold_secret_store::local::{LocalSecrets, MasterKey, Seal, SealedRow, SealedRows};
use clawhold_secret_store::{Change, SecretError, SecretInfo, SecretStore, SecretValue};
use clawhold_tenancy::audit::{Event, Outcome};
use clawhold_tenancy::{SecretName, TenantId, TraceId};

type Rows = BTreeMap<(TenantId, SecretName), (i64, Option<Vec<u8>>)>;

#[derive(Clone, Default)]
struct Memory {
    rows: Arc<Mutex<Rows>>,
    events: Arc<Mutex<Vec<Event>>>,
    unreachable: bool,
}

impl Memory {
    fn reach(&self) -> Result<std::sync::MutexGuard<'_, Rows>, SecretError> {
        if self.unreachable { Err(SecretError::Unavailable("down".into())) } else { Ok(self.rows.lock().unwrap()) }
    }
}

#[async_trait]
impl SealedRows for Memory {
    async fn newest(&self, tenant: &TenantId, name: &SecretName) -> Result<Option<SealedRow>, SecretError> {
        let rows = self.reach()?;
        let row = rows.get(&(tenant.clone(), name.clone()));
        Ok(row.and_then(|(version, sealed)| Some(SealedRow { version: *version, sealed: sealed.clone()? })))
    }

    async fn put(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        seal: Seal,
        change: Change<i64>,
    ) -> Result<i64, SecretError> {
        let mut rows = self.reach()?;
        let row = rows.entry((tenant.clone(), name.clone())).or_insert((0, None));
        let sealed = seal(row.0 + 1)?;
        *row = (row.0 + 1, Some(sealed));
        self.events.lock().unwrap().push(change.event);
        Ok(row.0)
    }

    async fn delete(&self, tenant: &TenantId, name: &SecretName, change: Change<()>) -> Result<bool, SecretError> {
        let mut rows = self.reach()?;
        let row = rows.get_mut(&(tenant.clone(), name.clone()));
        let was = row.and_then(|row| row.1.take()).is_some();
        if was {
            self.events.lock().unwrap().push(change.event);
        }
        Ok(was)
    }

    async fn count(&self, tenant: &TenantId) -> Result<u64, SecretError> {
        let rows = self.reach()?;
        Ok(rows.iter().filter(|((owner, _), (_, sealed))| owner == tenant && sealed.is_some()).count() as u64)
    }

    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<&SecretName>,
        limit: u32,
    ) -> Result<Vec<SecretInfo>, SecretError> {
        let rows = self.reach()?;
        let of_tenant = rows.iter().filter(|((owner, _), (_, sealed))| owner == tenant && sealed.is_some());
        Ok(of_tenant
            .filter(|((_, name), _)| after.is_none_or(|after| name > after))
            .take(limit as usize)
            .map(|((_, name), (version, _))| SecretInfo {
                name: name.clone(),
                version: *version,
                created_us: 1,
                by: "token:ci".to_owned(),
            })
            .collect())
    }
}

fn event(action: &str) -> Event {
    Event {
        at_us: 1,
        actor: "token:ci".to_owned(),
        action: action.to_owned(),
        resource: "secret/salesforce".to_owned(),
        outcome: Outcome::Success,
        run: None,
        trace: TraceId::random(),
        detail: Vec::new(),
    }
}

fn value(text: &str) -> SecretValue {
    SecretValue::from(text.to_owned())
}

struct Fixture {
    memory: Memory,
    secrets: Box<dyn SecretStore>,
    acme: TenantId,
    globex: TenantId,
    name: SecretName,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new(memory: Memory) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::open_or_create(folder.path()).unwrap();
        Self {
            secrets: Box::new(LocalSecrets::new(Arc::new(key), memory.clone())),
            memory,
            acme: "acme-corp".parse().unwrap(),
            globex: "globex".parse().unwrap(),
            name: "salesforce".parse().unwrap(),
            _folder: folder,
        }
    }

    async fn get(&self, tenant: &TenantId) -> Option<(i64, SecretValue)> {
        self.secrets.get(tenant, &self.name).await.unwrap().map(|found| (found.version, found.value))
    }
}

#[tokio::test]
async fn the_newest_value_is_read_and_versions_go_on_after_a_deletion() {
    let fix = Fixture::new(Memory::default());
    let put = async |text| {
        fix.secrets.put(&fix.acme, &fix.name, value(text), Change::told(event("secret.put"))).await.unwrap()
    };
    assert_eq!(fix.get(&fix.acme).await, None);
    assert_eq!(put("one").await, 1);
    assert_eq!(put("two").await, 2);
    assert_eq!(fix.get(&fix.acme).await, Some((2, value("two"))));
    assert!(fix.secrets.delete(&fix.acme, &fix.name, Change::told(event("secret.delete"))).await.unwrap());
    assert!(!fix.secrets.delete(&fix.acme, &fix.name, Change::told(event("secret.delete"))).await.unwrap());
    assert_eq!(fix.get(&fix.acme).await, None);
    assert_eq!(put("three").await, 3);
    assert_eq!(fix.memory.events.lock().unwrap().len(), 4, "one for each change, none for the second deletion");
}

#[tokio::test]
async fn a_tenant_sees_its_own_secrets_alone() {
    let fix = Fixture::new(Memory::default());
    fix.secrets.put(&fix.acme, &fix.name, value("acme's"), Change::told(event("secret.put"))).await.unwrap();
    assert_eq!(fix.get(&fix.globex).await, None);
    assert_eq!(fix.secrets.list(&fix.globex, None, 10).await.unwrap(), []);
    assert!(!fix.secrets.delete(&fix.globex, &fix.name, Change::told(event("secret.delete"))).await.unwrap());
    assert_eq!(fix.secrets.list(&fix.acme, None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn hostile_05_a_row_copied_to_another_tenant_does_not_open() {
    let fix = Fixture::new(Memory::default());
    fix.secrets.put(&fix.acme, &fix.name, value("acme's"), Change::told(event("secret.put"))).await.unwrap();
    {
        let mut rows = fix.memory.rows.lock().unwrap();
        let stolen = rows[&(fix.acme.clone(), fix.name.clone())].clone();
        rows.insert((fix.globex.clone(), fix.name.clone()), stolen);
    }
    let refusal = fix.secrets.get(&fix.globex, &fix.name).await.unwrap_err();
    assert!(matches!(refusal, SecretError::Damaged { .. }), "{refusal}");
    assert!(fix.get(&fix.acme).await.is_some());
}

#[tokio::test]
async fn rows_out_of_reach_are_an_error_and_not_an_absence() {
    let fix = Fixture::new(Memory { unreachable: true, ..Memory::default() });
    let refusal = fix.secrets.get(&fix.acme, &fix.name).await.unwrap_err();
    assert!(matches!(refusal, SecretError::Unavailable(_)), "{refusal}");
}

#[tokio::test]
async fn the_rows_hold_no_plaintext() {
    let fix = Fixture::new(Memory::default());
    fix.secrets
        .put(&fix.acme, &fix.name, value("sk-live-0123456789"), Change::told(event("secret.put")))
        .await
        .unwrap();
    let rows = fix.memory.rows.lock().unwrap();
    let sealed = rows.values().next().unwrap().1.as_deref().unwrap();
    assert!(!sealed.windows(7).any(|window| window == b"sk-live"));
}
