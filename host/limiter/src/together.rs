//! Quotas that several hosts share: each reservation is one check in the shared place, and what is used meanwhile is told there a moment
//! later.
//!
//! If that place does not answer, hosts go on apart: each with the limit divided by the hosts that lived last, and at least one of each
//! thing. They ask again every second, and are together as soon as there is an answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::{Amounts, Lease, Over, Quota};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Limiter;
use crate::books::{Books, Later, Standing};
use crate::grant::{Grant, Meter};
use crate::shared::{Shared, Unreachable, Verdict, part_of};

/// How often what was used is told elsewhere. 25 ms, and what has just happened waits once for a check to go along with: two hosts go
/// beyond a limit by no more than what they use in twice that time and the time of an answer.
const FLUSH: Duration = Duration::from_millis(25);
/// How often hosts say that they live, and how much memory they use.
const BEAT: Duration = Duration::from_secs(1);
/// Checks under way at a time that nobody waits for.
const AT_ONCE: usize = 64;

/// What a limiter has that is one of several.
#[derive(Debug)]
pub(crate) struct Together {
    place: Arc<dyn Shared>,
    /// Books of which the shared place does not know everything.
    dirty: mpsc::UnboundedSender<Arc<Books>>,
    /// Hosts go on apart: the shared place does not answer.
    apart: AtomicBool,
    /// Hosts that lived when it answered last.
    hosts: AtomicU64,
}

impl Limiter {
    /// A limiter of one of several hosts, of which there are thought to be so many until the shared place says how many live. Must be
    /// called on a tokio runtime.
    pub fn shared(place: Arc<dyn Shared>, hosts: u64) -> Arc<Self> {
        let (dirty, to_flush) = mpsc::unbounded_channel();
        let together = Together { place, dirty, apart: false.into(), hosts: hosts.max(1).into() };
        let limiter = Arc::new(Self { together: Some(together), ..Self::default() });
        tokio::spawn(keep(Arc::downgrade(&limiter), to_flush));
        limiter
    }

    /// Hosts that share their quotas, this one included, and whether they go on apart; `None` if quotas are this host's alone.
    pub fn hosts(&self) -> Option<(u64, bool)> {
        let of = self.together.as_ref()?;
        Some((of.hosts.load(Ordering::Relaxed), of.apart.load(Ordering::Acquire)))
    }

    /// Hears from the shared place how a tenant stands, so that what is shown is right.
    pub async fn refresh(self: &Arc<Self>, tenant: &TenantId, quota: &Arc<Quota>) {
        let Some(place) = self.place().cloned() else { return };
        let (limiter, books, quota) = (Arc::clone(self), self.books(tenant), Arc::clone(quota));
        // To the end even if the caller goes away: what others have settled goes along.
        let heard = tokio::spawn(async move {
            let (answer, _) = books.check(&*place, &quota, &Amounts::default(), None, limiter.now());
            limiter.heard(&books, answer.await);
        });
        let _shown_as_it_was = heard.await;
    }

    /// The shared place, unless hosts go on apart.
    fn place(&self) -> Option<&Arc<dyn Shared>> {
        self.together.as_ref().filter(|of| !of.apart.load(Ordering::Acquire)).map(|of| &of.place)
    }

    /// What holds here: a part of the quota while hosts go on apart.
    pub(crate) fn quota_here(&self, quota: &Arc<Quota>) -> Arc<Quota> {
        match self.hosts() {
            Some((hosts, true)) => Arc::new(part_of(quota, hosts)),
            _ => Arc::clone(quota),
        }
    }

