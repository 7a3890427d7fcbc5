//! HTTP requests to the hosts that the manifest names and the tenant accepted.
//!
//! ```
//! use clawhold_skill::{Error, data, http, secret};
//!
//! #[data]
//! struct Ticket {
//!     id: u64,
//! }
//!
//! # use clawhold_skill::testing::{Exchange, Host};
//! # use serde_json::json;
//! # Host::new()
//! #     .secret("desk", "t")
//! #     .respond(Exchange::post("https://desk.example/tickets?notify=a%26b").json(201, json!({"id": 7})))
//! #     .run(|_| {
//! let ticket: Ticket = http::post("https://desk.example/tickets")
//!     .query("notify", "a&b")
//!     .json(&serde_json::json!({"title": "Printer on fire"}))
//!     .bearer(&secret("desk")?)
//!     .send()?
//!     .error_for_status()?
//!     .json()?;
//! # assert_eq!(ticket.id, 7);
//! # Ok::<(), Error>(())
//! # }).unwrap();
//! ```
//!
//! The host judges method, URL and credential, resolves the name, and puts the credential on the wire itself. It
//! follows up to 3 redirects, to where the skill itself might have gone, unless the manifest says `follow_redirects = false`; and it
//! decodes gzip, brotli and zstd, unless the request has an `Accept-Encoding` of its own.

mod error;
mod request;
mod response;

pub use self::error::{Error, Rule};
pub use self::request::Request;
pub(crate) use self::request::{Credential, Parts};
pub use self::response::Response;

/// The request method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Reads the header fields only.
    Head,
    /// Hands something over to be processed.
    Post,
    /// Stores under the URL.
    Put,
    /// Changes in part.
    Patch,
    /// Removes.
    Delete,
    /// Asks what may be done with the URL.
    Options,
}

impl Method {
    /// The method as HTTP writes it, for example `GET`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

/// A `GET` request. `url` is absolute, `https`, and has neither user information nor fragment.
pub fn get(url: impl Into<String>) -> Request {
    Request::new(Method::Get, url)
}

/// A `HEAD` request.
pub fn head(url: impl Into<String>) -> Request {
    Request::new(Method::Head, url)
}

/// A `POST` request.
pub fn post(url: impl Into<String>) -> Request {
    Request::new(Method::Post, url)
}

/// A `PUT` request.
pub fn put(url: impl Into<String>) -> Request {
    Request::new(Method::Put, url)
}

/// A `PATCH` request.
pub fn patch(url: impl Into<String>) -> Request {
    Request::new(Method::Patch, url)
}

/// A `DELETE` request.
pub fn delete(url: impl Into<String>) -> Request {
    Request::new(Method::Delete, url)
}

/// An `OPTIONS` request.
pub fn options(url: impl Into<String>) -> Request {
    Request::new(Method::Options, url)
}
