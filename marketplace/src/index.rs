//! What the host serves, signed: which version of which package is good.
//!
//! A mirror, a replica or a database that was rolled back could show a state in which a bad version is still good. So
//! the host signs a head over all entries, and a node remembers what it has [`Seen`]:
//!
//! | against | a node refuses | in The Update Framework |
//! |---|---|---|
//! | rollback | a counter below the one that it has seen | version numbers of snapshot and timestamp |
//! | fork | another state under a counter that it has seen | |
//! | freeze | a head that has expired | expiry of the timestamp |
//! | mix and match | entries that are not those of the head | the snapshot over all targets |
//!
//! The head is over a root of each package. So where somebody has changed what is stored of one package, that one is left
//! out and all others go on.
//!
//! Roles with thresholds, delegation and rotation of the root key are not taken over: one host signs, and its key
//! follows from a master key that is changed by other means.

mod head;

use std::cmp::Ordering;
use std::collections::HashMap;

use clawhold_tenancy::{Digest, PackageName};
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::dsse::{Envelope, NotAnEnvelope, Unopened};
use crate::key::{KeyId, PublicKey};
use crate::moment::said;

pub use head::{BadSeen, Head, Roots, Seen};

/// What becomes of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It may be installed and run.
    Active,
    /// It may run where it is installed, and nobody else installs it.
    Yanked,
    /// Somebody looks into it: no new install and no new run, and runs in flight may end.
    Quarantined,
    /// It is bad: no new install, no new run, and runs in flight are cancelled.
    Revoked,
}

impl Status {
    /// Every status, from good to bad.
    pub const ALL: [Self; 4] = [Self::Active, Self::Yanked, Self::Quarantined, Self::Revoked];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Yanked => "yanked",
            Self::Quarantined => "quarantined",
            Self::Revoked => "revoked",
        }
    }

    /// Whether somebody may install it.
    pub const fn may_install(self) -> bool {
        matches!(self, Self::Active)
    }

    /// Whether a run may begin.
    pub const fn may_run(self) -> bool {
        matches!(self, Self::Active | Self::Yanked)
    }

    /// Whether it is more than a publisher takes back alone.
    pub const fn needs_operator(self) -> bool {
        matches!(self, Self::Quarantined | Self::Revoked)
    }

    /// Whether runs in flight are cancelled.
    pub const fn cancels(self) -> bool {
        matches!(self, Self::Revoked)
    }
}

impl std::str::FromStr for Status {
    type Err = BadStatus;

    fn from_str(text: &str) -> Result<Self, BadStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(BadStatus)
    }
}

/// A text is no status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no status of a version; use active, yanked, quarantined or revoked")]
pub struct BadStatus;

/// One version of one package. It never leaves the index: what is deleted is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The package.
    pub package: PackageName,
    /// The version.
    pub version: Version,
    /// Its file.
    pub digest: Digest,
    /// What becomes of it.
    pub status: Status,
    /// When that was last decided, in microseconds since 1970.
    pub changed_us: i64,
    /// The index's counter at that time, so that a node may ask for what has changed alone.
    pub counter: i64,
}

impl Entry {
    fn order(&self, package: &PackageName, version: &Version) -> Ordering {
        (&self.package, &self.version).cmp(&(package, version))
    }
}

/// Why a state of the index is not believed, and what to do. A node keeps to the state that it has until that expires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexRefused {
    /// The head is not a head.
    #[error("the index has no signed head: {0}; ask the operator of the host, or of the mirror, for one")]
    NotAHead(String),
    /// Somebody else signed it.
    #[error(
        "the index is signed by the key {0}, which is not the host's; if the host has a new key, add it \
         to this node"
    )]
    UnknownKey(KeyId),
    /// Nobody signed it.
    #[error("the signature of the index does not fit: it was changed on its way; ask the host itself")]
    Forged,
    /// The entries are not those that were signed.
    #[error(
        "the entries of the index are not those that the host signed; read them again, and if it stays so, somebody \
         has changed the database: look at `package.*` in the host's audit log"
    )]
    OtherEntries,
    /// It is older than one that was seen.
    #[error(
        "the index is older than one that this node has seen (counter {found}, seen {seen}): a replica lags, or the \
         database was rolled back; after a restore, issue the index anew with a counter above {seen}"
    )]
    RolledBack {
        /// The head's counter.
        found: i64,
        /// What was seen.
        seen: i64,
    },
    /// It is another one under the same number.
    #[error(
        "there are two states of the index under the counter {0}: two hosts sign apart from each other; point them at \
         one database and issue the index anew"
    )]
    Forked(i64),
    /// It is too old.
    #[error("the index expired at {}; the host issues a new one when it reaches its database", said(*.0))]
    Expired(i64),
    /// It is not of now.
    #[error("the index was issued at {}, which is yet to come; set the clocks of this node and of the host", said(*.0))]
    FromTheFuture(i64),
    /// A package is not what was signed, and so nothing is signed on top of it.
    #[error(
        "what is stored of {0} is not what the host signed: somebody has changed the database; put its rows in \
         `versions` back from a backup"
    )]
    LeftOut(PackageName),
    /// An entry is newer than the head.
    #[error("the entry of {package} {version} is newer than the head that was signed; read both at once")]
    Ahead {
        /// The package.
        package: PackageName,
        /// Its version.
        version: Version,
    },
    /// Two entries are about one thing.
    #[error("the index has {package} {version}, or its file, twice; take one of the two out of the database")]
    Twice {
        /// The package.
        package: PackageName,
        /// Its version.
        version: Version,
    },
}

