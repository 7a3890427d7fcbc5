//! Failed authentication, counted for each address that it comes from.
//!
//! A right token is never refused for what others sent: it is compared before anything is counted, and if nothing is known of it yet,
//! it waits behind the address's other unknown ones. What is limited is what failures cost: an answer, and a look into the
//! database, one at a time for an address that fails too often.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clawhold_tenancy::TokenId;
use moka::sync::Cache;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::Problem;

/// Failures of an address within a minute that are answered as such.
const FAILURES: u64 = 300;
/// Look-ups of an address beyond that which wait for one another, and for how long.
const WAITING: u64 = 16;
const PATIENCE: Duration = Duration::from_secs(2);
/// Addresses that are counted at a time: what there is to be had by using many is bounded too.
const ADDRESSES: u64 = 100_000;

/// How long a token that was found is looked up without waiting behind unknown ones, and how many are remembered.
const FOUND: Duration = Duration::from_hours(24);
const TOKENS: u64 = 100_000;

pub(crate) struct Failures {
    addresses: Cache<IpAddr, Arc<Address>>,
    /// Tokens that there are, as far as they were looked up lately.
    found: Cache<TokenId, ()>,
}

struct Address {
    failed: AtomicU64,
    waiting: AtomicU64,
    lane: Semaphore,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            addresses: Cache::builder().max_capacity(ADDRESSES).time_to_live(Duration::from_mins(1)).build(),
            found: Cache::builder().max_capacity(TOKENS).time_to_live(FOUND).build(),
        }
    }
}

impl Failures {
    /// Notes a failure, and says how it is answered.
    pub(crate) fn note(&self, from: IpAddr) -> Problem {
        let address = self.addresses.get_with(network(from), || {
            Arc::new(Address { failed: AtomicU64::new(0), waiting: AtomicU64::new(0), lane: Semaphore::new(1) })
        });
        let failed = address.failed.fetch_add(1, Ordering::Relaxed) + 1;
        if failed > FAILURES { too_many(failed) } else { Problem::Unauthenticated }
    }

    /// Remembers a token that there is.
    pub(crate) fn found(&self, id: &TokenId) {
        self.found.insert(id.clone(), ());
    }

    /// Runs a look-up for what nothing is known of.
    pub(crate) async fn look_up<T>(
        &self,
        id: &TokenId,
        from: IpAddr,
        look_up: impl Future<Output = T>,
    ) -> Result<T, Problem> {
        if self.found.contains_key(id) {
            return Ok(look_up.await);
        }
        let over = |address: &Arc<Address>| address.failed.load(Ordering::Relaxed) > FAILURES;
        let Some(address) = self.addresses.get(&network(from)).filter(over) else { return Ok(look_up.await) };
        let _held = address.place().await.ok_or_else(|| too_many(address.failed.load(Ordering::Relaxed)))?;
        Ok(look_up.await)
    }
}

impl Address {
    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let place = tokio::time::timeout(PATIENCE, self.lane.acquire()).await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        place.ok()?.ok()
    }
}

/// Whoever has one address of version 6 has 2⁶⁴ of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn too_many(used: u64) -> Problem {
    Problem::FailedTooOften { limit: FAILURES, used }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failures_of_one_address_are_limited_and_cost_another_nothing() {
        let failures = Failures::default();
        let (attacker, neighbour) = ("2001:db8::1".parse().unwrap(), "2001:db8:0:1::1".parse().unwrap());
        for _ in 0..FAILURES {
            assert!(matches!(failures.note(attacker), Problem::Unauthenticated));
        }
        // Another address of the same network, which is the same attacker's.
        let again = failures.note("2001:db8::2".parse().unwrap());
        assert!(matches!(again, Problem::FailedTooOften { used: 301, .. }), "{again}");
        assert!(matches!(failures.note(neighbour), Problem::Unauthenticated));
        let (unknown, known): (TokenId, TokenId) = ("0123456789ab".parse().unwrap(), "0123456789ac".parse().unwrap());
        failures.found(&known);
        // A right token of the attacker's own address is still looked up, one at a time.
        assert_eq!(failures.look_up(&unknown, attacker, async { 7 }).await.unwrap(), 7);
        let endless = std::future::pending::<()>();
        let mut held = Box::pin(failures.look_up(&unknown, attacker, endless));
        assert!(tokio::time::timeout(Duration::from_millis(10), &mut held).await.is_err());
        assert_eq!(failures.look_up(&unknown, neighbour, async { 7 }).await.unwrap(), 7);
        let refused = failures.look_up(&unknown, attacker, async { 7 }).await.unwrap_err();
        assert!(matches!(refused, Problem::FailedTooOften { .. }), "{refused}");
        // A token that there is, from the attacker's address: they share a proxy.
        assert_eq!(failures.look_up(&known, attacker, async { 7 }).await.unwrap(), 7);
    }

    #[test]
    fn addresses_without_number_take_bounded_memory() {
        let failures = Failures::default();
        for n in 0..300_000_u128 {
            failures.note(IpAddr::V6((n << 64).into()));
        }
        failures.addresses.run_pending_tasks();
        assert!(failures.addresses.entry_count() <= ADDRESSES, "{}", failures.addresses.entry_count());
    }
}
