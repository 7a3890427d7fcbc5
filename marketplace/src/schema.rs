//! JSON Schemas from authors, treated as hostile input: bounded, local, and with patterns that run in linear time.

use std::fmt;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

/// Bytes of one schema.
const SCHEMA_BYTES: usize = 64 * 1024;
/// Nesting of one schema: a validator recurses as deep as its schema does.
const SCHEMA_DEPTH: usize = 32;
/// Bytes that one pattern may need when compiled.
const PATTERN_BYTES: usize = 256 * 1024;
/// Characters of a mismatch that are passed on.
const MESSAGE_CHARS: usize = 500;

/// A compiled schema.
pub struct Schema(Validator);

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schema")
    }
}

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(String);

/// Where a value does not fit its schema. Holds no part of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Mismatch {
    /// A JSON pointer; `(the whole value)` for the root.
    pub place: String,
    /// What the schema wants there.
    pub problem: String,
}

impl Schema {
    /// Compiles a schema of draft 2020-12.
    pub fn compile(text: &str) -> Result<Self, SchemaError> {
        if text.len() > SCHEMA_BYTES {
            return Err(SchemaError(format!("it has {} bytes, {SCHEMA_BYTES} are allowed", text.len())));
        }
        let value: Value = serde_json::from_str(text).map_err(|e| SchemaError(format!("it is not JSON: {e}")))?;
        if !value.is_object() {
            return Err(SchemaError("it must be a JSON object".to_owned()));
        }
        local(&value, 0)?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
        jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(patterns)
            .build(&value)
            .map(Self)
            .map_err(|e| SchemaError(short(&e.to_string())))
    }

    /// Whether the value fits; if not, the first place where it does not.
    pub fn check(&self, value: &Value) -> Result<(), Mismatch> {
        self.0.validate(value).map_err(|error| {
            let place = error.instance_path().to_string();
            Mismatch {
                place: if place.is_empty() { "(the whole value)".to_owned() } else { short(&place) },
                problem: short(&error.masked().to_string()),
            }
        })
    }
}

fn local(value: &Value, depth: usize) -> Result<(), SchemaError> {
    if depth > SCHEMA_DEPTH {
        return Err(SchemaError(format!("it is nested deeper than {SCHEMA_DEPTH} levels")));
    }
    match value {
        Value::Object(members) => members.iter().try_for_each(|(key, member)| {
            let target = member.as_str().filter(|_| matches!(key.as_str(), "$ref" | "$dynamicRef" | "$schema" | "$id"));
            match (key.as_str(), target) {
                ("$ref" | "$dynamicRef", Some(target)) if !target.starts_with('#') => Err(SchemaError(format!(
                    "{key} points to {:?}; only references that start with # are served",
                    short(target)
                ))),
                ("$schema", Some(target)) if !target.starts_with("https://json-schema.org/draft/2020-12/schema") => {
                    Err(SchemaError(format!("$schema is {:?}; use draft 2020-12", short(target))))
                }
                ("$id", Some(_)) => Err(SchemaError("$id is not served; leave it out".to_owned())),
                _ => local(member, depth + 1),
            }
        }),
        Value::Array(items) => items.iter().try_for_each(|item| local(item, depth + 1)),
        _ => Ok(()),
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= MESSAGE_CHARS {
        return text.to_owned();
    }
    text.chars().take(MESSAGE_CHARS).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(schema: &str, expected: &str) {
        let said = Schema::compile(schema).expect_err(schema).to_string();
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    }

    #[test]
    fn a_hostile_schema_is_refused() {
        refused("{", "not JSON");
        refused("true", "JSON object");
        refused(r#"{"type": "strin"}"#, "strin");
        refused(r#"{"$ref": "https://evil.example.com/schema.json"}"#, "start with #");
        refused(r#"{"properties": {"a": {"$ref": "file:///etc/passwd"}}}"#, "start with #");
        refused(r##"{"$id": "http://x/", "$ref": "#"}"##, "$id");
        refused(r#"{"$schema": "http://json-schema.org/draft-07/schema#"}"#, "2020-12");
        refused(r##"{"$ref": "#/$defs/missing"}"##, "missing");
        refused(r#"{"pattern": "(?=look)ahead"}"#, "look");
        refused(r#"{"pattern": "((a{1000}){1000}){1000}"}"#, "");
        let deep = format!("{}{}", r#"{"not":"#.repeat(40) + "{}", "}".repeat(40));
        refused(&deep, "nested deeper");
        refused(&format!(r#"{{"title": "{}"}}"#, "x".repeat(SCHEMA_BYTES)), "are allowed");
    }

    #[test]
    fn a_pattern_that_explodes_elsewhere_runs_in_linear_time() {
        let schema = Schema::compile(r#"{"type": "string", "pattern": "^(a+)+$"}"#).unwrap();
        let value = Value::String("a".repeat(100_000) + "!");
        assert!(schema.check(&value).is_err());
    }

    #[test]
    fn a_mismatch_names_the_place_and_not_the_value() {
        let schema = Schema::compile(
            r#"{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": false}"#,
        )
        .unwrap();
        let said = |value: Value| schema.check(&value).expect_err("does not fit").to_string();
        assert!(said(serde_json::json!({"name": 12345})).starts_with("/name: "));
        assert!(!said(serde_json::json!({"name": 12345})).contains("12345"));
        assert!(said(serde_json::json!({})).contains("name"));
        assert!(said(serde_json::json!({"name": "x", "nmae": 1})).contains("nmae"));
        assert_eq!(schema.check(&serde_json::json!({"name": "O'Brien"})), Ok(()));
    }
}
