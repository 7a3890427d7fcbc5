//! Heads that the host has signed: kept where the database's owner cannot write, they show a chain whose tail was cut, or
//! all of which was rewritten.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Head;

/// The key that signs heads: Ed25519, RFC 8032.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key that follows from 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// What others verify with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Says that the chain of this name had this head at this time, in microseconds since 1970.
    pub fn sign(&self, chain: &str, head: Head, at_us: i64) -> SignedHead {
        let signature = self.0.sign(&message(chain, &head, at_us)).to_bytes();
        SignedHead { chain: chain.to_owned(), seq: head.seq, hash: head.hash, at_us, key: self.public(), signature }
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
        VerifyingKey::from_bytes(&bytes).map(Self).map_err(|_| BadKey)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A text is no public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no Ed25519 public key; write its 64 hexadecimal digits")]
pub struct BadKey;

/// A head that somebody does not have to believe: its signature says who states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignedHead {
    /// The chain's name: a tenant's id, or `_host`.
    pub chain: String,
    /// Number of the last entry.
    pub seq: i64,
    /// Hash of the last entry.
    #[serde(with = "hex::serde")]
    #[schemars(with = "String", regex(pattern = "^[0-9a-f]{64}$"))]
    pub hash: [u8; 32],
    /// When it was signed, in microseconds since 1970.
    pub at_us: i64,
    /// Who signed.
    #[schemars(with = "String")]
    pub key: PublicKey,
    /// Over the bytes that `docs/audit.md` describes.
    #[serde(with = "hex::serde")]
    #[schemars(with = "String", regex(pattern = "^[0-9a-f]{128}$"))]
    pub signature: [u8; 64],
}

/// A head is not what the holder of the key signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// It names another key.
    #[error("it was signed with another key than the one that is given")]
    OtherKey,
    /// The signature is not of these values.
    #[error("its signature does not fit")]
    Forged,
}

impl SignedHead {
    /// The head itself.
    pub fn head(&self) -> Head {
        Head { seq: self.seq, hash: self.hash }
    }

    /// Whether the holder of this key signed it.
    pub fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        if self.key != *key {
            return Err(BadSignature::OtherKey);
        }
        let signature = Signature::from_bytes(&self.signature);
        key.0
            .verify_strict(&message(&self.chain, &self.head(), self.at_us), &signature)
            .map_err(|_| BadSignature::Forged)
    }
}

fn message(chain: &str, head: &Head, at_us: i64) -> Vec<u8> {
    let mut message = b"clawhold-head-v1".to_vec();
    for field in [chain.as_bytes(), &head.seq.to_be_bytes(), &head.hash, &at_us.to_be_bytes()] {
        message.extend((field.len() as u64).to_be_bytes());
        message.extend(field);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_verifies_as_it_was_signed_and_in_no_other_form() {
        let key = SigningKey::from_seed(&[7; 32]);
        let signed = key.sign("acme-corp", Head { seq: 3, hash: [1; 32] }, 9);
        signed.verify(&key.public()).unwrap();
        let line = serde_json::to_string(&signed).unwrap();
        assert_eq!(serde_json::from_str::<SignedHead>(&line).unwrap(), signed);
        for changed in [
            SignedHead { chain: "globex".to_owned(), ..signed.clone() },
            SignedHead { seq: 2, ..signed.clone() },
            SignedHead { hash: [2; 32], ..signed.clone() },
            SignedHead { at_us: 10, ..signed.clone() },
            SignedHead { signature: [0; 64], ..signed.clone() },
        ] {
            assert_eq!(changed.verify(&key.public()), Err(BadSignature::Forged), "{changed:?}");
        }
        let other = SigningKey::from_seed(&[8; 32]).public();
        assert_eq!(signed.verify(&other), Err(BadSignature::OtherKey));
        let claims = SignedHead { key: other, ..signed };
        assert_eq!(claims.verify(&other), Err(BadSignature::Forged));
    }

    #[test]
    fn a_key_is_read_from_its_digits_alone() {
        let key = SigningKey::from_seed(&[7; 32]).public();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        for bad in ["", "00", &"zz".repeat(32), &"00".repeat(33)] {
            assert_eq!(bad.parse::<PublicKey>().unwrap_err(), BadKey, "{bad}");
        }
        assert!(!format!("{:?}", SigningKey::from_seed(&[7; 32])).contains("0707"));
    }
}
