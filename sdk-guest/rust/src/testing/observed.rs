//! What a test sees of a run.

use serde_json::Value;

use crate::audit::Outcome;
use crate::http::{self, Method, Parts};
use crate::log::Level;

/// One request that a skill sent.
#[derive(Clone, Debug, PartialEq)]
pub struct SentRequest {
    /// The method.
    pub method: Method,
    /// The URL with its query, without a credential.
    pub url: String,
    /// Names and values, in the order in which they were added, without a credential.
    pub headers: Vec<(String, String)>,
    /// The body; `None` is not the same as an empty one.
    pub body: Option<Vec<u8>>,
    /// The time-out that was asked for.
    pub timeout_ms: Option<u32>,
    /// Which secret goes where. Never the value.
    pub credential: Option<Credential>,
}

/// Where the host would put which secret. Secrets are told by name, and a field as `name.field`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `Authorization: Bearer`.
    Bearer(String),
    /// `Authorization: Basic`.
    Basic {
        /// The secret for the user name.
        username: String,
        /// The secret for the password.
        password: String,
    },
    /// A header field.
    Header {
        /// The field's name.
        name: String,
        /// What stands before the value.
        prefix: String,
        /// The secret for the value.
        secret: String,
    },
    /// A query parameter.
    Query {
        /// The parameter's name.
        name: String,
        /// The secret for the value.
        secret: String,
    },
}

/// One entry of the audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// What was done, for example `crm.account.read`.
    pub action: String,
    /// To what.
    pub resource: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The detail; `null` when there was none.
    pub detail: Value,
}

/// One line of the developers' log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How serious it is.
    pub level: Level,
    /// The text.
    pub message: String,
}

/// One skill of the package, as agents see it.
#[derive(Clone, Debug, PartialEq)]
pub struct SkillDescription {
    /// For example `crm.lookup_account`.
    pub name: String,
    /// The doc comment.
    pub description: String,
    /// JSON Schema (draft 2020-12) of the input.
    pub input_schema: Value,
    /// JSON Schema of the output.
    pub output_schema: Value,
}

impl SentRequest {
    /// The body read as JSON, or `null` if it is none.
    pub fn json(&self) -> Value {
        self.body.as_deref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default()
    }

    pub(super) fn of(parts: Parts) -> Self {
        let Parts { method, url, headers, body, timeout_ms, credential } = parts;
        Self { method, url, headers, body, timeout_ms, credential: credential.map(Credential::of) }
    }
}

impl Credential {
    fn of(credential: http::Credential) -> Self {
        let label = |secret: crate::Secret| secret.handle().label.clone();
        match credential {
            http::Credential::Bearer(token) => Self::Bearer(label(token)),
            http::Credential::Basic { username, password } => {
                Self::Basic { username: label(username), password: label(password) }
            }
            http::Credential::Header { name, prefix, value } => Self::Header { name, prefix, secret: label(value) },
            http::Credential::Query { name, value } => Self::Query { name, secret: label(value) },
        }
    }
}
