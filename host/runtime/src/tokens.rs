//! Making, listing and revoking tokens.

use clawhold_store::{NewToken, TokenHash};
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::{
    CreateHostToken, CreateToken, Host as HostResource, ListHostTokens, ListTokens, RevokeHostToken, RevokeToken,
};
use clawhold_tenancy::{Context, Permit, Publisher, Role, Scope, SkillName, TokenId};
use secrecy::SecretString;

use crate::{Host, Problem, Token, auth};

/// Bytes of a token's name.
const NAME_BYTES: usize = 64;

/// What a token should be.
#[derive(Debug, Clone)]
pub struct TokenAsk {
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The skills that it may call; `None` is all.
    pub skills: Option<Vec<SkillName>>,
    /// When it ends, in microseconds since 1970; `None` is never.
    pub expires_us: Option<i64>,
}

/// A new token. Its text is shown once and is not kept.
#[derive(Debug)]
pub struct MadeToken {
    /// The public half.
    pub id: TokenId,
    /// All of it.
    pub token: SecretString,
}

impl Host {
    /// Makes a token of a tenant.
    pub async fn create_token(
        &self,
        cx: &Context,
        permit: &Permit<CreateToken>,
        ask: TokenAsk,
        keep: Keep<MadeToken>,
    ) -> Result<MadeToken, Problem> {
        if !matches!(ask.role, Role::Admin | Role::Auditor | Role::Caller) {
            let detail = format!("a tenant's token cannot have the role {}; use admin, auditor or caller", ask.role);
            return Err(Problem::invalid("role", detail));
        }
        self.require_tenant(permit.tenant()).await?;
        let (new, token) = new_token(ask)?;
        let event = self.details.seal(Chain::Tenant(permit.tenant()), made(cx, permit.action(), &new)).await?;
        let made = MadeToken { id: new.id.clone(), token };
        let mut tx = self.store.tenant_write(permit.tenant()).await?;
        tx.create_token(&new).await?;
        self.keep_in(&mut tx, keep, &made).await?;
        tx.commit(event).await?;
        Ok(made)
    }

    /// A tenant's tokens behind `after`, in a stable order.
    pub async fn tokens(
        &self,
        permit: &Permit<ListTokens>,
        after: Option<&TokenId>,
        limit: u32,
    ) -> Result<Vec<Token>, Problem> {
        self.require_tenant(permit.tenant()).await?;
        Ok(self.store.tenant(permit.tenant()).await?.tokens(after, limit).await?)
    }

    /// Ends a token of a tenant, at once.
    pub async fn revoke_token(
        &self,
        cx: &Context,
        permit: &Permit<RevokeToken>,
        id: &TokenId,
        keep: Keep<()>,
    ) -> Result<(), Problem> {
        let event = Event::by(cx, permit.action(), format!("token:{id}"), Outcome::Success);
        let event = self.details.seal(Chain::Tenant(permit.tenant()), event).await?;
        let mut tx = self.store.tenant_write(permit.tenant()).await?;
        if !tx.revoke_token(id, now_us()).await? {
            return Err(Problem::NotFound("token"));
        }
        self.keep_in(&mut tx, keep, &()).await?;
        tx.commit(event).await?;
        self.auth.forget(id).await;
        Ok(())
    }

    /// Makes a token of a publisher that the tenant owns.
    pub async fn create_publisher_token(
        &self,
        cx: &Context,
        permit: &Permit<CreateToken>,
        publisher: &Publisher,
        ask: TokenAsk,
        keep: Keep<MadeToken>,
    ) -> Result<MadeToken, Problem> {
        let tenant = permit.tenant();
        self.require_own_publisher(tenant, publisher).await?;
        let (new, token) = new_token(ask)?;
        let event = of_publisher(publisher, made(cx, permit.action(), &new));
        let own = self.details.seal(Chain::Tenant(tenant), event.clone()).await?;
        let event = self.details.seal(Chain::Host, event).await?;
        let made = MadeToken { id: new.id.clone(), token };
        let mut tx = self.store.system_write("make a token of a tenant's own publisher").await?;
        tx.create_token(&Scope::Publisher(publisher.clone()), &new).await?;
        self.keep_of(&mut tx, tenant, keep, &made).await?;
        tx.append(tenant, &[own]).await?;
        tx.commit(event).await?;
        Ok(made)
    }

