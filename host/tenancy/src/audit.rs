//! The audit chain: what an entry holds and how each is bound to the one before.

pub mod export;
mod signed;
mod walk;

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::{Actor, Context, RunId, TenantId, TraceId};

pub use signed::{BadSignature, PublicKey, SignedHead, SigningKey};
pub use walk::{Break, Walk};

/// How the thing ended that an entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Success,
    /// It was tried and failed.
    Failure,
    /// It was refused.
    Denied,
}

impl Outcome {
    /// The word that is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Denied => "denied",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Success, Self::Failure, Self::Denied]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no outcome"))
    }
}

/// Something that happened, before it has a place in a chain. `D` is its detail: as it was said, or [`Sealed`].
#[derive(Debug, Clone)]
pub struct Event<D = Vec<u8>> {
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub at_us: i64,
    /// Who did it.
    pub actor: String,
    /// What was done, `noun.verb`.
    pub action: String,
    /// To what.
    pub resource: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The run that it belongs to.
    pub run: Option<RunId>,
    /// The trace that it belongs to.
    pub trace: TraceId,
    /// A JSON object, or nothing. Never a secret.
    pub detail: D,
}

/// An event as a chain takes it and the database keeps it.
pub type SealedEvent = Event<Sealed>;

/// Detail under its tenant's key. Without the key it says nothing, and the chain can still be verified: a hash covers these
/// bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// No detail.
    pub const NONE: Self = Self(Vec::new());

    /// Bytes that somebody sealed, or nothing.
    pub const fn from_ciphertext(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes that are stored and hashed.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl<D> Event<D> {
    /// The same event with its detail in another form.
    pub fn with_detail<E>(self, detail: E) -> Event<E> {
        let Self { at_us, actor, action, resource, outcome, run, trace, detail: _ } = self;
        Event { at_us, actor, action, resource, outcome, run, trace, detail }
    }

    /// What detail is bound to when it is sealed: it does not open in another chain, or with another entry.
    pub fn place<'a>(&'a self, chain: &'a str, at: &'a mut [u8; 8]) -> [&'a [u8]; 6] {
        *at = self.at_us.to_be_bytes();
        [
            chain.as_bytes(),
            b"audit",
            at.as_slice(),
            self.actor.as_bytes(),
            self.action.as_bytes(),
            self.resource.as_bytes(),
        ]
    }
}

impl Event {
    /// An event by this request's actor, now.
    pub fn by(cx: &Context, action: &str, resource: impl Into<String>, outcome: Outcome) -> Self {
        Self::now(&cx.actor, cx.trace.clone(), action, resource.into(), outcome)
    }

    /// An event by a part of the host, which nobody has asked for it, now.
    pub fn by_host(part: &'static str, action: &str, resource: impl Into<String>, outcome: Outcome) -> Self {
        Self::now(&Actor::Host(part), TraceId::random(), action, resource.into(), outcome)
    }

    fn now(actor: &Actor, trace: TraceId, action: &str, resource: String, outcome: Outcome) -> Self {
        Self {
            at_us: now_us(),
            actor: actor.to_string(),
            action: action.to_owned(),
            resource,
            outcome,
            run: None,
            trace,
            detail: Vec::new(),
        }
    }

    /// The same event with machine-readable detail.
    #[must_use]
    pub fn with(mut self, detail: &serde_json::Value) -> Self {
        self.detail = detail.to_string().into_bytes();
        self
    }
}

/// Microseconds since 1970-01-01T00:00:00Z. Saturates instead of failing on an absurd clock.
pub fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The action of an entry that says which others retention removed: its resource is `audit:FIRST-LAST`.
pub const RETAIN: &str = "audit.retain";

/// The chain of what happens to no single tenant: publishing, creating tenants. No tenant id has this form.
pub const HOST_CHAIN: &str = "_host";

/// Whose chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chain<'a> {
    /// Of what happens to no single tenant.
    Host,
    /// One tenant's.
    Tenant(&'a TenantId),
}

impl<'a> Chain<'a> {
    /// The name under which it is kept and hashed.
    pub fn name(self) -> &'a str {
        match self {
            Self::Host => HOST_CHAIN,
            Self::Tenant(tenant) => tenant.as_str(),
        }
    }
}

/// Where a chain ends: the number and hash of its last entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of entries; the first has number 1.
    pub seq: i64,
    /// Hash of the last entry; zeros for an empty chain.
    pub hash: [u8; 32],
}

impl Head {
    /// The head of a chain without entries.
    pub const EMPTY: Self = Self { seq: 0, hash: [0; 32] };

    /// The head after `event` is appended to the chain of this name: a tenant's id, or [`HOST_CHAIN`].
    ///
    /// The hash covers the previous hash and each field's exact bytes behind its length, so no two different
    /// entries have the same encoding.
    #[must_use]
    pub fn after(&self, chain: &str, event: &SealedEvent) -> Self {
        let seq = self.seq + 1;
        // Without an allocation: a verification does this for each of a million entries.
        let mut text = [0; RunId::TEXT];
        let run = event.run.as_ref().map_or("", |run| run.write(&mut text));
        let mut hash = Sha256::new();
        hash.update(b"clawhold-audit-v1");
        hash.update(self.hash);
        for field in [
            chain.as_bytes(),
            &seq.to_be_bytes(),
            &event.at_us.to_be_bytes(),
            event.actor.as_bytes(),
            event.action.as_bytes(),
            event.resource.as_bytes(),
            event.outcome.as_str().as_bytes(),
            run.as_bytes(),
            event.trace.as_str().as_bytes(),
            event.detail.bytes(),
        ] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        Self { seq, hash: hash.finalize().into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(actor: &str, action: &str) -> SealedEvent {
        Event {
            at_us: 1,
            actor: actor.to_owned(),
            action: action.to_owned(),
            resource: "r".to_owned(),
            outcome: Outcome::Success,
            run: None,
            trace: "0123456789abcdef0123456789abcdef".parse().unwrap(),
            detail: Sealed::NONE,
        }
    }

    #[test]
    fn moving_a_byte_between_fields_changes_the_hash() {
        let tenant = "acme-corp";
        let one = Head::EMPTY.after(tenant, &event("ab", "c"));
        let other = Head::EMPTY.after(tenant, &event("a", "bc"));
        assert_ne!(one.hash, other.hash);
    }

    #[test]
    fn the_same_event_in_another_tenants_chain_has_another_hash() {
        let same = event("a", "b");
        let acme = Head::EMPTY.after("acme-corp", &same);
        let globex = Head::EMPTY.after("globex", &same);
        assert_ne!(acme.hash, globex.hash);
    }

    #[test]
    fn an_entry_depends_on_all_before_it() {
        let tenant = "acme-corp";
        let chain = |first| Head::EMPTY.after(tenant, &event(first, "x")).after(tenant, &event("b", "y"));
        assert_ne!(chain("a").hash, chain("c").hash);
        assert_eq!(chain("a").seq, 2);
    }
}
