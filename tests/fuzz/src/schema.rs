//! A JSON Schema of a package, and a value that is checked against it: what an author wrote, executed by the host's threads.
//!
//! An input is the schema up to the first line that is `---`, and the value behind it.

use std::time::{Duration, Instant};

use anyhow::Result;
use clawhold_marketplace::{Schema, read_json};
use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::mutate::{number, once_in, one};
use crate::{Subject, mutate, said};

const BETWEEN: &str = "\n---\n";

/// What a check may take, whatever the schema says: a slow moment of a busy machine.
const SLOW: Duration = Duration::from_secs(2);
/// What each comparison may take beside that, and what each byte may that is read. The host reckons with 10 ns for the first.
const COMPARISON_NS: u64 = 100;

/// Work above this is not done here: the host does it where nobody waits, and refuses ten times as much.
const MOST_WORK: u64 = 100_000_000;

const WORDS: &[&str] = &[
    "a",
    "b",
    "type",
    "$ref",
    "#",
    "#/$defs/a",
    "#/$defs/b",
    "#/properties/a",
    "$dynamicRef",
    "$id",
    "$schema",
    "pattern",
    "uniqueItems",
    "unevaluatedProperties",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "1e400",
    "-0",
    "1e-400",
    "\\ud800",
    "\\u0000",
    "https://json-schema.org/draft/2020-12/schema",
    "http://127.0.0.1/x",
    "file:///etc/passwd",
    "\"a\":1,\"a\":2",
    "---",
];

const PATTERNS: &[&str] = &[
    "^a$",
    "(a+)+$",
    "^(a|a)*$",
    "(?=a)",
    "\\p{L}+",
    "(a{1,1000}){1,1000}",
    "[^\\d]{3,}",
    "",
    "(",
    "\\1",
    ".*.*.*x",
    "^\\S+@\\S+$",
];

pub(crate) fn generate(rng: &mut Rng) -> Vec<u8> {
    let depth = [2, 3, 4, 6, 40][rng.usize(..5)];
    let mut budget = [10, 50, 300, 6000][rng.usize(..4)];
    let mut schema = schema(rng, depth, &mut budget);
    if let (Some(members), true) = (schema.as_object_mut(), rng.bool()) {
        let defs = json!({ "a": self::schema(rng, 3, &mut 20), "b": self::schema(rng, 3, &mut 20) });
        members.insert("$defs".to_owned(), defs);
    }
    let value = match rng.u8(..8) {
        0 => wide(rng),
        1 => deep(rng),
        _ => value(rng, 4).to_string(),
    };
    let mut input = format!("{schema}{BETWEEN}{value}").into_bytes();
    if once_in(rng, 4) {
        mutate::bytes(rng, &mut input, WORDS, b"{\"a\":[1,2,{\"b\":null}]}");
    }
    input
}

fn schema(rng: &mut Rng, depth: usize, budget: &mut usize) -> Value {
    *budget = budget.saturating_sub(1);
    if depth == 0 || *budget == 0 || once_in(rng, 20) {
        return json!(rng.bool());
    }
    let mut members = Map::new();
    for _ in 0..rng.usize(..4) {
        let mut below = |rng: &mut Rng| schema(rng, depth - 1, budget);
        let (key, value) = match rng.u8(..24) {
            0 => ("type", json!(one(rng, &["object", "array", "string", "number", "integer", "null", "boolean", "x"]))),
            1 | 2 => ("properties", json!({ "a": below(rng), "b": below(rng) })),
            3 | 4 => ("items", below(rng)),
            5 => ("prefixItems", json!([below(rng), below(rng)])),
            6 => ("allOf", json!([below(rng), below(rng)])),
            7 => ("anyOf", json!([below(rng), below(rng), below(rng)])),
            8 => ("oneOf", json!([below(rng), below(rng)])),
            9 => ("not", below(rng)),
            10 => ("if", below(rng)),
            11 => (*one(rng, &["then", "else", "contains", "additionalProperties", "propertyNames"]), below(rng)),
            12 => ("patternProperties", json!({ *one(rng, PATTERNS): below(rng) })),
            13 => ("pattern", json!(one(rng, PATTERNS))),
            14 => {
                ("$ref", json!(one(rng, &["#/$defs/a", "#/$defs/b", "#", "#/properties/a", "http://127.0.0.1/", "x"])))
            }
            15 => ("uniqueItems", json!(true)),
            16 => ("multipleOf", json!(one(rng, &[0.0, 0.01, 1e-300, 3.0, 1e300]))),
            17 => {
                (*one(rng, &["minLength", "maxItems", "minProperties", "minContains", "maximum"]), json!(number(rng)))
            }
            18 => ("enum", json!([value(rng, 2), value(rng, 2)])),
            19 => ("const", value(rng, 2)),
            20 => ("format", json!(one(rng, &["email", "uri", "date-time", "regex", "ipv6", "x"]))),
            21 => ("required", json!(["a", "b"])),
            _ if !once_in(rng, 8) => ("dependentSchemas", json!({ "a": below(rng) })),
            _ => {
                let odd =
                    ["$id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$schema", "$vocabulary", "unevaluatedItems"];
                (*one(rng, &odd), json!(one(rng, WORDS)))
            }
        };
        members.insert(key.to_owned(), value);
    }
    Value::Object(members)
}

