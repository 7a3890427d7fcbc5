//! A publisher's keys, and which of them counts for what.
//!
//! What decides is when the host took a package, by the host's own clock: a signer could write any time. So the same
//! question has the same answer at each load, and what a key signed while it was good stays good when the key ends.
//!
//! A record is never taken away, only revoked: a rotation that came long ago would bring a deleted key back.

mod rotation;

use clawhold_tenancy::{Digest, PackageName};
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::dsse::{Envelope, NotAnEnvelope, Statement, Unopened};
use crate::key::{KeyId, PublicKey};
use crate::moment::{CLOCK_SKEW_US, said};
use crate::signing::PackageStatement;

pub use rotation::{KEYS, KeyRotation, RotationRefused, rotate};

/// One key of a publisher. Times are in microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The key.
    pub key: PublicKey,
    /// From when on it signs.
    pub not_before_us: i64,
    /// From when on it signs no longer.
    pub not_after_us: Option<i64>,
    /// That it is not to be trusted any more.
    pub revoked: Option<Revocation>,
    /// When the host was told of it.
    pub added_us: i64,
    /// By whom.
    pub added_by: AddedBy,
}

/// The end of a key before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// From when on. The operator may name a time in the past, at which somebody else got hold of the key.
    pub at_us: i64,
    /// What becomes of what came before.
    pub earlier: Earlier,
}

/// What becomes of packages that came before their key was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Earlier {
    /// They stay good: the key was safe until then.
    Stays,
    /// They are good no longer: nobody knows for how long somebody else had the key.
    Falls,
}

/// Who vouches for a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddedBy {
    /// A person with the right to, as the audit log names them.
    Actor(String),
    /// Another key of the publisher's, by a [`KeyRotation`]. What falls with that key, falls here too.
    Key(KeyId),
}

/// What a signature must be about.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The package.
    pub package: &'a PackageName,
    /// Its version.
    pub version: &'a Version,
    /// The digest of the file that is here.
    pub digest: &'a Digest,
}

/// A signature that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The key.
    pub key_id: KeyId,
    /// When it was signed, as the signer claims, in microseconds since 1970.
    pub signed_us: i64,
}

/// Why a signature does not hold, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefused {
    /// There is none.
    #[error("the package is not signed; sign it with `clawhold skill sign` and publish it again")]
    Unsigned,
    /// It has another form.
    #[error("the signature is no envelope: {0}; make it with `clawhold skill sign`")]
    NotAnEnvelope(#[from] NotAnEnvelope),
    /// Something else was signed.
    #[error("the signature is about something else: it holds {found:?}; sign the package with `clawhold skill sign`")]
    OtherType {
        /// The type of what was signed.
        found: String,
    },
    /// Nobody knows the key.
    #[error(
        "the publisher has no key {0}; sign with a registered key, or add this one with `clawhold publisher add-key`"
    )]
    UnknownKey(KeyId),
    /// The key is for later.
    #[error("the key {key} is valid from {} on; sign with another key, or publish after that", said(*.from_us))]
    KeyNotYetValid {
        /// The key.
        key: KeyId,
        /// From when on it is.
        from_us: i64,
    },
    /// The key is for earlier.
    #[error(
        "the key {key} was valid until {}; make a new one with `clawhold skill keygen` and have it added",
        said(*.until_us)
    )]
    KeyExpired {
        /// The key.
        key: KeyId,
        /// Until when it was.
        until_us: i64,
    },
    /// Somebody took the trust in the key back.
    #[error(
        "the key {key} is revoked as of {}; sign with another key, and ask the operator which versions must be \
         published again",
        said(*.at_us)
    )]
    KeyRevoked {
        /// The key, or the one that vouched for it.
        key: KeyId,
        /// As of when.
        at_us: i64,
    },
    /// The key has not signed this.
    #[error("the signature does not fit; the file or the signature was changed, so sign and publish it again")]
    Forged,
    /// The key has signed something that nobody reads.
    #[error("what was signed cannot be read: {0}; sign it with `clawhold skill sign` of this version")]
    Unreadable(String),
    /// The signature belongs to another package or version.
    #[error("the signature is for {found}, and this is {expected}; sign this very version")]
    OtherPackage {
        /// What was signed.
        found: String,
        /// What is here.
        expected: String,
    },
    /// The signature belongs to another file.
    #[error("the signature is for a file with {found}, and this one has {expected}; sign the file as it is now")]
    OtherDigest {
        /// What was signed.
        found: Digest,
        /// What is here.
        expected: Digest,
    },
    /// The signer's clock is wrong.
    #[error(
        "the signature says that it was made at {}, which is yet to come; set the signer's clock and sign again",
         said(*.0)
    )]
    FromTheFuture(i64),
}

