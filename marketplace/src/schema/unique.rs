//! `uniqueItems`, in the time of a sort whatever the items are.
//!
//! The library's own hashes items, and lists of lists of nothing all hash alike: each is then compared with all before it, and a
//! mebibyte of brackets takes a minute.

use std::cmp::Ordering;

use jsonschema::{Keyword, ValidationError};
use serde_json::{Number, Value};

/// No two items of a list are equal, as JSON Schema has it: `1` and `1.0` are.
struct Unique;

/// What `uniqueItems` checks.
pub(super) fn keyword(wanted: &Value) -> Box<dyn for<'i> Keyword<'i>> {
    if *wanted == Value::Bool(true) { Box::new(Unique) } else { Box::new(Any) }
}

/// Anything.
struct Any;

impl<'i> Keyword<'i> for Any {
    fn validate(&self, _: &'i Value) -> Result<(), ValidationError<'i>> {
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        true
    }
}

impl<'i> Keyword<'i> for Unique {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) { Ok(()) } else { Err(ValidationError::custom("has non-unique elements")) }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        let Value::Array(items) = instance else { return true };
        let mut items: Vec<&Value> = items.iter().collect();
        items.sort_unstable_by(|a, b| order(a, b));
        items.windows(2).all(|pair| order(pair[0], pair[1]).is_ne())
    }
}

/// A total order in which equal values are equal.
fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => number(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let first = a.iter().zip(b).map(|(a, b)| order(a, b)).find(|order| order.is_ne());
            first.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let mut both = a.iter().zip(b).map(|((a, x), (b, y))| a.cmp(b).then_with(|| order(x, y)));
            both.find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => kind(a).cmp(&kind(b)),
    }
}

fn kind(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) => 4,
        Value::Object(_) => 5,
    }
}

/// Whole numbers first, by value, and then the others: no whole number equals one that is not.
fn number(a: &Number, b: &Number) -> Ordering {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.as_f64().unwrap_or(f64::NAN).total_cmp(&b.as_f64().unwrap_or(f64::NAN)),
    }
}

fn whole(number: &Number) -> Option<i128> {
    #[expect(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
    let of_float = |float: f64| (float.fract() == 0.0 && float.abs() < 1e37).then_some(float as i128);
    number.as_i128().or_else(|| number.as_f64().and_then(of_float))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn equal_values_are_found_wherever_they_stand() {
        let unique = |value: Value| Unique.is_valid(&value);
        for value in [
            json!("text"),
            json!([]),
            json!([1, 2, 1.5, -1, true, null, "1", [1], {"a": 1}]),
            json!([[], [[]], [[], []], [[[]]]]),
            json!([{"a": 1, "b": 2}, {"a": 1}, {"a": 2, "b": 1}]),
            json!([9_007_199_254_740_993_u64, 9_007_199_254_740_992.0, u64::MAX, i64::MIN, 1e300, 1e301]),
            json!(["a", "A", ""]),
        ] {
            assert!(unique(value.clone()), "{value}");
        }
        for value in [
            json!([1, 2, 1]),
            json!([1, 1.0]),
            json!([0, -0.0]),
            json!([1e300, 2, 1e300]),
            json!([null, 1, null]),
            json!([[1, [2]], 3, [1.0, [2]]]),
            json!([{"a": 1, "b": [2]}, {"b": [2], "a": 1}]),
            json!(["a", "b", "a"]),
        ] {
            assert!(!unique(value.clone()), "{value}");
        }
    }
}
