//! `clawhold:skill/http`: a guest's request becomes an [`Outgoing`] one only after every rule has passed.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use clawhold_sandbox::contract::clawhold::skill::http::{
    Credential, Error, Header, Host, Method as GuestMethod, Request, Response, Rule,
};
use clawhold_tenancy::policy::{Denial, Method};
use clawhold_tenancy::{SecretName, TenantId};
use http::HeaderMap;
use url::Url;

use crate::RunHost;
use crate::credential::names;
use crate::exits::{Exits, Wanted, send};
use crate::redirect;

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
    /// `bearer`, `basic`, `header`, `query`, or the kind of a secret that signs.
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
    pub(crate) fn exits(&self) -> Exits<'_> {
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
                && let Err(error) = self.apply(credential, &mut outgoing, secrets.clone(), bounds).await?
            {
                return Ok(told.ended(Err(behind(redirects, error))));
            }
            told.change(|told| told.credential = outgoing.credential.as_ref().map(|put_on| names(&put_on.secrets)));
            let follows = authority.policy.follows(outgoing.method, &outgoing.url);
            let answer = told.ended(send(&authority, outgoing, bounds, &told).await);
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return Ok(Err(behind(redirects, error))),
            };
            if answer.status == 401 && credential.is_some() {
                self.forget_tokens(&secrets).await;
            }
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
