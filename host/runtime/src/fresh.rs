//! How long what was read is believed.
//!
//! A revocation must hold on every host within a second. Where the database tells of changes, what was read is believed for
//! [`TOLD`], and dropped when a change is told; where it does not, or the connection that tells is lost, for [`ASKED`], and then
//! the database is asked again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use clawhold_store::Change;
use moka::Expiry;

use crate::Host;
use crate::marks::Mark;

/// While changes are told. 30 s: a change that was lost without the connection being lost ends there.
const TOLD: Duration = Duration::from_secs(30);
/// While they are not.
const ASKED: Duration = Duration::from_secs(1);

/// Whether changes are told, and how many were.
#[derive(Default)]
pub(crate) struct Fresh {
    told: AtomicBool,
    changes: AtomicU64,
}

/// What was read, and before which change the reading began.
pub(crate) struct Seen<T> {
    pub(crate) value: Option<Arc<T>>,
    /// Where there is no value: under which mark it was looked for.
    pub(crate) absent: Option<Mark>,
    pub(crate) at: u64,
}

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), absent: self.absent.clone(), at: self.at }
    }
}

/// The rule, for a cache.
pub(crate) struct Believed(pub(crate) Arc<Fresh>);

impl Fresh {
    /// Something is other than it was.
    pub(crate) fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// To be called before reading; gives what is kept of it.
    pub(crate) fn begin<T>(&self) -> impl FnOnce(Option<Arc<T>>) -> Seen<T> + use<T> {
        let at = self.changes.load(Ordering::SeqCst);
        move |value| Seen { value, absent: None, at }
    }
}

impl<K, T> Expiry<K, Seen<T>> for Believed {
    fn expire_after_create(&self, _key: &K, seen: &Seen<T>, _now: Instant) -> Option<Duration> {
        // What came into being is not told, and a change that was told while this was read may not be in it.
        let told = self.0.told.load(Ordering::SeqCst)
            && seen.value.is_some()
            && seen.at == self.0.changes.load(Ordering::SeqCst);
        Some(if told { TOLD } else { ASKED })
    }
}

/// Listens for changes as long as there is a host.
pub(crate) async fn listen(host: Weak<Host>, mut changes: clawhold_store::Changes) {
    loop {
        let change = changes.next().await;
        let Some(host) = host.upgrade() else { return };
        match &change {
            Change::Listening => {
                host.fresh.changes.fetch_add(1, Ordering::SeqCst);
                host.fresh.told.store(true, Ordering::SeqCst);
                tracing::info!("changes of other hosts are told");
            }
            Change::Deaf => {
                host.fresh.told.store(false, Ordering::SeqCst);
                host.auth.forget_all();
                host.resolved.forget_all();
                host.quotas.forget_all();
                tracing::warn!("changes of other hosts are not told any more; the database is asked each second");
            }
            Change::Token(id) => {
                host.fresh.changes.fetch_add(1, Ordering::SeqCst);
                if let Ok(id) = id.parse() {
                    host.auth.forget(&id).await;
                }
            }
            Change::Index => {
                if let Err(problem) = host.read_index().await {
                    tracing::debug!(%problem, "the index that another host has changed could not be read");
                }
            }
            Change::Publishers => {
                host.fresh.note_change();
                host.resolved.forget_all();
            }
            Change::Installs(id) => {
                host.fresh.changes.fetch_add(1, Ordering::SeqCst);
                if let Ok(id) = id.parse() {
                    host.resolved.forget(&id);
                }
            }
            Change::Tenant(id) => {
                host.fresh.changes.fetch_add(1, Ordering::SeqCst);
                if let Ok(id) = id.parse() {
                    // Whose tokens and publishers are the tenant's is not looked for: what tenants may is changed by operators.
                    host.auth.forget_all();
                    host.quotas.forget(&id).await;
                    host.resolved.forget(&id);
                }
            }
        }
    }
}