/// Whether the publisher signed this very file, for a host that took it at this time. Asked when a package is
/// published, when it is installed and when it is loaded.
pub fn verify_package(
    envelope: Option<&str>,
    keys: &[KeyRecord],
    expected: Expected<'_>,
    received_us: i64,
) -> Result<Signed, SignatureRefused> {
    let text = envelope.ok_or(SignatureRefused::Unsigned)?;
    let (key_id, signed) = open::<PackageStatement>(text, keys, received_us)?;
    if signed.package != *expected.package || signed.version != *expected.version {
        return Err(SignatureRefused::OtherPackage {
            found: format!("{} {}", signed.package, signed.version),
            expected: format!("{} {}", expected.package, expected.version),
        });
    }
    if signed.digest != *expected.digest {
        return Err(SignatureRefused::OtherDigest { found: signed.digest, expected: *expected.digest });
    }
    if signed.signed_us > received_us.saturating_add(CLOCK_SKEW_US) {
        return Err(SignatureRefused::FromTheFuture(signed.signed_us));
    }
    Ok(Signed { key_id, signed_us: signed.signed_us })
}

/// What the envelope says, if one of the keys signed it that was good at this time.
fn open<S: Statement>(text: &str, keys: &[KeyRecord], at_us: i64) -> Result<(KeyId, S), SignatureRefused> {
    let envelope = Envelope::parse(text)?;
    envelope.holds::<S>()?;
    let record = find(keys, envelope.key_id())?;
    good(keys, record, at_us)?;
    Ok((envelope.key_id(), envelope.open(&record.key)?))
}

fn find(keys: &[KeyRecord], id: KeyId) -> Result<&KeyRecord, SignatureRefused> {
    keys.iter().find(|record| record.key.id() == id).ok_or(SignatureRefused::UnknownKey(id))
}

/// Whether what this key signed counts, when it came at this time.
fn good(keys: &[KeyRecord], signer: &KeyRecord, at_us: i64) -> Result<(), SignatureRefused> {
    let (mut record, mut at_us) = (signer, at_us);
    // Who has stolen a key can have it vouch for another, so each is as good as the one that brought it, at that time.
    for _ in keys {
        good_by_itself(record, at_us)?;
        match record.added_by {
            AddedBy::Actor(_) => return Ok(()),
            AddedBy::Key(id) => (at_us, record) = (record.added_us, find(keys, id)?),
        }
    }
    // They vouch for one another in a circle, and nobody for any of them.
    Err(SignatureRefused::UnknownKey(signer.key.id()))
}

fn good_by_itself(record: &KeyRecord, at_us: i64) -> Result<(), SignatureRefused> {
    let key = record.key.id();
    if let Some(Revocation { at_us: from_us, earlier }) = record.revoked
        && (earlier == Earlier::Falls || at_us >= from_us)
    {
        return Err(SignatureRefused::KeyRevoked { key, at_us: from_us });
    }
    if at_us < record.not_before_us {
        return Err(SignatureRefused::KeyNotYetValid { key, from_us: record.not_before_us });
    }
    match record.not_after_us {
        Some(until_us) if at_us >= until_us => Err(SignatureRefused::KeyExpired { key, until_us }),
        _ => Ok(()),
    }
}

impl From<Unopened> for SignatureRefused {
    fn from(why: Unopened) -> Self {
        match why {
            Unopened::OtherType { found, .. } => Self::OtherType { found },
            Unopened::Forged => Self::Forged,
            Unopened::Unreadable(why) => Self::Unreadable(why),
        }
    }
}

#[cfg(test)]
mod tests;
