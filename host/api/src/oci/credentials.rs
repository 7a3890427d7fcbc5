//! What OCI clients authenticate with: a token, as a bearer or as the password of any user, or a short-lived token that
//! was given for one.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clawhold_runtime::oci::Reach;
use clawhold_runtime::{BearerToken, Host, Problem};
use clawhold_tenancy::permit::{Action, PublishPackage};
use clawhold_tenancy::{Context, PackageName, RequestId, TraceId};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::oci::package_of;

/// Who sent a request, and what it may be for.
pub(crate) async fn authenticate(
    host: &Host,
    headers: &HeaderMap,
    from: IpAddr,
    id: RequestId,
    (trace, depth): (TraceId, u8),
) -> Result<(Context, Reach), Problem> {
    let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, value) = sent.and_then(|text| text.split_once(' ')).ok_or(Problem::Unauthenticated)?;
    let value = value.trim();
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        if !value.starts_with("clw_") {
            return host.authenticate_registry(value, from, id, trace, depth).await;
        }
        BearerToken::parse(value)
    } else if scheme.eq_ignore_ascii_case("basic") {
        password(value).as_deref().and_then(BearerToken::parse)
    } else {
        None
    };
    let cx = host.authenticate(&token.ok_or(Problem::Unauthenticated)?, from, id, trace, depth).await?;
    Ok((cx, Reach::Whole))
}

/// The password of `user:password`; the user may be anybody.
fn password(encoded: &str) -> Option<String> {
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// What a request needs to reach. Shown as the scope of a token.
pub(crate) struct Needed {
    package: PackageName,
    push: bool,
}

impl Needed {
    /// Of a request to this path; `None` if it names no package.
    pub(crate) fn of<A: Action>(path: &HashMap<String, String>) -> Option<Self> {
        Some(Self { package: package_of(path)?, push: A::NAME == PublishPackage::NAME })
    }

    /// Whether a request that came with a short-lived token does not reach it.
    pub(crate) fn lacks(&self, reach: Option<&Reach>) -> bool {
        reach.is_some_and(|reach| !reach.covers(&self.package, self.push))
    }
}

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "repository:{}:{}", self.package, if self.push { "pull,push" } else { "pull" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_what_stands_behind_the_first_colon() {
        assert_eq!(password(&BASE64_STANDARD.encode("any:clw_0_x:y")).as_deref(), Some("clw_0_x:y"));
        for bad in ["", "!!", &BASE64_STANDARD.encode("nobody"), &BASE64_STANDARD.encode([0xff, b':'])] {
            assert_eq!(password(bad), None, "{bad}");
        }
    }
}
