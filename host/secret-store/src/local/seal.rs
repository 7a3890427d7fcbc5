//! One value to one ciphertext, bound to its place.
//!
//! Format 2 is a byte and what the tenant's data key has sealed; see [`crate::keys`]. Before tenants had keys of their own there was format 1,
//! which is read until the tenant's keys are rotated:
//!
//! | bytes | what |
//! |---|---|
//! | 1 | format 1 |
//! | 4 | version of the master key, big-endian, now 1 |
//! | 8 | fingerprint of the master key |
//! | 32 | salt |
//! | rest | AES-256-GCM ciphertext and its tag of 16 bytes |
//!
//! Key and nonce come from the master key and the salt by HKDF-SHA-256. A salt is random and of 32 bytes, so no two
//! records share a key, and the limits on how often a key may seal (2³² times with random nonces, NIST SP 800-38D)
//! don't come near. The associated data says to which tenant, table, name and version the value belongs, each part
//! behind its length: in any other place the value does not open.

use clawhold_tenancy::{SecretName, TenantId};
use subtle::ConstantTimeEq as _;

use super::MasterKey;
use crate::keys::{DataKey, KeyError, version_of};
use crate::sealing::{self, SALT};
use crate::{SecretError, SecretValue};

const UNDER_MASTER_KEY: u8 = 1;
const UNDER_DATA_KEY: u8 = 2;
const KEY_VERSION: u32 = 1;
const TABLE: &[u8] = b"secrets";
const FINGERPRINT: usize = 8;
const HEADER: usize = 1 + 4 + FINGERPRINT + SALT;

/// Where a sealed value belongs.
pub(super) struct Place<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) name: &'a SecretName,
    version_bytes: [u8; 8],
}

impl<'a> Place<'a> {
    pub(super) fn new(tenant: &'a TenantId, name: &'a SecretName, version: i64) -> Self {
        Self { tenant, name, version_bytes: version.to_be_bytes() }
    }

    fn parts(&self) -> [&[u8]; 4] {
        [self.tenant.as_str().as_bytes(), TABLE, self.name.as_str().as_bytes(), &self.version_bytes]
    }

    pub(super) fn damaged(&self, why: &'static str) -> SecretError {
        SecretError::Damaged { name: self.name.clone(), why }
    }

    pub(super) fn failed(&self, error: KeyError) -> SecretError {
        match error {
            KeyError::Unavailable(source) => SecretError::Unavailable(source),
            KeyError::Failed(source) => SecretError::Failed(source),
            KeyError::OtherKey => SecretError::OtherKey { name: self.name.clone() },
            KeyError::Damaged(why) => self.damaged(why),
            KeyError::NoRandomness => SecretError::NoRandomness,
            error @ KeyError::Raced => SecretError::Failed(error.into()),
        }
    }
}

/// Seals a value under the tenant's data key.
pub(super) fn seal(key: &DataKey, place: &Place<'_>, value: &SecretValue) -> Result<Vec<u8>, SecretError> {
    let sealed = key.seal(&place.parts(), value.expose()).map_err(|error| place.failed(error))?;
    Ok([&[UNDER_DATA_KEY], sealed.as_slice()].concat())
}

/// The version of the data key that sealed this; none if it was the master key.
pub(super) fn sealed_by(place: &Place<'_>, sealed: &[u8]) -> Result<Option<u32>, SecretError> {
    match sealed.split_first() {
        Some((&UNDER_MASTER_KEY, _)) => Ok(None),
        Some((&UNDER_DATA_KEY, rest)) => version_of(rest).map(Some).map_err(|error| place.failed(error)),
        Some(_) => Err(place.damaged("it has a format that this version of the host does not know")),
        None => Err(place.damaged("it is cut short")),
    }
}

/// Opens what the tenant's data key has sealed.
pub(super) fn open(key: &DataKey, place: &Place<'_>, sealed: &[u8]) -> Result<SecretValue, SecretError> {
    let rest = sealed.get(1..).unwrap_or_default();
    let opened = key.open(&place.parts(), rest).map_err(|error| place.failed(error))?;
    Ok(SecretValue::from(opened.to_vec()))
}

/// As values were sealed before tenants had data keys.
#[cfg(test)]
pub(super) fn seal_under_master(
    key: &MasterKey,
    place: &Place<'_>,
    value: &SecretValue,
) -> Result<Vec<u8>, SecretError> {
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt).map_err(|_| SecretError::NoRandomness)?;
    let mut sealed = Vec::with_capacity(HEADER + value.expose().len() + 16);
    sealed.push(UNDER_MASTER_KEY);
    sealed.extend(KEY_VERSION.to_be_bytes());
    sealed.extend(fingerprint(key));
    sealed.extend(salt);
    let sealed = sealing::seal(expand(key, &salt), sealed, &place.parts(), value.expose());
    Ok(sealed.expect("AES-GCM seals up to 64 GiB, and a value is far smaller"))
}

/// Opens what was sealed before tenants had data keys.
pub(super) fn open_under_master(key: &MasterKey, place: &Place<'_>, sealed: &[u8]) -> Result<SecretValue, SecretError> {
    let damaged = |why| place.damaged(why);
    let (header, ciphertext) = sealed.split_at_checked(HEADER).ok_or_else(|| damaged("it is cut short"))?;
    let (format, rest) = header.split_at(1);
    let (key_version, rest) = rest.split_at(4);
    let (made_with, salt) = rest.split_at(FINGERPRINT);
    if format != [UNDER_MASTER_KEY] {
        return Err(damaged("it has a format that this version of the host does not know"));
    }
    if key_version != KEY_VERSION.to_be_bytes() || !bool::from(made_with.ct_eq(&fingerprint(key))) {
        return Err(SecretError::OtherKey { name: place.name.clone() });
    }
    sealing::open(expand(key, salt), header, &place.parts(), ciphertext)
        .map(SecretValue::from)
        .ok_or_else(|| damaged("it was changed, or stored for another tenant, name or version"))
}

