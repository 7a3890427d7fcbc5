//! Tokens: from what a caller sent to a [`Context`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use clawhold_store::{Token, TokenHash};
use clawhold_tenancy::audit::now_us;
use clawhold_tenancy::{Actor, Context, RequestId, Scope, TokenId, TraceId};
use moka::future::Cache;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::failures::Failures;
use crate::fresh::{Believed, Fresh, Seen};
use crate::refused::{Refused, Why};
use crate::{Host, Problem, TenantState};

/// How coarsely a token's last use is noted: to the hour, so that a busy token costs no writes.
const USE_US: i64 = 60 * 60 * 1_000_000;
/// How often that is written down.
const NOTE_USES: Duration = Duration::from_secs(30);

/// Tokens kept. Unknown ids are kept too, so that a flood of one of them does not reach the database.
const KEPT: u64 = 100_000;

/// `clw_<id>_<secret>`, as a caller sent it.
#[derive(Debug)]
pub struct BearerToken {
    id: TokenId,
    secret: SecretString,
}

impl BearerToken {
    /// Takes a token apart; `None` if it has not the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix("clw_")?.split_once('_')?;
        if secret.len() > 128 {
            return None;
        }
        Some(Self { id: id.parse().ok()?, secret: secret.into() })
    }
}

pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

pub(crate) struct Tokens {
    known: Cache<TokenId, Seen<Token>>,
    fresh: Arc<Fresh>,
    failures: Failures,
    pub(crate) refused: Refused,
    /// Tokens that were used since that was noted last, and when.
    used: Mutex<HashMap<TokenId, i64>>,
}

impl Tokens {
    pub(crate) fn new(fresh: Arc<Fresh>) -> Self {
        let believed = Believed(Arc::clone(&fresh));
        let known = Cache::builder().max_capacity(KEPT).expire_after(believed).build();
        Self { known, fresh, failures: Failures::default(), refused: Refused::default(), used: Mutex::default() }
    }

    pub(crate) async fn forget(&self, id: &TokenId) {
        self.known.invalidate(id).await;
    }

    pub(crate) fn forget_all(&self) {
        self.known.invalidate_all();
    }

    /// Notes a use, if the last one that was noted is long ago.
    fn note_use(&self, token: &Token, now_us: i64) {
        if token.last_used_us.is_none_or(|last| now_us - last >= USE_US) {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            used.entry(token.made.id.clone()).or_insert(now_us);
        }
    }
}

fn why_refused(token: &Token, fits: bool, now_us: i64) -> Option<Why> {
    match token {
        _ if !fits => Some(Why::WrongSecret),
        Token { revoked_us: Some(_), .. } => Some(Why::Revoked),
        token => (!token.is_valid_at(now_us)).then_some(Why::Expired),
    }
}

/// Writes down the uses of tokens at intervals, as long as there is a host.
pub(crate) async fn keep_uses(host: Weak<Host>) {
    loop {
        tokio::time::sleep(NOTE_USES).await;
        let Some(host) = host.upgrade() else { return };
        host.write_uses().await;
    }
}

impl Host {
    /// Who sent this token. Unknown, wrong, expired and revoked tokens are not told apart.
    pub async fn authenticate(
        &self,
        sent: &BearerToken,
        from: IpAddr,
        request: RequestId,
        trace: TraceId,
        depth: u8,
    ) -> Result<Context, Problem> {
        let known = self.token_seen(&sent.id, from).await?;
        // Compared even for an unknown id, so that the time does not tell which ids exist.
        let TokenHash(stored) = known.as_ref().map_or(TokenHash([0; 32]), |token| token.made.hash);
        let fits: bool = hash(sent.secret.expose_secret()).ct_eq(&stored).into();
        self.context_of(known, fits, from, request, trace, depth)
    }

    /// Who a token is of whose secret was compared before, when the host signed that it was.
    pub(crate) async fn authenticate_id(
        &self,
        id: &TokenId,
        from: IpAddr,
        request: RequestId,
        trace: TraceId,
        depth: u8,
    ) -> Result<Context, Problem> {
        let known = self.token_seen(id, from).await?;
        self.context_of(known, true, from, request, trace, depth)
    }

