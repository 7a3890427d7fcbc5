//! An exported chain: lines of JSON, and what reads them again without believing them.
//!
//! The first line says whose chain it is and from where, then comes one line for each entry, and at last the head that the
//! host has signed. `docs/audit.md` is the same for those who write a verifier of their own.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{BadSignature, Break, Event, Head, PublicKey, Sealed, SealedEvent, SignedHead, Walk};

/// The format's version.
pub const FORMAT: u32 = 1;

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// [`FORMAT`].
    pub clawhold_audit: u32,
    /// The chain's name.
    pub chain: String,
    /// The entry behind which it begins.
    pub after: At,
}

/// An entry's number and hash.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// Its number.
    pub seq: i64,
    /// Its hash.
    #[serde(with = "hex::serde")]
    pub hash: [u8; 32],
}

impl From<Head> for At {
    fn from(head: Head) -> Self {
        Self { seq: head.seq, hash: head.hash }
    }
}

/// A line for one entry.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line<'a> {
    /// Its number.
    pub seq: i64,
    /// Microseconds since 1970.
    pub at_us: i64,
    /// Who.
    #[serde(borrow)]
    pub actor: std::borrow::Cow<'a, str>,
    /// What.
    #[serde(borrow)]
    pub action: std::borrow::Cow<'a, str>,
    /// To what.
    #[serde(borrow)]
    pub resource: std::borrow::Cow<'a, str>,
    /// How it ended.
    #[serde(borrow)]
    pub outcome: std::borrow::Cow<'a, str>,
    /// The run, or null.
    #[serde(borrow)]
    pub run: Option<std::borrow::Cow<'a, str>>,
    /// The trace.
    #[serde(borrow)]
    pub trace: std::borrow::Cow<'a, str>,
    /// The detail as it is stored, in base64.
    #[serde(borrow)]
    pub sealed: std::borrow::Cow<'a, str>,
    /// The hash of the entry before.
    #[serde(with = "hex::serde")]
    pub prev_hash: [u8; 32],
    /// The hash of this one.
    #[serde(with = "hex::serde")]
    pub hash: [u8; 32],
    /// The detail as the host opened it, for people. Nothing covers it: only `sealed` is in the hash.
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<&'a RawValue>,
}

/// The last line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The chain's head, signed.
    pub head: SignedHead,
}

impl<'a> Line<'a> {
    /// The line of an entry; `sealed` is its detail in base64, `detail` what was opened.
    pub fn of(
        (seq, prev_hash, hash): (i64, [u8; 32], [u8; 32]),
        event: &'a SealedEvent,
        run: Option<&'a str>,
        sealed: &'a str,
        detail: Option<&'a RawValue>,
    ) -> Self {
        Self {
            seq,
            at_us: event.at_us,
            actor: event.actor.as_str().into(),
            action: event.action.as_str().into(),
            resource: event.resource.as_str().into(),
            outcome: event.outcome.as_str().into(),
            run: run.map(Into::into),
            trace: event.trace.as_str().into(),
            sealed: sealed.into(),
            prev_hash,
            hash,
            detail,
        }
    }

    fn event(self) -> Result<SealedEvent, String> {
        let sealed =
            BASE64_STANDARD.decode(self.sealed.as_bytes()).map_err(|e| format!("`sealed` is no base64: {e}"))?;
        Ok(Event {
            at_us: self.at_us,
            actor: self.actor.into_owned(),
            action: self.action.into_owned(),
            resource: self.resource.into_owned(),
            outcome: self.outcome.parse()?,
            run: self.run.map(|run| run.parse()).transpose().map_err(|e: crate::InvalidId| e.to_string())?,
            trace: self.trace.parse().map_err(|e: crate::InvalidId| e.to_string())?,
            detail: Sealed::from_ciphertext(sealed),
        })
    }
}

/// Why an export is not verified.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// It is no export, or not one that can be read.
    #[error("line {line}: {why}")]
    Unreadable {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The chain is not what was written.
    #[error("the chain is broken at entry {}: {}", .0.seq, .0.why)]
    Broken(Break),
    /// The head is not what the host signed.
    #[error("the head at the end cannot be believed: {0}")]
    Head(BadSignature),
}

impl From<Break> for Unverified {
    fn from(broken: Break) -> Self {
        Self::Broken(broken)
    }
}

