//! The local driver over rows in memory: what every driver must do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clawhold_secret_store::contract::{self, event};
use clawhold_secret_store::keys::{DataKeys, KeyError, KeyRing as _, KeyRows, WrappedKey, version_of};
use clawhold_secret_store::local::{LocalSecrets, MasterKey, Seal, SealedRow, SealedRows};
use clawhold_secret_store::{Change, Over, Resealed, SecretError, SecretInfo, SecretStore, SecretValue};
use clawhold_tenancy::audit::{Event, now_us};
use clawhold_tenancy::{SecretName, TenantId};

/// The versions of each name, oldest first; none once it is deleted, and how many there ever were.
type Rows = BTreeMap<(TenantId, SecretName), (i64, Vec<SealedRow>)>;

/// Who holds what, and until when.
type Claims = BTreeMap<(TenantId, SecretName), (String, Instant)>;

/// How many versions are kept.
const KEPT: usize = 10;

#[derive(Clone, Default)]
struct Memory {
    rows: Arc<Mutex<Rows>>,
    keys: Arc<Mutex<BTreeMap<(String, u32), WrappedKey>>>,
    events: Arc<Mutex<Vec<Event>>>,
    claims: Arc<Mutex<Claims>>,
    unreachable: bool,
}

impl Memory {
    fn reach(&self) -> Result<std::sync::MutexGuard<'_, Rows>, SecretError> {
        if self.unreachable { Err(SecretError::Unavailable("down".into())) } else { Ok(self.rows.lock().unwrap()) }
    }
}

fn info(name: &SecretName, version: i64) -> SecretInfo {
    SecretInfo { name: name.clone(), version, created_us: 1, by: "token:ci".to_owned() }
}

#[async_trait]
impl KeyRows for Memory {
    async fn key(&self, owner: &str, version: Option<u32>) -> Result<Option<WrappedKey>, KeyError> {
        let keys = self.keys.lock().unwrap();
        let mut of_owner =
            keys.iter().filter(|((of, v), _)| of == owner && version.is_none_or(|version| version == *v));
        Ok(of_owner.next_back().map(|(_, key)| key.clone()))
    }

    async fn all(&self, owner: &str, after: u32, limit: u32) -> Result<Vec<WrappedKey>, KeyError> {
        let keys = self.keys.lock().unwrap();
        let behind = keys.iter().filter(|((of, version), _)| of == owner && *version > after);
        Ok(behind.take(limit as usize).map(|(_, key)| key.clone()).collect())
    }

    async fn add(&self, owner: &str, key: &WrappedKey) -> Result<(), KeyError> {
        self.keys.lock().unwrap().entry((owner.to_owned(), key.version)).or_insert_with(|| key.clone());
        Ok(())
    }

    async fn replace(&self, owner: &str, old: &WrappedKey, wrapped: &[u8]) -> Result<(), KeyError> {
        let mut keys = self.keys.lock().unwrap();
        if let Some(key) = keys.get_mut(&(owner.to_owned(), old.version)).filter(|key| *key == old) {
            key.wrapped = wrapped.to_vec();
        }
        Ok(())
    }
}

#[async_trait]
impl SealedRows for Memory {
    async fn newest(&self, tenant: &TenantId, name: &SecretName) -> Result<Option<SealedRow>, SecretError> {
        Ok(self.reach()?.get(&(tenant.clone(), name.clone())).and_then(|(_, rows)| rows.last().cloned()))
    }

    async fn of_version(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        version: i64,
    ) -> Result<Option<SealedRow>, SecretError> {
        let rows = self.reach()?;
        let of_name = rows.get(&(tenant.clone(), name.clone())).map(|(_, rows)| rows.as_slice()).unwrap_or_default();
        Ok(of_name.iter().find(|row| row.version == version).cloned())
    }

    async fn versions(&self, tenant: &TenantId, name: &SecretName) -> Result<Vec<SecretInfo>, SecretError> {
        let rows = self.reach()?;
        let of_name = rows.get(&(tenant.clone(), name.clone())).map(|(_, rows)| rows.as_slice()).unwrap_or_default();
        Ok(of_name.iter().rev().map(|row| info(name, row.version)).collect())
    }

    async fn all(
        &self,
        tenant: &TenantId,
        after: Option<&(SecretName, i64)>,
        limit: u32,
    ) -> Result<Vec<(SecretName, SealedRow)>, SecretError> {
        let rows = self.reach()?;
        let of_tenant = rows.iter().filter(|((owner, _), _)| owner == tenant);
        let all = of_tenant.flat_map(|((_, name), (_, rows))| rows.iter().map(|row| (name.clone(), row.clone())));
        let behind = all.filter(|(name, row)| after.is_none_or(|(n, v)| (name, row.version) > (n, *v)));
        Ok(behind.take(limit as usize).collect())
    }

