//! A secret's value in memory.

use std::collections::BTreeMap;
use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A secret's value. `Debug` hides it, `==` takes the same time whatever differs, and dropping it wipes it.
///
/// ```
/// use clawhold_secret_store::SecretValue;
/// let login = SecretValue::from(r#"{"user": "ada", "password": "s3cret"}"#.to_owned());
/// assert_eq!(login.field("password")?.expose(), b"s3cret");
/// assert_eq!(format!("{login:?}"), "SecretValue(…)");
/// # Ok::<(), clawhold_secret_store::FieldError>(())
/// ```
#[derive(Clone)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

/// Why a secret has no such field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The value is something else than a flat object.
    #[error("the secret is no JSON object of strings, so it has no fields; put it as {{\"name\": \"value\", …}}")]
    NoObject,
    /// It is one, without this field.
    #[error("the secret has no field {0:?}")]
    Absent(String),
}

impl SecretValue {
    /// The value itself. Named so that each place which reads one can be found.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value itself, if it is text.
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The values of its fields, if it is a flat JSON object of strings.
    pub fn fields(&self) -> Vec<Self> {
        let fields: BTreeMap<String, String> = serde_json::from_slice(&self.0).unwrap_or_default();
        fields.into_values().map(Self::from).collect()
    }

    /// One field of a value that is a flat JSON object of strings.
    pub fn field(&self, name: &str) -> Result<Self, FieldError> {
        let fields: BTreeMap<String, String> = serde_json::from_slice(&self.0).map_err(|_| FieldError::NoObject)?;
        // All of them are wiped, not only the one that is asked for.
        let mut fields: BTreeMap<String, Self> =
            fields.into_iter().map(|(name, value)| (name, Self::from(value))).collect();
        fields.remove(name).ok_or_else(|| FieldError::Absent(name.to_owned()))
    }
}

impl From<Vec<u8>> for SecretValue {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<String> for SecretValue {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl PartialEq for SecretValue {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretValue {}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, field: &str, expected: Result<&str, FieldError>) {
        let found = SecretValue::from(value.to_owned()).field(field);
        assert_eq!(found, expected.map(|text| SecretValue::from(text.to_owned())), "{value}");
    }

    #[test]
    fn a_field_is_read_from_a_flat_object_of_strings_and_from_nothing_else() {
        check(r#"{"user": "ada", "password": "a\"b"}"#, "password", Ok("a\"b"));
        check(r#"{"user": "ada"}"#, "password", Err(FieldError::Absent("password".to_owned())));
        check(r#"{"user": {"name": "ada"}}"#, "user", Err(FieldError::NoObject));
        check(r#"{"port": 1}"#, "port", Err(FieldError::NoObject));
        check("sk-plain", "password", Err(FieldError::NoObject));
        check("", "password", Err(FieldError::NoObject));
    }

    #[test]
    fn debug_shows_nothing_of_the_value() {
        let secret = SecretValue::from("hunter2".to_owned());
        let versioned = crate::Versioned { version: 3, value: secret.clone() };
        for shown in [format!("{secret:?}"), format!("{versioned:?}"), format!("{:?}", Some(&secret))] {
            assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
        }
    }

    #[test]
    fn values_are_equal_when_their_bytes_are() {
        let value = |text: &str| SecretValue::from(text.to_owned());
        assert_eq!(value("a"), value("a"));
        assert_ne!(value("a"), value("b"));
        assert_ne!(value("a"), value("aa"));
    }
}
