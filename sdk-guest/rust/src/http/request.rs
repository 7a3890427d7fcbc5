//! A request, built step by step.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use serde::Serialize;

use super::{Error, Method, Response, Rule};
use crate::secrets::Secret;
use crate::wire;

/// A request that was not sent yet.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until `send`"]
pub struct Request {
    parts: Parts,
    /// What went wrong while it was built; `send` reports it, so that the steps can be chained.
    defect: Option<String>,
}

/// What goes to the host.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) timeout_ms: Option<u32>,
    pub(crate) credential: Option<Credential>,
}

/// Where the host puts a secret.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    Bearer(Secret),
    Basic { username: Secret, password: Secret },
    Header { name: String, prefix: String, value: Secret },
    Query { name: String, value: Secret },
}

impl Request {
    pub(super) fn new(method: Method, url: impl Into<String>) -> Self {
        let parts = Parts { method, url: url.into(), headers: vec![], body: None, timeout_ms: None, credential: None };
        Self { parts, defect: None }
    }

    /// Adds a header field. Never put a secret here: [`header_secret`](Self::header_secret) does it unseen.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parts.headers.push((name.into(), value.into()));
        self
    }

    /// Adds a query parameter. Name and value are percent-encoded, all but the unreserved characters of RFC 3986, so
    /// that no value can end the parameter or begin another.
    pub fn query(mut self, name: &str, value: impl Display) -> Self {
        let url = &mut self.parts.url;
        match url.find('?') {
            None => url.push('?'),
            Some(_) if url.ends_with(['?', '&']) => {}
            Some(_) => url.push('&'),
        }
        percent_encode(name, url);
        url.push('=');
        percent_encode(&value.to_string(), url);
        self
    }

    /// The body as it is, 4 MiB at most.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.parts.body = Some(body.into());
        self
    }

    /// The body as JSON, with `Content-Type: application/json` unless a content type was given before.
    pub fn json(mut self, body: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => self.parts.body = Some(body),
            Err(error) => self.defect = Some(format!("the body cannot be written as JSON: {error}")),
        }
        if !self.parts.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            self = self.header("content-type", "application/json");
        }
        self
    }

    /// How long to wait for the whole answer, in whole milliseconds. The host caps it by its own limit and by what is
    /// left of the run.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        // A timeout below a millisecond must not become "at once".
        let ms = timeout.as_millis().max(1);
        self.parts.timeout_ms = Some(u32::try_from(ms).unwrap_or(u32::MAX));
        self
    }

    /// The host sends `Authorization: Bearer VALUE` (RFC 6750). A request has one credential: the last one given.
    pub fn bearer(self, token: &Secret) -> Self {
        self.credential(Credential::Bearer(token.clone()))
    }

    /// The host sends `Authorization: Basic …` (RFC 7617).
    pub fn basic(self, username: &Secret, password: &Secret) -> Self {
        self.credential(Credential::Basic { username: username.clone(), password: password.clone() })
    }

    /// The host sends the header `name` with `prefix` and the secret's value, for example `Token ` before it.
    pub fn header_secret(self, name: impl Into<String>, prefix: impl Into<String>, value: &Secret) -> Self {
        self.credential(Credential::Header { name: name.into(), prefix: prefix.into(), value: value.clone() })
    }

    /// The host adds the query parameter `name` with the secret's value. Prefer a header: servers log URLs.
    pub fn query_secret(self, name: impl Into<String>, value: &Secret) -> Self {
        self.credential(Credential::Query { name: name.into(), value: value.clone() })
    }

    /// Sends the request and waits for the whole answer. Any status is an answer; see
    /// [`Response::error_for_status`].
    pub fn send(self) -> Result<Response, Error> {
        match self.defect {
            Some(message) => Err(Error::NoAnswer { rule: Rule::InvalidRequest, message, sent: false }),
            None => wire::send(self.parts),
        }
    }

    fn credential(mut self, credential: Credential) -> Self {
        self.parts.credential = Some(credential);
        self
    }
}

fn percent_encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            into.push(char::from(byte));
        } else {
            write!(into, "%{byte:02X}").expect("writing to a string does not fail");
        }
    }
}