    async fn replace(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        old: &SealedRow,
        sealed: Vec<u8>,
    ) -> Result<bool, SecretError> {
        let mut rows = self.reach()?;
        let of_name = rows.get_mut(&(tenant.clone(), name.clone()));
        let row = of_name.and_then(|(_, rows)| rows.iter_mut().find(|row| row.version == old.version));
        let Some(row) = row.filter(|row| row.sealed == old.sealed) else { return Ok(false) };
        row.sealed = sealed;
        Ok(true)
    }

    async fn claim(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        holder: &str,
        at_most: Duration,
    ) -> Result<bool, SecretError> {
        let mut claims = self.claims.lock().unwrap();
        let place = (tenant.clone(), name.clone());
        if claims.get(&place).is_some_and(|(by, until)| by != holder && Instant::now() <= *until) {
            return Ok(false);
        }
        claims.insert(place, (holder.to_owned(), Instant::now() + at_most));
        Ok(true)
    }

    async fn release(&self, tenant: &TenantId, name: &SecretName, holder: &str) -> Result<(), SecretError> {
        self.claims.lock().unwrap().retain(|(of, named), (by, _)| (of, named, by.as_str()) != (tenant, name, holder));
        Ok(())
    }

    async fn put(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        seal: Seal,
        change: Change<i64>,
    ) -> Result<i64, SecretError> {
        let mut rows = self.reach()?;
        let used = rows.iter().filter(|((owner, _), (_, rows))| owner == tenant && !rows.is_empty()).count() as u64;
        let is_new = rows.get(&(tenant.clone(), name.clone())).is_none_or(|(_, rows)| rows.is_empty());
        if is_new && used >= change.most {
            return Err(SecretError::Full { most: change.most, used });
        }
        let (newest, versions) = rows.entry((tenant.clone(), name.clone())).or_default();
        if let Over::Version(over) | Over::UsedUp(over) = change.over
            && (over != *newest || versions.is_empty())
        {
            return Err(SecretError::Changed);
        }
        let sealed = seal(*newest + 1)?;
        *newest += 1;
        if let Over::UsedUp(_) = change.over {
            versions.pop();
        }
        versions.push(SealedRow { version: *newest, sealed });
        let oldest = versions.len().saturating_sub(KEPT);
        versions.drain(..oldest);
        self.events.lock().unwrap().push(change.event);
        Ok(*newest)
    }

    async fn delete(&self, tenant: &TenantId, name: &SecretName, change: Change<()>) -> Result<bool, SecretError> {
        let mut rows = self.reach()?;
        let of_name = rows.get_mut(&(tenant.clone(), name.clone()));
        let was = of_name.is_some_and(|(_, rows)| !std::mem::take(rows).is_empty());
        if was {
            self.events.lock().unwrap().push(change.event);
        }
        Ok(was)
    }

    async fn count(&self, tenant: &TenantId) -> Result<u64, SecretError> {
        let rows = self.reach()?;
        Ok(rows.iter().filter(|((owner, _), (_, rows))| owner == tenant && !rows.is_empty()).count() as u64)
    }

    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<&SecretName>,
        limit: u32,
    ) -> Result<Vec<SecretInfo>, SecretError> {
        let rows = self.reach()?;
        let of_tenant = rows.iter().filter(|((owner, _), _)| owner == tenant);
        let newest = of_tenant.filter_map(|((_, name), (_, rows))| Some(info(name, rows.last()?.version)));
        Ok(newest.filter(|info| after.is_none_or(|after| info.name > *after)).take(limit as usize).collect())
    }
}

fn value(text: &str) -> SecretValue {
    SecretValue::from(text.to_owned())
}

struct Fixture {
    memory: Memory,
    keys: Arc<DataKeys>,
    secrets: Box<dyn SecretStore>,
    acme: TenantId,
    globex: TenantId,
    name: SecretName,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new(memory: Memory) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (keys, secrets) = opened(&folder, &memory);
        let (acme, globex) = ("acme-corp".parse().unwrap(), "globex".parse().unwrap());
        Self { secrets, keys, memory, acme, globex, name: "salesforce".parse().unwrap(), folder }
    }

    async fn get(&self, tenant: &TenantId) -> Option<(i64, SecretValue)> {
        self.secrets.get(tenant, &self.name).await.unwrap().map(|found| (found.version, found.value))
    }

    async fn put(&self, text: &str) -> i64 {
        let change = Change::told(event("secret.put", &self.name));
        self.secrets.put(&self.acme, &self.name, value(text), change).await.unwrap()
    }

    /// The data key that each of acme's rows is sealed under.
    fn sealed_by(&self) -> Vec<u32> {
        let rows = self.memory.rows.lock().unwrap();
        let of_acme = rows.iter().filter(|((owner, _), _)| *owner == self.acme);
        of_acme.flat_map(|(_, (_, rows))| rows).map(|row| version_of(&row.sealed[1..]).unwrap()).collect()
    }
}

