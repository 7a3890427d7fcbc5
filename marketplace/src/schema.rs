//! JSON Schemas from authors, treated as hostile input: bounded, local, and with patterns that run in linear time.

mod unique;

use std::collections::BTreeMap;
use std::fmt;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

/// Bytes of one schema.
const SCHEMA_BYTES: usize = 64 * 1024;
/// Nesting of one schema: a validator recurses as deep as its schema does.
const SCHEMA_DEPTH: usize = 32;
/// Parts of one schema, with every reference written out. A validator does at most this much for each part of a value:
/// references to references would otherwise double the work with each of them.
const SCHEMA_PARTS: u64 = 5000;
/// Bytes that one pattern may need when compiled. `^\p{L}+$` needs 64 KiB; four times that was seen to take 23 µs for each
/// byte of a text.
const PATTERN_BYTES: usize = 64 * 1024;
/// How many parts a pattern counts for: running one over a byte costs as much as this many comparisons.
const PATTERN_PARTS: u64 = 250;
/// How many parts `uniqueItems` counts for: sorting the largest list compares each item some twenty times.
const UNIQUE_PARTS: u64 = 20;
/// Characters of a mismatch that are passed on.
const MESSAGE_CHARS: usize = 500;

/// A compiled schema.
pub struct Schema {
    validator: Validator,
    parts: u64,
}

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
        let mut measure = Measure { root: &value, known: BTreeMap::new() };
        let (parts, depth) = measure.of(&value)?;
        if depth > SCHEMA_DEPTH {
            return Err(SchemaError(format!("it is nested deeper than {SCHEMA_DEPTH} levels, references written out")));
        }
        if parts > SCHEMA_PARTS {
            return Err(SchemaError(format!("it has more than {SCHEMA_PARTS} parts, references written out")));
        }
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES);
        jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(patterns)
            .with_keyword("uniqueItems", |_, wanted, _| Ok(unique::keyword(wanted)))
            .build(&value)
            .map(|validator| Self { validator, parts })
            .map_err(|e| SchemaError(short(&e.to_string())))
    }

    /// At most how much work it is to check a value of so many bytes of JSON, in comparisons.
    pub fn work(&self, bytes: usize) -> u64 {
        self.parts.saturating_mul(bytes as u64)
    }

    /// Whether the value fits; if not, the first place where it does not.
    pub fn check(&self, value: &Value) -> Result<(), Mismatch> {
        self.validator.validate(value).map_err(|error| {
            let place = error.instance_path().to_string();
            Mismatch {
                place: if place.is_empty() { "(the whole value)".to_owned() } else { short(&place) },
                problem: short(&error.masked().to_string()),
            }
        })
    }
}

/// Measures a schema as a validator will meet it: with references written out.
struct Measure<'s> {
    root: &'s Value,
    /// What references lead to; nothing while that is being measured.
    known: BTreeMap<String, Option<(u64, usize)>>,
}

impl<'s> Measure<'s> {
    /// Parts and depth.
    fn of(&mut self, value: &'s Value) -> Result<(u64, usize), SchemaError> {
        self.below(value, 0)
    }

