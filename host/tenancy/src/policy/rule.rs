//! One way out: scheme, host, methods, paths and secrets, bound to the settings of an install.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{HostPattern, SettingProblem};
use crate::SecretName;
use crate::manifest::HttpAsk;

/// An HTTP method that a rule may allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "RFC 9110 and RFC 5789 say what they mean")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// The method as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

/// One allowed way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpRule {
    /// `https`, or `http` for an origin that an install setting names.
    pub scheme: String,
    /// To which hosts.
    #[schemars(with = "String")]
    pub host: HostPattern,
    /// With which methods.
    pub methods: BTreeSet<Method>,
    /// To which paths.
    pub paths: Vec<String>,
    /// With which secrets.
    pub credentials: BTreeSet<SecretName>,
    /// Redirects are answers, and not followed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returns_redirects: bool,
}

pub(super) fn rule(ask: &HttpAsk, settings: &serde_json::Value) -> Result<HttpRule, SettingProblem> {
    let (scheme, host) = match (&ask.host, &ask.host_setting) {
        (_, Some(setting)) => {
            let fail = |problem: &str| SettingProblem { setting: setting.clone(), problem: problem.to_owned() };
            let text = settings.get(setting).and_then(|v| v.as_str()).ok_or_else(|| fail("it is not set"))?;
            let url = Url::parse(text).map_err(|e| fail(&format!("{text:?} is no URL ({e})")))?;
            if !matches!(url.scheme(), "https" | "http")
                || !matches!(url.path(), "" | "/")
                || url.query().is_some()
                || url.fragment().is_some()
                || !url.username().is_empty()
                || url.password().is_some()
            {
                return Err(fail(&format!("{text:?} is more, or other, than scheme, host and port")));
            }
            let host =
                HostPattern::of(&url).ok_or_else(|| fail(&format!("{text:?} has no plain host name or address")))?;
            (url.scheme().to_owned(), host)
        }
        (Some(host), None) => {
            let pattern = host.parse().map_err(|problem| SettingProblem { setting: host.clone(), problem })?;
            ("https".to_owned(), pattern)
        }
        (None, None) => unreachable!("a checked manifest has one of the two"),
    };
    Ok(HttpRule {
        scheme,
        host,
        methods: ask.methods.iter().copied().collect(),
        paths: ask.paths.clone(),
        credentials: ask.credentials.iter().cloned().collect(),
        returns_redirects: !ask.follow_redirects,
    })
}
