//! Memory that a tenant's runs draw from. They live in this process, so nothing is left of it after a crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Memory that several runs share: a tenant's.
#[derive(Debug)]
pub struct Allowance {
    most: AtomicU64,
    used: AtomicU64,
    peak: AtomicU64,
    refused: AtomicU64,
}

impl Allowance {
    /// So many bytes at a time.
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Self {
            most: most.into(),
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// What it allows.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// Allows another amount from now on. What is in use beyond it stays in use.
    pub fn set_most(&self, most: u64) {
        self.most.store(most, Ordering::Relaxed);
    }

    /// The most bytes that were in use since this was asked last.
    pub fn take_peak(&self) -> u64 {
        self.peak.swap(self.used(), Ordering::Relaxed).max(self.used())
    }

    /// How often there was not enough since this was asked last.
    pub fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }

    /// Takes so many bytes until the answer is dropped, if there are as many.
    pub fn take(self: &Arc<Self>, bytes: u64) -> Option<Taken> {
        self.draw(bytes).then(|| Taken { of: Arc::clone(self), bytes })
    }

    /// Takes so many bytes, which whoever does must give back.
    pub fn draw(&self, bytes: u64) -> bool {
        let most = self.most();
        let add = |used: u64| used.checked_add(bytes).filter(|used| *used <= most);
        let Ok(before) = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        let now = before + bytes;
        // Mostly it is not the most so far, and then nothing is written.
        if self.peak.load(Ordering::Relaxed) < now {
            self.peak.fetch_max(now, Ordering::Relaxed);
        }
        true
    }

    /// Gives back what was drawn.
    pub fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A part of an allowance in use, given back on drop.
#[derive(Debug)]
pub struct Taken {
    of: Arc<Allowance>,
    bytes: u64,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.of.give_back(self.bytes);
    }
}
