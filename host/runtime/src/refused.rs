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
/// Tokens of a tenant that are counted by themselves; the others of the tenant are counted together. None takes another tenant's places.
const TOKENS: usize = 32;
/// How long what is left may take when the host ends.
const LAST: Duration = Duration::from_secs(2);

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
pub(crate) struct Refused(Mutex<HashMap<Scope, HashMap<Key, Count>>>);

/// Which token; `None` is every other of the scope.
type Key = (Option<TokenId>, Why);

struct Count {
    times: u64,
    /// Where the last one came from.
    from: IpAddr,
    told: Option<Instant>,
}

/// What is to be told.
struct Sum {
    scope: Scope,
    key: Key,
    times: u64,
    from: IpAddr,
}

impl Refused {
    pub(crate) fn note(&self, token: &Token, why: Why, from: IpAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_scope = counts.entry(token.scope.clone()).or_default();
        let mut key = (Some(token.made.id.clone()), why);
        if of_scope.len() >= TOKENS && !of_scope.contains_key(&key) {
            key.0 = None;
        }
        let count = of_scope.entry(key).or_insert(Count { times: 0, from, told: None });
        count.times += 1;
        count.from = from;
    }

    /// What could not be told is due again.
    fn put_back(&self, sum: Sum) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_scope = counts.entry(sum.scope).or_default();
        let count = of_scope.entry(sum.key).or_insert(Count { times: 0, from: sum.from, told: None });
        count.times += sum.times;
        count.told = None;
    }

    /// What is due, or everything.
    fn take(&self, now: Instant, all: bool) -> Vec<Sum> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = |count: &Count| count.told.is_some_and(|told| now.duration_since(told) < SUM);
        counts.retain(|_, of_scope| {
            of_scope.retain(|_, count| count.times > 0 || fresh(count));
            !of_scope.is_empty()
        });
        let mut due = Vec::new();
        for (scope, of_scope) in counts.iter_mut() {
            for (key, count) in of_scope.iter_mut().filter(|(_, count)| count.times > 0 && (all || !fresh(count))) {
                count.told = Some(now);
                let times = std::mem::take(&mut count.times);
                due.push(Sum { scope: scope.clone(), key: key.clone(), times, from: count.from });
            }
        }
        due
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
    /// Tells what is left, unless the database takes too long.
    pub(crate) async fn tell_refused_at_the_end(&self) {
        if tokio::time::timeout(LAST, self.tell_refused(true)).await.is_err() {
            tracing::warn!("not all refusals of tokens could be noted");
        }
    }

    async fn tell_refused(&self, all: bool) {
        for sum in self.auth.refused.take(Instant::now(), all) {
            let cx = Context::of_host("authentication", sum.scope.clone(), Role::Auditor);
            let (token, why) = &sum.key;
            let resource = token.as_ref().map_or_else(|| "tokens:others".to_owned(), |token| format!("token:{token}"));
            let detail = json!({ "why": why.as_str(), "times": sum.times, "last_from": sum.from });
            let event = Event::by(&cx, "token.refuse", resource, Outcome::Denied).with(&detail);
            if let Err(error) = self.note_on_chain(&sum.scope, event).await {
                tracing::warn!(%error, "refusals of a token could not be noted yet");
                self.auth.refused.put_back(sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clawhold_store::{NewToken, TokenHash};

    use super::*;

    fn refuse(refused: &Refused, tenant: &str, token: &str) {
        let made = NewToken {
            id: token.parse().unwrap(),
            name: "x".to_owned(),
            role: Role::Caller,
            hash: TokenHash([0; 32]),
            skills: None,
            created_us: 1,
            expires_us: None,
        };
        let scope = Scope::Tenant(tenant.parse().unwrap());
        let token = Token { scope, made, revoked_us: None, last_used_us: None };
        refused.note(&token, Why::WrongSecret, [127, 0, 0, 1].into());
    }

    #[test]
    fn the_first_is_told_at_once_and_the_next_in_sum() {
        let (refused, now) = (Refused::default(), Instant::now());
        let times = |at, all| refused.take(at, all).iter().map(|sum| sum.times).collect::<Vec<_>>();
        let again = |token| refuse(&refused, "acme-corp", token);
        again("0123456789ab");
        assert_eq!(times(now, false), [1]);
        for _ in 0..1000 {
            again("0123456789ab");
        }
        assert_eq!(times(now + Duration::from_secs(59), false), [0; 0]);
        again("0123456789ac");
        assert_eq!(times(now + Duration::from_secs(59), false), [1], "another token's are its own");
        let due = refused.take(now + SUM, false);
        assert_eq!(due.iter().map(|sum| sum.times).collect::<Vec<_>>(), [1000]);
        // What could not be written is due at once, with what came since.
        again("0123456789ab");
        for sum in due {
            refused.put_back(sum);
        }
        assert_eq!(times(now + SUM, false), [1001]);
        again("0123456789ab");
        assert_eq!(times(now + SUM, true), [1], "at the end all are told");
        assert_eq!(times(now + SUM * 3, false), [0; 0]);
        assert!(refused.0.lock().unwrap().is_empty());
    }

    #[test]
    fn tokens_without_number_take_bounded_memory_and_no_other_tenants_places() {
        let (refused, now) = (Refused::default(), Instant::now());
        for n in 0..10_000 {
            refuse(&refused, "acme-corp", &format!("{n:012x}"));
        }
        refuse(&refused, "globex", "0123456789ab");
        let told = refused.take(now, false);
        let of = |tenant: &str| {
            let scope = Scope::Tenant(tenant.parse().unwrap());
            told.iter().filter(|sum| sum.scope == scope).map(|sum| sum.times).collect::<Vec<_>>()
        };
        assert_eq!((of("acme-corp").len(), of("acme-corp").iter().sum::<u64>()), (TOKENS + 1, 10_000));
        assert_eq!(of("globex"), [1]);
    }
}
