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
use clawhold_tenancy::SecretName;
use clawhold_tenancy::policy::{Denial, Method};
use clawhold_tenancy::run::Egress;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::Url;
use wasmtime::component::Resource;

use crate::RunHost;
use crate::secrets::text;

/// Bytes of a URL: what common servers accept.
const URL_BYTES: usize = 8192;
/// Header fields of a request, and bytes of all of them.
const HEADERS: usize = 64;
const HEADER_BYTES: usize = 32 * 1024;

/// Fields that frame a message or steer the connection. A guest that sets one could make two requests of one.
const RESERVED: [&str; 12] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-connection",
    "expect",
];

/// A request that has passed every rule.
#[derive(Clone)]
pub struct Outgoing {
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
    /// The body.
    pub body: Bytes,
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
}

/// How requests leave: the network, or a script in a test.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Exchanges one request for one answer within the bounds. Follows no redirect and retries nothing.
    async fn send(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, TransportError>;
}

impl Host for RunHost {
    async fn send(&mut self, request: Request) -> wasmtime::Result<Result<Response, Error>> {
        self.charge()?;
        let mut told = Egress {
            method: method(request.method).as_str().to_owned(),
            origin: String::new(),
            credential: None,
            status: None,
            refused: None,
            response_bytes: 0,
        };
        let answer = self.exchange(request, &mut told).await?;
        match &answer {
            Ok(response) => {
                told.status = Some(response.status);
                told.response_bytes = response.body.len() as u64;
            }
            Err(error) => told.refused = Some(word(error.rule).to_owned()),
        }
        self.note().egress.push(told);
        Ok(answer)
    }
}

