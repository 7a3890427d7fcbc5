//! The leak guard: looks for values that a run was given, or that were put on its requests, in what the run gives away.
//!
//! It looks for a value as it is and as it is commonly written: in base64 and base64url at any place of a longer text, in hex, percent-
//! encoded, as a part of a JSON string. One pass over a text finds all of them.
//!
//! What it will not find: a value that the guest has changed in any other way, such as encrypted, reversed or cut into pieces; values
//! of fewer than 8 bytes or 5 different ones, which would be found everywhere. It is a net for mistakes and simple thefts. What keeps
//! a secret from a skill is that the skill never gets it.

use std::fmt;
use std::ops::Range;

use aho_corasick::packed::{Config, MatchKind, Searcher};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use clawhold_secret_store::SecretValue;
use clawhold_tenancy::SecretName;
use zeroize::Zeroizing;

/// Values with fewer bytes are not looked for, and neither are ones with fewer different bytes.
const LEAST_BYTES: usize = 8;
const LEAST_DIFFERENT: usize = 5;
/// Patterns of one pass: as many as the vectorised search takes.
const PATTERNS: usize = 64;

/// How a value was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As it is.
    Plain,
    /// Base64, of either alphabet.
    Base64,
    /// Hexadecimal digits.
    Hex,
    /// Percent-encoded.
    Percent,
    /// As a part of a JSON string.
    Json,
}

impl Form {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Base64 => "base64",
            Self::Hex => "hex",
            Self::Percent => "percent-encoded",
            Self::Json => "JSON-escaped",
        }
    }
}

/// A value that was found where it should not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// Whose.
    pub secret: String,
    /// How it was written.
    pub form: Form,
    /// Where: `output`, `error`, `log`, `audit` or `request`.
    pub place: &'static str,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in the {} ({})", self.secret, self.place, self.form.as_str())
    }
}

/// Looks for the values of some secrets.
pub struct Leaks {
    /// Whose each pattern is, and how it is written.
    patterns: Vec<(String, Form)>,
    searches: Vec<(Searcher, Range<usize>)>,
    /// Where the processor has no vectors that serve.
    slow: Option<aho_corasick::AhoCorasick>,
}

impl fmt::Debug for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaks").field("patterns", &self.patterns).finish_non_exhaustive()
    }
}

impl Leaks {
    /// Looks for these values and for the fields of those that have any; nothing if there is nothing to look for.
    pub fn of<'a>(values: impl IntoIterator<Item = (&'a SecretName, &'a SecretValue)>) -> Option<Self> {
        let (mut patterns, mut texts) = (Vec::new(), Vec::new());
        for (name, value) in values {
            let fields = value.fields();
            for value in fields.iter().chain([value]).map(SecretValue::expose).filter(|value| is_telling(value)) {
                for (form, text) in written(value) {
                    if !texts.contains(&text) {
                        patterns.push((name.to_string(), form));
                        texts.push(text);
                    }
                }
            }
        }
        if texts.is_empty() {
            return None;
        }
        let mut searches = Vec::new();
        for (at, some) in texts.chunks(PATTERNS).enumerate() {
            let search = Config::new().match_kind(MatchKind::LeftmostLongest).builder().extend(some).build();
            let Some(search) = search else { break };
            searches.push((search, at * PATTERNS..at * PATTERNS + some.len()));
        }
        let whole = searches.iter().map(|(_, range)| range.len()).sum::<usize>() == texts.len();
        let slow = if whole { None } else { Some(aho_corasick::AhoCorasick::new(&texts).ok()?) };
        Some(Self { patterns, searches, slow })
    }

    /// All places where a value is, in order; those that overlap are one.
    fn places(&self, text: &[u8]) -> Vec<(Range<usize>, usize)> {
        let mut places: Vec<(Range<usize>, usize)> = Vec::new();
        if let Some(slow) = &self.slow {
            places.extend(slow.find_iter(text).map(|found| (found.range(), found.pattern().as_usize())));
        } else {
            for (search, range) in &self.searches {
                places
                    .extend(search.find_iter(text).map(|m| (m.start()..m.end(), range.start + m.pattern().as_usize())));
            }
        }
        places.sort_by_key(|(place, _)| place.start);
        places.dedup_by(|next, before| {
            let overlaps = next.0.start < before.0.end;
            if overlaps {
                before.0.end = before.0.end.max(next.0.end);
            }
            overlaps
        });
        places
    }

    /// Which values are in a text.
    pub fn find(&self, text: &[u8]) -> impl Iterator<Item = (&str, Form)> {
        self.places(text).into_iter().map(|(_, pattern)| (self.patterns[pattern].0.as_str(), self.patterns[pattern].1))
    }

    /// The text without the values that are in it, if any are; each is noted.
    pub fn redact(&self, text: &str, place: &'static str, leaks: &mut Vec<Leak>) -> Option<String> {
        self.redact_all(&[text], place, leaks)?.pop()
    }

    /// Texts that follow one another, without the values that are in them, also where one begins in a text and goes on in the next.
    pub fn redact_all(&self, texts: &[&str], place: &'static str, leaks: &mut Vec<Leak>) -> Option<Vec<String>> {
        let whole = Zeroizing::new(texts.concat());
        let places = self.places(whole.as_bytes());
        if places.is_empty() {
            return None;
        }
        let mut redacted = Vec::with_capacity(texts.len());
        let mut begins = 0;
        for text in texts {
            let ends = begins + text.len();
            let mut kept = String::with_capacity(text.len());
            let mut at = begins;
            for (found, pattern) in places.iter().filter(|(found, _)| found.start < ends && found.end > begins) {
                // What stands in a text is text, and so is all that a value's forms are made of.
                let start = whole.floor_char_boundary(found.start.max(begins));
                let end = whole.ceil_char_boundary(found.end.min(ends));
                kept.push_str(&whole[at.min(start)..start]);
                kept.extend(["[redacted: ", self.patterns[*pattern].0.as_str(), "]"]);
                at = end;
            }
            kept.push_str(&whole[at.min(ends)..ends]);
            redacted.push(kept);
            begins = ends;
        }
        for (_, pattern) in places {
            let (secret, form) = &self.patterns[pattern];
            let leak = Leak { secret: secret.clone(), form: *form, place };
            if !leaks.contains(&leak) {
                leaks.push(leak);
            }
        }
        Some(redacted)
    }
}

