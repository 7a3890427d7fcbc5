//! Access tokens of OAuth 2.0 (RFC 6749): client credentials and refresh tokens. The host fetches them by the way that the install's own
//! requests take, so the policy says where a client's secret may go, and keeps them until they are about to end.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clawhold_sandbox::contract::clawhold::skill::http::{Error, Rule};
use clawhold_secret_store::{Change, SecretError, SecretValue};
use clawhold_tenancy::audit::{Event, Outcome, now_us};
use clawhold_tenancy::limits::SECRET_BYTES;
use clawhold_tenancy::policy::Method;
use clawhold_tenancy::{RunLimits, SecretName};
use moka::future::Cache;
use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicTokenResponse};
use oauth2::{
    AsyncHttpClient, AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, RefreshToken, RequestTokenError,
    Scope, TokenResponse as _, TokenUrl,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout_at;
use zeroize::Zeroizing;

use crate::exits::{Exits, Wanted, refuse, send};
use crate::http::Bounds;
use crate::{Authority, Journal, lock};

/// Bytes of a token server's answer: a token with all that is said of it is smaller.
const ANSWER_BYTES: u64 = 64 * 1024;
/// A token is used no more this long before it ends: a request is under way for a while.
const EARLY: Duration = Duration::from_secs(30);
/// How long a token is used of which its server does not say how long it is good.
const UNSAID: Duration = Duration::from_mins(5);
/// And of which it says that it is good for ever.
const LONGEST: Duration = Duration::from_hours(1);
/// Tokens at a time, and how long one stays that nobody uses.
const TOKENS: u64 = 10_000;
const IDLE: Duration = Duration::from_mins(10);

#[derive(Clone)]
struct Token {
    value: SecretValue,
    until: Instant,
}

type Slot = Arc<AsyncMutex<Option<Token>>>;

/// The tokens of a host, each for one tenant, one version of one package and one value of the secret.
pub struct AccessTokens(Cache<[u8; 32], Slot>);

impl Default for AccessTokens {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(TOKENS).time_to_idle(IDLE).build())
    }
}

impl AccessTokens {
    /// Whoever holds a slot fetches its token, and others wait for that.
    async fn slot(&self, authority: &Authority, name: &SecretName, value: &SecretValue) -> Slot {
        self.0.get_with(key(authority, name, value), async { Slot::default() }).await
    }

    pub(super) async fn forget(&self, authority: &Authority, name: &SecretName, value: &SecretValue) {
        self.0.invalidate(&key(authority, name, value)).await;
    }
}

fn key(authority: &Authority, name: &SecretName, value: &SecretValue) -> [u8; 32] {
    let mut hash = Sha256::new();
    // The agent is the package and its version.
    for part in
        [authority.tenant.as_str().as_bytes(), authority.agent.as_bytes(), name.as_str().as_bytes(), value.expose()]
    {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A run that needs a token.
pub(super) struct Asking {
    pub(super) authority: Authority,
    pub(super) limits: RunLimits,
    pub(super) journal: Arc<Mutex<Journal>>,
    pub(super) bounds: Bounds,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("no request")]
    Request(Error),
    /// The grant is not good, or not any more.
    #[error("the grant is refused")]
    Grant,
}

/// How a token's request goes out. Borrows nothing, for what it implements has a lifetime of its own.
struct Way {
    asking: Arc<Asking>,
    secret: SecretName,
}

impl AsyncHttpClient<'_> for Way {
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Failed>> + Send>>;

    fn call(&self, request: HttpRequest) -> Self::Future {
        let (asking, secret) = (Arc::clone(&self.asking), self.secret.clone());
        Box::pin(async move { asking.exchange(&secret, request).await })
    }
}

