//! Envelope encryption: a data key for each tenant, kept wrapped, and what it seals.
//!
//! Whoever destroys a tenant's wrapped data keys shreds what they sealed. A sealed text is
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format, now 1 |
//! | 4 | version of the data key, big-endian |
//! | 32 | salt |
//! | rest | AES-256-GCM ciphertext and its tag of 16 bytes |
//!
//! with a key and nonce of its own, which follow from the data key and the salt by HKDF-SHA-256. The associated data is the
//! header and the place, each part behind its length.

mod data;

use std::fmt;

use async_trait::async_trait;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::local::MasterKey;
use crate::sealing::{self, SALT};

pub use data::{DataKeys, KeyRows, Renewed, WrappedKey};

const FORMAT: u8 = 1;
/// A wrapped key that says by which key: its fingerprint, and behind that what is sealed.
const FINGERPRINTED: u8 = 2;
const HEADER: usize = 1 + 4 + SALT;
const BYTES: usize = 32;

/// A tenant's key in the clear. Wiped when dropped; `Debug` shows its version alone.
pub struct DataKey {
    version: u32,
    key: Zeroizing<[u8; BYTES]>,
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKey").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Why a key or a text does not open. No message holds either.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Where keys are wrapped cannot be reached. The same call may succeed later.
    #[error("the key service cannot be reached; try again")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Where keys are kept, or wrapped, refused. Trying again does not help.
    #[error("where keys are kept failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It was sealed with another key.
    #[error(
        "it was sealed with another key; put back the key file that it was stored under, or copy it from the host that added a key to it"
    )]
    OtherKey,
    /// Somebody else has made a key at the same moment.
    #[error("another host has made a key at the same moment; look at its key file, and say it again")]
    Raced,
    /// It is not what was sealed for this place.
    #[error("it does not open: {0}")]
    Damaged(&'static str),
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

/// Wraps data keys: under a key in a file, or in a service that never gives its own away.
#[async_trait]
pub trait KeyRing: Send + Sync {
    /// The key as it may be stored, for this owner: a tenant's id, or `_host`.
    async fn wrap(&self, owner: &str, key: &DataKey) -> Result<Vec<u8>, KeyError>;

    /// What was wrapped for this owner under this version.
    async fn unwrap(&self, owner: &str, version: u32, wrapped: &[u8]) -> Result<DataKey, KeyError>;

    /// The same key as the ring would wrap it now, if it was wrapped by an older key of the ring.
    async fn rewrap(&self, owner: &str, version: u32, wrapped: &[u8]) -> Result<Option<Vec<u8>>, KeyError>;

    /// The version of the ring's next key. It wraps nothing before somebody has unwrapped what it wrapped, from where others learn of it too;
    /// one that waits for that already is the next one. What older ones have wrapped still opens.
    async fn prepare(&self) -> Result<u32, KeyError>;

    /// As `wrap` does, under this version of the ring's key.
    async fn wrap_by(&self, ring: u32, owner: &str, key: &DataKey) -> Result<Vec<u8>, KeyError>;
}

impl DataKey {
    /// A new key.
    pub fn generate(version: u32) -> Result<Self, KeyError> {
        let mut key = Zeroizing::new([0; BYTES]);
        getrandom::fill(&mut *key).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self { version, key })
    }

    /// Its version, counted from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Seals a text for its place.
    pub fn seal(&self, place: &[&[u8]], text: &[u8]) -> Result<Vec<u8>, KeyError> {
        let mut sealed = Vec::with_capacity(HEADER + text.len() + sealing::TAG);
        sealed.push(FORMAT);
        sealed.extend(self.version.to_be_bytes());
        let mut salt = [0; SALT];
        getrandom::fill(&mut salt).map_err(|_| KeyError::NoRandomness)?;
        sealed.extend(salt);
        sealing::seal(|into| self.expand(&salt, into), sealed, place, text).ok_or(KeyError::Damaged("it is too large"))
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, place: &[&[u8]], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        if version_of(sealed)? != self.version {
            return Err(KeyError::OtherKey);
        }
        let (header, ciphertext) = sealed.split_at(HEADER);
        sealing::open(|into| self.expand(&header[HEADER - SALT..], into), header, place, ciphertext)
            .map(Zeroizing::new)
            .ok_or(KeyError::Damaged("it was changed, or sealed for another place"))
    }

    fn expand(&self, salt: &[u8], into: &mut [u8]) {
        Hkdf::<Sha256>::new(Some(salt), &*self.key)
            .expand(b"clawhold data v1", into)
            .expect("HKDF gives 8,160 bytes, and no caller wants more");
    }
}

/// The version of the data key that a text was sealed with.
pub fn version_of(sealed: &[u8]) -> Result<u32, KeyError> {
    match sealed.split_at_checked(HEADER) {
        Some(([FORMAT, a, b, c, d, ..], _)) => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        Some(_) => Err(KeyError::Damaged("it has a format that this version of the host does not know")),
        None => Err(KeyError::Damaged("it is cut short")),
    }
}

/// Wraps under the host's own master key, a file.
#[async_trait]
impl KeyRing for MasterKey {
    async fn wrap(&self, owner: &str, key: &DataKey) -> Result<Vec<u8>, KeyError> {
        self.wrap_by(self.in_use(), owner, key).await
    }

