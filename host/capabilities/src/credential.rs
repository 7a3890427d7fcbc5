//! Puts secrets on a request that the policy has allowed: as they are, as a token, or as a signature.

mod aws;
mod oauth;
mod signature;

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clawhold_sandbox::contract::SecretHandle;
use clawhold_sandbox::contract::clawhold::skill::http::{Credential, Error, Rule};
use clawhold_secret_store::SecretValue;
use clawhold_tenancy::SecretName;
use clawhold_tenancy::secret_kind::SecretKind;
use http::{HeaderName, HeaderValue, header};
use wasmtime::component::Resource;

use crate::RunHost;
use crate::exits::{HEADER_BYTES, URL_BYTES, field_name, refuse};
use crate::http::{Applied, Bounds, Outgoing};
use crate::secrets::text;

pub use oauth::AccessTokens;

type Handle = Resource<SecretHandle>;

/// Bytes of a credential's name and prefix together: a field's name, and a word.
const PLACE_BYTES: usize = 256;

/// Fields that a signature needs, by name.
type Fields = Vec<(HeaderName, String)>;

impl RunHost {
    pub(crate) fn secrets_of(&self, credential: Option<&Credential>) -> wasmtime::Result<Vec<SecretName>> {
        let handles: Vec<&Handle> = credential.map_or_else(Vec::new, handles);
        let mut names = handles.into_iter().map(|handle| self.name(handle)).collect::<wasmtime::Result<Vec<_>>>()?;
        names.dedup();
        Ok(names)
    }

    /// Puts the credential on a request that the policy has allowed.
    pub(crate) async fn apply(
        &mut self,
        credential: &Credential,
        to: &mut Outgoing,
        secrets: Vec<SecretName>,
        bounds: Bounds,
    ) -> wasmtime::Result<Result<(), Error>> {
        if let Credential::Header(named) | Credential::Query(named) = credential
            && named.name.len() + named.prefix.len() > PLACE_BYTES
        {
            return Ok(no(format!("a credential's name and prefix may have {PLACE_BYTES} bytes together")));
        }
        let mut kind = SecretKind::Value;
        for name in &secrets {
            let of = self.authority.as_ref().map(|authority| authority.policy.kind(name).clone());
            if let Some(of) = of.filter(|of| *of != SecretKind::Value) {
                kind = of;
            }
        }
        match kind {
            SecretKind::Value => self.apply_value(credential, to, secrets),
            SecretKind::Oauth2 => {
                let [handle] = handles(credential)[..] else {
                    return Ok(no("a user and a password are no access token; send it as a bearer token"));
                };
                let token = match self.access_token(handle, bounds).await? {
                    Ok(token) => token,
                    Err(error) => return Ok(Err(error)),
                };
                Ok(put_on(credential, &token, to, secrets))
            }
            SecretKind::AwsSigv4 { .. } | SecretKind::HttpSignature => self.sign(&kind, credential, to, secrets),
        }
    }

    fn apply_value(
        &mut self,
        credential: &Credential,
        to: &mut Outgoing,
        secrets: Vec<SecretName>,
    ) -> wasmtime::Result<Result<(), Error>> {
        // Also the user of a basic credential: with some services that is the key, and the password is empty.
        handles(credential).into_iter().try_for_each(|handle| self.expose(handle))?;
        let Credential::Basic(basic) = credential else {
            let handle = handles(credential).pop().expect("each credential has a secret");
            let value = self.value(handle)?;
            text(&value)?;
            return Ok(put_on(credential, &value, to, secrets));
        };
        let (user, password) = (self.value(&basic.username)?, self.value(&basic.password)?);
        if text(&user)?.contains(':') {
            return Ok(no("the user name has a colon, which HTTP Basic cannot carry"));
        }
        let pair = BASE64_STANDARD.encode(format!("{}:{}", text(&user)?, text(&password)?));
        let fields = vec![(header::AUTHORIZATION, format!("Basic {pair}"))];
        Ok(put_fields(fields, to, Applied { kind: "basic", secrets }))
    }

    /// Signs the request as it is. What the signature is made with stays here.
    fn sign(
        &mut self,
        kind: &SecretKind,
        credential: &Credential,
        to: &mut Outgoing,
        secrets: Vec<SecretName>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let Credential::Bearer(handle) = credential else {
            let problem = format!("a secret of kind {} signs the request; put it on as `bearer`", kind.as_str());
            return Ok(no(problem));
        };
        let value = self.value(handle)?;
        let now = std::time::SystemTime::now();
        let signed = match kind {
            SecretKind::AwsSigv4 { service } => aws::sign(to, service, &value, now),
            _ => signature::sign(to, &value, now),
        };
        let fields = match signed {
            Ok(fields) => fields,
            Err(problem) => return Ok(no(problem)),
        };
        // The one part of a key of AWS that leaves the host as it is.
        if let Ok(token) = value.field("session_token") {
            self.expose_as(&secrets[0], "session_token", token);
        }
        Ok(put_fields(fields, to, Applied { kind: kind.as_str(), secrets }))
    }

