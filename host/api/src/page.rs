//! Lists: a limit, an opaque cursor, and times that people can read.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clawhold_runtime::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Items of a list that are given without being asked for, and at the most.
const USUAL: u32 = 50;
const MOST: u32 = 200;

/// `?limit=` and `?after=`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// Items, at the most. 50 if not given.
    #[schemars(range(min = 1, max = 200))]
    pub(crate) limit: Option<u32>,
    /// The `next` of the page before.
    pub(crate) after: Option<String>,
}

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub(crate) struct Page<T> {
    items: Vec<T>,
    /// What to send as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl PageQuery {
    pub(crate) fn limit(&self) -> Result<u32, Problem> {
        match self.limit.unwrap_or(USUAL) {
            limit @ 1..=MOST => Ok(limit),
            _ => Err(Problem::Invalid { place: "limit".to_owned(), detail: format!("use 1 to {MOST}") }),
        }
    }

    /// The last item of the page before.
    pub(crate) fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, Problem> {
        let Some(cursor) = &self.after else { return Ok(None) };
        let read = || T::from_str(std::str::from_utf8(&BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?).ok();
        let wrong = || Problem::Invalid {
            place: "after".to_owned(),
            detail: "it is no cursor of this list; send the `next` of the page before".to_owned(),
        };
        read().map(Some).ok_or_else(wrong)
    }
}

impl<T> Page<T> {
    /// A page of what the use-case gave; `key` is where the next one goes on.
    pub(crate) fn of<R>(rows: &[R], limit: u32, key: impl Fn(&R) -> String, item: impl Fn(&R) -> T) -> Self {
        let full = u32::try_from(rows.len()).is_ok_and(|count| count >= limit);
        let next = rows.last().filter(|_| full).map(|last| BASE64_URL_SAFE_NO_PAD.encode(key(last)));
        Self { items: rows.iter().map(item).collect(), next }
    }

    /// A page whose rows are already items.
    pub(crate) fn with(items: Vec<T>, next: Option<String>) -> Self {
        Self { items, next: next.map(|key| BASE64_URL_SAFE_NO_PAD.encode(key)) }
    }
}

/// Microseconds since 1970 as RFC 3339.
pub(crate) fn rfc3339(us: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000);
    at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}

/// RFC 3339 as microseconds since 1970.
pub(crate) fn parse_rfc3339(place: &str, text: &str) -> Result<i64, Problem> {
    let wrong = || Problem::Invalid {
        place: place.to_owned(),
        detail: "write a time as RFC 3339, such as 2030-01-31T12:00:00Z".to_owned(),
    };
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
    i64::try_from(at.unix_timestamp_nanos() / 1000).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back() {
        assert_eq!(rfc3339(1_700_000_000_123_456), "2023-11-14T22:13:20.123456Z");
        assert_eq!(parse_rfc3339("x", &rfc3339(1_700_000_000_123_456)).unwrap(), 1_700_000_000_123_456);
        assert!(parse_rfc3339("x", "tomorrow").is_err());
    }

    #[test]
    fn only_a_full_page_has_a_next() {
        let page = |rows: &[u32], limit| Page::of(rows, limit, ToString::to_string, |n| *n).next;
        assert_eq!(page(&[1, 2], 3), None);
        let next = page(&[1, 2], 2);
        assert!(next.is_some());
        let query = PageQuery { limit: None, after: next };
        assert_eq!(query.after::<u32>().unwrap(), Some(2));
        assert!(PageQuery { limit: Some(0), after: None }.limit().is_err());
        assert!(PageQuery { limit: Some(201), after: Some("!".to_owned()) }.after::<u32>().is_err());
    }
}