/// The driver as a host has it that starts on this folder.
fn opened(folder: &tempfile::TempDir, memory: &Memory) -> (Arc<DataKeys>, Box<dyn SecretStore>) {
    let master = Arc::new(MasterKey::open_or_create(folder.path()).unwrap());
    let keys = DataKeys::new(Arc::clone(&master) as _, Arc::new(memory.clone()));
    (Arc::clone(&keys), Box::new(LocalSecrets::new(keys, master, memory.clone())))
}

#[tokio::test]
async fn the_local_driver_keeps_its_word() {
    let fix = Fixture::new(Memory::default());
    contract::a_secret_store_keeps_its_word(&*fix.secrets, &fix.acme, &fix.globex).await;
}

#[tokio::test]
async fn the_master_key_keeps_its_word() {
    let folder = tempfile::tempdir().unwrap();
    contract::a_key_ring_keeps_its_word(&MasterKey::open_or_create(folder.path()).unwrap()).await;
}

#[tokio::test]
async fn each_change_brings_its_event_and_what_changes_nothing_brings_none() {
    let fix = Fixture::new(Memory::default());
    let delete = || fix.secrets.delete(&fix.acme, &fix.name, Change::told(event("secret.delete", &fix.name)));
    assert!(!delete().await.unwrap());
    fix.put("one").await;
    assert!(delete().await.unwrap() && !delete().await.unwrap());
    assert_eq!(fix.memory.events.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_rotation_seals_everything_anew_and_goes_on_where_it_was_interrupted() {
    let fix = Fixture::new(Memory::default());
    for text in ["one", "two", "three"] {
        fix.put(text).await;
    }
    assert_eq!(fix.sealed_by(), [1, 1, 1]);
    let before = now_us();
    let renewed = fix.keys.renew("acme-corp", before).await.unwrap();
    assert_eq!((renewed.version, renewed.is_new), (2, true));
    // The host dies here. Another one reads everything, and is told to go on.
    let (keys, secrets) = opened(&fix.folder, &fix.memory);
    assert_eq!(secrets.get(&fix.acme, &fix.name).await.unwrap().unwrap().value, value("three"));
    let again = keys.renew("acme-corp", before).await.unwrap();
    assert_eq!((again.version, again.is_new), (2, false), "there is one new key, however often it is asked for");
    // It dies in the middle of the rows.
    let place = (fix.acme.clone(), fix.name.clone());
    let old = fix.memory.rows.lock().unwrap()[&place].1.clone();
    assert_eq!(secrets.reseal(&fix.acme).await.unwrap().anew, 3);
    fix.memory.rows.lock().unwrap().get_mut(&place).unwrap().1[1..].clone_from_slice(&old[1..]);
    assert_eq!(fix.sealed_by(), [2, 1, 1]);
    let (_, secrets) = opened(&fix.folder, &fix.memory);
    assert_eq!(secrets.reseal(&fix.acme).await.unwrap().anew, 2, "what is done is not done again");
    assert_eq!((fix.sealed_by(), secrets.reseal(&fix.acme).await.unwrap()), (vec![2, 2, 2], Resealed::default()));
    for (version, text) in [(1, "one"), (2, "two"), (3, "three")] {
        assert_eq!(secrets.get_version(&fix.acme, &fix.name, version).await.unwrap(), Some(value(text)));
    }
}

#[tokio::test]
async fn a_value_that_does_not_open_is_counted_and_keeps_no_other_under_its_old_key() {
    let fix = Fixture::new(Memory::default());
    for text in ["one", "two", "three"] {
        fix.put(text).await;
    }
    let place = (fix.acme.clone(), fix.name.clone());
    fix.memory.rows.lock().unwrap().get_mut(&place).unwrap().1[0].sealed[50] ^= 1;
    fix.keys.renew("acme-corp", now_us()).await.unwrap();
    assert_eq!(fix.secrets.reseal(&fix.acme).await.unwrap(), Resealed { anew: 2, unreadable: 1 });
    assert_eq!(fix.sealed_by(), [1, 2, 2]);
}

#[tokio::test]
async fn a_master_key_that_is_added_wraps_the_data_keys_anew() {
    let fix = Fixture::new(Memory::default());
    fix.put("one").await;
    let before = fix.memory.keys.lock().unwrap().clone();
    let (elsewhere, _) = opened(&fix.folder, &fix.memory);
    assert_eq!(fix.keys.rotate_ring().await.unwrap(), 2);
    // One that has started before makes no key under the old one.
    elsewhere.newest("globex").await.unwrap();
    assert_eq!(fix.keys.renew("globex", 0).await.unwrap().rewrapped, 0);
    // A host that has read the file before learns of the key when it meets what that has wrapped.
    let renewed = fix.keys.renew("acme-corp", 0).await.unwrap();
    assert_eq!((renewed.version, renewed.is_new, renewed.rewrapped), (1, false, 1));
    assert_ne!(*fix.memory.keys.lock().unwrap(), before);
    let (_, secrets) = opened(&fix.folder, &fix.memory);
    assert_eq!(secrets.get(&fix.acme, &fix.name).await.unwrap().unwrap().value, value("one"));
    assert_eq!(fix.keys.renew("acme-corp", 0).await.unwrap().rewrapped, 0);
}

#[tokio::test]
async fn a_host_without_the_key_that_another_one_added_says_so_and_makes_none() {
    let fix = Fixture::new(Memory::default());
    fix.put("one").await;
    // Two hosts on one database, each with a copy of the file.
    let copy = tempfile::tempdir().unwrap();
    let (here, there) = (fix.folder.path().join("master.key"), copy.path().join("master.key"));
    std::fs::copy(&here, &there).unwrap();
    let (other, secrets) = opened(&copy, &fix.memory);
    fix.keys.newest("_host").await.unwrap();
    other.newest("_host").await.unwrap();
    assert_eq!(fix.keys.rotate_ring().await.unwrap(), 2);
    fix.keys.renew("acme-corp", 0).await.unwrap();
    for refused in [
        other.rotate_ring().await.map(|_| ()),
        other.renew("acme-corp", now_us()).await.map(|_| ()),
        other.newest("globex").await.map(|_| ()),
    ] {
        assert!(matches!(refused, Err(KeyError::OtherKey)), "{refused:?}");
    }
    assert_eq!(std::fs::read(&there).unwrap().len(), 32, "it has added none of its own");
    // The operator copies the file, and nothing was lost.
    std::fs::copy(&here, &there).unwrap();
    other.newest("globex").await.unwrap();
    assert_eq!(secrets.get(&fix.acme, &fix.name).await.unwrap().unwrap().value, value("one"));
    assert_eq!(other.rotate_ring().await.unwrap(), 3);
}

#[tokio::test]
async fn of_two_hosts_that_add_a_key_at_once_one_is_used() {
    let fix = Fixture::new(Memory::default());
    fix.put("one").await;
    fix.keys.newest("_host").await.unwrap();
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(fix.folder.path().join("master.key"), copy.path().join("master.key")).unwrap();
    // The other one dies when its key is in its file, and before anything is wrapped by it.
    MasterKey::open_or_create(copy.path()).unwrap().prepare().await.unwrap();
    assert_eq!(fix.keys.rotate_ring().await.unwrap(), 2);
    let (other, _) = opened(&copy, &fix.memory);
    let refused = other.newest("globex").await.unwrap_err();
    assert!(matches!(refused, KeyError::OtherKey), "{refused}");
    // Its own key has wrapped nothing, so the file may take the place of its own while it runs.
    std::fs::copy(fix.folder.path().join("master.key"), copy.path().join("master.key")).unwrap();
    other.newest("globex").await.unwrap();
    fix.keys.newest("globex").await.unwrap();
}

#[tokio::test]
async fn a_secret_whose_data_key_was_destroyed_is_damaged_and_not_absent() {
    let fix = Fixture::new(Memory::default());
    fix.put("one").await;
    fix.memory.keys.lock().unwrap().clear();
    let (_, secrets) = opened(&fix.folder, &fix.memory);
    let refusal = secrets.get(&fix.acme, &fix.name).await.unwrap_err();
    assert!(matches!(refusal, SecretError::Damaged { .. }), "{refusal}");
}

#[tokio::test]
async fn hostile_05_a_row_copied_to_another_tenant_does_not_open() {
    let fix = Fixture::new(Memory::default());
    fix.put("acme's").await;
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
    fix.put("sk-live-0123456789").await;
    let rows = fix.memory.rows.lock().unwrap();
    let sealed = &rows.values().next().unwrap().1[0].sealed;
    assert!(!sealed.windows(7).any(|window| window == b"sk-live"));
}
