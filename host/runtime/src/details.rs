//! What is sealed under an owner's data key: the detail of audit entries, and answers that are kept.

use std::sync::Arc;

use clawhold_secret_store::keys::{DataKeys, KeyError, version_of};
use clawhold_store::{KeptAnswer, StoreError};
use clawhold_tenancy::audit::{Chain, Event, Sealed, SealedEvent, now_us};
use clawhold_tenancy::keep::Slot;

use crate::Problem;

/// Seals and opens. One for a host.
pub struct Details {
    keys: Arc<DataKeys>,
}

/// Why something could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// An entry's detail, as far as it can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// It has none.
    None,
    /// JSON.
    Text(String),
    /// Its key was destroyed: it says nothing any more.
    Shredded,
    /// It does not open: it is not what the host wrote.
    Damaged,
}

impl Details {
    /// Seals under these keys.
    pub fn new(keys: Arc<DataKeys>) -> Arc<Self> {
        Arc::new(Self { keys })
    }

    /// What it seals under.
    pub(crate) fn keys(&self) -> &DataKeys {
        &self.keys
    }

    /// The event as its chain takes it.
    pub async fn seal(&self, of: Chain<'_>, event: Event) -> Result<SealedEvent, SealError> {
        let mut all = self.seal_all(of, vec![event]).await?;
        Ok(all.swap_remove(0))
    }

    /// The events as their chain takes them.
    pub async fn seal_all(&self, of: Chain<'_>, events: Vec<Event>) -> Result<Vec<SealedEvent>, SealError> {
        let mut sealed = Vec::with_capacity(events.len());
        for event in events {
            let detail = if event.detail.is_empty() {
                Sealed::NONE
            } else {
                let key = self.keys.newest(of.name()).await?;
                Sealed::from_ciphertext(key.seal(&event.place(of.name(), &mut [0; 8]), &event.detail)?)
            };
            sealed.push(event.with_detail(detail));
        }
        Ok(sealed)
    }

    /// What an entry says in detail.
    pub async fn open(&self, of: Chain<'_>, event: &SealedEvent) -> Result<Detail, Problem> {
        let sealed = event.detail.bytes();
        if sealed.is_empty() {
            return Ok(Detail::None);
        }
        let Ok(version) = version_of(sealed) else { return Ok(Detail::Damaged) };
        let key = match self.keys.of(of.name(), version).await {
            Ok(Some(key)) => key,
            Ok(None) => return Ok(Detail::Shredded),
            Err(KeyError::Damaged(_) | KeyError::OtherKey) => return Ok(Detail::Damaged),
            Err(error) => return Err(SealError::from(error).into()),
        };
        let opened = key.open(&event.place(of.name(), &mut [0; 8]), sealed).ok();
        let text = opened.and_then(|text| String::from_utf8(text.to_vec()).ok());
        Ok(text.map_or(Detail::Damaged, Detail::Text))
    }

    /// An answer as it is kept.
    pub(crate) async fn seal_answer(
        &self,
        of: Chain<'_>,
        (slot, answer): (Slot, Vec<u8>),
    ) -> Result<KeptAnswer, SealError> {
        let key = self.keys.newest(of.name()).await?;
        let answer = key.seal(&answer_place(of, &slot), &answer)?;
        let Slot { token, key, fingerprint } = slot;
        Ok(KeptAnswer { token, key, fingerprint, answer, created_us: now_us() })
    }

    pub(crate) async fn open_answer(&self, of: Chain<'_>, slot: &Slot, sealed: &[u8]) -> Result<Vec<u8>, Problem> {
        let lost = |why: &str| Problem::internal("a kept answer does not open", why);
        let version = version_of(sealed).map_err(|e| lost(&e.to_string()))?;
        let key = self.keys.of(of.name(), version).await.map_err(SealError::from)?;
        let key = key.ok_or_else(|| lost("its key is gone"))?;
        let opened = key.open(&answer_place(of, slot), sealed).map_err(|e| lost(&e.to_string()))?;
        Ok(opened.to_vec())
    }

    /// Makes sure that the owner has a key, so that sealing needs no more of the database for a while.
    pub(crate) async fn ready(&self, of: Chain<'_>) -> Result<(), SealError> {
        Ok(self.keys.newest(of.name()).await.map(drop)?)
    }
}

fn answer_place<'a>(of: Chain<'a>, slot: &'a Slot) -> [&'a [u8]; 5] {
    [of.name().as_bytes(), b"kept_answers", slot.token.as_str().as_bytes(), slot.key.as_bytes(), &slot.fingerprint]
}
