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
    #[error("it was sealed with another key; put back the key file that it was stored under")]
    OtherKey,
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

    /// Makes the ring's next key, which wraps from now on, and says its version. What older ones have wrapped still opens.
    async fn rotate(&self) -> Result<u32, KeyError>;
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
        let version = key.version.to_be_bytes();
        self.newest(owner).seal(&[owner.as_bytes(), b"data_keys", &version], &*key.key)
    }

    async fn rewrap(&self, owner: &str, version: u32, wrapped: &[u8]) -> Result<Option<Vec<u8>>, KeyError> {
        if version_of(wrapped)? == self.version() {
            return Ok(None);
        }
        let key = self.unwrap(owner, version, wrapped).await?;
        self.wrap(owner, &key).await.map(Some)
    }

    async fn rotate(&self) -> Result<u32, KeyError> {
        self.add().map_err(|error| KeyError::Failed(error.into()))
    }

    async fn unwrap(&self, owner: &str, version: u32, wrapped: &[u8]) -> Result<DataKey, KeyError> {
        let place = [owner.as_bytes(), b"data_keys", &version.to_be_bytes()];
        let wrapping = version_of(wrapped)?;
        // Another host may have added a key to the file, or an operator have copied it here.
        if self.version() < wrapping {
            self.read_again().map_err(|error| KeyError::Failed(error.into()))?;
        }
        let key = self.wrapping(owner, wrapping).ok_or(KeyError::OtherKey)?;
        let opened = key.open(&place, wrapped).map_err(|error| match error {
            KeyError::Damaged(_) => {
                KeyError::Damaged("the data key was changed, moved, or wrapped by another master key")
            }
            other => other,
        })?;
        let key = <[u8; BYTES]>::try_from(opened.as_slice()).map_err(|_| KeyError::Damaged("it is no key"))?;
        Ok(DataKey { version, key: Zeroizing::new(key) })
    }
}

impl MasterKey {
    fn newest(&self, owner: &str) -> DataKey {
        let version = self.version();
        self.wrapping(owner, version).expect("the file has a first key, and none is ever taken out of it")
    }

    fn wrapping(&self, owner: &str, version: u32) -> Option<DataKey> {
        let key = self.derive_of(version, &format!("wrap {owner}"))?;
        Some(DataKey { version, key })
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
