//! A new key, for which an older one vouches: a publisher changes keys without asking anybody.

use clawhold_tenancy::Publisher;
use serde::{Deserialize, Serialize};

use super::{AddedBy, KeyRecord, SignatureRefused, open};
use crate::dsse::{Envelope, Statement};
use crate::key::{KeyId, PublicKey, SigningKey};
use crate::moment::said;

/// Keys of one publisher, revoked ones among them. 64: one a month for five years, and each is looked at when a package
/// is loaded.
pub const KEYS: usize = 64;

/// That a publisher has a further key. Times are in microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRotation {
    /// The publisher.
    pub publisher: Publisher,
    /// The new key.
    pub key: PublicKey,
    /// From when on it signs.
    pub not_before_us: i64,
    /// From when on it signs no longer.
    pub not_after_us: Option<i64>,
}

impl Statement for KeyRotation {
    const TYPE: &'static str = "application/vnd.clawhold.key.v1+json";
}

impl KeyRotation {
    /// Signs it with a key that the publisher has already: the text of an envelope.
    pub fn sign(&self, key: &SigningKey) -> String {
        Envelope::seal(self, key).to_string()
    }
}

/// Why a new key is not taken, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotationRefused {
    /// No key that counts vouches for it.
    #[error("nobody vouches for the new key: {0}")]
    Signature(#[from] SignatureRefused),
    /// It is for somebody else.
    #[error("the new key is for the publisher {found}, not for {expected}; sign a rotation that names {expected}")]
    OtherPublisher {
        /// For whom it is.
        found: Publisher,
        /// Who asks.
        expected: Publisher,
    },
    /// It is there already.
    #[error("the publisher has the key {0} already; make a new one with `clawhold skill keygen`")]
    Known(KeyId),
    /// It would never be valid.
    #[error("the new key would be valid until {}, which is over or before it begins; name a later end", said(*.0))]
    Empty(i64),
    /// There are too many.
    #[error("the publisher has {KEYS} keys, which is the most; keep one for longer, or ask the operator")]
    TooMany,
}

/// The record of a new key that one of the publisher's keys vouches for.
pub fn rotate(
    envelope: &str,
    keys: &[KeyRecord],
    publisher: &Publisher,
    received_us: i64,
) -> Result<KeyRecord, RotationRefused> {
    let (by, stated) = open::<KeyRotation>(envelope, keys, received_us)?;
    if stated.publisher != *publisher {
        return Err(RotationRefused::OtherPublisher { found: stated.publisher, expected: publisher.clone() });
    }
    if keys.iter().any(|record| record.key == stated.key) {
        return Err(RotationRefused::Known(stated.key.id()));
    }
    if keys.len() >= KEYS {
        return Err(RotationRefused::TooMany);
    }
    // Nothing that came before the host knew the key can have been good because of it.
    let not_before_us = stated.not_before_us.max(received_us);
    match stated.not_after_us {
        Some(until_us) if until_us <= not_before_us => Err(RotationRefused::Empty(until_us)),
        not_after_us => Ok(KeyRecord {
            key: stated.key,
            not_before_us,
            not_after_us,
            revoked: None,
            added_us: received_us,
            added_by: AddedBy::Key(by),
        }),
    }
}
