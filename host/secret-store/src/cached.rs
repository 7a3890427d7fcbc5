//! Secrets that were asked for a moment ago.
//!
//! A value stays for a second at most, so that a host learns within that time of what another one has put or deleted; what is put or
//! deleted here is forgotten at once. Whoever asks while a value is being fetched waits for that. Values are wiped when they go, and they
//! go also when nobody asks any more.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use clawhold_tenancy::{SecretName, TenantId};
use moka::future::Cache;
use tokio::task::JoinHandle;

use crate::{Change, Resealed, SecretError, SecretInfo, SecretStore, SecretValue, Versioned};

/// How long a value stays.
const KEPT: Duration = Duration::from_secs(1);
/// Values at a time.
const VALUES: u64 = 10_000;

/// Parts of the tenants whose changes are counted together.
const PARTS: usize = 256;

/// Whose, which, and after how many changes.
type Key = (TenantId, SecretName, u64);

/// Another store, with a short memory.
pub struct CachedSecrets<S> {
    store: S,
    known: Cache<Key, Arc<Versioned>>,
    /// How often a secret was put or deleted here, by a part of the tenants: what was read before that is asked for no more, and whoever
    /// reads it just then remembers it for nobody.
    changes: [AtomicU64; PARTS],
    sweeper: JoinHandle<()>,
}

impl<S: SecretStore> CachedSecrets<S> {
    /// In front of this store. On a tokio runtime.
    pub fn new(store: S) -> Self {
        let known: Cache<_, Arc<Versioned>> = Cache::builder().max_capacity(VALUES).time_to_live(KEPT).build();
        let swept = known.clone();
        let sweeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(KEPT).await;
                // What is too old is dropped by whoever uses the cache, and perhaps nobody does.
                swept.run_pending_tasks().await;
            }
        });
        Self { store, known, changes: [const { AtomicU64::new(0) }; PARTS], sweeper }
    }

    fn changes(&self, tenant: &TenantId) -> &AtomicU64 {
        let mut hasher = DefaultHasher::new();
        tenant.hash(&mut hasher);
        &self.changes[usize::try_from(hasher.finish() % PARTS as u64).unwrap_or_default()]
    }

    async fn forget(&self, tenant: &TenantId, name: &SecretName) {
        let before = self.changes(tenant).fetch_add(1, Ordering::AcqRel);
        self.known.invalidate(&(tenant.clone(), name.clone(), before)).await;
        self.known.run_pending_tasks().await;
    }
}

impl<S> Drop for CachedSecrets<S> {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

/// Why there is nothing to remember.
enum Nothing {
    Absent,
    Failed(SecretError),
}

#[async_trait]
impl<S: SecretStore> SecretStore for CachedSecrets<S> {
    async fn get(&self, tenant: &TenantId, name: &SecretName) -> Result<Option<Versioned>, SecretError> {
        let fetch = async {
            match self.store.get(tenant, name).await {
                Ok(Some(found)) => Ok(Arc::new(found)),
                Ok(None) => Err(Nothing::Absent),
                Err(error) => Err(Nothing::Failed(error)),
            }
        };
        let key = (tenant.clone(), name.clone(), self.changes(tenant).load(Ordering::Acquire));
        match self.known.try_get_with(key, fetch).await {
            Ok(found) => Ok(Some(Versioned { version: found.version, value: found.value.clone() })),
            Err(nothing) => match Arc::try_unwrap(nothing) {
                Ok(Nothing::Absent) => Ok(None),
                Ok(Nothing::Failed(error)) => Err(error),
                // Several have asked at once, and an error is one's own.
                Err(shared) => match &*shared {
                    Nothing::Absent => Ok(None),
                    Nothing::Failed(error) => Err(SecretError::Unavailable(error.to_string().into())),
                },
            },
        }
    }

    async fn get_now(&self, tenant: &TenantId, name: &SecretName) -> Result<Option<Versioned>, SecretError> {
        self.store.get_now(tenant, name).await
    }

    async fn claim(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        holder: &str,
        at_most: Duration,
    ) -> Result<bool, SecretError> {
        self.store.claim(tenant, name, holder, at_most).await
    }

    async fn release(&self, tenant: &TenantId, name: &SecretName, holder: &str) -> Result<(), SecretError> {
        self.store.release(tenant, name, holder).await
    }

