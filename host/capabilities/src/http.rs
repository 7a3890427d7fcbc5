//! `clawhold:skill/http`: a guest's request becomes an [`Outgoing`] one only after every rule has passed.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use clawhold_sandbox::contract::SecretHandle;
use clawhold_sandbox::contract::clawhold::skill::http::{
    Credential, Error, Header, Host, Method as GuestMethod, Request, Response, Rule,
};
use clawhold_tenancy::policy::{Denial, Method};
use clawhold_tenancy::{SecretName, TenantId};
use http::{HeaderMap, HeaderValue, header};
use url::Url;
use wasmtime::component::Resource;

use crate::RunHost;
use crate::exits::{Exits, HEADER_BYTES, URL_BYTES, Wanted, field_name, refuse, send};
use crate::redirect;
use crate::secrets::text;

/// A request that has passed every rule.
#[derive(Clone)]
pub struct Outgoing {
    /// For whom.
    pub tenant: TenantId,
    /// The method.
    pub method: Method,
    /// Where to. Holds the credential if that is a query parameter.
    pub url: Url,
    /// The fields, with the credential if that is one.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Where the credential is and which secrets it is made of; never a value.
    pub credential: Option<Applied>,
}

/// A credential as it was put on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// `bearer`, `basic`, `header` or `query`.
    pub kind: &'static str,
    /// The secrets, by name.
    pub secrets: Vec<SecretName>,
}

/// What an exchange may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// When it is over.
    pub deadline: Instant,
    /// Bytes of the answer's fields and body.
    pub response_bytes: u64,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The status.
    pub status: u16,
    /// The fields.
    pub headers: HeaderMap,
    /// The body, decoded.
    pub body: Bytes,
    /// Bytes of fields and body as they came.
    pub wire_bytes: u64,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportError {
    /// Which rule ended it.
    pub rule: Rule,
    /// For the skill's author and the tenant's admin. Never a credential.
    pub message: String,
    /// Whether any byte may have reached the server.
    pub sent: bool,
    /// Who said no, if somebody did.
    pub denial: Option<Denial>,
}

/// How requests leave: the network, or a script in a test.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Exchanges one request for one answer within the bounds. Follows no redirect, and repeats nothing that a server may have seen.
    async fn send(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, TransportError>;

    /// Whether a request of this tenant to this URL could connect, as far as addresses are concerned. Connects to nothing.
    ///
    /// # Errors
    ///
    /// As `send` would fail before it connects.
    async fn check(&self, tenant: &TenantId, url: &Url) -> Result<(), TransportError> {
        // What is no network has no addresses.
        let _ = (tenant, url);
        Ok(())
    }
}

/// Bytes of a credential's name and prefix together: a field's name, and a word.
const PLACE_BYTES: usize = 256;
/// What a header field takes beside its text: two pointers and two lengths.
const FIELD_BYTES: usize = 16;

impl Host for RunHost {
    async fn send(&mut self, request: Request) -> wasmtime::Result<Result<Response, Error>> {
        let fields: usize = request.headers.iter().map(|f| f.name.len() + f.value.len() + FIELD_BYTES).sum();
        let named = match &request.credential {
            Some(Credential::Header(named) | Credential::Query(named)) => named.name.len() + named.prefix.len(),
            _ => 0,
        };
        self.charge(request.url.len() + fields + named + request.body.as_ref().map_or(0, Vec::len))?;
        let answer = self.exchange(request).await?;
        let answer = answer.map(response);
        if let Ok(response) = &answer {
            let fields: usize = response.headers.iter().map(|f| f.name.len() + f.value.len() + FIELD_BYTES).sum();
            self.lower(response.body.len() + fields)?;
        }
        Ok(answer)
    }
}