impl Asking {
    /// A token that is good for a while.
    pub(super) async fn token(
        self: &Arc<Self>,
        name: &SecretName,
        version: i64,
        value: &SecretValue,
    ) -> Result<SecretValue, Error> {
        let slot = self.authority.backends.tokens.slot(&self.authority, name, value).await;
        let late = || refuse(Rule::Deadline, "the access token did not come in time");
        let Ok(mut held) = timeout_at(self.bounds.deadline.into(), slot.lock()).await else { return late() };
        if let Some(token) = held.as_ref().filter(|token| Instant::now() < token.until) {
            return Ok(token.value.clone());
        }
        let token = self.fetch_newest(name, version, value).await?;
        let value = token.value.clone();
        *held = Some(token);
        Ok(value)
    }

    /// Fetches a token. Where a refresh token is good once, another host may have used this one: then there is a newer.
    async fn fetch_newest(
        self: &Arc<Self>,
        name: &SecretName,
        version: i64,
        value: &SecretValue,
    ) -> Result<Token, Error> {
        let refused = || {
            let why = format!("the token server does not accept the secret {name}; the tenant's admin puts it anew");
            self.log(&why);
            refuse(Rule::Credential, why)
        };
        match self.fetch(name, version, value).await {
            Err(Failed::Grant) => {}
            Err(Failed::Request(error)) => return Err(error),
            Ok(token) => return Ok(token),
        }
        let newer = self.authority.backends.secrets.get(&self.authority.tenant, name).await.ok().flatten();
        let Some(newer) = newer.filter(|newer| newer.version != version) else { return refused() };
        match self.fetch(name, newer.version, &newer.value).await {
            Err(Failed::Grant) => refused(),
            Err(Failed::Request(error)) => Err(error),
            Ok(token) => Ok(token),
        }
    }

    async fn fetch(self: &Arc<Self>, name: &SecretName, version: i64, value: &SecretValue) -> Result<Token, Failed> {
        let broken = |problem: &dyn std::fmt::Display| {
            let why = format!("the secret {name} gives no access token: {problem}");
            Failed::Request(Error { rule: Rule::Credential, message: why, sent: false })
        };
        let field = |field: &str| match value.field(field) {
            Ok(value) => Ok(value.expose_str().unwrap_or_default().to_owned()),
            Err(error) => Err(broken(&error)),
        };
        let mut client = BasicClient::new(ClientId::new(field("client_id")?))
            .set_client_secret(ClientSecret::new(field("client_secret")?))
            .set_token_uri(TokenUrl::new(field("token_url")?).map_err(|_| broken(&"its token_url is no URL"))?);
        if field("client_authentication").is_ok_and(|place| place == "body") {
            client = client.set_auth_type(AuthType::RequestBody);
        }
        let scopes = field("scope").unwrap_or_default();
        let scopes = scopes.split_ascii_whitespace().map(|scope| Scope::new(scope.to_owned()));
        let send = Way { asking: Arc::clone(self), secret: name.clone() };
        let refresh = field("refresh_token").ok().map(RefreshToken::new);
        let answer = if let Some(token) = &refresh {
            client.exchange_refresh_token(token).add_scopes(scopes).request_async(&send).await
        } else {
            let mut request = client.exchange_client_credentials().add_scopes(scopes);
            if let Ok(audience) = field("audience") {
                request = request.add_extra_param("audience", audience);
            }
            request.request_async(&send).await
        };
        let answer: BasicTokenResponse = answer.map_err(|error| match error {
            RequestTokenError::Request(failed) => failed,
            RequestTokenError::ServerResponse(said) => match said.error() {
                BasicErrorResponseType::InvalidGrant | BasicErrorResponseType::InvalidClient => Failed::Grant,
                BasicErrorResponseType::Extension(_) => broken(&"its server refused for a reason of its own"),
                known => broken(&format_args!("its server says {known}")),
            },
            // What it holds may be a token.
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => broken(&"its server's answer is no token"),
        })?;
        let good_for = answer.expires_in().map_or(UNSAID, |said| said.min(LONGEST));
        // One that ends sooner than a request takes is good for this one.
        let until = Instant::now() + good_for.saturating_sub(EARLY);
        let token = Token { value: SecretValue::from(answer.access_token().secret().clone()), until };
        if let (Some(old), Some(new)) = (refresh, answer.refresh_token())
            && old.secret() != new.secret()
            && let Some(renewed) = self.renew(name, version, value, new).await
        {
            // Runs that begin from now on know the secret by its new value. Nobody waits for one slot with another in hand.
            let slot = self.authority.backends.tokens.slot(&self.authority, name, &renewed).await;
            if let Ok(mut held) = slot.try_lock() {
                *held = Some(token.clone());
            }
        }
        Ok(token)
    }