    async fn get_version(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        version: i64,
    ) -> Result<Option<SecretValue>, SecretError> {
        self.store.get_version(tenant, name, version).await
    }

    async fn versions(&self, tenant: &TenantId, name: &SecretName) -> Result<Vec<SecretInfo>, SecretError> {
        self.store.versions(tenant, name).await
    }

    async fn reseal(&self, tenant: &TenantId) -> Result<Resealed, SecretError> {
        self.store.reseal(tenant).await
    }

    async fn put(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        value: SecretValue,
        change: Change<i64>,
    ) -> Result<i64, SecretError> {
        let put = self.store.put(tenant, name, value, change).await;
        self.forget(tenant, name).await;
        put
    }

    async fn delete(&self, tenant: &TenantId, name: &SecretName, change: Change<()>) -> Result<bool, SecretError> {
        let deleted = self.store.delete(tenant, name, change).await;
        self.forget(tenant, name).await;
        deleted
    }

    async fn count(&self, tenant: &TenantId) -> Result<u64, SecretError> {
        self.store.count(tenant).await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<&SecretName>,
        limit: u32,
    ) -> Result<Vec<SecretInfo>, SecretError> {
        self.store.list(tenant, after, limit).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use clawhold_tenancy::audit::{Event, Outcome};
    use clawhold_tenancy::{Context, Role, Scope};

    use super::*;

    /// A store of one secret that counts how often it is read, and takes its time.
    #[derive(Default)]
    struct Counting {
        value: Mutex<Option<(i64, String)>>,
        fails: std::sync::atomic::AtomicBool,
        reads: AtomicUsize,
    }

    #[async_trait]
    impl SecretStore for Arc<Counting> {
        async fn get(&self, _: &TenantId, _: &SecretName) -> Result<Option<Versioned>, SecretError> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            let value = self.value.lock().unwrap().clone();
            tokio::time::sleep(Duration::from_millis(20)).await;
            if self.fails.load(Ordering::SeqCst) {
                return Err(SecretError::Unavailable("gone".into()));
            }
            Ok(value.map(|(version, text)| Versioned { version, value: SecretValue::from(text) }))
        }

        async fn claim(&self, _: &TenantId, _: &SecretName, _: &str, _: Duration) -> Result<bool, SecretError> {
            Ok(true)
        }

        async fn release(&self, _: &TenantId, _: &SecretName, _: &str) -> Result<(), SecretError> {
            Ok(())
        }

        async fn get_version(&self, _: &TenantId, _: &SecretName, _: i64) -> Result<Option<SecretValue>, SecretError> {
            unreachable!("nobody asks for one")
        }

        async fn versions(&self, _: &TenantId, _: &SecretName) -> Result<Vec<SecretInfo>, SecretError> {
            unreachable!("nobody asks for them")
        }

        async fn put(
            &self,
            _: &TenantId,
            _: &SecretName,
            value: SecretValue,
            _: Change<i64>,
        ) -> Result<i64, SecretError> {
            let mut kept = self.value.lock().unwrap();
            let version = kept.as_ref().map_or(1, |(version, _)| version + 1);
            *kept = Some((version, value.expose_str().unwrap().to_owned()));
            Ok(version)
        }

        async fn delete(&self, _: &TenantId, _: &SecretName, _: Change<()>) -> Result<bool, SecretError> {
            Ok(self.value.lock().unwrap().take().is_some())
        }

        async fn count(&self, _: &TenantId) -> Result<u64, SecretError> {
            Ok(0)
        }

        async fn list(&self, _: &TenantId, _: Option<&SecretName>, _: u32) -> Result<Vec<SecretInfo>, SecretError> {
            Ok(Vec::new())
        }
    }

    fn event() -> Event {
        let cx = Context::of_host("test", Scope::Host, Role::Operator);
        Event::by(&cx, "secret.put", "secret:crm".to_owned(), Outcome::Success)
    }

