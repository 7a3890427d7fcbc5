//! Tokens: from what a caller sent to a [`Context`].

use std::sync::Arc;
use std::time::Duration;

use clawhold_store::{Token, TokenHash};
use clawhold_tenancy::audit::now_us;
use clawhold_tenancy::{Actor, Context, RequestId, Scope, TokenId, TraceId};
use moka::future::Cache;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{Host, Problem, TenantState};

/// How long a token is believed before the database is asked again: a token that was revoked on another node is
/// refused here within this time.
const BELIEVED: Duration = Duration::from_secs(1);
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

pub(crate) struct Tokens(Cache<TokenId, Option<Arc<Token>>>);

impl Default for Tokens {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(KEPT).time_to_live(BELIEVED).build())
    }
}

impl Tokens {
    pub(crate) async fn forget(&self, id: &TokenId) {
        self.0.invalidate(id).await;
    }
}

impl Host {
    /// Who sent this token. Unknown, wrong, expired and revoked tokens are not told apart.
    pub async fn authenticate(
        &self,
        sent: &BearerToken,
        request: RequestId,
        trace: TraceId,
        depth: u8,
    ) -> Result<Context, Problem> {
        let known = self.auth.0.try_get_with_by_ref(&sent.id, self.known_token(&sent.id)).await;
        let known = known.map_err(|shared: Arc<Problem>| {
            tracing::warn!(error = %shared, "a token could not be looked up");
            Problem::Unavailable("the database did not answer; call again in a moment".to_owned())
        })?;
        // Compared even for an unknown id, so that the time does not tell which ids exist.
        let TokenHash(stored) = known.as_ref().map_or(TokenHash([0; 32]), |token| token.made.hash);
        let fits: bool = hash(sent.secret.expose_secret()).ct_eq(&stored).into();
        let token = known.filter(|token| fits && token.is_valid_at(now_us())).ok_or(Problem::Unauthenticated)?;
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

    async fn known_token(&self, id: &TokenId) -> Result<Option<Arc<Token>>, Problem> {
        let mut tx = self.store.system("authenticate").await?;
        let Some(token) = tx.token(id).await? else { return Ok(None) };
        if let Scope::Tenant(tenant) = &token.scope {
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
