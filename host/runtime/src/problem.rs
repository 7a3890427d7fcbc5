//! Why a use-case was not done, in terms that every face of the host renders.

use clawhold_marketplace::gate::Faults;
use clawhold_marketplace::{DescriptorError, PackageError};
use clawhold_sandbox::LoadError;
use clawhold_secret_store::SecretError;
use clawhold_secret_store::keys::KeyError;
use clawhold_store::{Conflict, StoreError};
use clawhold_tenancy::quota::{Dimension, Kind, Over, WINDOW_US};
use clawhold_tenancy::run::Reason;
use clawhold_tenancy::{InvalidId, Refusal, RunId};

use crate::details::SealError;

/// Why something was not done. What it says is for the caller; what only the operator should know is logged where
/// it happened.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// No token, or one that is not known, expired or revoked: these are not told apart.
    #[error("the token is missing, unknown, expired or revoked; send `Authorization: Bearer clw_…`")]
    Unauthenticated,
    /// It does not exist, or belongs to somebody else: these are not told apart.
    #[error("{0} does not exist")]
    NotFound(&'static str),
    /// The token's role may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// What was sent cannot be used.
    #[error("{place}: {detail}")]
    Invalid {
        /// Where.
        place: String,
        /// What is wrong there and what to write.
        detail: String,
    },
    /// What is there stands against it.
    #[error("{0}")]
    Conflict(String),
    /// It is not as the caller saw it: another `ETag` than the one in `If-Match`.
    #[error("{0}")]
    Precondition(String),
    /// The admin has not said yes to what the install would be allowed now.
    #[error("the consent is not for what this install would be allowed; review the plan and send its `consent`")]
    Consent {
        /// The word for what it would be allowed now.
        expected: String,
        /// What is new.
        adds: Vec<String>,
    },
    /// A package was refused.
    #[error("{0}")]
    Package(String),
    /// The same, with all that is wrong with it.
    #[error("{0}")]
    Faults(Faults),
    /// A quota is used up.
    #[error("the tenant uses {used} of {limit} {dimension}; {}", then(*reset_s, *window_s))]
    Quota {
        /// The quota's key.
        dimension: &'static str,
        /// What it allows.
        limit: u64,
        /// What is in use.
        used: u64,
        /// Seconds until it makes sense to ask again; `None` if time alone does not help.
        reset_s: Option<u64>,
        /// Seconds that the limit is for, if it is a rate.
        window_s: Option<u64>,
    },
    /// Too many requests from one address had no valid token.
    #[error(
        "{used} requests from this address had no valid token within a minute, and {limit} may; send a valid one, later"
    )]
    FailedTooOften {
        /// How many may.
        limit: u64,
        /// How many had none.
        used: u64,
    },
    /// The skill itself said no.
    #[error("{message}")]
    Skill {
        /// The run.
        run: RunId,
        /// `invalid-input`, `denied`, `unavailable` or `failed`.
        kind: &'static str,
        /// The skill's words.
        message: String,
    },
    /// The host ended the run.
    #[error("{message}")]
    Run {
        /// The run.
        run: RunId,
        /// Why.
        reason: Reason,
        /// For people.
        message: String,
    },
    /// A run took place and could not be recorded: what it did outside is done, and nobody can say what it was.
    #[error(
        "the run took place and its outcome is not recorded, because the database did not answer; what the skill did outside is done: look there before you call again"
    )]
    Unrecorded {
        /// The run.
        run: RunId,
    },
    /// The host cannot serve this now.
    #[error("{0}")]
    Unavailable(String),
    /// A package must not be installed, or run: of what became of it, or by the operator's rules.
    #[error("{0}")]
    Stopped(String),
    /// What is stored was changed past the host, and is not used.
    #[error(
        "what is stored of this package, publisher or install was changed past the host, and is not used; the operator's log has the reason"
    )]
    Changed,
    /// The host is at fault. The reason is in its log.
    #[error("the host failed; the operator's log has the reason under this request's id")]
    Internal,
}

