//! Masks e-mail addresses, card numbers, IBANs and phone numbers in text, before it goes to a model or into a ticket.
//!
//! The scanners are written by hand: what decides is check digits, country lengths and what stands around a number,
//! which a regular expression would leave to code anyway. Each looks at every byte a bounded number of times, so the
//! time is linear in the text whatever it contains.
//!
//! It does not find names or postal addresses, which need a language model, and what it finds is a well-founded guess.

mod card;
mod email;
mod iban;
mod phone;
mod span;

use clawhold_skill::audit::{self, Outcome};
use clawhold_skill::serde_json::{Map, Value};
use clawhold_skill::{Error, data, skill};

use crate::span::{Finder, Span};

/// What can be masked.
#[data]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// E-mail addresses.
    Email,
    /// IBANs, with the length of their country and valid check digits.
    Iban,
    /// Payment card numbers, with a valid check digit.
    Card,
    /// Phone numbers, international and in common national forms.
    Phone,
}

/// The text without what was found.
#[data]
#[derive(Debug, PartialEq)]
struct Redacted {
    /// The text, in which `[email]`, `[iban]`, `[card]` or `[phone]` stands for what was found.
    text: String,
    /// What was found, without the kinds of which there was nothing.
    found: Vec<Found>,
}

/// How much of one kind was found.
#[data]
#[derive(Debug, PartialEq)]
struct Found {
    /// The kind.
    kind: Kind,
    /// How many.
    count: usize,
}

/// Masks e-mail addresses, IBANs, payment card numbers and phone numbers in a text.
///
/// Says how many of each it found, and never what they were.
#[skill(name = "redact.text")]
fn redact_text(
    /// The text, of any length and in any language.
    text: String,
    /// What to mask; everything when left out.
    kinds: Option<Vec<Kind>>,
) -> Result<Redacted, Error> {
    let kinds = kinds.unwrap_or_else(|| Kind::ALL.to_vec());
    if kinds.is_empty() {
        return Err(Error::invalid_input("`kinds` is empty: name what to mask, or leave it out to mask everything"));
    }
    let redacted = redact(&text, &kinds);
    let counts: Map<String, Value> =
        redacted.found.iter().map(|found| (found.kind.name().to_owned(), found.count.into())).collect();
    audit::record("redact.done", "text", Outcome::Success, &counts)?;
    Ok(redacted)
}

impl Kind {
    /// By certainty: what a check digit confirms is not taken for something weaker.
    const ALL: [Self; 4] = [Self::Email, Self::Iban, Self::Card, Self::Phone];

    fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Iban => "iban",
            Self::Card => "card",
            Self::Phone => "phone",
        }
    }

    fn finder(self) -> Finder {
        match self {
            Self::Email => email::find,
            Self::Iban => iban::find,
            Self::Card => card::find,
            Self::Phone => phone::find,
        }
    }
}

fn redact(text: &str, kinds: &[Kind]) -> Redacted {
    let mut masked: Vec<(Span, Kind)> = Vec::new();
    let mut found = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| kinds.contains(kind)) {
        let taken: Vec<Span> = masked.iter().map(|(span, _)| *span).collect();
        let spans: Vec<Span> =
            span::free(text.len(), &taken).flat_map(|free| span::find_all(text, free, kind.finder())).collect();
        if !spans.is_empty() {
            found.push(Found { kind, count: spans.len() });
        }
        masked.extend(spans.into_iter().map(|span| (span, kind)));
        masked.sort_unstable_by_key(|(span, _)| span.start);
    }
    Redacted { text: replace(text, &masked), found }
}

fn replace(text: &str, masked: &[(Span, Kind)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (span, kind) in masked {
        out.push_str(&text[done..span.start]);
        out.push('[');
        out.push_str(kind.name());
        out.push(']');
        done = span.end;
    }
    out.push_str(&text[done..]);
    out
}

#[cfg(test)]
mod tests;
