//! The testing host in the place of the real one.

use std::rc::Rc;

use crate::audit::{self, Outcome};
use crate::http::{self, Parts};
use crate::log::Level;
use crate::secrets;
use crate::testing::state::{self, State};

/// A handle, and the host that gave it: a handle must not outlive its run.
pub(crate) struct Secret {
    state: Rc<State>,
    /// The stored secret, which the permission to reveal is for.
    name: String,
    /// The name as it was asked for, with `.field` for a field: what a test sees instead of the value.
    pub(crate) label: String,
    value: String,
}

pub(crate) fn secret(name: &str) -> Result<Secret, secrets::Error> {
    let state = state::current();
    match state.secret(name) {
        Some(value) => Ok(Secret { state, name: name.to_owned(), label: name.to_owned(), value }),
        None => Err(secrets::Error::NotFound { name: name.to_owned() }),
    }
}

impl Secret {
    pub(crate) fn field(&self, name: &str, field: &str) -> Result<Self, secrets::Error> {
        // The contract's flat object: a member that is not a string is no field.
        let members: serde_json::Value = serde_json::from_str(&self.value).unwrap_or_default();
        match members.get(field).and_then(serde_json::Value::as_str) {
            Some(value) => Ok(Self {
                state: Rc::clone(&self.state),
                name: self.name.clone(),
                label: format!("{}.{field}", self.label),
                value: value.to_owned(),
            }),
            None => Err(secrets::Error::NoSuchField { name: name.to_owned(), field: field.to_owned() }),
        }
    }

    pub(crate) fn reveal(&self, name: &str) -> Result<String, secrets::Error> {
        if self.state.may_reveal(&self.name) {
            Ok(self.value.clone())
        } else {
            Err(secrets::Error::RevealDenied { name: name.to_owned() })
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "in the sandbox the host may refuse")]
    pub(crate) fn hmac_sha256(&self, _name: &str, message: &[u8]) -> Result<[u8; 32], secrets::Error> {
        use hmac::{KeyInit as _, Mac as _};

        let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(self.value.as_bytes());
        Ok(mac.expect("HMAC takes a key of any length").chain_update(message).finalize().into_bytes().into())
    }
}

pub(crate) fn send(request: Parts) -> Result<http::Response, http::Error> {
    state::current().send(request)
}

pub(crate) fn record(action: &str, resource: &str, outcome: Outcome, detail: &str) -> Result<(), audit::Error> {
    state::current().record(action, resource, outcome, detail)
}

pub(crate) fn log(level: Level, message: &str) {
    // Logging must not change what a skill does, so a line outside of a host is lost and not an error.
    if let Some(state) = state::running() {
        state.log(level, message);
    }
}
