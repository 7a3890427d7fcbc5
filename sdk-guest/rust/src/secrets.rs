//! The tenant's credentials, used without being seen.
//!
//! ```
//! use clawhold_skill::{http, secret};
//!
//! # use clawhold_skill::testing::{Exchange, Host};
//! # Host::new()
//! #     .secret("billing", r#"{"token": "t", "webhook": "k"}"#)
//! #     .respond(Exchange::get("https://billing.example/invoices").text(200, "[]"))
//! #     .run(|_| {
//! let billing = secret("billing")?;
//! let invoices = http::get("https://billing.example/invoices").bearer(&billing.field("token")?).send()?;
//! let signature = billing.field("webhook")?.hmac_sha256(invoices.bytes())?;
//! # assert_eq!(signature.len(), 32);
//! # Ok::<(), clawhold_skill::Error>(())
//! # }).unwrap();
//! ```
//!
//! A [`Secret`] is a handle: the host puts the value on the wire, or signs with it. Reading the value itself needs
//! `reveal = true` in the manifest and the tenant's consent, and leaves an audit entry.

use std::fmt;
use std::rc::Rc;

use crate::wire;

/// A handle to the tenant's secret of that name, which must stand in the manifest's `[[secrets]]`.
pub fn secret(name: &str) -> Result<Secret, Error> {
    let handle = wire::secret(name)?;
    Ok(Secret { name: name.into(), handle: Rc::new(handle) })
}

/// A handle to one secret of the tenant, or to one field of it. Cheap to clone; printing it shows its name only.
#[derive(Clone)]
pub struct Secret {
    name: Rc<str>,
    handle: Rc<wire::Secret>,
}

impl Secret {
    /// A handle to one field of a secret whose value is a JSON object, such as `{"user": "…", "pass": "…"}`.
    pub fn field(&self, field: &str) -> Result<Self, Error> {
        let handle = self.handle.field(&self.name, field)?;
        Ok(Self { name: format!("{}.{field}", self.name).into(), handle: Rc::new(handle) })
    }

    /// The value itself. Prefer a credential of [`http`](crate::http): this needs the `reveal` permission, and every
    /// call is audited.
    pub fn reveal(&self) -> Result<String, Error> {
        self.handle.reveal(&self.name)
    }

    /// HMAC-SHA-256 (RFC 2104) over `message`, 1 MiB at most, keyed with the value's UTF-8 bytes.
    pub fn hmac_sha256(&self, message: &[u8]) -> Result<[u8; 32], Error> {
        self.handle.hmac_sha256(&self.name, message)
    }

    pub(crate) fn handle(&self) -> &wire::Secret {
        &self.handle
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Secret").field(&self.name).finish()
    }
}

/// Why a secret could not be had or used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not in the manifest, not consented to, or not stored for this tenant. The host does not say which.
    NotFound {
        /// The secret that was asked for.
        name: String,
    },
    /// The secret is a plain string, or has no member of that name.
    NoSuchField {
        /// The secret that was asked.
        name: String,
        /// The field that it does not have.
        field: String,
    },
    /// The value may be used and not read.
    RevealDenied {
        /// The secret whose value was asked for.
        name: String,
    },
    /// The secret store did not answer; the same call may work later.
    Unavailable {
        /// What the host says about it.
        message: String,
    },
    /// The run has used up its host calls or handles for secrets.
    Budget {
        /// What the host says about it.
        message: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { name } => write!(
                f,
                "the secret `{name}` is not available: it must be declared in skill.toml, consented to by the tenant's \
                 admin, and stored for the tenant"
            ),
            Self::NoSuchField { name, field } => write!(
                f,
                "the secret `{name}` has no field `{field}`: store it as a JSON object with a member of that name"
            ),
            Self::RevealDenied { name } => write!(
                f,
                "the value of the secret `{name}` may be used and not read: pass the handle to a request, or declare \
                 `reveal = true` and have the tenant's admin consent to it"
            ),
            Self::Unavailable { message } => write!(f, "the secret store did not answer: {message}"),
            Self::Budget { message } => write!(f, "no more secrets in this run: {message}"),
        }
    }
}

impl std::error::Error for Error {}