    fn below(&mut self, value: &'s Value, level: usize) -> Result<(u64, usize), SchemaError> {
        if level > SCHEMA_DEPTH {
            return Err(SchemaError(format!("it is nested deeper than {SCHEMA_DEPTH} levels")));
        }
        let (mut parts, mut depth) = (1_u64, 0);
        let mut add = |(more, deep): (u64, usize)| {
            parts = parts.saturating_add(more);
            depth = depth.max(deep + 1);
        };
        match value {
            Value::Object(members) => {
                for (key, member) in members {
                    allowed(key, member)?;
                    if key == "pattern" {
                        add((PATTERN_PARTS, 0));
                    }
                    if key == "uniqueItems" {
                        add((UNIQUE_PARTS, 0));
                    }
                    if key == "patternProperties" {
                        let patterns = member.as_object().map_or(0, serde_json::Map::len);
                        add((PATTERN_PARTS.saturating_mul(patterns as u64), 0));
                    }
                    match member.as_str() {
                        Some(target) if key == "$ref" => add(self.target(target)?),
                        Some(_) => {}
                        None => add(self.below(member, level + 1)?),
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    add(self.below(item, level + 1)?);
                }
            }
            _ => {}
        }
        Ok((parts, depth))
    }

    fn target(&mut self, target: &str) -> Result<(u64, usize), SchemaError> {
        let shown = short(target);
        if !target.starts_with('#') {
            return Err(SchemaError(format!("$ref points to {shown:?}; only references that start with # are served")));
        }
        match self.known.get(target) {
            Some(Some(known)) => return Ok(*known),
            // A schema that contains itself makes work that grows with the power of a value's depth.
            Some(None) => {
                return Err(SchemaError(format!("{shown:?} contains itself; recursive schemas are not served")));
            }
            None => {}
        }
        let found =
            target.strip_prefix('#').filter(|pointer| !pointer.contains('%')).and_then(|p| self.root.pointer(p));
        let found = found.ok_or_else(|| SchemaError(format!("$ref points to {shown:?}, where there is nothing")))?;
        self.known.insert(target.to_owned(), None);
        // Chains of references are as deep for the one who follows them as nesting is.
        if self.known.values().filter(|known| known.is_none()).count() > SCHEMA_DEPTH {
            return Err(SchemaError(format!("its references are chained deeper than {SCHEMA_DEPTH}")));
        }
        let measured = self.below(found, 0)?;
        self.known.insert(target.to_owned(), Some(measured));
        Ok(measured)
    }
}

/// Refuses keywords that would lead elsewhere, in a circle, or over the same parts again and again.
fn allowed(key: &str, member: &Value) -> Result<(), SchemaError> {
    match (key, member) {
        // Each of these looks again at all that is below it, so nesting them doubles the work each time: 15 levels
        // took 0.6 s for 7 bytes.
        ("unevaluatedProperties" | "unevaluatedItems", _) => {
            Err(SchemaError(format!("{key} is not served; use additionalProperties or items")))
        }
        ("$schema", Value::String(text)) if !text.starts_with("https://json-schema.org/draft/2020-12/schema") => {
            Err(SchemaError(format!("$schema is {:?}; use draft 2020-12", short(text))))
        }
        ("$id" | "$anchor" | "$dynamicAnchor" | "$dynamicRef" | "$recursiveRef", Value::String(_)) => {
            Err(SchemaError(format!("{key} is not served; use $ref with a pointer such as #/$defs/Name")))
        }
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
        refused(r#"{"$id": "http://x/"}"#, "$id");
        refused(r##"{"$dynamicRef": "#x"}"##, "$dynamicRef");
        refused(r##"{"properties": {"more": {"$ref": "#"}}}"##, "contains itself");
        refused(r##"{"$ref": "#/%24defs/a", "$defs": {"a": {}}}"##, "nothing");
        refused(r#"{"$schema": "http://json-schema.org/draft-07/schema#"}"#, "2020-12");
        refused(r##"{"$ref": "#/$defs/missing"}"##, "missing");
        refused(r#"{"pattern": "(?=look)ahead"}"#, "look");
        refused(r#"{"pattern": "((a{1000}){1000}){1000}"}"#, "");
        refused(r#"{"pattern": "^(([a-z]{1,40}){1,20})+$"}"#, "");
        refused(r#"{"properties": {"a": {"anyOf": [{}], "unevaluatedProperties": {}}}}"#, "additionalProperties");
        refused(r#"{"items": {"unevaluatedItems": false}}"#, "unevaluatedItems");
        let patterns: Vec<String> = (0..20).map(|n| format!(r#"{{"pattern": "a{n}"}}"#)).collect();
        refused(&format!(r#"{{"allOf": [{}]}}"#, patterns.join(",")), "parts");
        let deep = format!("{}{}", r#"{"not":"#.repeat(40) + "{}", "}".repeat(40));
        refused(&deep, "nested deeper");
        refused(&format!(r#"{{"title": "{}"}}"#, "x".repeat(SCHEMA_BYTES)), "are allowed");
    }

    #[test]
    fn references_cannot_multiply_the_work_or_the_depth() {
        let defs = |count: usize, of: &dyn Fn(usize) -> String| {
            let all: Vec<String> = (0..count).map(|n| format!("\"a{n}\": {}", of(n))).collect();
            format!(r##"{{"$ref": "#/$defs/a0", "$defs": {{{}, "a{count}": {{"const": 1}}}}}}"##, all.join(", "))
        };
        let doubling =
            |n: usize| format!(r##"{{"anyOf": [{{"$ref": "#/$defs/a{0}"}}, {{"$ref": "#/$defs/a{0}"}}]}}"##, n + 1);
        refused(&defs(40, &doubling), "references");
        refused(&defs(14, &doubling), "references written out");
        let chain = |n: usize| format!(r##"{{"not": {{"$ref": "#/$defs/a{}"}}}}"##, n + 1);
        refused(&defs(900, &chain), "references");
        let circle = r##"{"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}}"##;
        refused(circle, "contains itself");
        let shared = r##"{"properties": {"from": {"$ref": "#/$defs/Day"}, "to": {"$ref": "#/$defs/Day"}}, "$defs": {"Day": {"type": "string"}}}"##;
        assert!(Schema::compile(shared).is_ok(), "an honest shared definition is fine");
    }

    #[test]
    fn ordinary_patterns_are_served_and_count_for_what_they_cost() {
        for pattern in
            [r"^\\d{4}-\\d{2}-\\d{2}$", r"^[^@\\s]+@[^@\\s]+$", r"^\\p{L}+$", r"^[a-zA-Z0-9_.-]{1,64}$", r"^\\w+$"]
        {
            let schema = Schema::compile(&format!(r#"{{"pattern": "{pattern}"}}"#)).expect(pattern);
            assert!(schema.work(1000) >= 250_000, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_explodes_elsewhere_runs_in_linear_time() {
        let schema = Schema::compile(r#"{"type": "string", "pattern": "^(a+)+$"}"#).unwrap();
        let value = Value::String("a".repeat(100_000) + "!");
        assert!(schema.check(&value).is_err());
    }

    /// All of them hash alike in the library's own way.
    #[test]
    fn unique_items_take_the_time_of_a_sort() {
        let schema = Schema::compile(r#"{"type": "array", "uniqueItems": true}"#).unwrap();
        let none = Schema::compile(r#"{"uniqueItems": false}"#).unwrap();
        // Distinct trees of brackets: the bits of a number, each a list of one list or of two.
        let tree = |n: u32| {
            (0..16).fold(serde_json::json!([]), |tree, bit| {
                if n >> bit & 1 == 0 { serde_json::json!([tree]) } else { serde_json::json!([tree, []]) }
            })
        };
        let mut trees: Vec<Value> = (0..30_000).map(tree).collect();
        assert_eq!(schema.check(&Value::Array(trees.clone())), Ok(()));
        trees.push(tree(7));
        let said = schema.check(&Value::Array(trees.clone())).expect_err("one is there twice").to_string();
        assert!(said.contains("non-unique"), "{said}");
        assert_eq!(none.check(&Value::Array(trees)), Ok(()));
        refused(r#"{"uniqueItems": 1}"#, "boolean");
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
