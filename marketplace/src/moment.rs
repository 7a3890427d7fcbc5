//! Moments as people read them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How far the clocks of two machines may be apart: 10 minutes, in microseconds. What is said to be of a later time
/// than that is not believed.
pub(crate) const CLOCK_SKEW_US: i64 = 10 * 60 * 1_000_000;

/// A time in microseconds since 1970, to the second.
pub(crate) fn said(us: i64) -> String {
    OffsetDateTime::from_unix_timestamp(us.div_euclid(1_000_000))
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{us} µs after 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_is_said_as_a_time() {
        for (us, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000_999_999, "2023-11-14T22:13:20Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (i64::MAX, "9223372036854775807 µs after 1970"),
        ] {
            assert_eq!(said(us), text);
        }
    }
}