/// Whether a value says enough to be told from what stands there by chance.
fn is_telling(value: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in value {
        seen[usize::from(*byte)] = true;
    }
    value.len() >= LEAST_BYTES && seen.iter().filter(|seen| **seen).count() >= LEAST_DIFFERENT
}

/// The ways to write a value.
fn written(value: &[u8]) -> Vec<(Form, Zeroizing<Vec<u8>>)> {
    let mut forms = vec![(Form::Plain, Zeroizing::new(value.to_vec()))];
    let mut add = |form, text: Vec<u8>| {
        if text.len() >= LEAST_BYTES {
            forms.push((form, Zeroizing::new(text)));
        }
    };
    for before in 0..3 {
        // What stands before it in a longer text shifts it by 0, 1 or 2 bytes. The first and the last letter may tell of its neighbours.
        let longer = Zeroizing::new([vec![0; before], value.to_vec()].concat());
        let (from, to) = ((8 * before).div_ceil(6), 8 * longer.len() / 6);
        for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
            let text = Zeroizing::new(engine.encode(&*longer));
            add(Form::Base64, text.as_bytes()[from..to].to_vec());
        }
    }
    add(Form::Hex, hex::encode(value).into_bytes());
    add(Form::Hex, hex::encode_upper(value).into_bytes());
    let is_unreserved = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        add(Form::Percent, percent(value, digits, |_| false));
    }
    if !value.iter().all(is_unreserved) {
        for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
            add(Form::Percent, percent(value, digits, is_unreserved));
        }
        // As forms are sent.
        let form: String = url::form_urlencoded::byte_serialize(value).collect();
        add(Form::Percent, form.into_bytes());
    }
    if let Ok(text) = str::from_utf8(value) {
        let quoted = serde_json::to_string(text).unwrap_or_default();
        let inner = quoted.trim_start_matches('"');
        add(Form::Json, inner.as_bytes()[..inner.len() - 1].to_vec());
    }
    forms
}

