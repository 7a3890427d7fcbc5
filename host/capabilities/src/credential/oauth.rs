//! Access tokens of OAuth 2.0 (RFC 6749): client credentials and refresh tokens. The host fetches them by the way that the install's own
//! requests take, so the policy says where a client's secret may go, and keeps them until they are about to end.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use clawhold_sandbox::contract::clawhold::skill::http::{Error, Rule};
use clawhold_secret_store::{Change, Over, SecretError, SecretValue, Versioned};
use clawhold_tenancy::audit::{Event, Outcome, now_us};
use clawhold_tenancy::limits::SECRET_BYTES;
use clawhold_tenancy::policy::Method;
use clawhold_tenancy::{RunLimits, SecretName, TenantId};
use http::{HeaderValue, header};
use moka::future::Cache;
use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicTokenResponse};
use oauth2::{
    AsyncHttpClient, AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, RefreshToken, RequestTokenError,
    Scope, TokenResponse as _, TokenUrl,
};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::timeout_at;
use tracing::Instrument as _;
use zeroize::Zeroizing;

use crate::exits::{Exits, HEADER_BYTES, Wanted, refuse, send};
use crate::http::Bounds;
use crate::{Authority, Journal, lock};

/// Bytes of a token server's answer: a token with all that is said of it is smaller.
const ANSWER_BYTES: u64 = 64 * 1024;
/// What fetching a token may take, whatever the run that wanted it has left: where a refresh token is good once, an answer that nobody waits
/// for would be its end.
const EXCHANGE: Duration = Duration::from_secs(30);
/// How long another host is believed to be fetching one: longer than it can.
const CLAIMED: Duration = Duration::from_mins(1);
/// A token is used no more this long before it ends: a request is under way for a while.
const EARLY: Duration = Duration::from_secs(30);
/// How long a token is used of which its server does not say how long it is good.
const UNSAID: Duration = Duration::from_mins(5);
/// And of which it says that it is good for ever.
const LONGEST: Duration = Duration::from_hours(1);
/// A server that does not know a token of this age would not know another: a skill that is told so again and again makes the host fetch no
/// more of them.
const LEAST: Duration = Duration::from_secs(5);
/// Bytes of all tokens that are kept, and how long one stays that nobody uses.
const KEPT_BYTES: u64 = 64 << 20;
const IDLE: Duration = Duration::from_mins(10);
/// Between two looks whether another host is done.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Clone)]
struct Token {
    value: SecretValue,
    fetched: Instant,
    until: Instant,
    /// The version of the secret that it was fetched with, and the one that it left behind.
    versions: RangeInclusive<i64>,
}

/// A tenant, a version of a package, and a secret.
type Key = (TenantId, HeaderValue, SecretName);

/// Whose turn it is to use a tenant's secret.
type Turns = HashMap<(TenantId, SecretName), Weak<AsyncMutex<()>>>;

/// The tokens of a host, each for one tenant, one version of one package and one version of the secret.
pub struct AccessTokens {
    kept: Cache<Key, Token>,
    turns: Mutex<Turns>,
}

impl Default for AccessTokens {
    fn default() -> Self {
        let weigh = |_: &Key, token: &Token| u32::try_from(token.value.expose().len() + 512).unwrap_or(u32::MAX);
        let kept = Cache::builder().max_capacity(KEPT_BYTES).weigher(weigh).time_to_idle(IDLE).build();
        Self { kept, turns: Mutex::default() }
    }
}

impl AccessTokens {
    /// A token that is good for a while, of a secret of this version.
    async fn good(&self, key: &Key, version: i64) -> Option<SecretValue> {
        let token = self.kept.get(key).await?;
        (Instant::now() < token.until && token.versions.contains(&version)).then_some(token.value)
    }

    /// Whoever has its turn fetches a token with this secret, and others wait for that, whatever package they are of: a refresh token that is
    /// sent twice may be the end of it.
    fn turn(&self, tenant: &TenantId, name: &SecretName) -> Arc<AsyncMutex<()>> {
        // Whole after a panic too: entries come and go one at a time.
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.clone(), name.clone());
        if let Some(turn) = turns.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(key, Arc::downgrade(&turn));
        turn
    }

    /// Waits until no token is being fetched: an exchange that is cut may be the end of a refresh token.
    pub async fn idle(&self) {
        let busy = || {
            let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.values().any(|turn| turn.strong_count() > 0)
        };
        while busy() {
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) async fn forget(&self, authority: &Authority, name: &SecretName) {
        let key = key(authority, name);
        if self.kept.get(&key).await.is_some_and(|token| token.fetched.elapsed() >= LEAST) {
            self.kept.invalidate(&key).await;
        }
    }
}

