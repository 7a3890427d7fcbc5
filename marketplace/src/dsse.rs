//! Signed statements: DSSE v1.0.0, <https://github.com/secure-systems-lab/dsse>.
//!
//! What is signed is the type of a statement with its very bytes, so no statement passes for one of another type and
//! nothing has to be written the same way twice. It knows nothing of several signatures, or of a signer who is not
//! named: no client of ours needs that.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::key::{KeyId, PublicKey, Signature, SigningKey};

/// Bytes of an envelope's text. 16 KiB: our statements have a few hundred.
pub const ENVELOPE_BYTES: usize = 16 * 1024;

/// Bytes of a reason that is passed on: it may quote what came.
const REASON_BYTES: usize = 200;

/// Something that can be signed.
pub trait Statement: Serialize + DeserializeOwned {
    /// Its media type, which the signature covers.
    const TYPE: &'static str;
}

/// A statement with a signature that nobody has checked yet. Its text is JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    key_id: KeyId,
    signature: Signature,
}

/// A text is no envelope of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAnEnvelope(String);

/// Why an envelope does not say what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unopened {
    /// It holds another kind of statement.
    #[error("it holds {found:?}, not {expected}")]
    OtherType {
        /// What it holds.
        found: String,
        /// What was asked for.
        expected: &'static str,
    },
    /// The key has not signed it.
    #[error("the signature does not fit")]
    Forged,
    /// It was signed, and cannot be read.
    #[error("what was signed cannot be read: {0}")]
    Unreadable(String),
}

impl Envelope {
    /// Signs a statement.
    pub fn seal<S: Statement>(statement: &S, key: &SigningKey) -> Self {
        let payload = serde_json::to_vec(statement).expect("a statement has only string keys");
        let signature = key.sign(&pae(S::TYPE, &payload));
        Self { payload_type: S::TYPE.to_owned(), payload, key_id: key.public().id(), signature }
    }

    /// Reads an envelope with exactly one signature.
    pub fn parse(text: &str) -> Result<Self, NotAnEnvelope> {
        if text.len() > ENVELOPE_BYTES {
            return Err(NotAnEnvelope(format!("it has {} bytes, {ENVELOPE_BYTES} are allowed", text.len())));
        }
        let wire: Wire = serde_json::from_str(text).map_err(|e| NotAnEnvelope(short(&e)))?;
        let [WireSignature { keyid, sig }] = &wire.signatures[..] else {
            return Err(NotAnEnvelope(format!("it has {} signatures, not one", wire.signatures.len())));
        };
        let key_id = keyid.parse().map_err(|e| NotAnEnvelope(short(&e)))?;
        let signature =
            base64(sig, "sig")?.try_into().map_err(|_| NotAnEnvelope("the field sig has not 64 bytes".to_owned()))?;
        Ok(Self { payload: base64(&wire.payload, "payload")?, payload_type: wire.payload_type, key_id, signature })
    }

    /// Who claims to have signed: a hint of which key to try, and no more.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The statement, if the holder of this key signed it.
    pub fn open<S: Statement>(&self, key: &PublicKey) -> Result<S, Unopened> {
        self.holds::<S>()?;
        if !key.verifies(&pae(&self.payload_type, &self.payload), &self.signature) {
            return Err(Unopened::Forged);
        }
        serde_json::from_slice(&self.payload).map_err(|e| Unopened::Unreadable(short(&e)))
    }

    /// Whether it claims to hold such a statement.
    pub fn holds<S: Statement>(&self) -> Result<(), Unopened> {
        if self.payload_type == S::TYPE {
            return Ok(());
        }
        Err(Unopened::OtherType { found: short(&self.payload_type), expected: S::TYPE })
    }
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = Wire {
            payload: STANDARD.encode(&self.payload),
            payload_type: self.payload_type.clone(),
            signatures: vec![WireSignature { keyid: self.key_id.to_string(), sig: STANDARD.encode(self.signature) }],
        };
        f.write_str(&serde_json::to_string(&wire).expect("an envelope has only string keys"))
    }
}

/// The bytes that are signed: the specification's pre-authentication encoding.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend(payload);
    message
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: String,
    sig: String,
}

/// The specification makes a verifier accept either alphabet.
fn base64(text: &str, field: &str) -> Result<Vec<u8>, NotAnEnvelope> {
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    alphabet.decode(text).map_err(|_| NotAnEnvelope(format!("the field {field} is no base64 with its padding")))
}

