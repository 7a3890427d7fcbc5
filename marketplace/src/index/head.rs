//! What is signed of a state, and what is remembered of it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use clawhold_tenancy::PackageName;
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
    /// Whether the root is over the [`Roots`] of the packages, and not, as heads of long ago, over the entries in one go.
    #[serde(default)]
    pub by_package: bool,
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
        Self {
            entries: entries.len() as u64,
            ..Self::over_roots(&Roots::of(entries), &Roots::default(), counter, issued_us, expires_us)
        }
    }

    /// The head over these roots and those; how many entries that are is for the caller to say.
    pub(super) fn over_roots(roots: &Roots, others: &Roots, counter: i64, issued_us: i64, expires_us: i64) -> Self {
        let root = roots.clone().and(others).root();
        Self { counter, root, by_package: true, entries: 0, issued_us, expires_us }
    }

    /// Signs it: the text of an envelope.
    pub fn sign(&self, key: &SigningKey) -> String {
        Envelope::seal(self, key).to_string()
    }

    /// Whether it is the head over these entries, which are sorted, and over packages that are left out, by their roots.
    pub(super) fn covers(&self, sorted: &[Entry], left_out: &Roots) -> bool {
        if !left_out.is_empty() {
            return self.by_package && self.root == Roots::of(sorted).and(left_out).root();
        }
        let root = if self.by_package { Roots::of(sorted).root() } else { flat_root(sorted) };
        self.entries == sorted.len() as u64 && self.root == root
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

/// A digest of the entries of each package. With them it can be told of which packages the entries are not those that were signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots(BTreeMap<PackageName, [u8; 32]>);

impl Roots {
    /// Of these entries, in any order.
    pub fn of(entries: &[Entry]) -> Self {
        let mut packages: BTreeMap<&PackageName, Vec<&Entry>> = BTreeMap::new();
        for entry in entries {
            packages.entry(&entry.package).or_default().push(entry);
        }
        let root = |mut entries: Vec<&Entry>| {
            entries.sort_unstable_by(|one, other| one.version.cmp(&other.version));
            root("clawhold-index-package-v1", entries.into_iter())
        };
        Self(packages.into_iter().map(|(package, entries)| (package.clone(), root(entries))).collect())
    }

    /// The root of one package, if it is among them.
    pub fn get(&self, package: &PackageName) -> Option<&[u8; 32]> {
        self.0.get(package)
    }

    /// All of them, by package.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&PackageName, &[u8; 32])> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These, and those of other packages.
    fn and(mut self, others: &Self) -> Self {
        self.0.extend(others.iter().map(|(package, root)| (package.clone(), *root)));
        self
    }

    /// What stands for all of them in a head.
    fn root(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"clawhold-index-v2");
        hash.update((self.0.len() as u64).to_be_bytes());
        for (package, root) in &self.0 {
            put(&mut hash, package.as_str().as_bytes());
            put(&mut hash, root);
        }
        hash.finalize().into()
    }
}

impl FromIterator<(PackageName, [u8; 32])> for Roots {
    fn from_iter<I: IntoIterator<Item = (PackageName, [u8; 32])>>(roots: I) -> Self {
        Self(roots.into_iter().collect())
    }
}

/// What stood for all entries before there were roots of packages.
pub(super) fn flat_root(sorted: &[Entry]) -> [u8; 32] {
    root("clawhold-index-v1", sorted.iter())
}

/// No two lists of entries have the same encoding.
fn root<'a>(of: &str, sorted: impl ExactSizeIterator<Item = &'a Entry>) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(of);
    hash.update((sorted.len() as u64).to_be_bytes());
    let mut version = String::new();
    for entry in sorted {
        version.clear();
        write!(version, "{}", entry.version).expect("a text takes what is written to it");
        put(&mut hash, entry.package.as_str().as_bytes());
        put(&mut hash, version.as_bytes());
        put(&mut hash, entry.digest.as_bytes());
        put(&mut hash, entry.status.as_str().as_bytes());
        put(&mut hash, &entry.changed_us.to_be_bytes());
        put(&mut hash, &entry.counter.to_be_bytes());
    }
    hash.finalize().into()
}

/// A field's exact bytes behind its length.
fn put(hash: &mut Sha256, field: &[u8]) {
    hash.update((field.len() as u64).to_be_bytes());
    hash.update(field);
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
