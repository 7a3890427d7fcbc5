//! How a skill says that it has no answer.

use std::fmt;

use crate::{audit, http, secrets};

/// Why a skill gave no answer. The text is for people: say what went wrong and what to do about it, and never put a
/// secret into it.
///
/// `?` converts what the SDK's calls return: what may work later becomes [`Unavailable`](Self::Unavailable), what
/// somebody must allow first becomes [`Denied`](Self::Denied), and the rest [`Failed`](Self::Failed).
///
/// ```
/// use clawhold_skill::{Error, skill};
///
/// /// Halves an even number.
/// #[skill]
/// fn halve(number: i64) -> Result<i64, Error> {
///     if number % 2 != 0 {
///         return Err(Error::invalid_input(format!("`number` must be even, and {number} is odd")));
///     }
///     Ok(number / 2)
/// }
/// # assert!(halve(3).is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The input has the right shape and a wrong value; the caller can mend it.
    InvalidInput(String),
    /// The caller, or the tenant's own account elsewhere, may not do this.
    Denied(String),
    /// Something the skill needs did not answer; the same call may work later.
    Unavailable(String),
    /// Anything else.
    Failed(String),
}

impl Error {
    /// The input has the right shape and a wrong value; the caller can mend it.
    pub fn invalid_input(message: impl Into<String>) -> Self {
        Self::InvalidInput(message.into())
    }

    /// The caller, or the tenant's own account elsewhere, may not do this.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::Denied(message.into())
    }

    /// Something the skill needs did not answer; the same call may work later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable(message.into())
    }

    /// Anything else.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// The name of the kind as callers see it: `invalid-input`, `denied`, `unavailable` or `failed`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::InvalidInput(_) => "invalid-input",
            Self::Denied(_) => "denied",
            Self::Unavailable(_) => "unavailable",
            Self::Failed(_) => "failed",
        }
    }

    /// The text for people, without the kind.
    pub fn message(&self) -> &str {
        match self {
            Self::InvalidInput(message)
            | Self::Denied(message)
            | Self::Unavailable(message)
            | Self::Failed(message) => message,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind(), self.message())
    }
}

impl std::error::Error for Error {}

impl From<secrets::Error> for Error {
    fn from(error: secrets::Error) -> Self {
        let message = error.to_string();
        match error {
            secrets::Error::NotFound { .. } | secrets::Error::RevealDenied { .. } => Self::Denied(message),
            secrets::Error::Unavailable { .. } => Self::Unavailable(message),
            secrets::Error::NoSuchField { .. } | secrets::Error::Budget { .. } => Self::Failed(message),
        }
    }
}

impl From<http::Error> for Error {
    fn from(error: http::Error) -> Self {
        use http::Rule;

        let message = error.to_string();
        match error {
            http::Error::NoAnswer { rule, .. } => match rule {
                Rule::Policy | Rule::Credential | Rule::Address => Self::Denied(message),
                Rule::Dns | Rule::Connect | Rule::Deadline | Rule::Unavailable => Self::Unavailable(message),
                Rule::InvalidRequest | Rule::Tls | Rule::Protocol | Rule::Size | Rule::Budget => Self::Failed(message),
            },
            http::Error::Status { status, .. } => match status {
                401 | 403 | 407 => Self::Denied(message),
                // 425 is "too early": RFC 8470 asks for the same request again.
                408 | 425 | 429 | 500..=599 => Self::Unavailable(message),
                _ => Self::Failed(message),
            },
            http::Error::Body { .. } => Self::Failed(message),
        }
    }
}

impl From<audit::Error> for Error {
    fn from(error: audit::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(format!("JSON: {error}"))
    }
}
