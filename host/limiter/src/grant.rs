//! What holds a part of a tenant's account, and gives back what it does not use.

use std::sync::Arc;

use clawhold_tenancy::quota::{Amounts, Dimension, Lease, Over, Quota, RATES};

use crate::Limiter;
use crate::books::{Books, Standing};

/// A reservation. Settled when it is known what was used; dropped before that, it gives back everything but the calls.
#[derive(Debug)]
pub struct Grant {
    meter: Meter,
    lease: Option<Lease>,
    /// How the tenant's calls stood when it was given.
    calls: Standing,
}

impl Grant {
    pub(crate) fn new(meter: Meter, lease: Lease, calls: Standing) -> Self {
        Self { meter, lease: Some(lease), calls }
    }

    /// The tenant's books.
    pub fn books(&self) -> &Books {
        &self.meter.books
    }

    /// The quota that holds here.
    pub fn quota(&self) -> Arc<Quota> {
        self.meter.quota()
    }

    /// How the tenant's calls stood when it was given.
    pub fn calls(&self) -> Standing {
        self.calls
    }

    /// For what the run does meanwhile.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Reserves more, all of it or nothing.
    pub async fn reserve_more(&mut self, ask: Amounts) -> Result<(), Over> {
        match &mut self.lease {
            Some(lease) => self.meter.limiter.reserve_more(&self.meter, lease, &ask).await,
            None => Ok(()),
        }
    }

    /// What was used takes the place of what was reserved.
    pub fn settle(mut self, used: &Amounts) {
        self.end(used);
    }

    fn end(&mut self, used: &Amounts) {
        if let Some(lease) = self.lease.take() {
            self.meter.settle(lease, used);
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let calls = self.lease.as_ref().map_or(0, |lease| lease.reserved().get(Dimension::SkillCalls));
        self.end(&Amounts::of(Dimension::SkillCalls, calls));
    }
}

/// Charges a tenant for what a run does, as it does it.
#[derive(Debug, Clone)]
pub struct Meter {
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) books: Arc<Books>,
    pub(crate) quota: Arc<Quota>,
}

impl Meter {
    /// The quota that holds here: a part of the whole one while hosts are apart.
    pub fn quota(&self) -> Arc<Quota> {
        self.limiter.quota_here(&self.quota)
    }

    /// Charges all of this, or nothing.
    pub fn charge(&self, ask: &Amounts) -> Result<(), Over> {
        self.books.charge(&self.quota(), ask, self.limiter.now())?;
        self.limiter.changed(&self.books);
        Ok(())
    }

    /// Charges what has been used already, whether it fits or not.
    pub fn owe(&self, used: &Amounts) {
        self.books.owe(&self.quota(), used, self.limiter.now());
        self.limiter.changed(&self.books);
    }

    /// Reserves for something of which it is known only afterwards what it took. All of it or nothing.
    pub fn hold(&self, ask: &Amounts) -> Result<Deposit, Over> {
        let lease = self.books.hold(&self.quota(), ask, self.limiter.now())?;
        self.limiter.changed(&self.books);
        Ok(Deposit { meter: self.clone(), lease: Some(lease) })
    }

    /// A place in the tenant's queue, until it is dropped.
    pub fn queue(&self) -> Result<Queued, Over> {
        self.books.queue(&self.quota(), self.limiter.now())?;
        Ok(Queued(Arc::clone(&self.books)))
    }

    fn settle(&self, lease: Lease, used: &Amounts) {
        self.books.settle(&self.quota(), lease, used, self.limiter.now());
        self.limiter.changed(&self.books);
    }

    /// A meter of a tenant that has everything: for tests.
    pub fn unlimited() -> Self {
        let limiter = Arc::<Limiter>::default();
        let tenant = "unlimited".parse().expect("it is an id");
        let quota = RATES.iter().fold(Quota::default(), |quota, rate| quota.with(*rate, rate.row().most));
        Self { books: limiter.books(&tenant), limiter, quota: Arc::new(quota) }
    }
}

/// A reservation of a part of a run. Dropped before it is settled, all of it counts as used: what was done meanwhile is not known.
#[derive(Debug)]
pub struct Deposit {
    meter: Meter,
    lease: Option<Lease>,
}

impl Deposit {
    /// What was used takes the place of what was reserved.
    pub fn settle(mut self, used: &Amounts) {
        self.end(Some(used));
    }

    fn end(&mut self, used: Option<&Amounts>) {
        if let Some(lease) = self.lease.take() {
            let used = used.copied().unwrap_or(*lease.reserved());
            self.meter.settle(lease, &used);
        }
    }
}

impl Drop for Deposit {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// A run that waits for a place.
#[derive(Debug)]
pub struct Queued(Arc<Books>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.leave_queue();
    }
}
