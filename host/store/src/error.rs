//! Why the store did not do what it was asked to.

use std::fmt;
use std::sync::Arc;

use clawhold_tenancy::{Digest, PackageName, SkillName, TenantId, TokenId};

use crate::driver;

/// Why the store did not do what it was asked to. No message holds a stored value other than a name.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// What is there already stands against it.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The database is busy, full or out of reach. The same call may succeed later.
    #[error("could not {operation}: the database is busy or cannot be reached; try again")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// What the database said.
        source: Failure,
    },
    /// What the database holds is not what was put there.
    #[error("{what} in the database is damaged ({why}); restore it from a backup")]
    Corrupt {
        /// The table and column, or the operation that came upon it.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The writer was closed before the call.
    #[error("the host is stopping and takes no more run records")]
    Closed,
    /// The address of the database, or the file it names, cannot be used.
    #[error("cannot open the database {url}: {why}")]
    Open {
        /// The address.
        url: String,
        /// What to do about it.
        why: String,
    },
    /// Anything else. Trying again does not help.
    #[error("could not {operation}")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// What the database said.
        source: Failure,
    },
}

/// What stands against a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The tenant exists.
    #[error("tenant {0} exists already; choose another id")]
    Tenant(TenantId),
    /// The token id is taken.
    #[error("token {0} exists already; make another")]
    Token(TokenId),
    /// The version was published with other bytes. Versions are final.
    #[error("{package} {version} exists already as {digest}; publish the change under a new version")]
    Version {
        /// The package.
        package: PackageName,
        /// The version.
        version: semver::Version,
        /// What it is.
        digest: Digest,
    },
    /// Another installed package offers a skill of this name.
    #[error("skill {skill} is offered by the installed package {by} already; remove that one first")]
    Skill {
        /// The skill.
        skill: SkillName,
        /// Who offers it.
        by: PackageName,
    },
    /// The install is of another revision than the caller saw.
    #[error("the install has changed since revision {expected}; look at it again, and decide anew")]
    Revision {
        /// The revision that the caller saw.
        expected: i64,
        /// The one that is there; `None` if there is no install.
        there: Option<i64>,
    },
    /// A request with the same `Idempotency-Key` was answered first.
    #[error("a request with this Idempotency-Key was done meanwhile; send it again for its answer")]
    Answer,
    /// The same id was written before.
    #[error("could not {0}: it exists already")]
    Exists(&'static str),
    /// The tenant, or the package version, that a row belongs to.
    #[error("could not {0}: what it belongs to does not exist")]
    Missing(&'static str),
}

/// What the database said, as text.
#[derive(Debug, Clone)]
pub struct Failure(Arc<str>);

impl Failure {
    pub(crate) fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string().into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// What is stored is not what this host would have written.
    pub fn corrupt(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::Corrupt { what: what.into(), why: why.to_string() }
    }
}

/// For `map_err` behind a query: `operation` completes "could not …".
pub(crate) fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| {
        let source = Failure::new(&error);
        match &error {
            sqlx::Error::Database(said) if said.is_unique_violation() => Conflict::Exists(operation).into(),
            sqlx::Error::Database(said) if said.is_foreign_key_violation() => Conflict::Missing(operation).into(),
            sqlx::Error::Database(said) => match driver::judge(said.as_ref()) {
                driver::Judgement::Retryable => StoreError::Unavailable { operation, source },
                driver::Judgement::Corrupt => StoreError::corrupt(format!("what it takes to {operation}"), source),
                driver::Judgement::Other => StoreError::Failed { operation, source },
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed => StoreError::Unavailable { operation, source },
            // Text that is not UTF-8: the driver fails on it before a column is asked for.
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
                StoreError::corrupt(format!("what it takes to {operation}"), source)
            }
            _ => StoreError::Failed { operation, source },
        }
    }
}
