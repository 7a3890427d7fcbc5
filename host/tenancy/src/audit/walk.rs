//! Recomputing a chain, entry by entry.

use super::{Head, RETAIN, SealedEvent};

/// The first place at which a chain is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Break {
    /// The number of the entry.
    pub seq: i64,
    /// What is wrong with it.
    pub why: String,
}

impl Break {
    /// A break at this entry.
    pub fn at(seq: i64, why: impl Into<String>) -> Self {
        Self { seq, why: why.into() }
    }
}

/// A walk along a chain: give it the entries in order, then ask whether it ends where it should.
#[derive(Debug, Clone)]
pub struct Walk {
    chain: String,
    start: Head,
    /// Whether an entry says why the chain begins where it does.
    explained: bool,
    at: Head,
}

impl Walk {
    /// A walk along the chain of this name, from behind `start`: [`Head::EMPTY`], or the last entry that retention removed.
    pub fn new(chain: &str, start: Head) -> Self {
        Self { chain: chain.to_owned(), start, explained: start == Head::EMPTY, at: start }
    }

    /// Goes one entry further.
    pub fn step(&mut self, seq: i64, prev_hash: &[u8; 32], hash: &[u8; 32], event: &SealedEvent) -> Result<(), Break> {
        let expected = self.at.seq + 1;
        if seq > expected {
            return Err(Break::at(
                expected,
                format!("it is missing: deleted, or moved; the next one there is number {seq}"),
            ));
        }
        if seq < expected {
            return Err(Break::at(seq, format!("it was inserted, or moved: it comes behind number {}", self.at.seq)));
        }
        if *prev_hash != self.at.hash {
            return Err(Break::at(
                seq,
                "it does not follow from the entry before: one of the two was edited, inserted or moved",
            ));
        }
        let next = self.at.after(&self.chain, event);
        if next.hash != *hash {
            return Err(Break::at(seq, "it was edited: its content does not fit its hash"));
        }
        self.explained |= event.action == RETAIN && removed_up_to(&event.resource) == Some(self.start.seq);
        self.at = next;
        Ok(())
    }

    /// Where the walk is: number and hash of the last entry that fits.
    pub fn head(&self) -> Head {
        self.at
    }

    /// Whether the chain ends here, as a head that was kept says.
    pub fn ends_at(&self, kept: Head) -> Result<(), Break> {
        match self.at.seq.cmp(&kept.seq) {
            std::cmp::Ordering::Less => Err(Break::at(
                self.at.seq + 1,
                format!("the tail was cut: the last entry is {}, and the chain's head says {}", self.at.seq, kept.seq),
            )),
            std::cmp::Ordering::Greater => Err(Break::at(
                kept.seq + 1,
                format!("it was inserted behind the end: the chain's head says {}", kept.seq),
            )),
            std::cmp::Ordering::Equal if self.at.hash != kept.hash => {
                Err(Break::at(self.at.seq, "the chain's head has another hash: it was edited, or all of the chain was"))
            }
            std::cmp::Ordering::Equal if !self.explained => Err(Break::at(
                self.start.seq,
                format!("it and all before it are missing, and no entry says that retention removed them ({RETAIN})"),
            )),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }
}

/// The last number of `audit:FIRST-LAST`.
fn removed_up_to(resource: &str) -> Option<i64> {
    resource.strip_prefix("audit:")?.split_once('-')?.1.parse().ok()
}