    /// The tokens of a publisher that the tenant owns, behind `after`, in a stable order.
    pub async fn publisher_tokens(
        &self,
        permit: &Permit<ListTokens>,
        publisher: &Publisher,
        after: Option<&TokenId>,
        limit: u32,
    ) -> Result<Vec<Token>, Problem> {
        self.require_own_publisher(permit.tenant(), publisher).await?;
        let scope = Scope::Publisher(publisher.clone());
        Ok(self.store.system("list tokens").await?.tokens(&scope, after, limit).await?)
    }

    /// Ends a token of a publisher that the tenant owns, at once.
    pub async fn revoke_publisher_token(
        &self,
        cx: &Context,
        permit: &Permit<RevokeToken>,
        publisher: &Publisher,
        id: &TokenId,
        keep: Keep<()>,
    ) -> Result<(), Problem> {
        let tenant = permit.tenant();
        self.require_own_publisher(tenant, publisher).await?;
        let event = Event::by(cx, permit.action(), format!("token:{id}"), Outcome::Success);
        let event = of_publisher(publisher, event);
        let own = self.details.seal(Chain::Tenant(tenant), event.clone()).await?;
        let event = self.details.seal(Chain::Host, event).await?;
        let mut tx = self.store.system_write("revoke a token of a tenant's own publisher").await?;
        if !tx.revoke_token(&Scope::Publisher(publisher.clone()), id, now_us()).await? {
            return Err(Problem::NotFound("token"));
        }
        self.keep_of(&mut tx, tenant, keep, &()).await?;
        tx.append(tenant, &[own]).await?;
        tx.commit(event).await?;
        self.auth.forget(id).await;
        Ok(())
    }

    /// Makes a token for a publisher, or for the host itself.
    pub async fn create_host_token(
        &self,
        cx: &Context,
        permit: &Permit<CreateHostToken, HostResource>,
        publisher: Option<Publisher>,
        ask: TokenAsk,
        keep: Keep<MadeToken>,
    ) -> Result<MadeToken, Problem> {
        let scope = match (publisher, ask.role) {
            (Some(publisher), Role::Publisher) => {
                if self.store.system("look up a publisher").await?.publisher(&publisher).await?.is_none() {
                    let detail =
                        format!("there is no publisher {publisher}; register it with `clawhold publisher add` first");
                    return Err(Problem::invalid("publisher", detail));
                }
                Scope::Publisher(publisher)
            }
            (None, Role::Operator) => Scope::Host,
            (Some(_), role) => {
                let detail = format!("a publisher's token cannot have the role {role}; use publisher");
                return Err(Problem::invalid("role", detail));
            }
            (None, role) => {
                let detail = format!("a token with the role {role} belongs to a tenant or a publisher; name it");
                return Err(Problem::invalid("role", detail));
            }
        };
        self.make_host_token(cx, permit.action(), &scope, ask, |_| Ok(()), keep).await
    }

    /// Tokens of the host, or of one publisher.
    pub async fn host_tokens(
        &self,
        _permit: &Permit<ListHostTokens, HostResource>,
        publisher: Option<Publisher>,
        after: Option<&TokenId>,
        limit: u32,
    ) -> Result<Vec<Token>, Problem> {
        let scope = publisher.map_or(Scope::Host, Scope::Publisher);
        Ok(self.store.system("list tokens").await?.tokens(&scope, after, limit).await?)
    }

