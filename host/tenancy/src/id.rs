//! Identifiers, each parsed once and the same everywhere.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use uuid::Uuid;

/// A text that is not the identifier it should be. The message says which form is expected and never repeats
/// more than a short, printable part of what came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?} is not a {what}: {form}")]
pub struct InvalidId {
    what: &'static str,
    form: &'static str,
    shown: String,
}

impl InvalidId {
    fn new(what: &'static str, form: &'static str, text: &str) -> Self {
        let shown = text.chars().take(64).filter(|c| !c.is_control()).collect();
        Self { what, form, shown }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $form:literal, $pattern:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        string_schema!($name, $form, $pattern);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(InvalidId::new($what, $form, text)) }
            }
        }

        string_forms!($name);
    };
}

/// The form as JSON Schema, for the description of the API.
macro_rules! string_schema {
    ($name:ident, $form:literal, $pattern:literal) => {
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $form })
            }
        }
    };
}

macro_rules! string_forms {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fn slug(text: &str, longest: usize) -> bool {
    (2..=longest).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

fn word(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

text_id!(
    /// A tenant, for example `acme-corp`: `^[a-z0-9][a-z0-9-]{1,62}$`. Safe as a file name, a stream name, a
    /// label and a path segment, so no layer needs to escape it.
    TenantId,
    "tenant id",
    "2 to 63 of a-z, 0-9 and -, not starting with -",
    "^[a-z0-9][a-z0-9-]{1,62}$",
    |t| slug(t, 63)
);
text_id!(
    /// Who publishes packages, for example `northwind`: the same form as a tenant id.
    Publisher,
    "publisher name",
    "2 to 63 of a-z, 0-9 and -, not starting with -",
    "^[a-z0-9][a-z0-9-]{1,62}$",
    |t| slug(t, 63)
);
text_id!(
    /// A callable skill, for example `crm.lookup_account`: `^[a-zA-Z0-9_.-]{1,64}$`, which function-calling
    /// interfaces accept once `.` is mapped.
    SkillName,
    "skill name",
    "1 to 64 of letters, digits, _, . and -",
    "^[a-zA-Z0-9_.-]{1,64}$",
    |t| word(t, 64)
);
text_id!(
    /// A tenant's secret, for example `salesforce`: `^[a-z0-9][a-z0-9_-]{0,62}$`.
    SecretName,
    "secret name",
    "1 to 63 of a-z, 0-9, _ and -, starting with a letter or digit",
    "^[a-z0-9][a-z0-9_-]{0,62}$",
    |t| {
        (1..=63).contains(&t.len())
            && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
            && t.as_bytes()[0].is_ascii_alphanumeric()
    }
);
text_id!(
    /// The public half of a token, `clw_<id>_<secret>`: 12 to 32 lower-case hexadecimal digits.
    TokenId,
    "token id",
    "12 to 32 lower-case hexadecimal digits",
    "^[0-9a-f]{12,32}$",
    |t| (12..=32).contains(&t.len()) && t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
);
text_id!(
    /// A W3C trace id: 32 lower-case hexadecimal digits, not all zero.
    TraceId,
    "trace id",
    "32 lower-case hexadecimal digits, not all zero",
    "^[0-9a-f]{32}$",
    |t| t.len() == 32 && t.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) && t.bytes().any(|b| b != b'0')
);

impl RunId {
    /// Bytes of its text.
    pub const TEXT: usize = uuid::fmt::Hyphenated::LENGTH;

    /// Its text, written into a place of the caller's.
    pub fn write<'a>(&self, into: &'a mut [u8; Self::TEXT]) -> &'a str {
        self.0.hyphenated().encode_lower(into)
    }
}

impl TraceId {
    /// A new trace id, for a caller that sent none.
    pub fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string().into())
    }
}

/// A package, `publisher/name`, for example `northwind/crm`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PackageName {
    full: Box<str>,
    slash: usize,
}

impl PackageName {
    /// The package as text, `publisher/name`.
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// Who publishes it.
    pub fn publisher(&self) -> Publisher {
        Publisher(self.full[..self.slash].into())
    }

    /// The part behind the slash.
    pub fn name(&self) -> &str {
        &self.full[self.slash + 1..]
    }
}

impl FromStr for PackageName {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once('/') {
            Some((publisher, name)) if slug(publisher, 63) && slug(name, 63) => {
                Ok(Self { full: text.into(), slash: publisher.len() })
            }
            _ => Err(InvalidId::new("package name", "publisher/name, each 2 to 63 of a-z, 0-9 and -", text)),
        }
    }
}

string_forms!(PackageName);
string_schema!(
    PackageName,
    "publisher/name, each 2 to 63 of a-z, 0-9 and -",
    "^[a-z0-9][a-z0-9-]{1,62}/[a-z0-9][a-z0-9-]{1,62}$"
);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, ordered by the time at which it was made.
            pub fn now() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId::new($what, "a UUID", text))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    };
}

uuid_id!(
    /// One run of a skill: a UUIDv7.
    RunId,
    "run id"
);
uuid_id!(
    /// One request to the API: a UUIDv7, in the answer, the log and the audit entry.
    RequestId,
    "request id"
);

/// The SHA-256 of a component, written `sha256:<64 hexadecimal digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest without its prefix: 64 hexadecimal digits, safe as a file name.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

string_schema!(Digest, "sha256: and 64 hexadecimal digits", "^sha256:[0-9a-fA-F]{64}$");

impl FromStr for Digest {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId::new("digest", "sha256: and 64 hexadecimal digits", text);
        let digits = text.strip_prefix("sha256:").ok_or_else(invalid)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| invalid())?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_09_odd_tenant_ids_are_refused_and_not_echoed_whole() {
        let long = "a".repeat(10_240);
        for text in [
            "",
            "a",
            "-a",
            "../b",
            "a:b",
            "A-corp",
            "ac me",
            "acme\0",
            "аcme",
            "acme_corp",
            "acme/corp",
            "é-corp",
            &long,
        ] {
            let refusal = text.parse::<TenantId>().expect_err(text).to_string();
            assert!(refusal.len() < 300, "{refusal}");
            assert!(!refusal.contains('\0'));
        }
        for text in ["ab", "acme-corp", "0x", "a1", &"a".repeat(63)] {
            assert_eq!(text.parse::<TenantId>().map(|id| id.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn a_package_name_has_exactly_two_parts() {
        for text in ["northwind", "northwind/", "/crm", "north/wind/crm", "Northwind/crm", "northwind/../crm"] {
            assert!(text.parse::<PackageName>().is_err(), "{text}");
        }
        let crm: PackageName = "northwind/crm".parse().unwrap();
        assert_eq!((crm.publisher().as_str(), crm.name()), ("northwind", "crm"));
    }

    #[test]
    fn a_digest_reads_back_what_it_writes() {
        let digest = Digest::of(b"component");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("sha256:abc".parse::<Digest>().is_err());
        assert!(digest.hex().parse::<Digest>().is_err(), "the prefix is part of the form");
    }
}
