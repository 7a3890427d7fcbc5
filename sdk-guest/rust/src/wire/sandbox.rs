//! The contract's imports and its export, in the words of the SDK.

use self::bindings::clawhold::skill as host;
use self::bindings::exports::clawhold::skill::handler;
use crate::audit::{self, Outcome};
use crate::http::{self, Credential, Method, Parts, Rule};
use crate::log::Level;
use crate::secrets;
use crate::{Context, Error, registry};

/// What wit-bindgen makes of `wit/`.
// The canonical ABI passes pointers through linear memory: the generated code reads and frees what the host wrote,
// which cannot be said in safe Rust. It is confined to this module.
#[allow(unsafe_code, missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
mod bindings {
    wit_bindgen::generate!({ world: "skill", path: "../../wit" });
    export!(Package with_types_in self);

    use super::Package;
}

/// The package's one export. It lives here and not in the skill: the linker keeps exported symbols of every crate
/// that a skill links, so that an author has nothing to write.
struct Package;

impl handler::Guest for Package {
    fn describe() -> Vec<handler::Descriptor> {
        report_panics();
        let descriptor = |skill: registry::Descriptor| handler::Descriptor {
            name: skill.name.to_owned(),
            description: skill.description.to_owned(),
            input_schema: skill.input_schema,
            output_schema: skill.output_schema,
        };
        registry::describe().into_iter().map(descriptor).collect()
    }

    fn handle(context: handler::Context, input: String) -> Result<String, handler::Error> {
        report_panics();
        registry::handle(&context.into(), &input).map_err(Into::into)
    }
}

/// Sends the reason of a panic to the host before the trap, which by itself says no more than `unreachable`.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("the panic carries no text");
        match panic.location() {
            Some(at) => log(Level::Fatal, &format!("panicked at {at}: {message}")),
            None => log(Level::Fatal, &format!("panicked: {message}")),
        }
    }));
}

pub(crate) struct Secret(host::secrets::Secret);

pub(crate) fn secret(name: &str) -> Result<Secret, secrets::Error> {
    host::secrets::get(name).map(Secret).map_err(|error| secret_error(error, name))
}

impl Secret {
    pub(crate) fn field(&self, name: &str, field: &str) -> Result<Self, secrets::Error> {
        self.0.field(field).map(Self).map_err(|error| secret_error(error, name))
    }

    pub(crate) fn reveal(&self, name: &str) -> Result<String, secrets::Error> {
        self.0.reveal().map_err(|error| secret_error(error, name))
    }

    pub(crate) fn hmac_sha256(&self, name: &str, message: &[u8]) -> Result<[u8; 32], secrets::Error> {
        let code = self.0.hmac_sha256(message).map_err(|error| secret_error(error, name))?;
        Ok(code.try_into().expect("the contract says 32 bytes"))
    }
}

fn secret_error(error: host::secrets::Error, name: &str) -> secrets::Error {
    use host::secrets::Error as Host;

    let name = name.to_owned();
    match error {
        Host::NotFound => secrets::Error::NotFound { name },
        Host::NoSuchField(field) => secrets::Error::NoSuchField { name, field },
        Host::RevealDenied => secrets::Error::RevealDenied { name },
        Host::Unavailable(message) => secrets::Error::Unavailable { message },
        Host::Budget(message) => secrets::Error::Budget { message },
    }
}

pub(crate) fn send(request: Parts) -> Result<http::Response, http::Error> {
    let Parts { method, url, headers, body, timeout_ms, credential } = request;
    let answer = host::http::send(&host::http::Request {
        method: host_method(method),
        url: url.clone(),
        headers: headers.into_iter().map(|(name, value)| host::http::Header { name, value }).collect(),
        body,
        timeout_ms,
        credential: credential.as_ref().map(host_credential),
    });
    match answer {
        Ok(host::http::Response { status, headers, body }) => {
            let headers = headers.into_iter().map(|header| (header.name, header.value)).collect();
            Ok(http::Response { method, url, status, headers, body })
        }
        Err(host::http::Error { rule, message, sent }) => {
            Err(http::Error::NoAnswer { rule: sdk_rule(rule), message, sent })
        }
    }
}

fn host_method(method: Method) -> host::http::Method {
    match method {
        Method::Get => host::http::Method::Get,
        Method::Head => host::http::Method::Head,
        Method::Post => host::http::Method::Post,
        Method::Put => host::http::Method::Put,
        Method::Patch => host::http::Method::Patch,
        Method::Delete => host::http::Method::Delete,
        Method::Options => host::http::Method::Options,
    }
}

fn host_credential(credential: &Credential) -> host::http::Credential<'_> {
    use host::http::{BasicCredential, Credential as Host, NamedCredential};

    match credential {
        Credential::Bearer(token) => Host::Bearer(&token.handle().0),
        Credential::Basic { username, password } => {
            Host::Basic(BasicCredential { username: &username.handle().0, password: &password.handle().0 })
        }
        Credential::Header { name, prefix, value } => {
            Host::Header(NamedCredential { name: name.clone(), prefix: prefix.clone(), value: &value.handle().0 })
        }
        Credential::Query { name, value } => {
            Host::Query(NamedCredential { name: name.clone(), prefix: String::new(), value: &value.handle().0 })
        }
    }
}

fn sdk_rule(rule: host::http::Rule) -> Rule {
    use host::http::Rule as Host;

    match rule {
        Host::InvalidRequest => Rule::InvalidRequest,
        Host::Policy => Rule::Policy,
        Host::Credential => Rule::Credential,
        Host::Address => Rule::Address,
        Host::Dns => Rule::Dns,
        Host::Connect => Rule::Connect,
        Host::Tls => Rule::Tls,
        Host::Protocol => Rule::Protocol,
        Host::Size => Rule::Size,
        Host::Deadline => Rule::Deadline,
        Host::Budget => Rule::Budget,
        Host::Unavailable => Rule::Unavailable,
    }
}

pub(crate) fn record(action: &str, resource: &str, outcome: Outcome, detail: &str) -> Result<(), audit::Error> {
    use host::audit::Error as Host;

    let outcome = match outcome {
        Outcome::Success => host::audit::Outcome::Success,
        Outcome::Failure => host::audit::Outcome::Failure,
        Outcome::Denied => host::audit::Outcome::Denied,
    };
    host::audit::record(action, resource, outcome, detail).map_err(|error| match error {
        Host::UndeclaredAction(action) => audit::Error::UndeclaredAction(action),
        Host::Invalid(reason) => audit::Error::Invalid(reason),
        Host::Budget(reason) => audit::Error::Budget(reason),
    })
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Debug => host::audit::Level::Debug,
        Level::Info => host::audit::Level::Info,
        Level::Warn => host::audit::Level::Warn,
        Level::Error => host::audit::Level::Error,
        Level::Fatal => host::audit::Level::Fatal,
    };
    host::audit::log(level, message);
}

impl From<handler::Context> for Context {
    fn from(context: handler::Context) -> Self {
        let handler::Context { tenant_id, run_id, trace_id, caller, skill, now_ms, deadline_ms, settings } = context;
        Self { tenant_id, run_id, trace_id, caller, skill, now_ms, deadline_ms, settings }
    }
}

impl From<Error> for handler::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidInput(message) => Self::InvalidInput(message),
            Error::Denied(message) => Self::Denied(message),
            Error::Unavailable(message) => Self::Unavailable(message),
            Error::Failed(message) => Self::Failed(message),
        }
    }
}
