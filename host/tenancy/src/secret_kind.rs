//! What the host makes of a secret when it is put on a request: the value itself, a token, or a signature.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A kind, as `skill.toml` names it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KindName {
    /// The value itself.
    #[default]
    Value,
    /// An access token that the host fetches and renews: OAuth 2.0, client credentials or a refresh token (RFC 6749).
    Oauth2,
    /// A signature of the request as AWS reads it: Signature Version 4.
    AwsSigv4,
    /// A signature of the request by HMAC-SHA-256: HTTP Message Signatures (RFC 9421).
    HttpSignature,
}

impl KindName {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks for it")]
    pub(crate) const fn is_value(&self) -> bool {
        matches!(self, Self::Value)
    }
}

/// A kind with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SecretKind {
    /// The value itself.
    Value,
    /// See [`KindName::Oauth2`].
    Oauth2,
    /// See [`KindName::AwsSigv4`].
    AwsSigv4 {
        /// The service that signs.
        service: String,
    },
    /// See [`KindName::HttpSignature`].
    HttpSignature,
}

impl SecretKind {
    /// The kind's name in `skill.toml`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Value => "value",
            Self::Oauth2 => "oauth2",
            Self::AwsSigv4 { .. } => "aws-sigv4",
            Self::HttpSignature => "http-signature",
        }
    }

    /// The fields that a secret of this kind must have, and those that it may have.
    pub const fn fields(&self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Value => (&[], &[]),
            Self::Oauth2 => (
                &["token_url", "client_id", "client_secret"],
                &["refresh_token", "scope", "audience", "client_authentication"],
            ),
            Self::AwsSigv4 { .. } => (&["access_key_id", "secret_access_key", "region"], &["session_token"]),
            Self::HttpSignature => (&["key_id", "key"], &["key_encoding"]),
        }
    }

    /// What is wrong with a value that is to be of this kind. Says nothing of what it holds but the names of fields that are not
    /// known, cut.
    ///
    /// # Errors
    ///
    /// The field, and what to do.
    pub fn check(&self, value: &[u8]) -> Result<(), String> {
        if *self == Self::Value {
            return Ok(());
        }
        let (must, may) = self.fields();
        let kind = self.as_str();
        let fields: BTreeMap<String, Zeroizing<String>> = serde_json::from_slice(value).map_err(|_| {
            format!("a secret of kind {kind} is a JSON object of texts with the fields {}", must.join(", "))
        })?;
        if let Some(missing) = must.iter().find(|name| fields.get(**name).is_none_or(|value| value.is_empty())) {
            return Err(format!("a secret of kind {kind} needs the field {missing}; it has {}", must.join(", ")));
        }
        if let Some(unknown) =
            fields.keys().find(|name| !must.contains(&name.as_str()) && !may.contains(&name.as_str()))
        {
            let shown: String = unknown.chars().take(32).collect();
            let known: Vec<_> = must.iter().chain(may).copied().collect();
            return Err(format!("a secret of kind {kind} has no field {shown:?}; it may have {}", known.join(", ")));
        }
        let one_of = |field: &str, words: &[&str]| match fields.get(field) {
            Some(value) if !words.contains(&value.as_str()) => {
                Err(format!("the field {field} is one of {}", words.join(" and ")))
            }
            _ => Ok(()),
        };
        one_of("client_authentication", &["header", "body"])?;
        one_of("key_encoding", &["text", "base64"])?;
        match fields.get("token_url").map(|text| url::Url::parse(text)) {
            Some(Err(_)) => Err("the field token_url is no URL; write https://host/path".to_owned()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_of_its_kind_is_refused_and_not_repeated() {
        let oauth = SecretKind::Oauth2;
        let good = r#"{"token_url":"https://id.example.com/t","client_id":"c","client_secret":"s3cret"}"#;
        assert_eq!(oauth.check(good.as_bytes()), Ok(()));
        assert_eq!(SecretKind::Value.check(b"anything"), Ok(()));
        for (bad, says) in [
            ("s3cret", "JSON object"),
            (r#"{"token_url":1}"#, "JSON object"),
            (r#"{"token_url":"https://id.example.com/t","client_id":"s3cret"}"#, "client_secret"),
            (r#"{"token_url":"s3cret","client_id":"c","client_secret":"s3cret"}"#, "no URL"),
            (r#"{"token_url":"https://x/t","client_id":"c","client_secret":""}"#, "client_secret"),
            (r#"{"token_url":"https://x/t","client_id":"c","client_secret":"s3cret","scopes":"s"}"#, "scopes"),
            (
                r#"{"token_url":"https://x/t","client_id":"c","client_secret":"s3cret","client_authentication":"s3cret"}"#,
                "header and body",
            ),
        ] {
            let refusal = oauth.check(bad.as_bytes()).unwrap_err();
            assert!(refusal.contains(says) && !refusal.contains("s3cret"), "{bad}: {refusal}");
        }
    }
}
