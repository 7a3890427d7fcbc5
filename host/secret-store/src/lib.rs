//! Where tenants' secrets are kept: one trait, and a driver for each kind of place.
//!
//! A driver names a secret by its tenant first, and looks nowhere else: what is absent is `None`, and what cannot be
//! reached is an error. Values are [`SecretValue`]s: hidden from `Debug`, wiped when dropped.
//!
//! ```
//! use clawhold_secret_store::{SecretStore, SecretValue};
//! use clawhold_tenancy::{SecretName, TenantId};
//!
//! async fn authorization(
//!     secrets: &dyn SecretStore,
//!     tenant: &TenantId,
//!     name: &SecretName,
//! ) -> Result<Option<SecretValue>, Box<dyn std::error::Error>> {
//!     let Some(secret) = secrets.get(tenant, name).await? else { return Ok(None) };
//!     Ok(Some(secret.value.field("token")?))
//! }
//! ```

mod cached;
pub mod contract;
pub mod keys;
pub mod local;
mod sealing;
mod value;

use std::time::Duration;

use async_trait::async_trait;
use clawhold_tenancy::audit::Event;
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::{SecretName, TenantId};

pub use cached::CachedSecrets;
pub use value::{FieldError, SecretValue};

/// A secret's value and which one it is.
#[derive(Debug)]
pub struct Versioned {
    /// Grows with every value that is put under the name, and is never used twice.
    pub version: i64,
    /// The value.
    pub value: SecretValue,
}

/// What may be told of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// The newest version.
    pub version: i64,
    /// When that was put, in microseconds since 1970.
    pub created_us: i64,
    /// Who put it.
    pub by: String,
}

/// Why a secret could not be had or changed. No message holds a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The place where secrets are kept cannot be reached. The same call may succeed later.
    #[error("the place where secrets are kept cannot be reached; try again")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The place where secrets are kept refused. Trying again does not help.
    #[error("the place where secrets are kept refused")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The value was sealed with another master key.
    #[error(
        "secret {name} was sealed with another master key; put back the key file that it was stored under, or put the secret anew"
    )]
    OtherKey {
        /// The secret.
        name: SecretName,
    },
    /// The value is not what was stored under this tenant, name and version: somebody changed or moved it.
    #[error("secret {name} does not open: {why}; find out who changed it, and put the secret anew")]
    Damaged {
        /// The secret.
        name: SecretName,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The tenant has as many secrets as it may have.
    #[error("the tenant has {used} secrets, and may have {most}")]
    Full {
        /// How many there may be.
        most: u64,
        /// How many there are.
        used: u64,
    },
    /// Somebody has put another value meanwhile.
    #[error("the secret has another version by now; look at it and try again")]
    Changed,
    /// The operating system gives no random bytes.
    #[error("cannot seal a secret: the operating system gives no random bytes")]
    NoRandomness,
}

/// What became of a tenant's values, each version counted, when they were sealed anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Those that were.
    pub anew: u64,
    /// Those that do not open any more: somebody changed them, or their key is gone. They stay as they are.
    pub unreadable: u64,
}

/// What is committed together with a change.
#[derive(Debug)]
pub struct Change<T> {
    /// What the audit log says of it.
    pub event: Event,
    /// The answer that is kept: of the new version, or of nothing.
    pub keep: Keep<T>,
    /// How many secrets the tenant may have: one more is [`SecretError::Full`], a new value of one that it has is not.
    pub most: u64,
    /// What it may be put over: else it is [`SecretError::Changed`].
    pub over: Over,
}

/// What a value may be put over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Whatever is there.
    Anything,
    /// This version, which is kept as an older one.
    Version(i64),
    /// This version, which is not kept: it is used up.
    UsedUp(i64),
}

impl<T> Change<T> {
    /// A change with this event, of which no answer is kept.
    pub fn told(event: Event) -> Self {
        Self { event, keep: Keep::nothing(), most: u64::MAX, over: Over::Anything }
    }
}

/// A place where tenants' secrets are kept.
///
/// **Audit.** A driver commits the change's event and the answer to keep together with it; where its place shares no transaction with the audit
/// chain, it commits the event first, so a change without an entry cannot be. Nothing changes and no event is
/// committed if the call fails, or if there was nothing to delete.
///
/// **Absence.** `Ok(None)` means that the tenant has no such secret. A driver never falls back to another tenant's,
/// to a common one or to another place.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// The newest value.
    async fn get(&self, tenant: &TenantId, name: &SecretName) -> Result<Option<Versioned>, SecretError>;

    /// The same as it is kept now, whatever was remembered.
    async fn get_now(&self, tenant: &TenantId, name: &SecretName) -> Result<Option<Versioned>, SecretError> {
        self.get(tenant, name).await
    }

    /// Takes a secret that can be used once for this holder, so that no other host uses it meanwhile; `false` if another one has it. Others
    /// may take it when it is released, or after this time.
    async fn claim(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        holder: &str,
        at_most: Duration,
    ) -> Result<bool, SecretError>;

    /// Lets it go, if this holder still has it.
    async fn release(&self, tenant: &TenantId, name: &SecretName, holder: &str) -> Result<(), SecretError>;

    /// The value of one version, if it is the newest or still kept.
    async fn get_version(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        version: i64,
    ) -> Result<Option<SecretValue>, SecretError>;

    /// The versions that can be had, newest first; none if there is no such secret.
    async fn versions(&self, tenant: &TenantId, name: &SecretName) -> Result<Vec<SecretInfo>, SecretError>;

    /// Seals anew, under the tenant's newest data key, what is sealed under an older one. A place that has keys of its own has nothing to do.
    async fn reseal(&self, tenant: &TenantId) -> Result<Resealed, SecretError> {
        let _ = tenant;
        Ok(Resealed::default())
    }

    /// Puts a value, by the event's actor at the event's time, and says its version.
    async fn put(
        &self,
        tenant: &TenantId,
        name: &SecretName,
        value: SecretValue,
        change: Change<i64>,
    ) -> Result<i64, SecretError>;

    /// Deletes a secret with all its versions; `false` if there is none.
    async fn delete(&self, tenant: &TenantId, name: &SecretName, change: Change<()>) -> Result<bool, SecretError>;

    /// How many secrets the tenant has.
    async fn count(&self, tenant: &TenantId) -> Result<u64, SecretError>;

    /// The tenant's secrets behind `after`, by name, at most `limit`.
    async fn list(
        &self,
        tenant: &TenantId,
        after: Option<&SecretName>,
        limit: u32,
    ) -> Result<Vec<SecretInfo>, SecretError>;
}
