//! What agents see of a skill: names, descriptions and schemas.
//!
//! The golden file is what the marketplace shows; `CLAWHOLD_UPDATE_GOLDEN=1` writes it anew.

use std::collections::BTreeMap;

use clawhold_skill::testing::skills;
use clawhold_skill::{Context, Error, data, serde_json, skill};

/// How urgent something is.
#[data]
#[serde(rename_all = "lowercase")]
enum Urgency {
    /// Within a week.
    Low,
    /// Now.
    High,
}

/// Who asks.
#[data]
struct Customer {
    /// The customer's number.
    id: String,
    #[serde(default)]
    tags: Vec<String>,
}

/// A ticket.
#[data]
struct Ticket {
    /// The ticket's number.
    number: u64,
    /// Whether somebody works on it; absent when nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned: Option<bool>,
}

/// Opens a ticket for a customer.
///
/// Gives `null` when there is one already.
#[skill(name = "desk.open-ticket")]
fn open_ticket(
    _cx: &Context,
    /// What it is about,
    /// in a line.
    title: String,
    /// Who asks.
    customer: Customer,
    urgency: Option<Urgency>,
    /// Seconds.
    r#in: Option<f64>,
    labels: BTreeMap<String, Urgency>,
) -> Result<Option<Ticket>, Error> {
    let _ = (customer, urgency, r#in, labels);
    if title.is_empty() {
        return Err(Error::invalid_input("`title` is empty"));
    }
    Ok(None)
}

/// Says nothing and takes nothing.
#[skill]
fn ping() {}

/// Adds two numbers.
#[skill(name = "math.sum")]
pub fn sum(mut a: i32, b: i32) -> i32 {
    a += b;
    a
}

mod inner {
    use clawhold_skill::{serde_json, skill};

    /// Gives back what it gets.
    #[skill]
    fn echo(value: serde_json::Value) -> serde_json::Value {
        value
    }
}

#[test]
fn descriptions_and_schemas_follow_from_the_function() {
    let seen: Vec<serde_json::Value> = skills()
        .into_iter()
        .map(|skill| {
            serde_json::json!({
                "name": skill.name,
                "description": skill.description,
                "input": skill.input_schema,
                "output": skill.output_schema,
            })
        })
        .collect();
    let seen = serde_json::to_string_pretty(&seen).unwrap() + "\n";
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schema.golden.json");
    if std::env::var_os("CLAWHOLD_UPDATE_GOLDEN").is_some() {
        std::fs::write(golden, &seen).unwrap();
    }
    assert_eq!(
        seen,
        std::fs::read_to_string(golden).unwrap(),
        "run with CLAWHOLD_UPDATE_GOLDEN=1 and read the difference"
    );
}
