//! Refusals of tokens that there are: those whose token it is are told, in sum. Who knows a token's public half can then neither
//! try secrets unseen nor fill a log.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use clawhold_store::Token;
use clawhold_tenancy::audit::{Event, Outcome};
use clawhold_tenancy::{Context, Role, Scope, TokenId};
use serde_json::json;

use crate::Host;

/// How often it is looked whether there is something to tell. The first refusal is told then, outside of the request, whose time must not
/// show that there is such a token.
const LOOK: Duration = Duration::from_secs(1);
/// How long the next ones of the same kind are summed up.
const SUM: Duration = Duration::from_mins(1);
/// Tokens that are counted at a time, so that the memory is bounded where there are very many.
const TOKENS: usize = 10_000;

/// Why a token that there is was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    WrongSecret,
    Expired,
    Revoked,
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Self::WrongSecret => "wrong secret",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

#[derive(Default)]
pub(crate) struct Refused(Mutex<HashMap<(TokenId, Why), Count>>);

struct Count {
    scope: Scope,
    times: u64,
    /// Where the last one came from.
    from: IpAddr,
    told: Option<Instant>,
}

/// What is to be told.
struct Sum {
    token: TokenId,
    why: Why,
    scope: Scope,
    times: u64,
    from: IpAddr,
}

impl Refused {
    pub(crate) fn note(&self, token: &Token, why: Why, from: IpAddr) {
        self.add(Sum { token: token.made.id.clone(), why, scope: token.scope.clone(), times: 1, from });
    }

    fn add(&self, sum: Sum) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (sum.token, sum.why);
        if counts.len() >= TOKENS && !counts.contains_key(&key) {
            tracing::warn!(token = %key.0, why = key.1.as_str(), "a refusal is not counted: too many tokens are refused");
            return;
        }
        let count = counts.entry(key).or_insert(Count { scope: sum.scope, times: 0, from: sum.from, told: None });
        count.times += sum.times;
        count.from = sum.from;
    }

    /// What is due, or everything.
    fn take(&self, now: Instant, all: bool) -> Vec<Sum> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |count: &Count| count.told.is_some_and(|told| now.duration_since(told) < SUM);
        counts.retain(|_, count| count.times > 0 || fresh(count));
        let due = counts.iter_mut().filter(|(_, count)| count.times > 0 && (all || !fresh(count)));
        due.map(|((token, why), count)| {
            count.told = Some(now);
            let times = std::mem::take(&mut count.times);
            Sum { token: token.clone(), why: *why, scope: count.scope.clone(), times, from: count.from }
        })
        .collect()
    }
}

/// Tells as long as there is a host.
pub(crate) async fn keep_telling(host: Weak<Host>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(host) = host.upgrade() else { return };
        host.tell_refused(false).await;
    }
}

impl Host {
    pub(crate) async fn tell_refused(&self, all: bool) {
        for sum in self.auth.refused.take(Instant::now(), all) {
            let cx = Context::of_host("authentication", sum.scope.clone(), Role::Auditor);
            let detail = json!({ "why": sum.why.as_str(), "times": sum.times, "last_from": sum.from });
            let event = Event::by(&cx, "token.refuse", format!("token:{}", sum.token), Outcome::Denied).with(&detail);
            if let Err(error) = self.note_on_chain(&sum.scope, event).await {
                tracing::warn!(%error, token = %sum.token, "refusals of a token could not be noted yet");
                self.auth.refused.add(sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(token: &str) -> Sum {
        let scope = Scope::Tenant("acme-corp".parse().unwrap());
        Sum { token: token.parse().unwrap(), why: Why::WrongSecret, scope, times: 1, from: [127, 0, 0, 1].into() }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_next_in_sum() {
        let (refused, now) = (Refused::default(), Instant::now());
        let times = |at, all| refused.take(at, all).iter().map(|sum| sum.times).collect::<Vec<_>>();
        refused.add(sum("0123456789ab"));
        assert_eq!(times(now, false), [1]);
        for _ in 0..1000 {
            refused.add(sum("0123456789ab"));
        }
        assert_eq!(times(now + Duration::from_secs(59), false), [0; 0]);
        refused.add(sum("0123456789ac"));
        assert_eq!(times(now + Duration::from_secs(59), false), [1], "another token's are its own");
        assert_eq!(times(now + SUM, false), [1000]);
        refused.add(sum("0123456789ab"));
        assert_eq!(times(now + SUM, true), [1], "at the end all are told");
        assert_eq!(times(now + SUM * 3, false), [0; 0]);
        assert!(refused.0.lock().unwrap().is_empty());
    }

    #[test]
    fn tokens_without_number_take_bounded_memory() {
        let refused = Refused::default();
        for n in 0..2 * TOKENS {
            refused.add(sum(&format!("{n:012x}")));
        }
        assert_eq!(refused.0.lock().unwrap().len(), TOKENS);
    }
}