/// Tells a wrong key from a damaged value, and nothing about the key.
fn fingerprint(key: &MasterKey) -> [u8; FINGERPRINT] {
    let mut print = [0; FINGERPRINT];
    key.expand(&[], &[b"clawhold fingerprint v1"], &mut print);
    print
}

fn expand<'a>(key: &'a MasterKey, salt: &'a [u8]) -> impl FnOnce(&mut [u8]) + 'a {
    move |into| key.expand(salt, &[b"clawhold secret v1"], into)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "sk-live-0123456789";

    struct Row {
        tenant: TenantId,
        name: SecretName,
        version: i64,
    }

    impl Row {
        fn new(tenant: &str, name: &str, version: i64) -> Self {
            Self { tenant: tenant.parse().unwrap(), name: name.parse().unwrap(), version }
        }

        fn place(&self) -> Place<'_> {
            Place::new(&self.tenant, &self.name, self.version)
        }
    }

    fn sealed(key: &MasterKey, row: &Row) -> Vec<u8> {
        seal_under_master(key, &row.place(), &SecretValue::from(VALUE.to_owned())).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_in_its_place() {
        let (key, row) = (MasterKey::of(1), Row::new("acme-corp", "salesforce", 1));
        let bytes = sealed(&key, &row);
        assert_eq!(open_under_master(&key, &row.place(), &bytes).unwrap().expose_str(), Some(VALUE));
        let empty = seal_under_master(&key, &row.place(), &SecretValue::from(Vec::new())).unwrap();
        assert_eq!(open_under_master(&key, &row.place(), &empty).unwrap().expose(), b"");
    }

    #[test]
    fn the_same_value_is_never_sealed_alike() {
        let (key, row) = (MasterKey::of(1), Row::new("acme-corp", "salesforce", 1));
        assert_ne!(sealed(&key, &row), sealed(&key, &row));
    }

    #[test]
    fn hostile_05_one_tenants_ciphertext_does_not_open_in_another_place() {
        let key = MasterKey::of(1);
        let bytes = sealed(&key, &Row::new("acme-corp", "salesforce", 1));
        for elsewhere in [
            Row::new("globex", "salesforce", 1),
            Row::new("acme-corp", "slack", 1),
            Row::new("acme-corp", "salesforce", 2),
            // The same letters, divided otherwise.
            Row::new("acme-corps", "alesforce", 1),
        ] {
            let refusal = open_under_master(&key, &elsewhere.place(), &bytes).unwrap_err();
            assert!(matches!(refusal, SecretError::Damaged { .. }), "{refusal}");
        }
    }

    #[test]
    fn a_change_anywhere_is_noticed() {
        let (key, row) = (MasterKey::of(1), Row::new("acme-corp", "salesforce", 1));
        let bytes = sealed(&key, &row);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let refusal = open_under_master(&key, &row.place(), &changed).unwrap_err();
            let key_bytes = 1..1 + 4 + FINGERPRINT;
            assert_eq!(matches!(refusal, SecretError::OtherKey { .. }), key_bytes.contains(&at), "byte {at}");
        }
        for length in 0..bytes.len() {
            assert!(open_under_master(&key, &row.place(), &bytes[..length]).is_err(), "cut to {length}");
        }
        assert!(open_under_master(&key, &row.place(), &[bytes, vec![0]].concat()).is_err(), "one byte more");
    }

    #[test]
    fn another_key_is_named_as_the_reason() {
        let row = Row::new("acme-corp", "salesforce", 1);
        let bytes = sealed(&MasterKey::of(1), &row);
        let refusal = open_under_master(&MasterKey::of(2), &row.place(), &bytes).unwrap_err().to_string();
        assert!(refusal.contains("another master key"), "{refusal}");
        assert!(!refusal.contains(VALUE));
    }

    #[test]
    fn hostile_05_what_a_data_key_sealed_opens_in_its_place_alone() {
        let (key, row) = (DataKey::generate(7).unwrap(), Row::new("acme-corp", "salesforce", 1));
        let bytes = seal(&key, &row.place(), &SecretValue::from(VALUE.to_owned())).unwrap();
        assert_eq!(sealed_by(&row.place(), &bytes).unwrap(), Some(7));
        assert_eq!(open(&key, &row.place(), &bytes).unwrap().expose_str(), Some(VALUE));
        for elsewhere in [
            Row::new("globex", "salesforce", 1),
            Row::new("acme-corp", "slack", 1),
            Row::new("acme-corp", "salesforce", 2),
            Row::new("acme-corps", "alesforce", 1),
        ] {
            let refusal = open(&key, &elsewhere.place(), &bytes).unwrap_err();
            assert!(matches!(refusal, SecretError::Damaged { .. }), "{refusal}");
        }
        for at in 1..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(open(&key, &row.place(), &changed).is_err(), "byte {at}");
            assert!(open(&key, &row.place(), &bytes[..at]).is_err(), "cut to {at}");
        }
        assert!(sealed_by(&row.place(), &[]).is_err() && sealed_by(&row.place(), &[9]).is_err());
    }
}
