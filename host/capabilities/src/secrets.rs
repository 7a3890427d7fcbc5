//! `clawhold:skill/secrets`: handles in, handles out; the value leaves the host only where `reveal` was granted.

use std::sync::Arc;

use clawhold_sandbox::contract::SecretHandle;
use clawhold_sandbox::contract::clawhold::skill::secrets::{Error, Host, HostSecret};
use clawhold_secret_store::{SecretValue, Versioned};
use clawhold_tenancy::SecretName;
use clawhold_tenancy::audit::Outcome;
use clawhold_tenancy::secret_kind::SecretKind;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::component::Resource;

use crate::{Note, RunHost};

type Handle = Resource<SecretHandle>;

/// Bytes of a message to sign.
const MESSAGE_BYTES: usize = 1 << 20;

impl Host for RunHost {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<Handle, Error>> {
        self.charge(name.len())?;
        if let Err(error) = self.fetch(&name).await {
            return Ok(Err(error));
        }
        Ok(self.handle(SecretHandle { name: name.into(), field: None }))
    }
}

impl HostSecret for RunHost {
    async fn field(&mut self, secret: Handle, name: String) -> wasmtime::Result<Result<Handle, Error>> {
        self.charge(name.len())?;
        let whole = self.handles.get(&secret)?;
        let (held, nested) = (Arc::clone(&whole.name), whole.field.is_some());
        let shown = || name.chars().take(64).collect();
        if nested || self.whole(&held)?.value.field(&name).is_err() {
            return Ok(Err(Error::NoSuchField(shown())));
        }
        Ok(self.handle(SecretHandle { name: held, field: Some(name.into()) }))
    }

    async fn reveal(&mut self, secret: Handle) -> wasmtime::Result<Result<String, Error>> {
        self.charge(0)?;
        let name = Arc::clone(&self.handles.get(&secret)?.name);
        let granted = self
            .authority
            .as_ref()
            .is_some_and(|a| a.policy.secrets.iter().any(|(known, reveal)| known.as_str() == &*name && *reveal));
        let outcome = if granted { Outcome::Success } else { Outcome::Denied };
        // Not through the skill's own budget of entries: a skill must not be able to use that up and then read.
        let note = Note {
            action: "secret.reveal".to_owned(),
            resource: format!("secret:{name}"),
            outcome,
            detail: String::new(),
            of_host: true,
        };
        let mut journal = self.note();
        // Once for each secret and outcome: a loop must not fill the log, and has learnt nothing more.
        if !journal.notes.contains(&note) {
            journal.notes.push(note);
        }
        drop(journal);
        if !granted {
            return Ok(Err(Error::RevealDenied));
        }
        let value = text(&self.value(&secret)?)?.to_owned();
        self.expose(&secret)?;
        self.lower(value.len())?;
        Ok(Ok(value))
    }

    async fn hmac_sha256(&mut self, secret: Handle, message: Vec<u8>) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        self.charge(message.len())?;
        if message.len() > MESSAGE_BYTES {
            return Ok(Err(Error::Budget(format!("a message to sign may have {MESSAGE_BYTES} bytes"))));
        }
        // What a secret of a kind makes the host makes, and for requests that the policy allows: a skill that could sign with its fields
        // would make signatures, or fetch tokens, of its own.
        let name = self.name(&secret)?;
        if self.authority.as_ref().is_some_and(|authority| *authority.policy.kind(&name) != SecretKind::Value) {
            return Ok(Err(Error::RevealDenied));
        }
        let value = self.value(&secret)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(value.expose()).expect("HMAC takes a key of any length");
        mac.update(&message);
        Ok(Ok(mac.finalize().into_bytes().to_vec()))
    }

    async fn drop(&mut self, secret: Handle) -> wasmtime::Result<()> {
        self.handles.delete(secret)?;
        Ok(())
    }
}

impl RunHost {
    /// Brings a secret into the run. What is undeclared, ungranted, missing or another tenant's ends the same way.
    async fn fetch(&mut self, name: &str) -> Result<(), Error> {
        let authority = self.authority.as_ref().ok_or(Error::NotFound)?;
        let name: SecretName = name.parse().map_err(|_| Error::NotFound)?;
        if !authority.policy.secrets.contains_key(&name) {
            return Err(Error::NotFound);
        }
        if self.values.contains_key(&name) {
            return Ok(());
        }
        let found = authority.backends.secrets.get(&authority.tenant, &name).await;
        let found = found.map_err(|error| {
            tracing::warn!(tenant_id = %authority.tenant, %error, "the secret store did not answer");
            Error::Unavailable("the secret store did not answer; call again later".to_owned())
        })?;
        let found = found.ok_or(Error::NotFound)?;
        self.note().secrets.insert(name.to_string(), found.version);
        self.values.insert(name, found);
        Ok(())
    }

    fn handle(&mut self, handle: SecretHandle) -> Result<Handle, Error> {
        self.handles.push(handle).map_err(|_full| Error::Budget("the run holds too many handles".to_owned()))
    }

    pub(crate) fn whole(&self, name: &str) -> wasmtime::Result<&Versioned> {
        let held = self.values.iter().find(|(known, _)| known.as_str() == name).map(|(_, value)| value);
        held.ok_or_else(|| wasmtime::Error::msg("a handle without a value"))
    }

    /// From now on the run, or a peer of it, knows the value: the leak guard looks for it.
    pub(crate) fn expose(&self, handle: &Handle) -> wasmtime::Result<()> {
        let (value, name) = (self.value(handle)?, self.name(handle)?);
        let field = self.handles.get(handle)?.field.as_ref().map(ToString::to_string);
        self.note().exposed.entry((name, field)).or_insert(value);
        Ok(())
    }

    /// The value that a handle stands for. Stays in the host unless `reveal` was granted.
    pub(crate) fn value(&self, handle: &Handle) -> wasmtime::Result<SecretValue> {
        let handle = self.handles.get(handle)?;
        let whole = &self.whole(&handle.name)?.value;
        match &handle.field {
            None => Ok(whole.clone()),
            Some(field) => whole.field(field).map_err(|_| wasmtime::Error::msg("a handle to a field that is gone")),
        }
    }

    pub(crate) fn name(&self, handle: &Handle) -> wasmtime::Result<SecretName> {
        let name = &self.handles.get(handle)?.name;
        name.parse().map_err(|_| wasmtime::Error::msg("a handle without a name"))
    }
}

/// The value as text, which is all that the API stores; another writer of the same place may have put bytes there.
pub(crate) fn text(value: &SecretValue) -> wasmtime::Result<&str> {
    value.expose_str().ok_or_else(|| wasmtime::Error::msg("a secret's value is not UTF-8; put it anew"))
}