fn key(authority: &Authority, name: &SecretName) -> Key {
    // The agent is the package and its version.
    (authority.tenant.clone(), authority.agent.clone(), name.clone())
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
    pub(super) async fn token(self, name: &SecretName, version: i64) -> Result<SecretValue, Error> {
        let tokens = Arc::clone(&self.authority.backends.tokens);
        let key = key(&self.authority, name);
        if let Some(token) = tokens.good(&key, version).await {
            return Ok(token);
        }
        let deadline = self.bounds.deadline.into();
        let late = || refuse(Rule::Deadline, "the access token did not come in time");
        let turn = tokens.turn(&self.authority.tenant, name);
        let Ok(turn) = timeout_at(deadline, turn.lock_owned()).await else { return late() };
        if let Some(token) = tokens.good(&key, version).await {
            return Ok(token);
        }
        // Goes on when the run has ended, and holds its turn until then.
        let bounds = Bounds { deadline: Instant::now() + EXCHANGE, response_bytes: ANSWER_BYTES };
        let asking = Arc::new(Self { bounds, ..self });
        let name = name.clone();
        let fetch = async move {
            let _turn = turn;
            asking.fetch_newest(&name).await
        };
        match timeout_at(deadline, tokio::spawn(fetch.in_current_span())).await {
            Err(_) => late(),
            Ok(Err(_)) => refuse(Rule::Unavailable, "the host is stopping; call again in a moment"),
            Ok(Ok(fetched)) => fetched,
        }
    }

    /// Fetches a token with the secret as it is now, whatever the run has seen of it. Where a refresh token is good once, another host may
    /// have used the one before.
    async fn fetch_newest(self: &Arc<Self>, name: &SecretName) -> Result<SecretValue, Error> {
        let Authority { tenant, backends, .. } = &self.authority;
        let mut refused = None;
        loop {
            let found = self.newest(name).await?;
            if let Some(token) = backends.tokens.good(&key(&self.authority, name), found.version).await {
                return Ok(token);
            }
            if refused == Some(found.version) {
                let why =
                    format!("the token server does not accept the secret {name}; the tenant's admin puts it anew");
                self.log(&why);
                return refuse(Rule::Credential, why);
            }
            let is_used_up = found.value.field("refresh_token").is_ok();
            let holder = self.authority.run.to_string();
            if is_used_up && !backends.secrets.claim(tenant, name, &holder, CLAIMED).await.map_err(|e| self.away(&e))? {
                if Instant::now() + LOOK > self.bounds.deadline {
                    return refuse(Rule::Unavailable, "another host fetches the access token; call again in a moment");
                }
                tokio::time::sleep(LOOK).await;
                continue;
            }
            // Whoever had it until now may have left a newer one.
            let found = if is_used_up { self.newest(name).await } else { Ok(found) };
            let fetched = match found {
                Ok(found) => (found.version, self.fetch(name, found.version, &found.value).await),
                Err(error) => (0, Err(Failed::Request(error))),
            };
            if is_used_up && let Err(error) = backends.secrets.release(tenant, name, &holder).await {
                tracing::warn!(tenant_id = %tenant, secret = %name, %error, "other hosts wait for a token longer than they need");
            }
            match fetched {
                (_, Ok(token)) => return Ok(token),
                (_, Err(Failed::Request(error))) => return Err(error),
                (version, Err(Failed::Grant)) => refused = Some(version),
            }
        }
    }

    /// The secret as it is kept now.
    async fn newest(&self, name: &SecretName) -> Result<Versioned, Error> {
        let Authority { tenant, backends, .. } = &self.authority;
        let found = backends.secrets.get_now(tenant, name).await.map_err(|error| self.away(&error))?;
        found.map_or_else(|| refuse(Rule::Credential, format!("the secret {name} was deleted")), Ok)
    }

    fn away(&self, error: &SecretError) -> Error {
        tracing::warn!(tenant_id = %self.authority.tenant, %error, "the secret store did not answer");
        let message = "the secret store did not answer; call again later".to_owned();
        Error { rule: Rule::Unavailable, message, sent: false }
    }

    async fn fetch(
        self: &Arc<Self>,
        name: &SecretName,
        version: i64,
        value: &SecretValue,
    ) -> Result<SecretValue, Failed> {
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
        let now = Instant::now();
        // One that ends sooner than a request takes is good for this one.
        let until = now + answer.expires_in().map_or(UNSAID, |said| said.min(LONGEST).saturating_sub(EARLY));
        let fetched = SecretValue::from(answer.access_token().secret().clone());
        let mut newest = version;
        if let (Some(old), Some(new)) = (refresh, answer.refresh_token())
            && old.secret() != new.secret()
        {
            // Runs that begin from now on know the secret by its new version.
            newest = self.renew(name, version, value, new).await.unwrap_or(version);
        }
        // What no header could carry would only take room from others.
        if fetched.expose().len() > HEADER_BYTES {
            return Err(broken(&format_args!("it is longer than the {HEADER_BYTES} bytes of all header fields")));
        }
        let token = Token { value: fetched.clone(), fetched: now, until, versions: version..=newest };
        self.authority.backends.tokens.kept.insert(key(&self.authority, name), token).await;
        Ok(fetched)
    }

    /// Puts the new refresh token in place of the one that was used, if nobody has put another secret meanwhile. Says its version.
    async fn renew(&self, name: &SecretName, version: i64, value: &SecretValue, new: &RefreshToken) -> Option<i64> {
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
        loop {
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
            let change = Change { over: Over::UsedUp(version), ..Change::told(event) };
            let error = match backends.secrets.put(tenant, name, renewed.clone(), change).await {
                Ok(version) => return Some(version),
                Err(SecretError::Changed) => return None,
                Err(error) => error,
            };
            // The old one is used up and there is no other copy of this one.
            if matches!(error, SecretError::Unavailable(_)) && Instant::now() + LOOK < self.bounds.deadline {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            tracing::error!(tenant_id = %tenant, secret = %name, %error, "a new refresh token could not be kept");
            self.log(&format!(
                "the new refresh token of {name} could not be kept; put the secret anew if it is refused"
            ));
            return None;
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
            Ok((authority, mut outgoing)) => {
                // A client's secret is never printed by what carries it.
                if let Some(authorization) = outgoing.headers.get_mut(header::AUTHORIZATION) {
                    authorization.set_sensitive(true);
                }
                send(&authority, outgoing, self.bounds, &told).await
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
