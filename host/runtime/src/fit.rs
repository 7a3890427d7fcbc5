//! Reading inputs and outputs, and checking them against a skill's schemas, at the tenant's expense.

use std::sync::Arc;
use std::time::Instant;

use clawhold_marketplace::{Mismatch, Schema, read_json};
use clawhold_tenancy::limits::MIB;
use clawhold_tenancy::quota::{Dimension, Over};
use clawhold_tenancy::run::Reason;

use crate::admission::Ticket;
use crate::resolve::Ready;
use crate::{Host, Problem};

/// Comparisons of a schema check, and bytes of JSON, that the API's own threads may deal with: a millisecond or so.
const LITTLE_WORK: u64 = 1_000_000;
const LITTLE_JSON: usize = 64 << 10;
/// The most that any check may be: some two seconds of one core, four for the slowest patterns. An input of 1 MiB reaches it
/// under a schema of four hundred parts, of which a pattern counts for 250.
pub(crate) const MOST_WORK: u64 = 400_000_000;

/// Memory of a JSON value beside its text, for each comma or colon in it: a value, and its share of what a growing list or a
/// map keeps. A list counts for two of them and a map, which begins with room for eleven, for seven.
const JSON_VALUE_BYTES: u64 = 96;
const LIST_VALUES: u64 = 2;
const MAP_VALUES: u64 = 7;
/// JSON up to this size is not charged: it can take no more than a megabyte.
const SMALL_JSON: usize = 4 << 10;

/// Why a text is no input or output.
pub(crate) enum Unfit {
    Json(serde_json::Error),
    Schema(Mismatch),
    /// The tenant has not so many bytes left.
    Memory(u64),
    Stopped(Reason),
}

impl Host {
    /// Reads a text as JSON and checks it against a schema: here when that is little work, else in the tenant's turn, until the
    /// run's deadline. What it takes of memory is the tenant's.
    pub(crate) async fn fit<R: Send + 'static>(
        &self,
        ready: &Arc<Ready>,
        schema: fn(&Ready) -> &Schema,
        text: String,
        keep: fn(String) -> Result<R, serde_json::Error>,
        ticket: &Ticket,
        deadline: Instant,
    ) -> Result<R, Unfit> {
        let work = schema(ready).work(text.len());
        if work > MOST_WORK {
            let problem = "it is too large for a schema of this size; send less, or make the schema simpler".to_owned();
            return Err(Unfit::Schema(Mismatch { place: "(the whole value)".to_owned(), problem }));
        }
        let little = work <= LITTLE_WORK && text.len() <= LITTLE_JSON;
        let (ready, memory) = (Arc::clone(ready), Arc::clone(ticket.memory()));
        // Drawn when its turn has come: what waits takes none.
        let check = move || {
            let bytes = json_bytes(&text);
            let _held = memory.take(bytes).ok_or(Unfit::Memory(bytes))?;
            let value = read_json(&text).map_err(Unfit::Json)?;
            schema(&ready).check(&value).map_err(Unfit::Schema)?;
            keep(text).map_err(Unfit::Json)
        };
        if little {
            return check();
        }
        self.sandbox.on_behalf(ticket.payer.clone(), deadline, check).await.map_err(Unfit::Stopped)?
    }
}

/// At most how much memory a text takes once it is read.
fn json_bytes(text: &str) -> u64 {
    if text.len() <= SMALL_JSON {
        return 0;
    }
    let (mut parts, mut quoted, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b',' | b':' if !quoted => parts += 1,
            b'[' if !quoted => parts += LIST_VALUES,
            b'{' if !quoted => parts += MAP_VALUES,
            _ => {}
        }
    }
    text.len() as u64 + JSON_VALUE_BYTES * parts
}

pub(crate) fn no_input(unfit: Unfit, ticket: &Ticket) -> Problem {
    match unfit {
        Unfit::Json(error) => {
            Problem::invalid("input", format!("it is not JSON: {error}; send the skill's input as the body"))
        }
        Unfit::Schema(mismatch) => {
            let detail = format!("{}; see the skill's input schema", mismatch.problem);
            Problem::invalid(format!("input{}", at(&mismatch.place)), detail)
        }
        Unfit::Memory(bytes) if bytes > ticket.memory_limit() => {
            let (takes, most) = (bytes.div_ceil(MIB), ticket.memory_limit() / MIB);
            let detail =
                format!("it takes {takes} MiB to read, and the tenant's max_memory_mb is {most}; send less at a time");
            Problem::invalid("input", detail)
        }
        Unfit::Memory(_) => {
            let (dimension, memory) = (Dimension::Memory, ticket.memory());
            Over { dimension, limit: ticket.memory_limit(), used: memory.used(), wait_us: None }.into()
        }
        Unfit::Stopped(reason) => Problem::internal("an input could not be checked", reason),
    }
}

fn at(place: &str) -> &str {
    if place.starts_with('/') { place } else { "" }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn json_is_charged_for_its_values_and_not_for_what_stands_in_strings() {
        let list = |item: &str| format!("[{}]", vec![item; 2000].join(","));
        assert_eq!(json_bytes("[1,2,3]"), 0);
        assert_eq!(json_bytes(&list("17")), 6001 + 2001 * JSON_VALUE_BYTES);
        let text = format!("\"{}\"", r#",:[{\"\\,"#.repeat(1000));
        assert_eq!(json_bytes(&text), text.len() as u64);
        let objects = list(r#"{"a":"\\"}"#);
        assert_eq!(json_bytes(&objects), objects.len() as u64 + (2001 + 2000 * (1 + MAP_VALUES)) * JSON_VALUE_BYTES);
        // What a map really takes, by the library's own layout: a leaf with eleven keys and values.
        let leaf = 11 * (size_of::<String>() + size_of::<Value>());
        assert!(MAP_VALUES * JSON_VALUE_BYTES + 2 * JSON_VALUE_BYTES > leaf as u64, "{leaf}");
    }
}
