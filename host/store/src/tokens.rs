//! Tokens: of a tenant, of a publisher, of the host. Only the hash of the secret half is kept.

use std::fmt;

use clawhold_tenancy::audit::HOST_CHAIN;
use clawhold_tenancy::{Role, Scope, SkillName, TokenId};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::driver::{self, Change};
use crate::error::failed;
use crate::fields::{Fields, json};
use crate::{Conflict, Store, StoreError, SystemTx, TenantTx, Write};

/// SHA-256 of a token's secret half, which is random and long enough to need no slow hash. `Debug` hides it.
#[derive(Clone, Copy)]
pub struct TokenHash(pub [u8; 32]);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The public half.
    pub id: TokenId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Of the secret half.
    pub hash: TokenHash,
    /// The skills that it may call; `None` is all.
    pub skills: Option<Vec<SkillName>>,
    /// Microseconds since 1970.
    pub created_us: i64,
    /// When it ends; `None` is never.
    pub expires_us: Option<i64>,
}

/// A token.
#[derive(Debug, Clone)]
pub struct Token {
    /// What it belongs to.
    pub scope: Scope,
    /// What it was made with.
    pub made: NewToken,
    /// When it was revoked.
    pub revoked_us: Option<i64>,
    /// When it was last used, as far as that was noted.
    pub last_used_us: Option<i64>,
}

impl Token {
    /// Whether it is neither revoked nor expired.
    pub fn is_valid_at(&self, now_us: i64) -> bool {
        self.revoked_us.is_none() && self.made.expires_us.is_none_or(|end| now_us < end)
    }
}

impl<M> TenantTx<M> {
    /// The tenant's tokens behind `after`, revoked ones too, by id, at most `limit`.
    pub async fn tokens(&mut self, after: Option<&TokenId>, limit: u32) -> Result<Vec<Token>, StoreError> {
        list(&mut self.tx, &Scope::Tenant(self.tenant.clone()), after, limit).await
    }
}

impl TenantTx<Write> {
    /// A new token of the tenant; [`Conflict::Token`] if the id is taken.
    pub async fn create_token(&mut self, token: &NewToken) -> Result<(), StoreError> {
        create(&mut self.tx, &Scope::Tenant(self.tenant.clone()), token).await
    }

    /// Revokes one of the tenant's tokens; `false` if it has no such token, or it was revoked before.
    pub async fn revoke_token(&mut self, id: &TokenId, now_us: i64) -> Result<bool, StoreError> {
        revoke(&mut self.tx, &Scope::Tenant(self.tenant.clone()), id, now_us).await
    }
}

impl<M> SystemTx<M> {
    /// The token of this id, whosever it is: for authentication, which cannot know the scope before.
    pub async fn token(&mut self, id: &TokenId) -> Result<Option<Token>, StoreError> {
        sqlx::query("SELECT * FROM tokens WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(failed("read a token"))?
            .as_ref()
            .map(token)
            .transpose()
    }

    /// A scope's tokens behind `after`, revoked ones too, by id, at most `limit`.
    pub async fn tokens(
        &mut self,
        scope: &Scope,
        after: Option<&TokenId>,
        limit: u32,
    ) -> Result<Vec<Token>, StoreError> {
        list(&mut self.tx, scope, after, limit).await
    }
}

impl Store {
    /// Notes when tokens were last used. No entry in a chain tells of it: each use has its own.
    pub async fn note_uses(&self, uses: &[(TokenId, i64)]) -> Result<(), StoreError> {
        let mut tx = self.begin_write(HOST_CHAIN).await?;
        for (id, at_us) in uses {
            sqlx::query("UPDATE tokens SET last_used_us = $2 WHERE id = $1 AND coalesce(last_used_us, 0) < $2")
                .bind(id.as_str())
                .bind(at_us)
                .execute(&mut *tx)
                .await
                .map_err(failed("note a token's use"))?;
        }
        tx.commit().await.map_err(failed("note a token's use"))
    }
}

impl SystemTx<Write> {
    /// A new token; [`Conflict::Token`] if the id is taken.
    pub async fn create_token(&mut self, scope: &Scope, token: &NewToken) -> Result<(), StoreError> {
        create(&mut self.tx, scope, token).await
    }

