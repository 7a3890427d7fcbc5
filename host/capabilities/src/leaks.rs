//! The leak guard: looks for values that a run was given, or that were put on its requests, in what the run gives away.
//!
//! It looks for a value as it is and as it is commonly written: in base64 and base64url at any place of a longer text, in hex, percent-
//! encoded, as a part of a JSON string. One pass over a text finds all of them, in a time that depends on the text's length alone.
//!
//! What it will not find: a value that the guest has changed in any other way, such as encrypted, reversed or cut into pieces; values
//! of fewer than 8 bytes or 5 different ones, which would be found everywhere. It is a net for mistakes and simple thefts. What keeps
//! a secret from a skill is that the skill never gets it.

use std::fmt;
use std::ops::Range;
use std::sync::OnceLock;

use aho_corasick::packed::{Config, MatchKind, Searcher};
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use clawhold_secret_store::SecretValue;
use clawhold_tenancy::SecretName;
use zeroize::Zeroizing;

/// Values with fewer bytes are not looked for, and neither are ones with fewer different bytes.
const LEAST_BYTES: usize = 8;
const LEAST_DIFFERENT: usize = 5;
/// Bytes of a value by which it is recognised. What follows in the text belongs to it as long as it could.
const TELLING_BYTES: usize = 128;
/// Fields of one value, and patterns of all together, that are looked for.
const FIELDS: usize = 16;
const PATTERNS: usize = 1_024;
/// Patterns of one pass of the vectorised search, of all its passes, and bytes of a text that it is used for. It is quickest for what is
/// common, and looks at a byte as often as patterns begin alike; the automaton looks at each once.
const PASS: usize = 64;
const PASSES: usize = 4 * PASS;
const SMALL: usize = 64 * 1024;

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
    patterns: Vec<Pattern>,
    /// Nothing where there are too many patterns, or the processor has no vectors that serve.
    vectorised: Vec<Searcher>,
    automaton: OnceLock<Option<AhoCorasick>>,
}

/// What is looked for.
struct Pattern {
    secret: String,
    form: Form,
    text: Zeroizing<Vec<u8>>,
    /// What comes behind it, of a long value that stands as it is.
    rest: Zeroizing<Vec<u8>>,
    /// The value is longer than what is looked for.
    goes_on: bool,
}

impl fmt::Debug for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns = self.patterns.iter().map(|pattern| (&pattern.secret, pattern.form));
        f.debug_list().entries(patterns).finish()
    }
}

