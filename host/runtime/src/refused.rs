//! Refusals of tokens that there are: those whose token it is are told, in sum. Who knows a token's public half can then neither
//! try secrets unseen nor fill a log.

use std::net::IpAddr;
use std::sync::Weak;
use std::time::{Duration, Instant};

use clawhold_store::Token;
use clawhold_tenancy::audit::{Event, Outcome};
use clawhold_tenancy::{Context, Role, Scope, TokenId};
use serde_json::json;

use crate::Host;
use crate::sums::{LOOK, Sum, Sums};

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
pub(crate) struct Refused(Sums<Scope, Key, IpAddr>);

/// Which token; `None` is every other of the scope.
type Key = (Option<TokenId>, Why);

impl Refused {
    pub(crate) fn note(&self, token: &Token, why: Why, from: IpAddr) {
        let key = (Some(token.made.id.clone()), why);
        let of_tokens = |keys, known: bool, key| if keys >= TOKENS && !known { (None, why) } else { key };
        self.0.note(Sum { scope: token.scope.clone(), key, times: 1, last: from }, of_tokens);
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
        for sum in self.auth.refused.0.take(Instant::now(), all) {
            let cx = Context::of_host("authentication", sum.scope.clone(), Role::Auditor);
            let (token, why) = &sum.key;
            let resource = token.as_ref().map_or_else(|| "tokens:others".to_owned(), |token| format!("token:{token}"));
            let detail = json!({ "why": why.as_str(), "times": sum.times, "last_from": sum.last });
            let event = Event::by(&cx, "token.refuse", resource, Outcome::Denied).with(&detail);
            if let Err(error) = self.note_on_chain(&sum.scope, event).await {
                tracing::warn!(%error, "refusals of a token could not be noted yet");
                self.auth.refused.0.put_back(sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clawhold_store::{NewToken, TokenHash};

    use super::*;
    use crate::sums::SUM;

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
        let times = |at, all| refused.0.take(at, all).iter().map(|sum| sum.times).collect::<Vec<_>>();
        let again = |token| refuse(&refused, "acme-corp", token);
        again("0123456789ab");
        assert_eq!(times(now, false), [1]);
        for _ in 0..1000 {
            again("0123456789ab");
        }
        assert_eq!(times(now + Duration::from_secs(59), false), [0; 0]);
        again("0123456789ac");
        assert_eq!(times(now + Duration::from_secs(59), false), [1], "another token's are its own");
        let due = refused.0.take(now + SUM, false);
        assert_eq!(due.iter().map(|sum| sum.times).collect::<Vec<_>>(), [1000]);
        // What could not be written is due at once, with what came since.
        again("0123456789ab");
        for sum in due {
            refused.0.put_back(sum);
        }
        assert_eq!(times(now + SUM, false), [1001]);
        again("0123456789ab");
        assert_eq!(times(now + SUM, true), [1], "at the end all are told");
        assert_eq!(times(now + SUM * 3, false), [0; 0]);
        assert!(refused.0.is_empty());
    }

    #[test]
    fn tokens_without_number_take_bounded_memory_and_no_other_tenants_places() {
        let (refused, now) = (Refused::default(), Instant::now());
        for n in 0..10_000 {
            refuse(&refused, "acme-corp", &format!("{n:012x}"));
        }
        refuse(&refused, "globex", "0123456789ab");
        let told = refused.0.take(now, false);
        let of = |tenant: &str| {
            let scope = Scope::Tenant(tenant.parse().unwrap());
            told.iter().filter(|sum| sum.scope == scope).map(|sum| sum.times).collect::<Vec<_>>()
        };
        assert_eq!((of("acme-corp").len(), of("acme-corp").iter().sum::<u64>()), (TOKENS + 1, 10_000));
        assert_eq!(of("globex"), [1]);
    }
}