/// A state of the index that was verified.
#[derive(Debug, Clone)]
pub struct Index {
    head: Head,
    /// By package and version.
    entries: Vec<Entry>,
    by_digest: HashMap<Digest, usize>,
    /// Packages whose entries are not those that were signed: they are not among the entries.
    left_out: Roots,
}

impl Index {
    /// Checks entries against the head that the host signed over them, and against what was seen before.
    pub fn verify(
        entries: Vec<Entry>,
        head_envelope: &str,
        host_keys: &[PublicKey],
        seen: Option<&Seen>,
        now_us: i64,
    ) -> Result<Self, IndexRefused> {
        let head = signed(head_envelope, host_keys)?;
        head.follows(seen, now_us)?;
        Self::under(head, entries, Roots::default())
    }

    /// The same where some entries are not those that were signed: the packages that these are of are left out, but for what is `known` of
    /// them and still what was signed. `stored` are the roots as they were when the head was signed; they are believed because they are what
    /// was signed.
    pub fn verify_apart(
        mut entries: Vec<Entry>,
        stored: &Roots,
        known: Option<&Self>,
        head_envelope: &str,
        host_keys: &[PublicKey],
        seen: Option<&Seen>,
        now_us: i64,
    ) -> Result<Self, IndexRefused> {
        let head = signed(head_envelope, host_keys)?;
        head.follows(seen, now_us)?;
        let found = Roots::of(&entries);
        let is_as_stored = |package: &PackageName| stored.get(package) == found.get(package);
        entries.retain(|entry| is_as_stored(&entry.package));
        let known = known.map_or(&[][..], Self::entries);
        let known_roots = Roots::of(known);
        let is_known =
            |package: &PackageName| known_roots.get(package).is_some_and(|root| stored.get(package) == Some(root));
        let is_kept = |package: &PackageName| !is_as_stored(package) && is_known(package);
        entries.extend(known.iter().filter(|entry| is_kept(&entry.package)).cloned());
        let others = stored.iter().filter(|(package, _)| !is_as_stored(package) && !is_known(package));
        let left_out = others.map(|(package, root)| (package.clone(), *root)).collect();
        Self::under(head, entries, left_out)
    }

