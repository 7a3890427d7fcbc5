//! An answer, whatever its status.

use serde::de::DeserializeOwned;

use super::{Error, Method};

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Response {
    pub(crate) method: Method,
    /// The URL of the request.
    pub(crate) url: String,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The status, for example 200.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The value of the first header field of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All header fields as name and value, in the order in which they came.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The body as it came over the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as UTF-8 text.
    pub fn text(self) -> Result<String, Error> {
        let Self { url, body, .. } = self;
        String::from_utf8(body)
            .map_err(|error| Error::Body { url: without_query(&url), message: error.utf8_error().to_string() })
    }

    /// The body read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::Body { url: without_query(&self.url), message: error.to_string() })
    }

    /// The answer itself if its status is below 400, and [`Error::Status`] if not.
    pub fn error_for_status(self) -> Result<Self, Error> {
        if self.status < 400 {
            return Ok(self);
        }
        Err(Error::Status { method: self.method, url: without_query(&self.url), status: self.status })
    }
}

fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}
