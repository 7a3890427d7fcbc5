//! Scripted HTTP: which request gets which answer.

use std::fmt;

use serde_json::Value;

use super::SentRequest;
use crate::http::{Method, Rule};

/// Which requests an answer is for.
pub struct Exchange {
    fits: Box<dyn Fn(&SentRequest) -> bool>,
    says: String,
}

/// An answer, and which requests it is for.
pub struct Reply {
    exchange: Exchange,
    pub(super) answer: Answer,
    pub(super) headers: Vec<(String, String)>,
    /// How often it may still be given; `None` is without end.
    left: Option<u32>,
}

#[derive(Clone)]
pub(super) enum Answer {
    Response { status: u16, body: Vec<u8> },
    Refusal { rule: Rule, message: String, sent: bool },
}

impl Exchange {
    /// `GET` of exactly this URL, query included.
    pub fn get(url: &str) -> Self {
        Self::exactly(Method::Get, url)
    }

    /// `POST` to exactly this URL, query included.
    pub fn post(url: &str) -> Self {
        Self::exactly(Method::Post, url)
    }

    /// This method and exactly this URL, query included.
    pub fn exactly(method: Method, url: &str) -> Self {
        let (says, url) = (format!("{} {url}", method.as_str()), url.to_owned());
        Self { fits: Box::new(move |request| request.method == method && request.url == url), says }
    }

    /// This method and any URL that begins so.
    pub fn starting_with(method: Method, prefix: &str) -> Self {
        let (says, prefix) = (format!("{} {prefix}…", method.as_str()), prefix.to_owned());
        Self { fits: Box::new(move |request| request.method == method && request.url.starts_with(&prefix)), says }
    }

    /// Any request that `fits` says yes to.
    pub fn matching(fits: impl Fn(&SentRequest) -> bool + 'static) -> Self {
        Self { fits: Box::new(fits), says: "a request that fits a predicate".to_owned() }
    }

    /// Answers with JSON and `Content-Type: application/json`.
    pub fn json(self, status: u16, body: Value) -> Reply {
        self.bytes(status, body.to_string()).header("content-type", "application/json")
    }

    /// Answers with text and `Content-Type: text/plain; charset=utf-8`.
    pub fn text(self, status: u16, body: &str) -> Reply {
        self.bytes(status, body).header("content-type", "text/plain; charset=utf-8")
    }

    /// Answers with these bytes and no header fields.
    pub fn bytes(self, status: u16, body: impl Into<Vec<u8>>) -> Reply {
        self.answer(Answer::Response { status, body: body.into() })
    }

    /// Gives no answer but this error, as the host does when a rule refuses the request or the network fails.
    /// [`Rule::Deadline`], [`Rule::Protocol`] and [`Rule::Size`] count as sent.
    pub fn error(self, rule: Rule, message: &str) -> Reply {
        let sent = matches!(rule, Rule::Deadline | Rule::Protocol | Rule::Size);
        self.answer(Answer::Refusal { rule, message: message.to_owned(), sent })
    }

    fn answer(self, answer: Answer) -> Reply {
        Reply { exchange: self, answer, headers: Vec::new(), left: None }
    }
}

impl Reply {
    /// Adds a header field to the answer.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Answers one request and no more, so that the next one gets the next answer that fits.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.left = Some(1);
        self
    }

    /// Whether this answer is for the request; if so, it counts as given.
    pub(super) fn take(&mut self, request: &SentRequest) -> bool {
        if self.left == Some(0) || !(self.exchange.fits)(request) {
            return false;
        }
        self.left = self.left.map(|left| left - 1);
        true
    }

    /// For the message about a request that nothing fits.
    pub(super) fn says(&self) -> String {
        let used_up = if self.left == Some(0) { " (used up)" } else { "" };
        format!("{}{used_up}", self.exchange.says)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reply").field(&self.says()).finish()
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exchange").field(&self.says).finish()
    }
}
