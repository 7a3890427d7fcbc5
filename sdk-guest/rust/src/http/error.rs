//! Why a request has no answer, or not the answer that was wanted.

use std::fmt;

use super::Method;

/// Why there is no answer, or why the answer is not what was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no answer.
    NoAnswer {
        /// Which rule ended the request.
        rule: Rule,
        /// What was refused or failed, and what would allow it.
        message: String,
        /// Whether any byte may have reached the server: if so, a repeat may do the thing twice.
        sent: bool,
    },
    /// The server answered, with a status of 400 or above; from [`error_for_status`](super::Response::error_for_status).
    Status {
        /// The method of the request.
        method: Method,
        /// The URL without its query, which may carry what logs should not.
        url: String,
        /// The status of the answer.
        status: u16,
    },
    /// The server answered, and its body is not the text or JSON that was wanted.
    Body {
        /// The URL without its query.
        url: String,
        /// What is wrong with the body.
        message: String,
    },
}

/// Which rule ended a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The request itself is malformed: URL, header name or value.
    InvalidRequest,
    /// No rule of the install's policy allows this method, host and path.
    Policy,
    /// The policy does not allow this secret on this host.
    Credential,
    /// The host's name leads to an address that skills may not reach.
    Address,
    /// The name could not be resolved.
    Dns,
    /// No connection.
    Connect,
    /// The server's certificate or the TLS handshake was not accepted.
    Tls,
    /// What the server sent is not HTTP.
    Protocol,
    /// The request or the answer is larger than allowed.
    Size,
    /// The time for the request, or for the run, is over.
    Deadline,
    /// The run has used up its requests.
    Budget,
    /// The credential's secret store did not answer; the same call may work later.
    Unavailable,
}

impl Error {
    /// The status that the server answered with, if that is the error.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::NoAnswer { .. } | Self::Body { .. } => None,
        }
    }

    /// Whether any byte of the request may have reached the server.
    pub fn sent(&self) -> bool {
        match self {
            Self::NoAnswer { sent, .. } => *sent,
            Self::Status { .. } | Self::Body { .. } => true,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer { message, .. } => f.write_str(message),
            Self::Status { method, url, status } => write!(f, "{} {url} answered {status}", method.as_str()),
            Self::Body { url, message } => write!(f, "the answer of {url} is not what was expected: {message}"),
        }
    }
}

impl std::error::Error for Error {}