/// Verifies an export line by line, with the host's public key and nothing else.
#[derive(Debug)]
pub struct Verifier {
    key: PublicKey,
    line: u64,
    chain: String,
    walk: Option<Walk>,
    begun_at: i64,
    head: Option<SignedHead>,
    /// Heads from elsewhere, by number, and whether they were met.
    outside: Vec<SignedHead>,
    next_outside: usize,
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// The chain's name.
    pub chain: String,
    /// The number of the first entry.
    pub first: i64,
    /// The signed head.
    pub head: SignedHead,
    /// Heads from elsewhere that are in the chain.
    pub outside: usize,
}

impl Verifier {
    /// Believes heads that this key signed. `outside` are heads that were kept elsewhere, of any chain; those that another key
    /// signed say nothing.
    pub fn new(key: PublicKey, outside: Vec<SignedHead>) -> Self {
        let mut outside: Vec<_> = outside.into_iter().filter(|head| head.verify(&key).is_ok()).collect();
        outside.sort_by_key(|head| head.seq);
        let (chain, walk, head) = (String::new(), None, None);
        Self { key, line: 0, chain, walk, begun_at: 0, head, outside, next_outside: 0 }
    }

    /// Reads the next line.
    pub fn line(&mut self, text: &str) -> Result<(), Unverified> {
        self.line += 1;
        let line = self.line;
        let unreadable = |why: String| Unverified::Unreadable { line, why };
        let Some(walk) = &mut self.walk else {
            let begin: Begin = serde_json::from_str(text)
                .map_err(|e| unreadable(format!("this is no export of an audit log: {e}")))?;
            if begin.clawhold_audit != FORMAT {
                return Err(unreadable(format!("format {} is not known; use a newer program", begin.clawhold_audit)));
            }
            self.walk = Some(Walk::new(&begin.chain, Head { seq: begin.after.seq, hash: begin.after.hash }));
            // Those from before what retention left say nothing of it.
            self.outside.retain(|head| head.chain == begin.chain && head.seq >= begin.after.seq);
            self.begun_at = begin.after.seq;
            self.chain = begin.chain;
            return self.meet_outside();
        };
        if self.head.is_some() {
            return Err(unreadable("nothing may come behind the head".to_owned()));
        }
        if text.starts_with("{\"head\"") {
            let End { head } = serde_json::from_str(text).map_err(|e| unreadable(e.to_string()))?;
            head.verify(&self.key).map_err(Unverified::Head)?;
            if head.chain != self.chain {
                return Err(unreadable(format!("the head is that of {}, not of {}", head.chain, self.chain)));
            }
            walk.ends_at(head.head())?;
            self.head = Some(head);
            return Ok(());
        }
        let entry: Line<'_> = serde_json::from_str(text).map_err(|e| unreadable(e.to_string()))?;
        let (seq, prev_hash, hash) = (entry.seq, entry.prev_hash, entry.hash);
        let event = entry.event().map_err(unreadable)?;
        walk.step(seq, &prev_hash, &hash, &event)?;
        self.meet_outside()
    }

    /// Whether a head from elsewhere says otherwise.
    fn meet_outside(&mut self) -> Result<(), Unverified> {
        let Some(at) = self.walk.as_ref().map(Walk::head) else { return Ok(()) };
        while let Some(kept) = self.outside.get(self.next_outside).filter(|kept| kept.seq <= at.seq) {
            if kept.seq == at.seq && kept.hash != at.hash {
                let why = "a head that was kept elsewhere has another hash: the chain was rewritten";
                return Err(Break::at(at.seq, why).into());
            }
            self.next_outside += 1;
        }
        Ok(())
    }

    /// What is verified, once all lines are read.
    pub fn finish(self) -> Result<Whole, Unverified> {
        let Some(walk) = self.walk else {
            return Err(Unverified::Unreadable { line: 1, why: "the file is empty".to_owned() });
        };
        let Some(head) = self.head else {
            let why = "the tail was cut: the file ends without the head that an export ends with";
            return Err(Break::at(walk.head().seq + 1, why).into());
        };
        if let Some(kept) = self.outside.get(self.next_outside) {
            let why = format!("the tail was cut: a head that was kept elsewhere has number {}", kept.seq);
            return Err(Break::at(head.seq + 1, why).into());
        }
        Ok(Whole { chain: self.chain, first: self.begun_at + 1, head, outside: self.next_outside })
    }
}