impl Leaks {
    /// Looks for these values and for the fields of those that have any; nothing if there is nothing to look for.
    pub fn of<'a>(values: impl IntoIterator<Item = (&'a SecretName, &'a SecretValue)>) -> Option<Self> {
        let mut patterns: Vec<Pattern> = Vec::new();
        for (name, value) in values {
            let fields = value.fields();
            for value in [value].into_iter().chain(fields.iter().take(FIELDS)).map(SecretValue::expose) {
                let (telling, rest) = value.split_at(telling_bytes(value));
                if !is_telling(telling) || patterns.len() >= PATTERNS {
                    continue;
                }
                let first = patterns.len();
                for (form, text) in written(telling) {
                    if !patterns[first..].iter().any(|known| known.text == text) {
                        let rest = if form == Form::Plain { rest } else { &[] };
                        let rest = Zeroizing::new(rest.to_vec());
                        let goes_on = telling.len() < value.len();
                        patterns.push(Pattern { secret: name.to_string(), form, text, rest, goes_on });
                    }
                }
            }
        }
        if patterns.is_empty() {
            return None;
        }
        let passes = patterns.chunks(PASS).map(|pass| {
            let texts = pass.iter().map(|pattern| &pattern.text[..]);
            Config::new().match_kind(MatchKind::LeftmostLongest).builder().extend(texts).build()
        });
        let vectorised = if patterns.len() <= PASSES { passes.collect::<Option<Vec<_>>>() } else { None };
        Some(Self { patterns, vectorised: vectorised.unwrap_or_default(), automaton: OnceLock::new() })
    }

    /// All places where a value is, in order; those that overlap are one.
    fn places(&self, text: &[u8]) -> Vec<(Range<usize>, usize)> {
        let mut places: Vec<(Range<usize>, usize)> = Vec::new();
        if text.len() <= SMALL && !self.vectorised.is_empty() {
            for (pass, search) in self.vectorised.iter().enumerate() {
                places
                    .extend(search.find_iter(text).map(|m| (m.start()..m.end(), pass * PASS + m.pattern().as_usize())));
            }
        } else {
            // Without one nothing could be told of any text.
            let Some(automaton) = self.automaton() else { return vec![(0..text.len(), 0)] };
            places.extend(automaton.find_iter(text).map(|found| (found.range(), found.pattern().as_usize())));
        }
        places.sort_by_key(|(place, _)| place.start);
        let mut whole: Vec<(Range<usize>, usize)> = Vec::with_capacity(places.len());
        for (place, pattern) in places {
            let before = whole.last_mut().filter(|(before, _)| place.start < before.end);
            match before {
                Some((before, _)) if place.end <= before.end => {}
                Some((before, _)) => before.end = self.patterns[pattern].end(text, place.end),
                None => whole.push((place.start..self.patterns[pattern].end(text, place.end), pattern)),
            }
        }
        whole
    }

    fn automaton(&self) -> Option<&AhoCorasick> {
        let made = self.automaton.get_or_init(|| {
            AhoCorasick::builder()
                .match_kind(aho_corasick::MatchKind::LeftmostLongest)
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(self.patterns.iter().map(|pattern| &pattern.text[..]))
                .ok()
        });
        made.as_ref()
    }

    /// Which values are in a text.
    pub fn find(&self, text: &[u8]) -> impl Iterator<Item = (&str, Form)> {
        self.places(text)
            .into_iter()
            .map(|(_, pattern)| (self.patterns[pattern].secret.as_str(), self.patterns[pattern].form))
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
        let (mut begins, mut first) = (0, 0);
        for text in texts {
            let ends = begins + text.len();
            let mut kept = String::with_capacity(text.len());
            let mut at = begins;
            while places.get(first).is_some_and(|(found, _)| found.end <= begins) {
                first += 1;
            }
            for (found, pattern) in places[first..].iter().take_while(|(found, _)| found.start < ends) {
                // What stands in a text is text, and so is all that a value's forms are made of.
                let start = whole.floor_char_boundary(found.start.max(begins));
                kept.push_str(&whole[at.min(start)..start]);
                kept.extend(["[redacted: ", self.patterns[*pattern].secret.as_str(), "]"]);
                at = whole.ceil_char_boundary(found.end.min(ends));
            }
            kept.push_str(&whole[at.min(ends)..ends]);
            redacted.push(kept);
            begins = ends;
        }
        for (_, pattern) in places {
            let Pattern { secret, form, .. } = &self.patterns[pattern];
            let leak = Leak { secret: secret.clone(), form: *form, place };
            if !leaks.contains(&leak) {
                leaks.push(leak);
            }
        }
        Some(redacted)
    }

    /// A text that was cut, without the beginning of a value that may stand at its end.
    pub fn trim<'t>(&self, text: &'t str, place: &'static str, leaks: &mut Vec<Leak>) -> &'t str {
        for Pattern { secret, form, text: value, .. } in
            self.patterns.iter().filter(|pattern| pattern.form == Form::Plain)
        {
            let beginning = (LEAST_BYTES..value.len()).rev().find(|most| text.as_bytes().ends_with(&value[..*most]));
            if let Some(beginning) = beginning {
                leaks.push(Leak { secret: secret.clone(), form: *form, place });
                return &text[..text.floor_char_boundary(text.len() - beginning)];
            }
        }
        text
    }
}

impl Pattern {
    /// Where a value ends of which this much was recognised.
    fn end(&self, text: &[u8], at: usize) -> usize {
        if !self.goes_on {
            return at;
        }
        let behind = &text[at..];
        let more = match self.form {
            Form::Plain => behind.iter().zip(&*self.rest).take_while(|(there, own)| there == own).count(),
            Form::Base64 => {
                let is_letter = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte);
                behind.iter().take_while(is_letter).count()
            }
            Form::Hex => behind.iter().take_while(|byte| byte.is_ascii_hexdigit()).count(),
            Form::Percent => {
                behind.iter().take_while(|byte| byte.is_ascii_graphic() && !b"\"<>&".contains(byte)).count()
            }
            Form::Json => {
                let mut escaped = false;
                let is_in_string = |byte: &&u8| {
                    let ends = **byte == b'"' && !escaped;
                    escaped = **byte == b'\\' && !escaped;
                    !ends
                };
                behind.iter().take_while(is_in_string).count()
            }
        };
        at + more
    }
}