    async fn wrap_by(&self, ring: u32, owner: &str, key: &DataKey) -> Result<Vec<u8>, KeyError> {
        let version = key.version.to_be_bytes();
        let (wrapping, fingerprint) =
            self.wrapping(ring, owner).zip(self.fingerprint(ring)).ok_or(KeyError::OtherKey)?;
        let sealed = DataKey { version: ring, key: wrapping }.seal(&place(owner, &version), &*key.key)?;
        Ok([&[FINGERPRINTED], &fingerprint[..], &sealed].concat())
    }

    async fn rewrap(&self, owner: &str, version: u32, wrapped: &[u8]) -> Result<Option<Vec<u8>>, KeyError> {
        // Before it is asked which one is in use: this may be the first that is met of a newer one.
        let key = self.unwrap(owner, version, wrapped).await?;
        if wrapped.first() == Some(&FINGERPRINTED) && self.read_by(wrapped)?.0 == self.in_use() {
            return Ok(None);
        }
        self.wrap(owner, &key).await.map(Some)
    }

    async fn prepare(&self) -> Result<u32, KeyError> {
        self.next().map_err(|error| KeyError::Failed(error.into()))
    }

    async fn unwrap(&self, owner: &str, version: u32, wrapped: &[u8]) -> Result<DataKey, KeyError> {
        let (ring, sealed) = self.read_by(wrapped)?;
        let key = self.wrapping(ring, owner).ok_or(KeyError::OtherKey)?;
        let opened = DataKey { version: version_of(sealed)?, key }.open(&place(owner, &version.to_be_bytes()), sealed);
        let opened = opened.map_err(|error| match error {
            KeyError::Damaged(_) => {
                KeyError::Damaged("the data key was changed, moved, or wrapped by another master key")
            }
            other => other,
        })?;
        let key = <[u8; BYTES]>::try_from(opened.as_slice()).map_err(|_| KeyError::Damaged("it is no key"))?;
        self.use_from_now(ring);
        Ok(DataKey { version, key: Zeroizing::new(key) })
    }
}

fn place<'a>(owner: &'a str, version: &'a [u8; 4]) -> [&'a [u8]; 3] {
    [owner.as_bytes(), b"data_keys", version]
}

impl MasterKey {
    /// Which key of the file has wrapped this, and what it sealed. By its fingerprint: two hosts with files of their own may each have added
    /// a second key, and those are not the same.
    fn read_by<'a>(&self, wrapped: &'a [u8]) -> Result<(u32, &'a [u8]), KeyError> {
        let Some((&FINGERPRINTED, rest)) = wrapped.split_first() else {
            return Ok((version_of(wrapped)?, wrapped));
        };
        let (&fingerprint, sealed) = rest.split_first_chunk().ok_or(KeyError::Damaged("it is cut short"))?;
        if let Some(ring) = self.of_fingerprint(fingerprint) {
            return Ok((ring, sealed));
        }
        // Another host may have added a key to the file, or an operator have copied it here.
        self.read_again().map_err(|error| KeyError::Failed(error.into()))?;
        Ok((self.of_fingerprint(fingerprint).ok_or(KeyError::OtherKey)?, sealed))
    }

    fn wrapping(&self, ring: u32, owner: &str) -> Option<Zeroizing<[u8; BYTES]>> {
        self.derive_of(ring, &format!("wrap {owner}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrapped_key_opens_for_its_owner_and_version_alone() {
        let folder = tempfile::tempdir().unwrap();
        let ring = MasterKey::open_or_create(folder.path()).unwrap();
        let key = DataKey::generate(3).unwrap();
        let sealed = key.seal(&[b"a", b"b"], b"text").unwrap();
        let wrapped = ring.wrap("acme-corp", &key).await.unwrap();
        let again = ring.unwrap("acme-corp", 3, &wrapped).await.unwrap();
        assert_eq!(**again.open(&[b"a", b"b"], &sealed).unwrap(), *b"text");
        assert!(ring.unwrap("globex", 3, &wrapped).await.is_err());
        assert!(ring.unwrap("acme-corp", 2, &wrapped).await.is_err());
        let elsewhere = tempfile::tempdir().unwrap();
        let other = MasterKey::open_or_create(elsewhere.path()).unwrap();
        assert!(other.unwrap("acme-corp", 3, &wrapped).await.is_err());
        assert_eq!(format!("{key:?}"), "DataKey { version: 3, .. }");
    }

    #[test]
    fn hostile_05_a_sealed_text_opens_in_its_place_alone() {
        let key = DataKey::generate(1).unwrap();
        let sealed = key.seal(&[b"acme", b"x"], b"text").unwrap();
        assert!(key.open(&[b"acme", b"y"], &sealed).is_err());
        assert!(key.open(&[b"acmex", b""], &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key.open(&[b"acme", b"x"], &changed).is_err(), "byte {at}");
            assert!(key.open(&[b"acme", b"x"], &sealed[..at]).is_err(), "cut to {at}");
        }
        let other = DataKey::generate(2).unwrap();
        assert!(matches!(other.open(&[b"acme", b"x"], &sealed), Err(KeyError::OtherKey)));
        assert_ne!(sealed, key.seal(&[b"acme", b"x"], b"text").unwrap());
    }
}