    /// Ends a token of the host or of a publisher, at once.
    pub async fn revoke_host_token(
        &self,
        cx: &Context,
        permit: &Permit<RevokeHostToken, HostResource>,
        id: &TokenId,
        keep: Keep<()>,
    ) -> Result<(), Problem> {
        let event = Event::by(cx, permit.action(), format!("token:{id}"), Outcome::Success);
        let event = self.details.seal(Chain::Host, event).await?;
        let mut tx = self.store.system_write("revoke a token").await?;
        let token = tx.token(id).await?.ok_or(Problem::NotFound("token"))?;
        if matches!(token.scope, Scope::Tenant(_)) || !tx.revoke_token(&token.scope, id, now_us()).await? {
            return Err(Problem::NotFound("token"));
        }
        self.keep_on_the_host(&mut tx, keep, &()).await?;
        tx.commit(event).await?;
        self.auth.forget(id).await;
        Ok(())
    }

    /// Makes the first operator's token, if no operator's token was ever made. `keep` puts it where an operator finds
    /// it, before it is committed: a host that stops in between makes another at its next start.
    pub async fn first_operator_token(
        &self,
        keep: impl FnOnce(&SecretString) -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<Option<MadeToken>> {
        // A login of one tenant neither sees the host's tokens nor makes any.
        if self.store.pinned().await?.is_some() {
            return Ok(None);
        }
        if !self.store.system("first start").await?.tokens(&Scope::Host, None, 1).await?.is_empty() {
            return Ok(None);
        }
        let cx = Context::of_host("first start", Scope::Host, Role::Operator);
        let ask = TokenAsk { name: "first-operator".to_owned(), role: Role::Operator, skills: None, expires_us: None };
        Ok(Some(self.make_host_token(&cx, "host-token.create", &Scope::Host, ask, keep, Keep::nothing()).await?))
    }

    async fn make_host_token(
        &self,
        cx: &Context,
        action: &str,
        scope: &Scope,
        ask: TokenAsk,
        put: impl FnOnce(&SecretString) -> anyhow::Result<()> + Send,
        keep: Keep<MadeToken>,
    ) -> Result<MadeToken, Problem> {
        let (new, token) = new_token(ask)?;
        let mut event = made(cx, action, &new);
        if let Scope::Publisher(publisher) = scope {
            event = of_publisher(publisher, event);
        }
        let event = self.details.seal(Chain::Host, event).await?;
        let mut tx = self.store.system_write("make a token").await?;
        tx.create_token(scope, &new).await?;
        put(&token).map_err(|e| Problem::internal("a token could not be kept", format!("{e:#}")))?;
        let made = MadeToken { id: new.id, token };
        self.keep_on_the_host(&mut tx, keep, &made).await?;
        tx.commit(event).await?;
        Ok(made)
    }
}

fn made(cx: &Context, action: &str, new: &NewToken) -> Event {
    let detail = serde_json::json!({
        "name": new.name, "role": new.role.as_str(), "skills": new.skills, "expires_us": new.expires_us,
    });
    Event::by(cx, action, format!("token:{}", new.id), Outcome::Success).with(&detail)
}

fn of_publisher(publisher: &Publisher, event: Event) -> Event {
    Event { resource: format!("publisher:{publisher} {}", event.resource), ..event }
}

fn new_token(ask: TokenAsk) -> Result<(NewToken, SecretString), Problem> {
    let name = ask.name.trim();
    if name.is_empty() || name.len() > NAME_BYTES || name.chars().any(|c| c.is_control() || c == '#') {
        return Err(Problem::invalid("name", format!("write 1 to {NAME_BYTES} printable bytes without #")));
    }
    if ask.expires_us.is_some_and(|end| end <= now_us()) {
        return Err(Problem::invalid("expires", "it lies in the past; use a later time"));
    }
    // 128 bits of an id that is only a name, and 256 bits that nobody can guess.
    let mut random = [0; 48];
    getrandom::fill(&mut random).map_err(|e| Problem::internal("no randomness for a token", e))?;
    let (id, secret) = (hex::encode(&random[..16]), hex::encode(&random[16..]));
    let token = SecretString::from(format!("clw_{id}_{secret}"));
    let new = NewToken {
        id: id.parse().map_err(|e| Problem::internal("a token's id", e))?,
        name: name.to_owned(),
        role: ask.role,
        hash: TokenHash(auth::hash(&secret)),
        skills: ask.skills,
        created_us: now_us(),
        expires_us: ask.expires_us,
    };
    Ok((new, token))
}
