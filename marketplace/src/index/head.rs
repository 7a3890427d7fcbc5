//! What is signed of a state, and what is remembered of it.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Entry, IndexRefused};
use crate::dsse::{Envelope, Statement};
use crate::key::SigningKey;
use crate::moment::CLOCK_SKEW_US;

/// What the host signs over a state of the index. Times are in microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Its number: each change of any entry has a higher one.
    pub counter: i64,
    /// A digest of all entries.
    #[serde(with = "hex::serde")]
    pub root: [u8; 32],
    /// How many entries there are.
    pub entries: u64,
    /// When it was signed.
    pub issued_us: i64,
    /// From when on nobody relies on it any more.
    pub expires_us: i64,
}

impl Statement for Head {
    const TYPE: &'static str = "application/vnd.clawhold.index.v1+json";
}

impl Head {
    /// The head over these entries, in any order.
    pub fn over(entries: &[Entry], counter: i64, issued_us: i64, expires_us: i64) -> Self {
        let mut sorted: Vec<&Entry> = entries.iter().collect();
        sorted.sort_unstable_by(|one, other| one.order(&other.package, &other.version));
        Self { counter, root: root(sorted.into_iter()), entries: entries.len() as u64, issued_us, expires_us }
    }

    /// Signs it: the text of an envelope.
    pub fn sign(&self, key: &SigningKey) -> String {
        Envelope::seal(self, key).to_string()
    }

    /// Whether it is the head over these entries, which are sorted.
    pub(super) fn covers(&self, sorted: &[Entry]) -> bool {
        self.entries == sorted.len() as u64 && self.root == root(sorted.iter())
    }

    /// Whether it may come now, after what was seen.
    pub(super) fn follows(&self, seen: Option<&Seen>, now_us: i64) -> Result<(), IndexRefused> {
        match seen {
            Some(seen) if self.counter < seen.counter => {
                return Err(IndexRefused::RolledBack { found: self.counter, seen: seen.counter });
            }
            Some(seen) if self.counter == seen.counter && self.root != seen.root => {
                return Err(IndexRefused::Forked(self.counter));
            }
            _ => {}
        }
        if now_us >= self.expires_us {
            return Err(IndexRefused::Expired(self.expires_us));
        }
        if self.issued_us > now_us.saturating_add(CLOCK_SKEW_US) {
            return Err(IndexRefused::FromTheFuture(self.issued_us));
        }
        Ok(())
    }
}

/// Each field's exact bytes behind its length, so no two lists of entries have the same encoding.
fn root<'a>(sorted: impl ExactSizeIterator<Item = &'a Entry>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"clawhold-index-v1");
    hash.update((sorted.len() as u64).to_be_bytes());
    let mut version = String::new();
    for entry in sorted {
        version.clear();
        write!(version, "{}", entry.version).expect("a text takes what is written to it");
        for field in [
            entry.package.as_str().as_bytes(),
            version.as_bytes(),
            entry.digest.as_bytes(),
            entry.status.as_str().as_bytes(),
            &entry.changed_us.to_be_bytes(),
            &entry.counter.to_be_bytes(),
        ] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
    }
    hash.finalize().into()
}

/// What a node remembers of the newest state that it has seen, in a file of one line that outlives the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The head's counter.
    pub counter: i64,
    /// The head's root.
    pub root: [u8; 32],
}

/// What the line begins with.
const SEEN: &str = "clawhold-index-seen-v1";

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SEEN} {} {}", self.counter, hex::encode(self.root))
    }
}

impl FromStr for Seen {
    type Err = BadSeen;

    fn from_str(text: &str) -> Result<Self, BadSeen> {
        let mut words = text.trim_end_matches(['\r', '\n']).split(' ');
        let (Some(SEEN), Some(counter), Some(digits), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(BadSeen);
        };
        let mut root = [0; 32];
        hex::decode_to_slice(digits, &mut root).map_err(|_| BadSeen)?;
        Ok(Self { counter: counter.parse().map_err(|_| BadSeen)?, root })
    }
}

/// A text does not say what was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no record of the index that was last seen ({SEEN}, a counter and 64 hexadecimal digits); restore it from \
     a backup, or remove the file once you have made sure that the database is the newest one: without it an older \
     index cannot be told"
)]
pub struct BadSeen;