impl RunHost {
    fn exits(&self) -> Exits<'_> {
        Exits { authority: self.authority.as_ref(), limits: &self.limits, journal: &self.journal }
    }

    /// The request, and those that its answers lead to.
    async fn exchange(&mut self, request: Request) -> wasmtime::Result<Result<Incoming, Error>> {
        let Request { method: asked, url, headers, body, timeout_ms, credential } = request;
        let secrets = self.secrets_of(credential.as_ref())?;
        let asked_time = timeout_ms.map(|ms| Duration::from_millis(ms.into()));
        let mut told = self.exits().begin(method(asked).as_str());
        let wanted = Wanted {
            method: method(asked),
            url: &url,
            fields: headers.iter().map(|field| (field.name.as_str(), field.value.as_bytes())).collect(),
            body: body.unwrap_or_default().into(),
        };
        let vetted = self.exits().vet(wanted, &secrets, &told);
        let (authority, mut bare) = match vetted {
            Ok(vetted) => vetted,
            Err(error) => return Ok(told.ended(Err(error))),
        };
        // One time for all of them.
        let bounds = self.exits().bounds(&authority, asked_time);
        let mut credential = credential.as_ref();
        for redirects in 0.. {
            let mut outgoing = bare.clone();
            if let Some(credential) = credential
                && let Err(problem) = self.apply(credential, &mut outgoing, secrets.clone())?
            {
                return Ok(told.ended(refuse(Rule::Credential, problem)).map_err(|error| behind(redirects, error)));
            }
            told.change(|told| told.credential = outgoing.credential.as_ref().map(|put_on| names(&put_on.secrets)));
            let follows = authority.policy.follows(outgoing.method, &outgoing.url);
            let answer = told.ended(send(&authority, outgoing, bounds, &told).await);
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return Ok(Err(behind(redirects, error))),
            };
            let Some(to) = redirect::location(&answer).filter(|_| follows) else { return Ok(Ok(answer)) };
            if redirects == redirect::MOST {
                let many = format!("the answer redirects a {}th time, and {redirects} are followed", redirects + 1);
                return Ok(redirect::refused(Rule::Policy, &many));
            }
            let next = match redirect::next(&bare, answer.status, to) {
                Ok(next) => next,
                Err(problem) => return Ok(redirect::refused(Rule::Policy, &problem)),
            };
            told = self.exits().begin(next.method.as_str());
            // What belongs to one origin stays there.
            let is_elsewhere = next.url.origin() != bare.url.origin();
            credential = credential.filter(|_| !is_elsewhere);
            let carried: &[SecretName] = if credential.is_some() { &secrets } else { &[] };
            bare = match self.exits().vet_again(next, carried, &told) {
                Ok(vetted) => vetted,
                Err(error) => {
                    let refused = redirect::refused(error.rule, &error.message);
                    return Ok(told.ended(refused));
                }
            };
        }
        unreachable!("the loop ends with the last redirect")
    }

    fn secrets_of(&self, credential: Option<&Credential>) -> wasmtime::Result<Vec<SecretName>> {
        let handles: Vec<&Resource<SecretHandle>> = match credential {
            None => Vec::new(),
            Some(Credential::Bearer(value)) => vec![value],
            Some(Credential::Basic(basic)) => vec![&basic.username, &basic.password],
            Some(Credential::Header(named) | Credential::Query(named)) => vec![&named.value],
        };
        let mut names = handles.into_iter().map(|handle| self.name(handle)).collect::<wasmtime::Result<Vec<_>>>()?;
        names.dedup();
        Ok(names)
    }

    /// Puts the credential on a request that the policy has allowed.
    fn apply(
        &self,
        credential: &Credential,
        to: &mut Outgoing,
        secrets: Vec<SecretName>,
    ) -> wasmtime::Result<Result<(), String>> {
        // The user of a basic credential is a name, and no secret.
        self.expose(match credential {
            Credential::Bearer(value) => value,
            Credential::Basic(basic) => &basic.password,
            Credential::Header(named) | Credential::Query(named) => &named.value,
        })?;
        if let Credential::Header(named) | Credential::Query(named) = credential
            && named.name.len() + named.prefix.len() > PLACE_BYTES
        {
            return Ok(Err(format!("a credential's name and prefix may have {PLACE_BYTES} bytes together")));
        }
        let (kind, name, value) = match credential {
            Credential::Bearer(handle) => {
                let value = format!("Bearer {}", text(&self.value(handle)?)?);
                ("bearer", header::AUTHORIZATION, value)
            }
            Credential::Basic(basic) => {
                let (user, password) = (self.value(&basic.username)?, self.value(&basic.password)?);
                if text(&user)?.contains(':') {
                    return Ok(Err("the user name has a colon, which HTTP Basic cannot carry".to_owned()));
                }
                let pair = BASE64_STANDARD.encode(format!("{}:{}", text(&user)?, text(&password)?));
                ("basic", header::AUTHORIZATION, format!("Basic {pair}"))
            }
            Credential::Header(named) => {
                let name = match field_name(&named.name) {
                    Ok(name) => name,
                    Err(problem) => return Ok(Err(problem)),
                };
                ("header", name, format!("{}{}", named.prefix, text(&self.value(&named.value)?)?))
            }
            Credential::Query(named) => {
                let value = format!("{}{}", named.prefix, text(&self.value(&named.value)?)?);
                to.url.query_pairs_mut().append_pair(&named.name, &value);
                if to.url.as_str().len() > URL_BYTES {
                    return Ok(Err(format!("with the credential the URL has more than {URL_BYTES} bytes")));
                }
                to.credential = Some(Applied { kind: "query", secrets });
                return Ok(Ok(()));
            }
        };
        if to.headers.contains_key(&name) {
            return Ok(Err(format!("the request already has the header {name}, which the credential would set")));
        }
        if value.len() > HEADER_BYTES {
            return Ok(Err(format!("the credential has more than the {HEADER_BYTES} bytes that a header may have")));
        }
        let Ok(mut value) = HeaderValue::try_from(value) else {
            let problem = format!("the stored value of {} has characters that a header cannot carry", names(&secrets));
            return Ok(Err(problem));
        };
        value.set_sensitive(true);
        to.headers.insert(name, value);
        to.credential = Some(Applied { kind, secrets });
        Ok(Ok(()))
    }
}

/// What is told of a request that stands behind so many others: those were sent, whatever became of it.
fn behind(redirects: u32, error: Error) -> Error {
    Error { sent: error.sent || redirects > 0, ..error }
}

fn response(incoming: Incoming) -> Response {
    let headers = incoming.headers.iter().map(|(name, value)| Header {
        name: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    });
    Response { status: incoming.status, headers: headers.collect(), body: incoming.body.into() }
}

fn names(secrets: &[SecretName]) -> String {
    secrets.iter().map(SecretName::as_str).collect::<Vec<_>>().join(" and ")
}

fn method(method: GuestMethod) -> Method {
    match method {
        GuestMethod::Get => Method::Get,
        GuestMethod::Head => Method::Head,
        GuestMethod::Post => Method::Post,
        GuestMethod::Put => Method::Put,
        GuestMethod::Patch => Method::Patch,
        GuestMethod::Delete => Method::Delete,
        GuestMethod::Options => Method::Options,
    }
}
