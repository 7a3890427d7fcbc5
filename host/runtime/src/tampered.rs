//! What somebody has changed past the host: told of, and not used.

use std::time::Duration;

use clawhold_tenancy::audit::{Chain, Event, Outcome};
use serde_json::json;

use crate::{Host, Problem};

/// After what time the same is told of again: each call of a changed install would write into the host's chain.
const AGAIN: Duration = Duration::from_mins(10);
/// Things of which it is known that they were told of.
const THINGS: u64 = 10_000;

/// What was told of lately.
pub(crate) struct Tampered(moka::sync::Cache<String, ()>);

impl Default for Tampered {
    fn default() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(THINGS).time_to_live(AGAIN).build())
    }
}

impl Tampered {
    /// Whether it is the first time within a while.
    fn is_news(&self, resource: &str) -> bool {
        let entry = self.0.entry_by_ref(resource).or_insert(());
        entry.is_fresh()
    }
}

impl Host {
    /// Tells the operator that a row or a file is not what the host wrote, and says so to whoever asked for it.
    pub(crate) fn tampered(&self, resource: String, why: &'static str) -> Problem {
        self.note_tampered(resource, json!({ "why": why }));
        Problem::Changed
    }

    /// Tells the operator of it, in the log and the host's own chain.
    pub(crate) fn note_tampered(&self, resource: String, why: serde_json::Value) {
        self.note_tampered_as(&resource.clone(), resource, why);
    }

    /// The same, where it is news under this key.
    pub(crate) fn note_tampered_as(&self, key: &str, resource: String, why: serde_json::Value) {
        if !self.tampered.is_news(key) {
            return;
        }
        tracing::error!(%resource, %why, "something was changed past the host; it is not used");
        self.note_apart(Event::by_host("market", "host.reject_row", resource, Outcome::Denied).with(&why));
    }

    /// Writes into the host's chain in a task of its own: whoever finds it may be in the middle of a transaction, and SQLite has one writer.
    pub(crate) fn note_apart(&self, event: Event) {
        let (store, details) = (self.store.clone(), std::sync::Arc::clone(&self.details));
        tokio::spawn(async move {
            let action = event.action.clone();
            let noted = async {
                let event = details.seal(Chain::Host, event).await?;
                Ok::<_, Problem>(store.system_write("note what was found").await?.commit(event).await?)
            };
            if let Err(error) = noted.await {
                tracing::error!(%action, %error, "it could not be noted in the audit log");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Tampered;

    #[test]
    fn the_same_is_news_once() {
        let tampered = Tampered::default();
        assert!(tampered.is_news("package:acme/crm@1.0.0"));
        assert!(!tampered.is_news("package:acme/crm@1.0.0"));
        assert!(tampered.is_news("package:acme/crm@1.0.1"));
    }
}