/// How much of a value it is recognised by.
fn telling_bytes(value: &[u8]) -> usize {
    let most = value.len().min(TELLING_BYTES);
    str::from_utf8(value).map_or(most, |text| text.floor_char_boundary(most))
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
        // As browsers' `encodeURIComponent` has it, and as a path of the URL standard.
        add(Form::Percent, percent(value, b"0123456789ABCDEF", |byte| is_unreserved(byte) || b"!*'()".contains(byte)));
        let in_path = |byte: &u8| byte.is_ascii_graphic() && !b"\"#<>?`{}^".contains(byte);
        add(Form::Percent, percent(value, b"0123456789ABCDEF", in_path));
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
        let component = "s3cr3t%2F%2B%22t%C3%B6k%20en%3F!*'()".replace("!*'()", "");
        assert_eq!(found(&leaks, &component), [Form::Percent]);
        let mut path = url::Url::parse("https://x.example/").unwrap();
        path.path_segments_mut().unwrap().push("a").push("s3cr3t+\"tök en");
        let other = self::leaks(&[("crm", "s3cr3t+\"tök en")]).unwrap();
        assert_eq!(found(&other, path.as_str()), [Form::Percent]);
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
    fn all_of_a_long_value_goes_and_what_is_left_of_one_that_was_cut() {
        let long: String = (0..4_000).map(|n| char::from(b'!' + u8::try_from(n * n % 89).unwrap())).collect();
        let (leaks, mut noted) = (leaks(&[("crm", &long)]).unwrap(), Vec::new());
        let json = serde_json::to_string(&long).unwrap();
        for text in [long.clone(), BASE64_STANDARD_NO_PAD.encode(&long), hex::encode(&long)] {
            let redacted = leaks.redact(&format!("it is {text} or so"), "output", &mut noted).unwrap();
            assert_eq!(redacted, "it is [redacted: crm] or so");
        }
        let redacted = leaks.redact(&format!(r#"{{"it": {json}, "n": 1}}"#), "output", &mut noted).unwrap();
        assert_eq!(redacted, r#"{"it": "[redacted: crm]", "n": 1}"#);
        let cut = format!("it is {}", &long[..60]);
        assert_eq!(leaks.trim(&cut, "log", &mut noted), "it is ");
        assert_eq!(leaks.trim("it is over", "log", &mut noted), "it is over");
    }

    #[test]
    fn hostile_20_a_value_and_a_text_that_are_made_for_it_do_not_stop_the_search() {
        let slow = format!("{}bcde", "a".repeat(65_000));
        let fields: Vec<String> = (0..4_000).map(|n| format!(r#""f{n}": "abcdefgh{n}""#)).collect();
        let many = format!("{{{}}}", fields.join(","));
        let began = std::time::Instant::now();
        for value in [slow, "abcde".repeat(13_000), many] {
            let Some(leaks) = leaks(&[("crm", &value)]) else { continue };
            for text in ["a".repeat(4 << 20), "abcde".repeat(800_000), value[..60_000].repeat(70), "a".repeat(64_000)] {
                let lines: Vec<&str> =
                    text.as_bytes().chunks(1_000).map(|line| str::from_utf8(line).unwrap()).collect();
                leaks.redact_all(&lines, "log", &mut Vec::new());
            }
        }
        // Seconds unoptimised; what it was before took minutes.
        assert!(began.elapsed() < std::time::Duration::from_mins(1), "{:?}", began.elapsed());
    }

    #[test]
    fn many_values_are_found_in_more_than_one_pass() {
        let values: Vec<(String, String)> =
            (0..60).map(|n| (format!("s{n}"), format!("va/ue-number-{n:04}"))).collect();
        let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let leaks = leaks(&values).unwrap();
        let text: Vec<_> = values.iter().map(|(_, value)| *value).collect();
        let mut noted = Vec::new();
        leaks.redact(&text.join(" "), "output", &mut noted).unwrap();
        assert_eq!(noted.len(), 60);
        assert!(!format!("{leaks:?}").contains("ue-number"), "Debug shows a value");
    }
}