impl Problem {
    pub(crate) fn invalid(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid { place: place.into(), detail: detail.into() }
    }

    pub(crate) fn stopping() -> Self {
        Self::Unavailable("the host is stopping; call again in a moment".to_owned())
    }

    pub(crate) fn internal(what: &str, error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "{what}");
        Self::Internal
    }
}

/// What to do about a quota that is used up.
fn then(reset_s: Option<u64>, window_s: Option<u64>) -> String {
    match (reset_s, window_s) {
        (Some(s), Some(_)) => format!("call again in {s} s, or ask the operator for more"),
        (Some(_), None) => "wait for one to end, or ask the operator for more".to_owned(),
        (None, Some(_)) => "it is more than can ever be; ask the operator for more".to_owned(),
        (None, None) => "remove what is not needed, or ask the operator for more".to_owned(),
    }
}

impl From<Over> for Problem {
    fn from(over: Over) -> Self {
        let row = over.dimension.row();
        let reset_s = match row.kind {
            Kind::Rate => over.wait_us.map(|wait| wait.div_ceil(1_000_000).max(1)),
            // Nobody knows when another run ends; a second is long for one.
            Kind::Held => Some(1),
            Kind::Stored | Kind::Setting => None,
        };
        Self::Quota {
            dimension: row.key,
            limit: over.limit / row.scale,
            used: over.used.div_ceil(row.scale),
            reset_s,
            window_s: (row.kind == Kind::Rate).then_some(WINDOW_US / 1_000_000),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(conflict @ Conflict::Revision { .. }) => Self::Precondition(conflict.to_string()),
            StoreError::Conflict(conflict) => Self::Conflict(conflict.to_string()),
            error if error.is_retryable() => {
                tracing::warn!(%error, source = ?std::error::Error::source(&error), "the database did not answer");
                Self::Unavailable("the database did not answer; call again in a moment".to_owned())
            }
            StoreError::Closed => Self::stopping(),
            error => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                Self::internal("the store failed", format!("{error}: {source}"))
            }
        }
    }
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        if let SecretError::Full { most, used } = error {
            return Over { dimension: Dimension::Secrets, limit: most, used, wait_us: None }.into();
        }
        if matches!(error, SecretError::Changed) {
            return Self::Conflict("the secret has another version by now; look at it and try again".to_owned());
        }
        if let SecretError::OtherKey { .. } | SecretError::Damaged { .. } = error {
            return Self::internal("a secret does not open", error);
        }
        tracing::warn!(%error, "the secret store failed");
        Self::Unavailable("the secret store did not answer; call again in a moment".to_owned())
    }
}

impl From<SealError> for Problem {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Store(error) => error.into(),
            SealError::Key(error @ KeyError::Unavailable(_)) => {
                tracing::warn!(%error, "the key service did not answer");
                Self::Unavailable("the key service did not answer; call again in a moment".to_owned())
            }
            SealError::Key(error @ KeyError::OtherKey) => {
                tracing::error!(%error, "the master key's file lacks a key that another host has added; copy the file from there");
                Self::Unavailable("a key of the host is missing; its operator's log says which".to_owned())
            }
            SealError::Key(error) => Self::internal("a data key cannot be used", error),
        }
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Refused(refused) => Self::Package(refused.to_string()),
            LoadError::Host(why) => Self::internal("a component could not be made ready", why),
        }
    }
}

impl From<PackageError> for Problem {
    fn from(error: PackageError) -> Self {
        Self::Package(error.to_string())
    }
}

impl From<DescriptorError> for Problem {
    fn from(error: DescriptorError) -> Self {
        Self::Package(error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Elsewhere => Self::NotFound("tenant"),
            role @ Refusal::Role { .. } => Self::Forbidden(role.to_string()),
        }
    }
}

impl From<InvalidId> for Problem {
    fn from(invalid: InvalidId) -> Self {
        Self::invalid("id", invalid.to_string())
    }
}
