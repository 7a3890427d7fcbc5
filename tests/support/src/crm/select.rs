//! Runs a query on a customer's tables.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::soql::{Filter, Letter, Literal, Operator, Query, QueryError};

/// A kind of record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) name: &'static str,
    fields: &'static [&'static str],
}

/// A customer's records of one kind.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) object: &'static Object,
    pub(crate) rows: Vec<Value>,
}

pub(crate) static ACCOUNT: Object = Object { name: "Account", fields: &["Id", "Name", "Industry", "Website", "Phone"] };
pub(crate) static CASE: Object = Object {
    name: "Case",
    fields: &["Id", "CaseNumber", "Subject", "Status", "Priority", "CreatedDate", "AccountId", "IsClosed"],
};

/// Records hold ids with 18 characters; a query may leave out the last three, which only guard against folded case.
const ID_LENGTHS: [usize; 2] = [15, 18];

/// The records that the query asks for.
pub(crate) fn run(query: &Query, tables: &[Table], version: &str) -> Result<Vec<Value>, QueryError> {
    let table = tables
        .iter()
        .find(|table| table.object.name.eq_ignore_ascii_case(&query.object))
        .ok_or_else(|| QueryError::NoObject(query.object.clone()))?;
    let object = table.object;
    let fields = query.fields.iter().map(|field| object.field(field)).collect::<Result<Vec<_>, _>>()?;
    // Against no row as well: an unknown field is a mistake in an empty table too.
    if let Some(filter) = &query.filter {
        matches(filter, object, &Value::Null)?;
    }
    let mut found = Vec::new();
    for row in &table.rows {
        if query.filter.as_ref().map_or(Ok(true), |filter| matches(filter, object, row))? {
            found.push(row);
        }
    }
    if let Some(order) = &query.order {
        let field = object.field(&order.field)?;
        found.sort_by(|left, right| {
            let order_of = compare(&left[field], &right[field]);
            if order.descending { order_of.reverse() } else { order_of }
        });
    }
    found.truncate(query.limit.unwrap_or(usize::MAX));
    Ok(found.into_iter().map(|row| record(object, row, &fields, version)).collect())
}

impl Object {
    /// The field's own spelling.
    fn field(&self, name: &str) -> Result<&'static str, QueryError> {
        let own = self.fields.iter().copied().find(|field| field.eq_ignore_ascii_case(name));
        own.ok_or_else(|| QueryError::NoField { object: self.name, field: name.to_owned() })
    }
}

fn record(object: &Object, row: &Value, fields: &[&'static str], version: &str) -> Value {
    let id = row["Id"].as_str().unwrap_or_default();
    let url = format!("/services/data/{version}/sobjects/{}/{id}", object.name);
    let mut record = Map::from_iter([("attributes".to_owned(), json!({"type": object.name, "url": url}))]);
    record.extend(fields.iter().map(|field| ((*field).to_owned(), row[*field].clone())));
    record.into()
}

fn matches(filter: &Filter, object: &Object, row: &Value) -> Result<bool, QueryError> {
    Ok(match filter {
        // Each part is looked at, so that an unknown field is found wherever it stands.
        Filter::All(parts) => each(parts, object, row)?.into_iter().all(|is| is),
        Filter::Any(parts) => each(parts, object, row)?.into_iter().any(|is| is),
        Filter::Not(part) => !matches(part, object, row)?,
        Filter::Compare { field, operator, value } => {
            let field = object.field(field)?;
            holds(field, &row[field], *operator, value)
        }
    })
}

fn each(parts: &[Filter], object: &Object, row: &Value) -> Result<Vec<bool>, QueryError> {
    parts.iter().map(|part| matches(part, object, row)).collect()
}

fn holds(field: &str, value: &Value, operator: Operator, literal: &Literal) -> bool {
    if let (Operator::Like, Literal::Text(pattern)) = (operator, literal) {
        return value.as_str().is_some_and(|text| like(&folded(text), pattern));
    }
    let literal = match literal {
        Literal::Text(letters) => Value::from(letters.iter().map(|letter| letter.character).collect::<String>()),
        Literal::Number(number) => Value::from(*number),
        Literal::Bool(bool) => Value::from(*bool),
        Literal::Null => Value::Null,
    };
    let equal = if field.ends_with("Id") { same_id(value, &literal) } else { compare(value, &literal).is_eq() };
    // Null is neither less nor greater than anything.
    let order = if value.is_null() || literal.is_null() { None } else { Some(compare(value, &literal)) };
    match operator {
        Operator::Equal => equal,
        Operator::NotEqual => !equal,
        Operator::Less => order.is_some_and(Ordering::is_lt),
        Operator::LessOrEqual => order.is_some_and(Ordering::is_le),
        Operator::Greater => order.is_some_and(Ordering::is_gt),
        Operator::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        // Without a string; the parser refuses it.
        Operator::Like => false,
    }
}

fn same_id(value: &Value, literal: &Value) -> bool {
    match (value.as_str(), literal.as_str()) {
        (Some(own), Some(asked)) => {
            ID_LENGTHS.contains(&asked.len()) && own.is_char_boundary(asked.len()) && own.starts_with(asked)
        }
        _ => value == literal,
    }
}

/// Texts without case, as the CRM does; null before everything else.
fn compare(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::String(left), Value::String(right)) => folded(left).cmp(&folded(right)),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Number(left), Value::Number(right)) => left.as_i64().cmp(&right.as_i64()),
        (left, right) => rank(left).cmp(&rank(right)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        _ => 3,
    }
}

fn folded(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// `%` is any text and `_` any character. Each `%` is tried as short as it can be and made longer where the rest
/// does not fit, so the time is at most the product of both lengths.
fn like(text: &[char], pattern: &[Letter]) -> bool {
    let (mut at, mut place) = (0, 0);
    let mut last_any: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(place) {
            Some(Letter { character: '%', escaped: false }) => {
                last_any = Some((place, at));
                place += 1;
            }
            Some(letter) if letter.is_one(text[at]) => {
                at += 1;
                place += 1;
            }
            _ => match last_any {
                Some((any, from)) => {
                    last_any = Some((any, from + 1));
                    at = from + 1;
                    place = any + 1;
                }
                None => return false,
            },
        }
    }
    pattern[place..].iter().all(|letter| matches!(letter, Letter { character: '%', escaped: false }))
}

impl Letter {
    fn is_one(self, folded: char) -> bool {
        (self.character == '_' && !self.escaped) || self.character.to_lowercase().next() == Some(folded)
    }
}

#[cfg(test)]
mod tests;
