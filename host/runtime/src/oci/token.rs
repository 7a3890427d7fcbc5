//! Short-lived tokens for OCI clients, as <https://distribution.github.io/distribution/spec/auth/token/> has them.
//!
//! A client sends its token once and gets one that is good for some minutes and for the repositories that it named.
//! Nothing is kept of it: an HMAC under a key of the host's says that it is ours, and the token that it was given for is
//! looked up at each use, so that its revocation ends this one too.

use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clawhold_tenancy::audit::now_us;
use clawhold_tenancy::permit::{Market, ShowPackage};
use clawhold_tenancy::{Actor, Context, PackageName, Permit, RequestId, TokenId, TraceId};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{Host, Problem};

/// How long one is good for. 5 minutes: a client asks for the next by itself, and a push of the largest package takes
/// less.
const SECONDS: u64 = 300;
/// Repositories that one may be for. `oras copy` from one of ours to another asks for two.
const REPOSITORIES: usize = 8;
/// Bytes of one. A header field has more room.
const BYTES: usize = 4096;
/// What they begin with; a host's own begin with `clw_`.
const PREFIX: &str = "clwr_";

/// What may be done with a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The repository.
    pub package: PackageName,
    /// Read it.
    pub pull: bool,
    /// Publish to it.
    pub push: bool,
}

/// What a request may be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// All that the token's role may.
    Whole,
    /// These repositories; the token is a short-lived one.
    Only(Vec<Access>),
}

impl Reach {
    /// Whether it reaches this repository for this.
    pub fn covers(&self, package: &PackageName, push: bool) -> bool {
        match self {
            Self::Whole => true,
            Self::Only(list) => list.iter().any(|a| a.package == *package && if push { a.push } else { a.pull }),
        }
    }
}

/// A short-lived token.
#[derive(Debug)]
pub struct RegistryToken {
    /// It.
    pub token: String,
    /// Seconds that it is good for.
    pub seconds: u64,
    /// When it was made, in microseconds since 1970.
    pub issued_us: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    token: TokenId,
    access: Vec<Access>,
    until_us: i64,
}

/// Makes and reads them.
pub(crate) struct Tokens(Hmac<Sha256>);

impl Tokens {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(key).expect("a key of any length is one"))
    }

    fn write(&self, claims: &Claims) -> String {
        let payload = serde_json::to_vec(claims).expect("claims have only string keys");
        let body = BASE64_URL_SAFE_NO_PAD.encode(payload);
        let mac = self.0.clone().chain_update(body.as_bytes()).finalize().into_bytes();
        format!("{PREFIX}{body}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac))
    }

    fn read(&self, text: &str, now_us: i64) -> Option<Claims> {
        let (body, mac) = text.strip_prefix(PREFIX).filter(|_| text.len() <= BYTES)?.split_once('.')?;
        let mac = BASE64_URL_SAFE_NO_PAD.decode(mac).ok()?;
        self.0.clone().chain_update(body.as_bytes()).verify_slice(&mac).ok()?;
        let claims: Claims = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(body).ok()?).ok()?;
        (now_us < claims.until_us).then_some(claims)
    }
}

impl Host {
    /// A short-lived token that is good for these repositories and no others. It gives no right that its token has not:
    /// that is seen when it is used, and so is whether a package is granted to the caller, so that this tells nothing.
    pub fn registry_token(
        &self,
        cx: &Context,
        _permit: &Permit<ShowPackage, Market>,
        access: Vec<Access>,
    ) -> Result<RegistryToken, Problem> {
        let Actor::Token { id, .. } = &cx.actor else { return Err(Problem::Unauthenticated) };
        if access.len() > REPOSITORIES {
            let detail = format!("a token is for at most {REPOSITORIES} repositories; ask for fewer");
            return Err(Problem::invalid("scope", detail));
        }
        let issued_us = now_us();
        let until_us = issued_us.saturating_add_unsigned(SECONDS * 1_000_000);
        let claims = Claims { token: id.clone(), access, until_us };
        Ok(RegistryToken { token: self.registry.tokens.write(&claims), seconds: SECONDS, issued_us })
    }

    /// Who sent a short-lived token, and what it reaches.
    pub async fn authenticate_registry(
        &self,
        sent: &str,
        from: IpAddr,
        request: RequestId,
        trace: TraceId,
        depth: u8,
    ) -> Result<(Context, Reach), Problem> {
        let claims = self.registry.tokens.read(sent, now_us()).ok_or_else(|| self.failed_authentication(from))?;
        let cx = self.authenticate_id(&claims.token, from, request, trace, depth).await?;
        Ok((cx, Reach::Only(claims.access)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        let access = Access { package: "northwind/crm".parse().unwrap(), pull: true, push: false };
        Claims { token: "0123456789ab".parse().unwrap(), access: vec![access], until_us: 1_000 }
    }

    #[test]
    fn only_what_the_host_wrote_is_read_and_only_in_its_time() {
        let tokens = Tokens::new(&[7; 32]);
        let text = tokens.write(&claims());
        let read = tokens.read(&text, 999).unwrap();
        assert_eq!((read.token, read.access), (claims().token, claims().access));
        assert!(tokens.read(&text, 1_000).is_none(), "its time is over");
        assert!(Tokens::new(&[8; 32]).read(&text, 0).is_none(), "another host's");
        let (body, mac) = text.strip_prefix(PREFIX).unwrap().split_once('.').unwrap();
        let longer =
            BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Claims { until_us: 9_999, ..claims() }).unwrap());
        for forged in [
            format!("{PREFIX}{longer}.{mac}"),
            format!("{PREFIX}{body}."),
            format!("{PREFIX}{body}.{}", &mac[..mac.len() - 4]),
            format!("{PREFIX}.{mac}"),
            format!("{body}.{mac}"),
            format!("{PREFIX}{body}{}.{mac}", "A".repeat(BYTES)),
            String::new(),
        ] {
            assert!(tokens.read(&forged, 0).is_none(), "{forged}");
        }
    }

    #[test]
    fn it_reaches_what_it_names() {
        let reach = Reach::Only(claims().access);
        assert!(reach.covers(&"northwind/crm".parse().unwrap(), false));
        assert!(!reach.covers(&"northwind/crm".parse().unwrap(), true));
        assert!(!reach.covers(&"northwind/crm2".parse().unwrap(), false));
        assert!(Reach::Whole.covers(&"northwind/crm2".parse().unwrap(), true));
    }
}