    /// Notes that something came from there that authenticates nobody, and says how that is answered.
    pub(crate) fn failed_authentication(&self, from: IpAddr) -> Problem {
        self.auth.failures.note(from)
    }

    fn context_of(
        &self,
        known: Option<Arc<Token>>,
        fits: bool,
        from: IpAddr,
        request: RequestId,
        trace: TraceId,
        depth: u8,
    ) -> Result<Context, Problem> {
        let now = now_us();
        let token = known.ok_or_else(|| self.auth.failures.note(from))?;
        if let Some(why) = why_refused(&token, fits, now) {
            self.auth.refused.note(&token, why, from);
            return Err(self.auth.failures.note(from));
        }
        self.auth.note_use(&token, now);
        Ok(Context {
            actor: Actor::Token { id: token.made.id.clone(), name: token.made.name.clone() },
            scope: token.scope.clone(),
            role: token.made.role,
            skills: token.made.skills.as_deref().map(Into::into),
            request,
            trace,
            depth,
        })
    }

    async fn token_seen(&self, id: &TokenId, from: IpAddr) -> Result<Option<Arc<Token>>, Problem> {
        match self.auth.known.get(id).await {
            Some(seen) => Ok(seen.value),
            None => self.look_up_token(id, from).await,
        }
    }

    async fn look_up_token(&self, id: &TokenId, from: IpAddr) -> Result<Option<Arc<Token>>, Problem> {
        let look_up = Box::pin(async {
            let seen = self.auth.fresh.begin();
            self.known_token(id).await.map(seen)
        });
        let known = self.auth.failures.look_up(id, from, self.auth.known.try_get_with_by_ref(id, look_up)).await?;
        if known.as_ref().is_ok_and(|known| known.value.is_some()) {
            self.auth.failures.found(id);
        }
        let known = known.map_err(|shared: Arc<Problem>| {
            tracing::warn!(error = %shared, "a token could not be looked up");
            Problem::Unavailable("the database did not answer; call again in a moment".to_owned())
        })?;
        Ok(known.value)
    }

    pub(crate) async fn write_uses(&self) {
        let used = std::mem::take(&mut *self.auth.used.lock().unwrap_or_else(PoisonError::into_inner));
        let used: Vec<_> = used.into_iter().collect();
        // Telemetry: what cannot be written now is noted again with the token's next use.
        if !used.is_empty()
            && let Err(error) = self.store.note_uses(&used).await
        {
            tracing::warn!(%error, tokens = used.len(), "when tokens were last used could not be noted");
        }
    }

    async fn known_token(&self, id: &TokenId) -> Result<Option<Arc<Token>>, Problem> {
        let mut tx = self.store.system("authenticate").await?;
        let Some(token) = tx.token(id).await? else { return Ok(None) };
        // A publisher's token is its owner's, if it is a tenant's own.
        let owner = match &token.scope {
            Scope::Tenant(tenant) => Some(tenant.clone()),
            Scope::Publisher(publisher) => tx.publisher(publisher).await?.and_then(|publisher| publisher.owner),
            Scope::Host => None,
        };
        if let Some(tenant) = &owner {
            let active = tx.tenant(tenant).await?.is_some_and(|tenant| tenant.state == TenantState::Active);
            if !active {
                return Ok(None);
            }
        }
        Ok(Some(Arc::new(token)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_form_of_a_token_is_read() {
        for bad in [
            "",
            "clw_",
            "clw_abc",
            "clw_0123456789ab",
            "Bearer clw_0123456789ab_x",
            "clw_0123456789AB_x",
            "clw_../../etc_x",
        ] {
            assert!(BearerToken::parse(bad).is_none(), "{bad}");
        }
        let token = BearerToken::parse("clw_0123456789ab_s3cr3t_with_underscore").unwrap();
        assert_eq!(token.secret.expose_secret(), "s3cr3t_with_underscore");
        assert!(!format!("{token:?}").contains("s3cr3t"));
        assert!(BearerToken::parse(&format!("clw_0123456789ab_{}", "x".repeat(200))).is_none());
    }
}
