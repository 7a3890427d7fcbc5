//! Answers that are kept for requests with an `Idempotency-Key`: written by the transaction that did what was asked, so that a
//! repeat either finds the first answer or finds that nothing was done.

use clawhold_tenancy::audit::Chain;
use clawhold_tenancy::{TenantId, TokenId};
use sqlx::AnyConnection;

use crate::driver;
use crate::error::failed;
use crate::fields::Fields;
use crate::{Conflict, Store, StoreError, SystemTx, TenantTx, Write};

/// How long an answer is kept, in microseconds: 24 hours.
const KEPT_US: i64 = 24 * 60 * 60 * 1_000_000;

/// An answer to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Whose request it was: the same key of another token is another one.
    pub token: TokenId,
    /// The caller's key.
    pub key: String,
    /// Of the request: a repeat has the same.
    pub fingerprint: [u8; 32],
    /// The answer, sealed.
    pub answer: Vec<u8>,
    /// When, in microseconds since 1970.
    pub created_us: i64,
}

impl Store {
    /// The answer that was kept under this key within 24 hours before `now_us`: the request's fingerprint, and the sealed answer.
    pub async fn kept_answer(
        &self,
        of: Chain<'_>,
        token: &TokenId,
        key: &str,
        now_us: i64,
    ) -> Result<Option<([u8; 32], Vec<u8>)>, StoreError> {
        let mut tx = self.begin_read(of.name()).await?;
        let row = sqlx::query(
            "SELECT fingerprint, answer FROM kept_answers \
             WHERE tenant_id = $1 AND token_id = $2 AND key = $3 AND created_us >= $4",
        )
        .bind(of.name())
        .bind(token.as_str())
        .bind(key)
        .bind(now_us.saturating_sub(KEPT_US))
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed("look for a kept answer"))?;
        let Some(row) = row else { return Ok(None) };
        let fields = Fields::of("kept_answers", &row);
        Ok(Some((fields.hash("fingerprint")?, fields.bytes("answer")?)))
    }
}

impl TenantTx<Write> {
    /// Keeps an answer with what this transaction does; [`Conflict::Answer`] if a request with this key was faster.
    pub async fn keep_answer(&mut self, answer: &KeptAnswer) -> Result<(), StoreError> {
        keep(&mut self.tx, self.tenant.as_str(), answer).await
    }
}

impl SystemTx<Write> {
    /// Keeps an answer with what this transaction does; [`Conflict::Answer`] if a request with this key was faster.
    pub async fn keep_answer(&mut self, answer: &KeptAnswer) -> Result<(), StoreError> {
        keep(&mut self.tx, Chain::Host.name(), answer).await
    }

    /// The same for a request that is about a tenant.
    pub async fn keep_answer_of(&mut self, tenant: &TenantId, answer: &KeptAnswer) -> Result<(), StoreError> {
        driver::bind(&mut self.tx, tenant.as_str()).await?;
        keep(&mut self.tx, tenant.as_str(), answer).await?;
        driver::bind(&mut self.tx, Chain::Host.name()).await
    }
}

/// Also removes what the same owner kept too long ago.
pub(crate) async fn keep(connection: &mut AnyConnection, of: &str, answer: &KeptAnswer) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM kept_answers WHERE tenant_id = $1 AND created_us < $2")
        .bind(of)
        .bind(answer.created_us.saturating_sub(KEPT_US))
        .execute(&mut *connection)
        .await
        .map_err(failed("remove old answers"))?;
    let kept = sqlx::query(
        "INSERT INTO kept_answers (tenant_id, token_id, key, fingerprint, answer, created_us) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, token_id, key) DO NOTHING",
    )
    .bind(of)
    .bind(answer.token.as_str())
    .bind(answer.key.as_str())
    .bind(answer.fingerprint.to_vec())
    .bind(answer.answer.as_slice())
    .bind(answer.created_us)
    .execute(connection)
    .await
    .map_err(failed("keep an answer"))?;
    if kept.rows_affected() == 0 { Err(Conflict::Answer.into()) } else { Ok(()) }
}