impl RunHost {
    async fn exchange(&mut self, request: Request, told: &mut Egress) -> wasmtime::Result<Result<Response, Error>> {
        let Some(authority) = self.authority.clone() else {
            return Ok(refuse(Rule::Policy, "there is no network while a package describes itself"));
        };
        let most = self.limits.http_requests as usize;
        if self.note().egress.len() >= most {
            return Ok(refuse(Rule::Budget, format!("a run may make {most} requests")));
        }
        let url = match parse_url(&request.url) {
            Ok(url) => url,
            Err(problem) => return Ok(refuse(Rule::InvalidRequest, problem)),
        };
        told.origin = url.origin().ascii_serialization();
        let headers = match parse_headers(&request.headers) {
            Ok(headers) => headers,
            Err(problem) => return Ok(refuse(Rule::InvalidRequest, problem)),
        };
        let body = request.body.unwrap_or_default();
        if body.len() as u64 > self.limits.http_request_bytes {
            let most = self.limits.http_request_bytes;
            return Ok(refuse(Rule::Size, format!("the body has {} bytes, {most} are allowed", body.len())));
        }

        let method = method(request.method);
        let mut outgoing = Outgoing { method, url, headers, body: body.into(), credential: None };
        let secrets = self.secrets_of(request.credential.as_ref())?;
        if let Err(denial) = check(&authority.policy, &outgoing, &secrets) {
            return Ok(Err(denial));
        }
        if let Some(credential) = &request.credential
            && let Err(problem) = self.apply(credential, &mut outgoing, secrets)?
        {
            return Ok(refuse(Rule::Credential, problem));
        }
        told.credential = outgoing.credential.as_ref().map(|put_on| names(&put_on.secrets));

        let asked = request.timeout_ms.map_or(self.limits.http_timeout_ms, u64::from);
        let time = Duration::from_millis(asked.min(self.limits.http_timeout_ms));
        let bounds = Bounds {
            deadline: authority.deadline.min(Instant::now() + time),
            response_bytes: self.limits.http_response_bytes,
        };
        let answer = authority.backends.transport.send(outgoing, bounds).await;
        Ok(answer.map(response).map_err(|e| Error { rule: e.rule, message: e.message, sent: e.sent }))
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
                to.credential = Some(Applied { kind: "query", secrets });
                return Ok(Ok(()));
            }
        };
        if to.headers.contains_key(&name) {
            return Ok(Err(format!("the request already has the header {name}, which the credential would set")));
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

fn check(policy: &clawhold_tenancy::policy::Policy, request: &Outgoing, secrets: &[SecretName]) -> Result<(), Error> {
    let denied = |denial| {
        let (rule, message) = match denial {
            Denial::InvalidUrl(message) => (Rule::InvalidRequest, message),
            Denial::NoRule(message) => (Rule::Policy, message),
            Denial::Credential(message) => (Rule::Credential, message),
        };
        Error { rule, message, sent: false }
    };
    policy.allows(request.method, &request.url, None).map_err(denied)?;
    secrets.iter().try_for_each(|secret| policy.allows(request.method, &request.url, Some(secret)).map_err(denied))
}

fn parse_url(text: &str) -> Result<Url, String> {
    if text.len() > URL_BYTES {
        return Err(format!("the URL has {} bytes, {URL_BYTES} are allowed", text.len()));
    }
    // The parser drops these, so a URL that is shown would not be the one that is sent.
    if text.chars().any(|c| c.is_control() || c == ' ' || c == '\\') {
        return Err("the URL has control characters, spaces or backslashes; encode them".to_owned());
    }
    let url = Url::parse(text).map_err(|e| format!("the URL cannot be read ({e}); write https://host/path"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(format!("the scheme {} is not served; write https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL has user information; use a credential".to_owned());
    }
    if url.fragment().is_some() {
        return Err("the URL has a fragment, which is never sent; leave it out".to_owned());
    }
    Ok(url)
}

fn parse_headers(given: &[Header]) -> Result<HeaderMap, String> {
    if given.len() > HEADERS {
        return Err(format!("the request has {} header fields, {HEADERS} are allowed", given.len()));
    }
    let size: usize = given.iter().map(|field| field.name.len() + field.value.len()).sum();
    if size > HEADER_BYTES {
        return Err(format!("the header fields have {size} bytes, {HEADER_BYTES} are allowed"));
    }
    let mut headers = HeaderMap::with_capacity(given.len() + 4);
    for field in given {
        let name = field_name(&field.name)?;
        let value = HeaderValue::from_str(&field.value)
            .map_err(|_| format!("the value of the header {name} has characters that a header cannot carry"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

fn field_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::try_from(text).map_err(|_| {
        let shown: String = text.chars().take(64).collect();
        format!("{shown:?} is no header name")
    })?;
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("proxy-") {
        return Err(format!("the header {name} belongs to the host; leave it out"));
    }
    Ok(name)
}

fn response(incoming: Incoming) -> Response {
    let headers = incoming.headers.iter().map(|(name, value)| Header {
        name: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    });
    Response { status: incoming.status, headers: headers.collect(), body: incoming.body.into() }
}

fn refuse<T>(rule: Rule, message: impl Into<String>) -> Result<T, Error> {
    Err(Error { rule, message: message.into(), sent: false })
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

fn word(rule: Rule) -> &'static str {
    match rule {
        Rule::InvalidRequest => "invalid-request",
        Rule::Policy => "policy",
        Rule::Credential => "credential",
        Rule::Address => "address",
        Rule::Dns => "dns",
        Rule::Connect => "connect",
        Rule::Tls => "tls",
        Rule::Protocol => "protocol",
        Rule::Size => "size",
        Rule::Deadline => "deadline",
        Rule::Budget => "budget",
        Rule::Unavailable => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_18_a_guest_cannot_frame_a_message_itself() {
        let field = |name: &str, value: &str| Header { name: name.to_owned(), value: value.to_owned() };
        for bad in [
            field("Host", "evil.example.com"),
            field("Transfer-Encoding", "chunked"),
            field("CONTENT-LENGTH", "0"),
            field("TE", "trailers"),
            field("Connection", "close, Authorization"),
            field("Proxy-Anything", "x"),
            field("X-A", "b\r\nGET /admin HTTP/1.1"),
            field("X-A\r\nX-B", "c"),
            field("X A", "c"),
            field("", "c"),
            field("X-A", "a\0b"),
        ] {
            assert!(parse_headers(std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
        assert!(parse_headers(&[field("Accept", "application/json"), field("X-A", "")]).is_ok());
        assert!(parse_headers(&vec![field("a", "b"); HEADERS + 1]).unwrap_err().contains("are allowed"));
        assert!(parse_headers(&[field("a", &"b".repeat(HEADER_BYTES))]).unwrap_err().contains("are allowed"));
    }

    #[test]
    fn a_url_is_read_one_way_or_refused() {
        for bad in [
            "",
            "/path",
            "ftp://x.com/",
            "https://u:p@x.com/",
            "https://x.com/#f",
            "https://x.com/a b",
            "https://x.com\\@evil.com/",
            "https://x.com/a\r\nb",
            "file:///etc/passwd",
            "https://",
        ] {
            assert!(parse_url(bad).is_err(), "{bad:?}");
        }
        assert!(parse_url(&format!("https://x.com/{}", "a".repeat(URL_BYTES))).is_err());
        assert_eq!(parse_url("https://0x7f.1/x").unwrap().host_str(), Some("127.0.0.1"));
    }
}