    pub(crate) async fn reserve_in(
        self: &Arc<Self>,
        books: Arc<Books>,
        quota: &Arc<Quota>,
        ask: Amounts,
        run_until: Option<Instant>,
    ) -> Result<Grant, Over> {
        let Some(place) = self.place() else { return self.reserve_here(books, quota, &ask, run_until) };
        if let Some(over) = books.refused_here(quota, &ask, self.now()) {
            return Err(over);
        }
        let (limiter, place, quota) = (Arc::clone(self), Arc::clone(place), Arc::clone(quota));
        // To the end even if the caller goes away: what was reserved must be given back then.
        let reserved = tokio::spawn(async move {
            let until = run_until.map(|until| limiter.at(until));
            let (answer, number) = books.check(&*place, &quota, &ask, until, limiter.now());
            let Some(verdict) = limiter.heard(&books, answer.await) else {
                if until.is_some() {
                    books.lost();
                }
                return limiter.reserve_here(books, &quota, &ask, run_until);
            };
            if let Some(against) = verdict.against {
                return Err(books.refuse(&quota, against, &verdict, until.is_some(), limiter.now()));
            }
            let (lease, calls) = books.admit(&quota, number, &ask, until, limiter.now());
            Ok(Grant::new(Meter { limiter, books, quota }, lease, calls))
        });
        match reserved.await {
            Ok(reserved) => reserved,
            Err(lost) if lost.is_panic() => std::panic::resume_unwind(lost.into_panic()),
            // The runtime ends, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        }
    }

    /// Charges a tenant for what is no run. Of a tenant that exists.
    pub fn meter(self: &Arc<Self>, tenant: &TenantId, quota: &Arc<Quota>) -> Meter {
        let books = self.books(tenant);
        // Others hear of what is charged by the quota that it counts against.
        books.know(quota);
        Meter { limiter: Arc::clone(self), books, quota: Arc::clone(quota) }
    }

    fn reserve_here(
        self: &Arc<Self>,
        books: Arc<Books>,
        quota: &Arc<Quota>,
        ask: &Amounts,
        run_until: Option<Instant>,
    ) -> Result<Grant, Over> {
        let here = self.quota_here(quota);
        let until = run_until.map(|until| self.at(until));
        let (lease, calls): (Lease, Standing) = books.reserve((quota, &here), ask, until, self.now())?;
        Ok(Grant::new(Meter { limiter: Arc::clone(self), books, quota: Arc::clone(quota) }, lease, calls))
    }

    pub(crate) async fn reserve_more(
        self: &Arc<Self>,
        meter: &Meter,
        lease: &mut Lease,
        ask: &Amounts,
    ) -> Result<(), Over> {
        let Meter { books, quota, .. } = meter;
        if let Some(place) = self.place().cloned() {
            let (limiter, books_of, quota_of, ask_of) = (Arc::clone(self), Arc::clone(books), Arc::clone(quota), *ask);
            // A caller that goes away meanwhile has used what it asked for: that runs off.
            let heard = tokio::spawn(async move {
                let (answer, _) = books_of.check(&*place, &quota_of, &ask_of, None, limiter.now());
                limiter.heard(&books_of, answer.await)
            });
            if let Some(verdict) = heard.await.ok().flatten() {
                if let Some(against) = verdict.against {
                    return Err(books.refuse(quota, against, &verdict, false, self.now()));
                }
                books.admit_more(lease, ask);
                return Ok(());
            }
        }
        books.reserve_more(&self.quota_here(quota), lease, ask, self.now())
    }

    /// The shared place has answered, or it has not, and hosts go on apart.
    fn heard(&self, books: &Books, answer: Result<Verdict, Unreachable>) -> Option<Verdict> {
        match answer {
            Ok(verdict) => {
                books.hear(&verdict, self.now());
                Some(verdict)
            }
            Err(error) => {
                self.part(&error);
                None
            }
        }
    }

    /// Something was used that the shared place does not know of.
    pub(crate) fn changed(&self, books: &Arc<Books>) {
        if let Some(of) = &self.together
            && books.becomes_dirty(self.now())
        {
            // Nobody listens any more when the runtime ends.
            let _at_the_end = of.dirty.send(Arc::clone(books));
        }
    }

    fn part(&self, error: &Unreachable) {
        let Some(of) = &self.together else { return };
        if of.apart.swap(true, Ordering::AcqRel) {
            return;
        }
        let hosts = of.hosts.load(Ordering::Relaxed);
        tracing::warn!(%error, hosts, "hosts go on apart, each with its part of every quota");
        let now = self.now();
        for (_, books) in &self.books.pin() {
            books.part(hosts, now);
        }
    }

    async fn join(&self) {
        let Some(of) = &self.together else { return };
        let now = self.now();
        let known: Vec<Arc<Books>> = self.books.pin().iter().map(|(_, books)| Arc::clone(books)).collect();
        // What is asked from now on is asked there. What was used apart is told in the meantime.
        of.apart.store(false, Ordering::Release);
        tracing::info!(hosts = of.hosts.load(Ordering::Relaxed), "hosts share their quotas again");
        for books in known {
            let Some(answer) = books.join(&*of.place, now) else { continue };
            if self.heard(&books, answer.await).is_none() {
                return;
            }
        }
    }
}

/// Tells the shared place what it does not know, and that this host lives, as long as there is a limiter.
async fn keep(limiter: Weak<Limiter>, mut dirty: mpsc::UnboundedReceiver<Arc<Books>>) {
    let (mut beat, mut books) = (Instant::now(), Vec::new());
    loop {
        let Some(limiter) = limiter.upgrade() else { return };
        while let Ok(one) = dirty.try_recv() {
            books.push(one);
        }
        books = limiter.flush(books).await;
        if Instant::now() >= beat {
            beat = Instant::now() + BEAT;
            limiter.beat().await;
        }
        drop(limiter);
        tokio::time::sleep(FLUSH).await;
    }
}

impl Limiter {
    /// Gives those whose news are to be told later.
    async fn flush(self: &Arc<Self>, dirty: Vec<Arc<Books>>) -> Vec<Arc<Books>> {
        let (mut telling, mut later) = (JoinSet::new(), Vec::new());
        for books in dirty {
            let Some(place) = self.place().cloned() else { return later };
            let answer = match books.flush(&*place, self.now()) {
                Some(Ok(answer)) => answer,
                Some(Err(Later)) => {
                    later.push(books);
                    continue;
                }
                None => continue,
            };
            if telling.len() >= AT_ONCE {
                telling.join_next().await;
            }
            let limiter = Arc::clone(self);
            telling.spawn(async move { limiter.heard(&books, answer.await) });
        }
        while telling.join_next().await.is_some() {}
        later
    }

    async fn beat(self: &Arc<Self>) {
        let Some(of) = &self.together else { return };
        match of.place.beat().await {
            Ok(hosts) => {
                of.hosts.store(hosts.max(1), Ordering::Relaxed);
                if of.apart.load(Ordering::Acquire) {
                    self.join().await;
                }
            }
            Err(error) => return self.part(&error),
        }
        let mut telling = JoinSet::new();
        let known: Vec<Arc<Books>> = self.books.pin().iter().map(|(_, books)| Arc::clone(books)).collect();
        for books in known.into_iter().filter(|books| books.shares_memory()) {
            if telling.len() >= AT_ONCE {
                telling.join_next().await;
            }
            let place = Arc::clone(&of.place);
            telling.spawn(async move {
                // What does not answer is found out by the next check.
                if let Ok(elsewhere) = place.memory(books.tenant(), books.memory().used()).await {
                    books.set_elsewhere(elsewhere);
                }
            });
        }
        while telling.join_next().await.is_some() {}
    }
}
