//! Which artifact files there are, how large, and when each was used last: what the bound on their bytes goes by.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::time::SystemTime;

use cap_std::fs::Dir;

use crate::artifacts::DRAFT;

/// Files by name, least recently used first.
#[derive(Debug)]
pub(crate) struct Shelf {
    most: u64,
    bytes: u64,
    files: HashMap<String, (u64, SystemTime)>,
    order: BTreeSet<(SystemTime, String)>,
}

impl Shelf {
    pub(crate) fn new(most: u64) -> Self {
        Self { most, bytes: 0, files: HashMap::new(), order: BTreeSet::new() }
    }

    /// What is in a directory. Drafts of a process that was killed are removed.
    pub(crate) fn read(dir: &Dir, most: u64) -> io::Result<Self> {
        let mut shelf = Self::new(most);
        for entry in dir.entries()? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let seen = entry.metadata()?;
            if name.ends_with(DRAFT) {
                dir.remove_file(&name)?;
            } else if seen.is_file() {
                let used = seen.modified().map_or(SystemTime::UNIX_EPOCH, cap_std::time::SystemTime::into_std);
                // More than is allowed goes with the next file that is written.
                let _excess = shelf.put(&name, seen.len(), used);
            }
        }
        shelf.bytes = shelf.files.values().map(|(bytes, _)| bytes).sum();
        Ok(shelf)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a file. Gives the names of those that have to go for it, those that nobody used yet (`used` at the epoch) first of
    /// all; the new one never does.
    #[must_use = "these files have to be removed"]
    pub(crate) fn put(&mut self, name: &str, bytes: u64, used: SystemTime) -> Vec<String> {
        self.forget(name);
        self.files.insert(name.to_owned(), (bytes, used));
        self.order.insert((used, name.to_owned()));
        self.bytes += bytes;
        let (mut excess, mut left) = (Vec::new(), self.bytes);
        for (_, other) in &self.order {
            if left <= self.most {
                break;
            }
            if other != name {
                left -= self.files[other].0;
                excess.push(other.clone());
            }
        }
        excess
    }

    pub(crate) fn touch(&mut self, name: &str, now: SystemTime) {
        if let Some((bytes, used)) = self.files.remove(name) {
            self.order.remove(&(used, name.to_owned()));
            self.files.insert(name.to_owned(), (bytes, now));
            self.order.insert((now, name.to_owned()));
        }
    }

    pub(crate) fn forget(&mut self, name: &str) {
        if let Some((bytes, used)) = self.files.remove(name) {
            self.order.remove(&(used, name.to_owned()));
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first_and_the_newest_stays() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut shelf = Shelf::new(100);
        assert!(shelf.put("a", 40, at(1)).is_empty());
        assert!(shelf.put("b", 40, at(2)).is_empty());
        shelf.touch("a", at(3));
        assert_eq!(shelf.put("c", 40, at(4)), ["b"]);
        shelf.forget("b");
        assert_eq!(shelf.bytes(), 80);
        assert_eq!(shelf.put("huge", 500, at(5)), ["a", "c"]);
        // The same name again replaces what was there.
        assert!(Shelf::new(100).put("x", 90, at(1)).is_empty());
        shelf.forget("a");
        shelf.forget("c");
        assert!(shelf.put("huge", 90, at(6)).is_empty());
        assert_eq!(shelf.bytes(), 90);
    }
}