    fn under(head: Head, mut entries: Vec<Entry>, left_out: Roots) -> Result<Self, IndexRefused> {
        entries.sort_unstable_by(|one, other| one.order(&other.package, &other.version));
        let mut by_digest = HashMap::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            let (package, version) = (&entry.package, &entry.version);
            let again = at.checked_sub(1).is_some_and(|before| entries[before].order(package, version).is_eq());
            // A file says itself what it is, so no file is two versions: one of them could be revoked and the other
            // not.
            if by_digest.insert(entry.digest, at).is_some() || again {
                return Err(IndexRefused::Twice { package: package.clone(), version: version.clone() });
            }
            if entry.counter > head.counter {
                return Err(IndexRefused::Ahead { package: package.clone(), version: version.clone() });
            }
        }
        if !head.covers(&entries, &left_out) {
            return Err(IndexRefused::OtherEntries);
        }
        Ok(Self { head, entries, by_digest, left_out })
    }

    /// This state with what has changed since, which is [`Entry::counter`] above [`Head::counter`], under a newer head.
    pub fn updated(
        &self,
        changed: Vec<Entry>,
        head_envelope: &str,
        host_keys: &[PublicKey],
        now_us: i64,
    ) -> Result<Self, IndexRefused> {
        let head = signed(head_envelope, host_keys)?;
        head.follows(Some(&self.seen()), now_us)?;
        let changed = changed.into_iter().filter(|entry| !self.is_left_out(&entry.package));
        Self::under(head, self.entries_with(changed), self.left_out.clone())
    }

    /// The head over this state with one entry more, or other than it was, and the root of its package.
    pub fn next_head(&self, changed: Entry, issued_us: i64, expires_us: i64) -> Result<(Head, Roots), IndexRefused> {
        if self.is_left_out(&changed.package) {
            return Err(IndexRefused::LeftOut(changed.package));
        }
        let is_other = |entry: &Entry| entry.order(&changed.package, &changed.version).is_ne();
        if self.by_digest(&changed.digest).is_some_and(is_other) {
            return Err(IndexRefused::Twice { package: changed.package, version: changed.version });
        }
        let (package, counter) = (changed.package.clone(), changed.counter);
        let entries = self.entries_with([changed]);
        let all = Roots::of(&entries);
        let head = Head {
            entries: self.head.entries + (entries.len() - self.entries.len()) as u64,
            ..Head::over_roots(&all, &self.left_out, counter, issued_us, expires_us)
        };
        // A head of long ago has left no roots.
        let roots = all.iter().filter(|(other, _)| !self.head.by_package || **other == package);
        Ok((head, roots.map(|(package, root)| (package.clone(), *root)).collect()))
    }

    fn entries_with(&self, changed: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
        let mut entries = self.entries.clone();
        for entry in changed {
            match entries[..self.entries.len()].binary_search_by(|old| old.order(&entry.package, &entry.version)) {
                Ok(at) => entries[at] = entry,
                Err(_) => entries.push(entry),
            }
        }
        entries
    }

    /// Packages whose entries are not those that were signed. Nothing of them runs, and nothing of them changes.
    pub fn left_out(&self) -> impl ExactSizeIterator<Item = &PackageName> {
        self.left_out.iter().map(|(package, _)| package)
    }

    /// Whether a package is one of those.
    pub fn is_left_out(&self, package: &PackageName) -> bool {
        self.left_out.get(package).is_some()
    }

    /// All versions, by package and version.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Its head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What a node must remember of it before it acts on it.
    pub fn seen(&self) -> Seen {
        Seen { counter: self.head.counter, root: self.head.root }
    }

    /// Whether it may still be relied on.
    pub fn is_fresh(&self, now_us: i64) -> bool {
        now_us < self.head.expires_us
    }

    /// A version; `None` when there is none.
    pub fn get(&self, package: &PackageName, version: &Version) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.order(package, version)).ok()?;
        Some(&self.entries[at])
    }

    /// What becomes of a version; `None` when there is none.
    pub fn status(&self, package: &PackageName, version: &Version) -> Option<Status> {
        self.get(package, version).map(|entry| entry.status)
    }

    /// The version that this file is.
    pub fn by_digest(&self, digest: &Digest) -> Option<&Entry> {
        self.by_digest.get(digest).map(|at| &self.entries[*at])
    }

    /// All versions of a package, oldest first.
    pub fn versions(&self, package: &PackageName) -> &[Entry] {
        let from = self.entries.partition_point(|entry| entry.package < *package);
        let count = self.entries[from..].partition_point(|entry| entry.package == *package);
        &self.entries[from..from + count]
    }

    /// What is other than in an older state, so that its reader can stop what must not go on.
    pub fn changes_since<'a>(&'a self, older: &'a Self) -> Vec<Change<'a>> {
        let (mut was, mut is) = (older.entries.iter().peekable(), self.entries.iter().peekable());
        let mut changes = Vec::new();
        loop {
            let order = match (was.peek(), is.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.order(&new.package, &new.version),
            };
            let change = Change {
                was: if order.is_le() { was.next() } else { None },
                is: if order.is_ge() { is.next() } else { None },
            };
            if !change.is_none() {
                changes.push(change);
            }
        }
    }
}

/// One version in two states of the index. One of the two is always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change<'a> {
    /// What it was; `None` for a new version.
    pub was: Option<&'a Entry>,
    /// What it is; `None` for one that is gone, which an honest host never does.
    pub is: Option<&'a Entry>,
}

impl Change<'_> {
    /// Whether runs of what it was must not begin any more.
    pub fn stops(&self) -> bool {
        self.was.is_some_and(|was| was.status.may_run() && !self.is_still(was, Status::may_run))
    }

    /// Whether runs of what it was are cancelled: it is revoked, gone, or another file under the same name.
    pub fn cancels(&self) -> bool {
        self.was.is_some_and(|was| !was.status.cancels() && !self.is_still(was, |status| !status.cancels()))
    }

    fn is_still(&self, was: &Entry, good: impl Fn(Status) -> bool) -> bool {
        self.is.is_some_and(|is| is.digest == was.digest && good(is.status))
    }

    fn is_none(&self) -> bool {
        let what = |entry: &Entry| (entry.digest, entry.status);
        self.was.map(what) == self.is.map(what)
    }
}

fn signed(head_envelope: &str, host_keys: &[PublicKey]) -> Result<Head, IndexRefused> {
    let envelope = Envelope::parse(head_envelope)?;
    let id = envelope.key_id();
    let key = host_keys.iter().find(|key| key.id() == id).ok_or(IndexRefused::UnknownKey(id))?;
    Ok(envelope.open(key)?)
}

impl From<NotAnEnvelope> for IndexRefused {
    fn from(why: NotAnEnvelope) -> Self {
        Self::NotAHead(why.to_string())
    }
}

impl From<Unopened> for IndexRefused {
    fn from(why: Unopened) -> Self {
        match why {
            Unopened::Forged => Self::Forged,
            other => Self::NotAHead(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