fn short(said: &impl ToString) -> String {
    let said = said.to_string();
    said.chars().filter(|c| !c.is_control()).take(REASON_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Note {
        text: String,
    }

    impl Statement for Note {
        const TYPE: &'static str = "application/vnd.clawhold.note.v1+json";
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        text: String,
    }

    impl Statement for Order {
        const TYPE: &'static str = "application/vnd.clawhold.order.v1+json";
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn note() -> Note {
        Note { text: "hello".to_owned() }
    }

    #[test]
    fn what_is_signed_is_what_the_specification_says() {
        let signed = pae("http://example.com/HelloWorld", b"hello world");
        assert_eq!(signed, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        assert_eq!(pae("ü", b""), "DSSEv1 2 ü 0 ".as_bytes(), "lengths are of bytes");
    }

    #[test]
    fn an_envelope_opens_with_its_own_key_and_type_alone() {
        let text = Envelope::seal(&note(), &key(1)).to_string();
        let envelope = Envelope::parse(&text).unwrap();
        assert_eq!(envelope.to_string(), text);
        assert_eq!(envelope.key_id(), key(1).public().id());
        assert_eq!(envelope.open::<Note>(&key(1).public()), Ok(note()));
        assert_eq!(envelope.open::<Note>(&key(2).public()), Err(Unopened::Forged));
        assert!(matches!(envelope.open::<Order>(&key(1).public()), Err(Unopened::OtherType { .. })));
        let relabelled = Envelope { payload_type: Order::TYPE.to_owned(), ..envelope.clone() };
        assert_eq!(relabelled.open::<Order>(&key(1).public()), Err(Unopened::Forged));
        let changed = Envelope { payload: br#"{"text":"hellO"}"#.to_vec(), ..envelope };
        assert_eq!(changed.open::<Note>(&key(1).public()), Err(Unopened::Forged));
    }

    #[test]
    fn what_was_signed_and_has_other_fields_is_not_read() {
        for payload in [r#"{"text":"a","more":1}"#, r#"{"text":"a","text":"b"}"#, "{}", "", r#"{"text":"a"} x"#] {
            let signature = key(1).sign(&pae(Note::TYPE, payload.as_bytes()));
            let payload_type = Note::TYPE.to_owned();
            let odd = Envelope { payload_type, payload: payload.into(), key_id: key(1).public().id(), signature };
            assert!(matches!(odd.open::<Note>(&key(1).public()), Err(Unopened::Unreadable(_))), "{payload}");
        }
    }

    #[test]
    fn either_alphabet_of_base64_is_read() {
        let text = Envelope::seal(&note(), &key(1)).to_string();
        let mut wire: Wire = serde_json::from_str(&text).unwrap();
        wire.signatures[0].sig = wire.signatures[0].sig.replace('+', "-").replace('/', "_");
        let url_safe = serde_json::to_string(&wire).unwrap();
        assert_eq!(Envelope::parse(&url_safe), Envelope::parse(&text));
    }

    #[test]
    fn a_text_that_is_no_envelope_of_ours_is_refused_with_the_reason() {
        let good = Envelope::seal(&note(), &key(1)).to_string();
        let id = key(1).public().id().to_string();
        let sig = good.split(r#""sig":""#).nth(1).unwrap().trim_end_matches(r#""}]}"#);
        let one = format!(r#"{{"keyid":"{id}","sig":"{sig}"}}"#);
        for (text, says) in [
            (String::new(), "EOF"),
            ("[]".to_owned(), "invalid length"),
            (good.replace("payloadType", "payloadtype"), "unknown field"),
            (good.replace(r#"{"payload""#, r#"{"x":1,"payload""#), "unknown field"),
            (good.replace(r#"{"payload""#, r#"{"payload":"","payload""#), "duplicate field"),
            (format!("{good} {{}}"), "trailing"),
            (good.replace(&one, ""), "0 signatures"),
            (good.replace(&one, &format!("{one},{one}")), "2 signatures"),
            (good.replace(&id, &id.to_uppercase()), "key id"),
            (good.replace(sig, &sig[..sig.len() - 2]), "sig"),
            (good.replace(sig, "AAAA"), "64 bytes"),
            (good.replace(r#"{"payload":""#, r#"{"payload":"?"#), "payload"),
            (format!("{good}{}", " ".repeat(ENVELOPE_BYTES)), "bytes"),
        ] {
            let said = Envelope::parse(&text).expect_err(says).to_string();
            assert!(said.contains(says) && said.len() < 300, "{says}: {said}");
        }
    }
}