    /// Puts the new refresh token in place of the one that was used, if nobody has put another secret meanwhile.
    async fn renew(
        &self,
        name: &SecretName,
        version: i64,
        value: &SecretValue,
        new: &RefreshToken,
    ) -> Option<SecretValue> {
        let mut fields: BTreeMap<String, Zeroizing<String>> = serde_json::from_slice(value.expose()).ok()?;
        fields.insert("refresh_token".to_owned(), Zeroizing::new(new.secret().clone()));
        let renewed = SecretValue::from(serde_json::to_string(&fields).ok()?);
        if renewed.expose().len() as u64 > SECRET_BYTES {
            self.log(&format!(
                "the new refresh token of {name} is too long to be kept: a secret has {SECRET_BYTES} bytes at most"
            ));
            return None;
        }
        let Authority { tenant, backends, run, trace, .. } = &self.authority;
        let event = Event {
            at_us: now_us(),
            actor: "host".to_owned(),
            action: "secret.renew".to_owned(),
            resource: format!("secret:{name}"),
            outcome: Outcome::Success,
            run: Some(*run),
            trace: trace.clone(),
            detail: Vec::new(),
        };
        let change = Change { over: Some(version), ..Change::told(event) };
        match backends.secrets.put(tenant, name, renewed.clone(), change).await {
            Ok(_) => Some(renewed),
            Err(SecretError::Changed) => None,
            Err(error) => {
                tracing::error!(tenant_id = %tenant, secret = %name, %error, "a new refresh token could not be kept");
                self.log(&format!(
                    "the new refresh token of {name} could not be kept; put the secret anew if it is refused"
                ));
                None
            }
        }
    }

    /// One request, by the way that the run's own take.
    async fn exchange(&self, name: &SecretName, request: HttpRequest) -> Result<HttpResponse, Failed> {
        let exits = Exits { authority: Some(&self.authority), limits: &self.limits, journal: &self.journal };
        let told = exits.begin(Method::Post.as_str());
        told.change(|told| told.credential = Some(name.to_string()));
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string();
        let wanted = Wanted {
            method: Method::Post,
            url: &url,
            fields: parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect(),
            body: body.into(),
        };
        let answer = match exits.vet(wanted, std::slice::from_ref(name), &told) {
            Ok((authority, outgoing)) => {
                let response_bytes = self.bounds.response_bytes.min(ANSWER_BYTES);
                send(&authority, outgoing, Bounds { response_bytes, ..self.bounds }, &told).await
            }
            Err(error) => Err(error),
        };
        let answer = told.ended(answer).map_err(|error| {
            // The skill's own request was not sent.
            let message = format!("no access token for the secret {name}: {}", error.message);
            Failed::Request(Error { message, sent: false, ..error })
        })?;
        if !matches!(answer.status, 200..=299 | 400..=499) {
            let why = format!("no access token for the secret {name}: its server answered {}", answer.status);
            self.log(&why);
            return Err(Failed::Request(Error { rule: Rule::Unavailable, message: why, sent: false }));
        }
        let mut response = HttpResponse::new(answer.body.to_vec());
        *response.status_mut() = http::StatusCode::from_u16(answer.status).unwrap_or_default();
        *response.headers_mut() = answer.headers;
        Ok(response)
    }

    fn log(&self, line: &str) {
        lock(&self.journal).line(self.limits.log_lines, format!("warn http: {line}"));
    }
}
