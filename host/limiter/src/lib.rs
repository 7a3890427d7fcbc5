//! Keeps the accounts of tenants: who may begin what, and what it took.
//!
//! One [`Limiter`] serves a host. Each tenant has [`Books`] of its own, behind a lock of its own: what one tenant asks waits for no
//! other's. Whatever is asked has a tenant that exists, so that ids which somebody made up never get here.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! use std::sync::Arc;
//! use clawhold_limiter::Limiter;
//! use clawhold_tenancy::quota::{Amounts, Dimension, Quota};
//!
//! let (limiter, quota) = (Arc::new(Limiter::default()), Arc::new(Quota::default()));
//! let acme = "acme-corp".parse().unwrap();
//! let ask = Amounts::of(Dimension::SkillCalls, 1).and(Dimension::Fuel, 1_000_000_000);
//! let grant = limiter.reserve(&acme, &quota, ask, None).await.unwrap();
//! grant.settle(&Amounts::of(Dimension::SkillCalls, 1).and(Dimension::Fuel, 12_000));
//! # }
//! ```
//!
//! Several hosts share quotas through [`Shared`] place. What stays a host's own then is the queue; memory of other hosts is known to
//! within a second.
//!
//! What it will not do: decide who goes first. That is the sandbox's queue and its fair gate.

mod books;
mod grant;
#[cfg(feature = "redis")]
pub mod redis;
mod shared;
mod together;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::{Amounts, Dimension, Over, Quota};

pub use books::{Books, Held, Standing};
pub use grant::{Deposit, Grant, Meter, Queued};
pub use shared::{Against, Answer, Check, Count, Runs, Shared, Unreachable, Verdict};
pub use watch::{Observed, Warning};

/// The accounts of all tenants that have used something lately.
pub struct Limiter {
    pub(crate) books: papaya::HashMap<TenantId, Arc<Books>>,
    pub(crate) together: Option<together::Together>,
    began: Instant,
    /// Reservations made and refused since the start.
    granted: AtomicU64,
    refused: AtomicU64,
}

impl Default for Limiter {
    fn default() -> Self {
        Self {
            books: papaya::HashMap::new(),
            together: None,
            began: Instant::now(),
            granted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("together", &self.together).finish_non_exhaustive()
    }
}

impl Limiter {
    /// Reserves all that is asked for, or nothing. With `run_until` a run counts among those under way until the grant is dropped,
    /// or until that time if it never is.
    pub async fn reserve(
        self: &Arc<Self>,
        tenant: &TenantId,
        quota: &Arc<Quota>,
        ask: Amounts,
        run_until: Option<Instant>,
    ) -> Result<Grant, Over> {
        let reserved = self.reserve_in(self.books(tenant), quota, ask, run_until).await;
        let count = if reserved.is_ok() { &self.granted } else { &self.refused };
        count.fetch_add(1, Ordering::Relaxed);
        reserved
    }

    /// A tenant's books. Of a tenant that exists.
    pub fn books(&self, tenant: &TenantId) -> Arc<Books> {
        let books = self.books.pin();
        let new = || Arc::new(Books::new(tenant, self.together.is_some()));
        loop {
            let known = match books.get(tenant) {
                Some(known) => Arc::clone(known),
                None => Arc::clone(books.get_or_insert_with(tenant.clone(), new)),
            };
            // Else they are being forgotten at this moment, and then there are others.
            if known.stays() {
                return known;
            }
            drop(known);
            std::thread::yield_now();
        }
    }

    /// What a tenant uses now of a dimension that this process counts: of a rate, of runs, memory and queue.
    pub fn standing(&self, tenant: &TenantId, quota: &Quota, dimension: Dimension) -> Standing {
        let books = self.books.pin();
        books.get(tenant).map_or_else(Standing::default, |books| books.standing(quota, dimension, self.now()))
    }

    /// Notes that somebody wanted more of a dimension than there is, where the limiter itself was not asked.
    pub fn note_refused(&self, tenant: &TenantId, dimension: Dimension) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.books(tenant).note_refused(dimension);
    }

    /// Notes how much of a limit is in use that is checked elsewhere.
    pub fn note_used(&self, tenant: &TenantId, dimension: Dimension, used: u64, limit: u64) {
        self.books(tenant).note_used(dimension, used, limit, self.now());
    }

    /// What was observed of one tenant since it was asked last.
    pub fn take_observed_of(&self, tenant: &TenantId) -> Option<Observed> {
        self.books.pin().get(tenant)?.take_observed(self.now())
    }

    /// What was observed of each tenant since this was asked last.
    pub fn take_observed(&self) -> Vec<(TenantId, Observed)> {
        let (books, now) = (self.books.pin(), self.now());
        books.iter().filter_map(|(tenant, books)| Some((tenant.clone(), books.take_observed(now)?))).collect()
    }

    /// Forgets tenants of whom nothing is left that matters.
    pub fn forget_idle(&self) {
        let (books, now) = (self.books.pin(), self.now());
        books.retain(|_, books| !books.may_go(now));
    }

    /// What each tenant holds now.
    pub fn levels(&self) -> Vec<(TenantId, Held)> {
        let (books, now) = (self.books.pin(), self.now());
        books.iter().map(|(tenant, books)| (tenant.clone(), books.held(now))).collect()
    }

    /// Tenants with books.
    pub fn tenants(&self) -> usize {
        self.books.len()
    }

    /// Reservations made and refused since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.granted.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    /// Microseconds since this limiter began: a clock that nobody sets.
    pub(crate) fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    pub(crate) fn at(&self, instant: Instant) -> u64 {
        u64::try_from(instant.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }
}
