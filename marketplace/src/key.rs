//! Keys that sign: Ed25519, RFC 8032.
//!
//! A publisher has some for its packages and the host has one for its index. How they are kept in a file is in `pem`.

mod pem;

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer as _, VerifyingKey};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

pub use pem::{BadPem, PASSPHRASE_CHARS};

/// A signature, as RFC 8032 writes it.
pub(crate) type Signature = [u8; ed25519_dalek::SIGNATURE_LENGTH];

/// A key that signs. Wiped from memory when it is dropped.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A new key, from the system's randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed)?;
        Ok(Self::from_seed(&seed))
    }

    /// The key that follows from 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// What others verify with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.public())
    }
}

/// What verifies a signature; written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Its name.
    pub fn id(&self) -> KeyId {
        KeyId(Sha256::digest(self.0.as_bytes()).into())
    }

    /// Whether its holder signed this. Strict: no two signatures, and no two keys, are good for one message by accident
    /// of the encoding.
    pub(crate) fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.0.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| BadKey)?;
        // Anybody can sign for a key of small order, so nobody holds it.
        VerifyingKey::from_bytes(&bytes).ok().filter(|key| !key.is_weak()).map(Self).ok_or(BadKey)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no Ed25519 public key; write the 64 hexadecimal digits that `clawhold skill keygen` prints")]
pub struct BadKey;

/// The name of a key: the SHA-256 of its 32 public bytes, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema)]
#[schemars(transparent)]
pub struct KeyId(#[schemars(with = "String", regex(pattern = "^[0-9a-f]{64}$"))] [u8; 32]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = BadKeyId;

    fn from_str(text: &str) -> Result<Self, BadKeyId> {
        let mut bytes = [0; 32];
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(BadKeyId);
        }
        hex::decode_to_slice(text, &mut bytes).map_err(|_| BadKeyId)?;
        Ok(Self(bytes))
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text is no name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no key id; write its 64 hexadecimal digits in lower case")]
pub struct BadKeyId;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, test 3.
    const SEED: &str = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7";
    const PUBLIC: &str = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025";
    const SIGNATURE: &str = "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                             18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a";

    #[test]
    fn a_key_signs_as_the_rfc_says() {
        let key = SigningKey::from_seed(&hex::decode(SEED).unwrap().try_into().unwrap());
        assert_eq!(key.public().to_string(), PUBLIC);
        assert_eq!(hex::encode(key.sign(&[0xaf, 0x82])), SIGNATURE);
        assert!(key.public().verifies(&[0xaf, 0x82], &key.sign(&[0xaf, 0x82])));
        assert!(!key.public().verifies(&[0xaf, 0x83], &key.sign(&[0xaf, 0x82])));
    }

    #[test]
    fn a_key_says_its_public_half_alone() {
        let key = SigningKey::from_seed(&hex::decode(SEED).unwrap().try_into().unwrap());
        let said = format!("{key:?}");
        assert!(said.contains(PUBLIC) && !said.contains(&SEED[..8]), "{said}");
        assert_ne!(SigningKey::generate().unwrap().public(), SigningKey::generate().unwrap().public());
    }

    #[test]
    fn a_text_that_is_no_public_key_is_refused() {
        let key: PublicKey = PUBLIC.parse().unwrap();
        assert_eq!(key.to_string(), PUBLIC);
        let small_order = format!("01{}", "00".repeat(31));
        for bad in ["", "00", &"zz".repeat(32), &"00".repeat(33), &small_order, &"00".repeat(32)] {
            assert_eq!(bad.parse::<PublicKey>(), Err(BadKey), "{bad}");
        }
    }

    #[test]
    fn a_key_id_is_the_hash_of_the_raw_key_in_lower_case() {
        let key: PublicKey = PUBLIC.parse().unwrap();
        let id = key.id().to_string();
        assert_eq!(id, hex::encode(Sha256::digest(hex::decode(PUBLIC).unwrap())));
        assert_eq!(id.parse(), Ok(key.id()));
        for bad in ["", &id[1..], &id.to_uppercase(), &format!("{id}00")] {
            assert_eq!(bad.parse::<KeyId>(), Err(BadKeyId), "{bad}");
        }
    }
}