/// Percent-encoded, but for those bytes that stay.
fn percent(value: &[u8], digits: &[u8; 16], stays: impl Fn(&u8) -> bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(3 * value.len());
    for byte in value {
        if stays(byte) {
            text.push(*byte);
        } else {
            text.extend([b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "s3cr3t/+\"tök en?";

    fn leaks(values: &[(&str, &str)]) -> Option<Leaks> {
        let values: Vec<(SecretName, SecretValue)> = values
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), SecretValue::from((*value).to_owned())))
            .collect();
        Leaks::of(values.iter().map(|(name, value)| (name, value)))
    }

    #[track_caller]
    fn found(leaks: &Leaks, text: &str) -> Vec<Form> {
        let mut all = Vec::new();
        let redacted = leaks.redact(text, "output", &mut all);
        assert_eq!(redacted.is_some(), !all.is_empty(), "{text}");
        if let Some(redacted) = redacted {
            assert!(redacted.contains("[redacted: crm]"), "{redacted}");
            assert_eq!(leaks.find(redacted.as_bytes()).count(), 0, "{redacted}");
        }
        all.into_iter().map(|leak| leak.form).collect()
    }

    #[test]
    fn hostile_20_a_value_is_found_in_whatever_common_way_it_is_written() {
        let leaks = leaks(&[("crm", VALUE)]).unwrap();
        assert_eq!(found(&leaks, &format!("it is {VALUE}!")), [Form::Plain]);
        assert_eq!(found(&leaks, &serde_json::json!({ "it": VALUE }).to_string()), [Form::Json]);
        assert_eq!(found(&leaks, &hex::encode(VALUE)), [Form::Hex]);
        assert_eq!(found(&leaks, &hex::encode_upper(VALUE)), [Form::Hex]);
        for before in 0..6 {
            for after in 0..4 {
                let longer = [&"x".repeat(before), VALUE, &"y".repeat(after)].concat();
                for text in [
                    BASE64_STANDARD_NO_PAD.encode(&longer),
                    BASE64_URL_SAFE_NO_PAD.encode(&longer),
                    base64::prelude::BASE64_STANDARD.encode(&longer),
                ] {
                    assert_eq!(found(&leaks, &text), [Form::Base64], "{before} {after}");
                }
            }
        }
        let mut url = url::Url::parse("https://x.example/").unwrap();
        url.query_pairs_mut().append_pair("q", VALUE);
        assert_eq!(found(&leaks, url.as_str()), [Form::Percent]);
        let percent = "s3cr3t%2F%2B%22t%C3%B6k%20en%3F";
        assert_eq!(found(&leaks, percent), [Form::Percent]);
        assert_eq!(
            found(
                &leaks,
                &percent.replace("%2F", "%2f").replace("%2B", "%2b").replace("%C3%B6", "%c3%b6").replace("%3F", "%3f")
            ),
            [Form::Percent]
        );
        for other in ["", "s3cr3t/", "nothing of it", &VALUE.to_uppercase(), &"s3cr3t/+".repeat(9)] {
            assert_eq!(found(&leaks, other), [], "{other}");
        }
    }

    #[test]
    fn what_goes_on_in_the_next_line_is_found_too() {
        let leaks = leaks(&[("crm", "abcdefghijkl")]).unwrap();
        let mut noted = Vec::new();
        let lines = ["first", "x abcd", "efgh", "ijkl y", "last"];
        let redacted = leaks.redact_all(&lines, "log", &mut noted).unwrap();
        let mark = "[redacted: crm]";
        assert_eq!(redacted, ["first", &format!("x {mark}"), mark, &format!("{mark} y"), "last"]);
        assert_eq!(noted, [Leak { secret: "crm".to_owned(), form: Form::Plain, place: "log" }]);
        let overlapping = leaks.redact("abcdefghijkl6162636465666768696a6b6cabcdefghijkl", "log", &mut noted).unwrap();
        assert_eq!(overlapping, format!("{mark}{mark}{mark}"));
    }

    #[test]
    fn fields_of_a_value_are_values_and_short_or_plain_ones_are_none() {
        let login = leaks(&[("crm", r#"{"user": "ada", "password": "correct horse"}"#)]).unwrap();
        assert_eq!(found(&login, "it is correct horse"), [Form::Plain]);
        assert_eq!(found(&login, "ada was here"), []);
        for plain in ["", "short", "00000000000000", "abababababab"] {
            assert!(leaks(&[("crm", plain)]).is_none(), "{plain}");
        }
    }

    #[test]
    fn many_values_are_found_in_more_than_one_pass() {
        let values: Vec<(String, String)> =
            (0..40).map(|n| (format!("s{n}"), format!("va/ue-number-{n:04}"))).collect();
        let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let leaks = leaks(&values).unwrap();
        let text: Vec<_> = values.iter().map(|(_, value)| *value).collect();
        let mut noted = Vec::new();
        leaks.redact(&text.join(" "), "output", &mut noted).unwrap();
        assert_eq!(noted.len(), 40);
        assert!(!format!("{leaks:?}").contains("ue-number"), "Debug shows a value");
    }
}