    #[tokio::test]
    async fn a_value_is_read_once_a_second_however_many_ask_and_what_changes_here_is_known_at_once() {
        let below = Arc::new(Counting::default());
        let secrets = Arc::new(CachedSecrets::new(Arc::clone(&below)));
        let (acme, globex): (TenantId, TenantId) = ("acme-corp".parse().unwrap(), "globex".parse().unwrap());
        let name: SecretName = "crm".parse().unwrap();
        let text = async |tenant: &TenantId| {
            let found = secrets.get(tenant, &name).await.unwrap();
            found.map(|found| found.value.expose_str().unwrap().to_owned())
        };
        let put = async |value: &str| {
            secrets.put(&acme, &name, SecretValue::from(value.to_owned()), Change::told(event())).await.unwrap();
        };
        assert_eq!(text(&acme).await, None);
        assert_eq!(text(&acme).await, None, "what is absent is asked for each time");
        assert_eq!(below.reads.load(Ordering::SeqCst), 2);
        put("one").await;
        let all = (0..50).map(|_| {
            let (secrets, acme, name) = (Arc::clone(&secrets), acme.clone(), name.clone());
            tokio::spawn(async move { secrets.get(&acme, &name).await.unwrap().unwrap().version })
        });
        for one in all.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap(), 1);
        }
        assert_eq!(below.reads.load(Ordering::SeqCst), 3, "fifty waited for one answer");
        assert_eq!(text(&globex).await.as_deref(), Some("one"), "of a store that knows one value for all");
        assert_eq!(below.reads.load(Ordering::SeqCst), 4, "what one tenant knows is no other's");
        put("two").await;
        assert_eq!(text(&acme).await.as_deref(), Some("two"));
        // Another host puts a third.
        *below.value.lock().unwrap() = Some((3, "three".to_owned()));
        tokio::time::sleep(KEPT + Duration::from_millis(100)).await;
        assert_eq!(text(&acme).await.as_deref(), Some("three"));
        secrets.delete(&acme, &name, Change::told(event())).await.unwrap();
        assert_eq!(text(&acme).await, None);
    }

    #[tokio::test]
    async fn who_reads_while_a_secret_is_deleted_remembers_it_for_nobody() {
        let below = Arc::new(Counting { value: Mutex::new(Some((1, "one".to_owned()))), ..Counting::default() });
        let secrets = Arc::new(CachedSecrets::new(below));
        let (acme, name): (TenantId, SecretName) = ("acme-corp".parse().unwrap(), "crm".parse().unwrap());
        let (reading, tenant, secret) = (Arc::clone(&secrets), acme.clone(), name.clone());
        let slow = tokio::spawn(async move { reading.get(&tenant, &secret).await.unwrap() });
        // It has begun, and the store takes its time.
        tokio::time::sleep(Duration::from_millis(5)).await;
        secrets.delete(&acme, &name, Change::told(event())).await.unwrap();
        assert!(secrets.get(&acme, &name).await.unwrap().is_none(), "it joined a read from before");
        let _either_way = slow.await.unwrap();
        assert!(secrets.get(&acme, &name).await.unwrap().is_none(), "what was read before is remembered");
    }

    #[tokio::test]
    async fn a_failure_is_nobodys_memory_and_is_told_to_all_who_wait() {
        let below = Arc::new(Counting::default());
        let secrets = Arc::new(CachedSecrets::new(Arc::clone(&below)));
        let (acme, name): (TenantId, SecretName) = ("acme-corp".parse().unwrap(), "crm".parse().unwrap());
        below.fails.store(true, Ordering::SeqCst);
        let all = (0..10).map(|_| {
            let (secrets, acme, name) = (Arc::clone(&secrets), acme.clone(), name.clone());
            tokio::spawn(async move { secrets.get(&acme, &name).await.map(|_| ()) })
        });
        for one in all.collect::<Vec<_>>() {
            assert!(matches!(one.await.unwrap(), Err(SecretError::Unavailable(_))));
        }
        below.fails.store(false, Ordering::SeqCst);
        assert!(secrets.get(&acme, &name).await.unwrap().is_none(), "and the next one asks again");
    }

    #[tokio::test]
    async fn a_value_that_nobody_asks_for_any_more_goes() {
        let below = Arc::new(Counting { value: Mutex::new(Some((1, "one".to_owned()))), ..Counting::default() });
        let secrets = CachedSecrets::new(below);
        let (acme, name): (TenantId, SecretName) = ("acme-corp".parse().unwrap(), "crm".parse().unwrap());
        let held = {
            secrets.get(&acme, &name).await.unwrap();
            Arc::downgrade(&secrets.known.get(&(acme, name, 0)).await.unwrap())
        };
        assert!(held.upgrade().is_some());
        tokio::time::sleep(3 * KEPT).await;
        assert!(held.upgrade().is_none(), "it is still in memory");
    }
}