fn value(rng: &mut Rng, depth: usize) -> Value {
    match rng.u8(..if depth == 0 { 5 } else { 9 }) {
        0 => Value::Null,
        1 => json!(rng.bool()),
        2 => json!(number(rng)),
        3 => json!(f64::from(number(rng)) * one(rng, &[1e-9, -1.5, 1e300])),
        4 => json!("a".repeat(rng.usize(..40))),
        5 | 6 => (0..rng.usize(..5)).map(|_| value(rng, depth - 1)).collect(),
        _ => json!({ "a": value(rng, depth - 1), *one(rng, WORDS): value(rng, depth - 1) }),
    }
}

/// Many of one thing.
fn wide(rng: &mut Rng) -> String {
    let count = [100, 3000, 30_000][rng.usize(..3)];
    match rng.u8(..5) {
        0 => format!("\"{}\"", "a".repeat(count)),
        1 => Value::Array((0..count).map(Value::from).collect()).to_string(),
        2 => Value::Array((0..count).map(|n| json!({ "a": n, "b": [n] })).collect()).to_string(),
        3 => Value::Object((0..count).map(|n| (format!("k{n}"), Value::from(n))).collect()).to_string(),
        _ => format!("{}.{}e{}", "9".repeat(count), "9".repeat(count), number(rng)),
    }
}

fn deep(rng: &mut Rng) -> String {
    let depth = [60, 126, 128, 129, 5000][rng.usize(..5)];
    let (open, close) = *one(rng, &[("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")]);
    format!("{}1{}", open.repeat(depth), close.repeat(depth))
}

struct Checker;

#[expect(clippy::unnecessary_wraps, reason = "others need a host, which may not start")]
pub(crate) fn start() -> Result<Box<dyn Subject>> {
    Ok(Box::new(Checker))
}

impl Subject for Checker {
    fn run(&mut self, input: &[u8]) -> Result<String, String> {
        // What is no text is not passed on by what comes before: lifting and the manifest see to that.
        let text = String::from_utf8_lossy(input);
        let (schema, value) = text.split_once(BETWEEN).unwrap_or((&text, "null"));
        let began = Instant::now();
        let compiled = Schema::compile(schema);
        in_time("compiling a schema", began, schema.len() as u64)?;
        let schema = match compiled {
            Ok(schema) => schema,
            Err(error) => {
                said(&error.to_string())?;
                return Ok("schema refused".to_owned());
            }
        };
        let began = Instant::now();
        let read = read_json(value);
        in_time("reading a value", began, value.len() as u64)?;
        let parsed = match read {
            Ok(parsed) => parsed,
            Err(error) => {
                said(&error.to_string())?;
                return Ok("value refused".to_owned());
            }
        };
        if serde_json::from_str::<Value>(value).ok().as_ref() != Some(&parsed) {
            return Err("a value is read as another".to_owned());
        }
        let work = schema.work(value.len());
        if work > MOST_WORK {
            return Ok("too much work".to_owned());
        }
        let began = Instant::now();
        let checked = schema.check(&parsed);
        in_time("checking a value", began, work)?;
        Ok(match checked {
            Ok(()) => "value fits".to_owned(),
            Err(mismatch) => {
                said(&mismatch.to_string())?;
                "value does not fit".to_owned()
            }
        })
    }
}

fn in_time(what: &str, began: Instant, work: u64) -> Result<(), String> {
    let (took, most) = (began.elapsed(), SLOW + Duration::from_nanos(work.saturating_mul(COMPARISON_NS)));
    if took > most { Err(format!("{what} takes too long: {} ms for {work}", took.as_millis())) } else { Ok(()) }
}