    /// Revokes a token of this scope; `false` if there is no such token, or it was revoked before.
    pub async fn revoke_token(&mut self, scope: &Scope, id: &TokenId, now_us: i64) -> Result<bool, StoreError> {
        revoke(&mut self.tx, scope, id, now_us).await
    }
}

fn columns(scope: &Scope) -> (&'static str, &str) {
    match scope {
        Scope::Host => ("host", ""),
        Scope::Tenant(tenant) => ("tenant", tenant.as_str()),
        Scope::Publisher(publisher) => ("publisher", publisher.as_str()),
    }
}

async fn list(
    connection: &mut AnyConnection,
    scope: &Scope,
    after: Option<&TokenId>,
    limit: u32,
) -> Result<Vec<Token>, StoreError> {
    let (kind, name) = columns(scope);
    sqlx::query("SELECT * FROM tokens WHERE scope_kind = $1 AND scope = $2 AND id > $3 ORDER BY id LIMIT $4")
        .bind(kind)
        .bind(name)
        .bind(after.map_or("", TokenId::as_str))
        .bind(i64::from(limit))
        .fetch_all(connection)
        .await
        .map_err(failed("list tokens"))?
        .iter()
        .map(token)
        .collect()
}

async fn create(connection: &mut AnyConnection, scope: &Scope, token: &NewToken) -> Result<(), StoreError> {
    let (kind, name) = columns(scope);
    let made = sqlx::query(
        "INSERT INTO tokens (id, scope_kind, scope, name, role, hash, skills, created_us, expires_us) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING",
    )
    .bind(token.id.as_str())
    .bind(kind)
    .bind(name)
    .bind(token.name.as_str())
    .bind(token.role.as_str())
    .bind(token.hash.0.to_vec())
    .bind(token.skills.as_ref().map(json))
    .bind(token.created_us)
    .bind(token.expires_us)
    .execute(connection)
    .await
    .map_err(failed("create a token"))?;
    if made.rows_affected() == 0 { Err(Conflict::Token(token.id.clone()).into()) } else { Ok(()) }
}

async fn revoke(connection: &mut AnyConnection, scope: &Scope, id: &TokenId, now_us: i64) -> Result<bool, StoreError> {
    let (kind, name) = columns(scope);
    let revoked = sqlx::query(
        "UPDATE tokens SET revoked_us = $4 \
         WHERE scope_kind = $1 AND scope = $2 AND id = $3 AND revoked_us IS NULL",
    )
    .bind(kind)
    .bind(name)
    .bind(id.as_str())
    .bind(now_us)
    .execute(&mut *connection)
    .await
    .map_err(failed("revoke a token"))?;
    driver::tell(connection, &Change::Token(id.to_string())).await?;
    Ok(revoked.rows_affected() > 0)
}

fn token(row: &AnyRow) -> Result<Token, StoreError> {
    let fields = Fields::of("tokens", row);
    let scope = match fields.text("scope_kind")?.as_str() {
        "host" => Scope::Host,
        "tenant" => Scope::Tenant(fields.id("scope")?),
        "publisher" => Scope::Publisher(fields.id("scope")?),
        _ => return Err(fields.corrupt("scope_kind", "no kind of scope")),
    };
    let role: Role = fields.id("role")?;
    if !role.fits(&scope) {
        return Err(fields.corrupt("role", "a role that no token of its scope has"));
    }
    Ok(Token {
        scope,
        made: NewToken {
            id: fields.id("id")?,
            name: fields.text("name")?,
            role,
            hash: TokenHash(fields.hash("hash")?),
            skills: fields.optional_json("skills")?,
            created_us: fields.integer("created_us")?,
            expires_us: fields.optional("expires_us")?,
        },
        revoked_us: fields.optional("revoked_us")?,
        last_used_us: fields.optional("last_used_us")?,
    })
}
