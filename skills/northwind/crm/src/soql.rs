//! Values inside of a SOQL query.
//!
//! SOQL has no bind parameters over REST, so whatever comes from a caller becomes either a literal whose every special
//! character is escaped, or an id that consists of letters and digits only.

use std::fmt::{self, Write as _};

use clawhold_skill::Error;

/// `text` as a SOQL string literal, quotes included.
///
/// The escapes are those of "Quoted String Escape Sequences" in the SOQL reference. Control characters without an
/// escape of their own take `\uXXXX`. `%` and `_` stay: they are wildcards for `LIKE` only, and these literals are
/// compared with `=`.
pub(crate) fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for c in text.chars() {
        match c {
            '\\' => literal.push_str(r"\\"),
            '\'' => literal.push_str(r"\'"),
            '"' => literal.push_str(r#"\""#),
            '\n' => literal.push_str(r"\n"),
            '\r' => literal.push_str(r"\r"),
            '\t' => literal.push_str(r"\t"),
            '\u{8}' => literal.push_str(r"\b"),
            '\u{c}' => literal.push_str(r"\f"),
            // U+2028 and U+2029 end a line for parsers of the ECMAScript family.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                write!(literal, "\\u{:04X}", u32::from(c)).expect("writing to a string does not fail");
            }
            c => literal.push(c),
        }
    }
    literal.push('\'');
    literal
}

/// A record's id: 15 letters and digits, or 18 with the suffix that makes it independent of case.
pub(crate) struct Id<'a>(&'a str);

impl<'a> Id<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, Error> {
        if matches!(text.len(), 15 | 18) && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self(text))
        } else {
            Err(Error::invalid_input(
                "`account_id` must be a CRM id, 15 or 18 letters and digits: take the `id` that crm.lookup_account gives",
            ))
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0
    }
}

/// As a SOQL literal.
impl fmt::Display for Id<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&literal(self.0))
    }
}

#[cfg(test)]
mod tests;