    /// From now on the leak guard looks for this value, which the host made of a secret.
    fn expose_as(&self, secret: &SecretName, field: &str, value: SecretValue) {
        let mut journal = self.note();
        let known = journal.exposed.values().any(|exposed| *exposed == value);
        if !known {
            let count = journal.exposed.len();
            journal.exposed.insert((secret.clone(), Some(format!("{field} {count}"))), value);
        }
    }

    async fn access_token(&mut self, handle: &Handle, bounds: Bounds) -> wasmtime::Result<Result<SecretValue, Error>> {
        let name = self.name(handle)?;
        let held = self.whole(name.as_str())?;
        let version = held.version;
        // A token server knows these, and whoever it shows them to.
        let used = ["client_secret", "refresh_token"].map(|field| (field, held.value.field(field)));
        for (field, value) in used {
            if let Ok(value) = value {
                self.expose_as(&name, field, value);
            }
        }
        let Some(authority) = self.authority.clone() else { return Ok(no("there is no network")) };
        let (limits, journal) = (self.limits.clone(), Arc::clone(&self.journal));
        let token = oauth::Asking { authority, limits, journal, bounds }.token(&name, version).await;
        if let Ok(token) = &token {
            self.expose_as(&name, "access_token", token.clone());
        }
        Ok(token)
    }

    /// A server did not know a token that seemed good: the next request gets another.
    pub(crate) async fn forget_tokens(&mut self, secrets: &[SecretName]) {
        let Some(authority) = &self.authority else { return };
        let of = |name: &&SecretName| *authority.policy.kind(name) == SecretKind::Oauth2;
        for name in secrets.iter().filter(of) {
            authority.backends.tokens.forget(authority, name).await;
        }
    }
}

fn handles(credential: &Credential) -> Vec<&Handle> {
    match credential {
        Credential::Bearer(value) => vec![value],
        Credential::Basic(basic) => vec![&basic.username, &basic.password],
        Credential::Header(named) | Credential::Query(named) => vec![&named.value],
    }
}

fn no<T>(problem: impl Into<String>) -> Result<T, Error> {
    refuse(Rule::Credential, problem)
}

/// Puts one value where the credential says.
fn put_on(
    credential: &Credential,
    value: &SecretValue,
    to: &mut Outgoing,
    secrets: Vec<SecretName>,
) -> Result<(), Error> {
    let value = value.expose_str().unwrap_or_default();
    let (kind, name, value) = match credential {
        Credential::Header(named) => {
            let name = field_name(&named.name).or_else(no)?;
            ("header", name, format!("{}{value}", named.prefix))
        }
        Credential::Query(named) => {
            to.url.query_pairs_mut().append_pair(&named.name, &format!("{}{value}", named.prefix));
            if to.url.as_str().len() > URL_BYTES {
                return no(format!("with the credential the URL has more than {URL_BYTES} bytes"));
            }
            to.credential = Some(Applied { kind: "query", secrets });
            return Ok(());
        }
        Credential::Bearer(_) | Credential::Basic(_) => ("bearer", header::AUTHORIZATION, format!("Bearer {value}")),
    };
    put_fields(vec![(name, value)], to, Applied { kind, secrets })
}

fn put_fields(fields: Fields, to: &mut Outgoing, applied: Applied) -> Result<(), Error> {
    for (name, value) in fields {
        if to.headers.contains_key(&name) {
            let problem = format!("the request already has the header {name}, which the credential would set");
            return no(problem);
        }
        if value.len() > HEADER_BYTES {
            let problem = format!("the credential has more than the {HEADER_BYTES} bytes that a header may have");
            return no(problem);
        }
        let Ok(mut value) = HeaderValue::try_from(value) else {
            let of = names(&applied.secrets);
            return no(format!("the stored value of {of} has characters that a header cannot carry"));
        };
        value.set_sensitive(true);
        to.headers.insert(name, value);
    }
    to.credential = Some(applied);
    Ok(())
}

/// Secrets as people read them.
pub(crate) fn names(secrets: &[SecretName]) -> String {
    secrets.iter().map(SecretName::as_str).collect::<Vec<_>>().join(" and ")
}
