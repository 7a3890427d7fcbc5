//! AES-256-GCM with a key and a nonce for each record, bound to the record's place.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use zeroize::Zeroizing;

/// Bytes of a salt: random, and so long that no two records share a key. The limits on how often a key may seal (2³² times
/// with random nonces, NIST SP 800-38D) don't come near.
pub(crate) const SALT: usize = 32;
/// Bytes that sealing adds to a text.
pub(crate) const TAG: usize = 16;

/// Seals a text behind its header, which is bound too; `expand` gives what follows from a key and the record's salt. `None` if it
/// is larger than AES-GCM seals: 64 GiB.
pub(crate) fn seal(expand: impl FnOnce(&mut [u8]), header: Vec<u8>, place: &[&[u8]], text: &[u8]) -> Option<Vec<u8>> {
    let (cipher, nonce) = cipher(expand);
    let bound = bound(&header, place);
    let mut sealed = header;
    sealed.extend(cipher.encrypt(&nonce, Payload { msg: text, aad: &bound }).ok()?);
    Some(sealed)
}

/// Opens what was sealed behind this header, for this place.
pub(crate) fn open(
    expand: impl FnOnce(&mut [u8]),
    header: &[u8],
    place: &[&[u8]],
    ciphertext: &[u8],
) -> Option<Vec<u8>> {
    let (cipher, nonce) = cipher(expand);
    cipher.decrypt(&nonce, Payload { msg: ciphertext, aad: &bound(header, place) }).ok()
}

fn cipher(expand: impl FnOnce(&mut [u8])) -> (Aes256Gcm, Nonce<aes_gcm::aead::consts::U12>) {
    let mut derived = Zeroizing::new([0; 32 + 12]);
    expand(&mut *derived);
    let (record_key, nonce) = derived.split_at(32);
    let record_key = <&Key<Aes256Gcm>>::try_from(record_key).expect("32 bytes were split off");
    let nonce = Nonce::try_from(nonce).expect("12 bytes are left");
    (Aes256Gcm::new(record_key), nonce)
}

/// Header and place, each part behind its length: no two divisions of the same bytes are alike.
fn bound(header: &[u8], place: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::with_capacity(256);
    for part in std::iter::once(&header).chain(place) {
        data.extend((part.len() as u64).to_be_bytes());
        data.extend(*part);
    }
    data
}
