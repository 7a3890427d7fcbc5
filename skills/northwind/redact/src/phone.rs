//! Phone numbers: international (ITU-T E.164), North American, and national with a trunk `0`.
//!
//! A bare number is no phone number: it needs a `+`, a trunk `0` or the grouping of its country.

use crate::span::{Span, digits_end, follows_word, precedes_word};

/// E.164 allows 15 digits with the country's code; what is shorter than this is more likely an offset or a score.
const INTERNATIONAL: std::ops::RangeInclusive<usize> = 8..=15;
/// After `00`, where a padded number would otherwise pass for a call abroad.
const DIALLED_ABROAD: std::ops::RangeInclusive<usize> = 10..=15;
/// With the trunk `0`, in groups.
const NATIONAL: std::ops::RangeInclusive<usize> = 9..=12;
/// With the trunk `0` and in one piece, where only the lengths of mobile numbers are certain enough.
const NATIONAL_BARE: std::ops::RangeInclusive<usize> = 10..=11;

/// What may stand between two groups, the longest first. A dot and a space end a sentence, and are not among them.
const GAPS: &[&str] = &[
    " (0) ", " (0)", "(0) ", "(0)", ") - ", " - ", " / ", " (", ") ", ")-", ")/", ".", "-", "/", " ", "(", ")",
    "\u{a0}", "\u{202f}", "\u{2011}", "\u{2013}",
];

pub(crate) fn find(text: &str, from: usize, end: usize) -> Option<Span> {
    let mut at = from;
    while at < end {
        let byte = text.as_bytes()[at];
        let begins = matches!(byte, b'+' | b'(') || byte.is_ascii_digit();
        if begins
            && !continues(text, at)
            && let Some(end) = number(&text[at..end]).map(|length| at + length)
            && !precedes_word(text, end)
        {
            return Some(Span { start: at, end });
        }
        at = if byte.is_ascii_digit() { digits_end(text, at).min(end) } else { at + 1 };
    }
    None
}

/// Whether what stands before `at` makes it the middle of something longer: a word, a decimal, a sum.
fn continues(text: &str, at: usize) -> bool {
    let before = &text[..at];
    follows_word(text, at)
        || before.ends_with('+')
        || before
            .strip_suffix(['.', ',', '-', '/', ':'])
            .is_some_and(|rest| rest.ends_with(|c: char| c.is_ascii_digit()))
}

/// The length of the number that `text` begins with.
fn number(text: &str) -> Option<usize> {
    if let Some(rest) = text.strip_prefix('+') {
        return international(rest, INTERNATIONAL).map(|length| length + 1);
    }
    if let Some(rest) = text.strip_prefix("00") {
        return international(rest, DIALLED_ABROAD).map(|length| length + 2);
    }
    north_american(text).or_else(|| national(text))
}

fn international(text: &str, allowed: std::ops::RangeInclusive<usize>) -> Option<usize> {
    let text_start = text.bytes().next()?;
    if !matches!(text_start, b'1'..=b'9') {
        return None;
    }
    let groups = Groups::read(text, *allowed.end());
    allowed.contains(&groups.digits).then_some(groups.end)
}

/// `(415) 555-2671`, `415-555-2671`, `415.555.2671`, `415 555 2671`, each with or without a `1` before it.
fn north_american(text: &str) -> Option<usize> {
    let groups = Groups::read(text, 11);
    let sizes = match groups.sizes() {
        [1, sizes @ ..] if text.starts_with('1') => sizes,
        sizes => sizes,
    };
    if sizes != [3, 3, 4] {
        return None;
    }
    let digits: Vec<u8> = text[..groups.end].bytes().filter(u8::is_ascii_digit).collect();
    let ten = &digits[digits.len() - 10..];
    // Area code and exchange begin with 2 to 9.
    (matches!(ten[0], b'2'..=b'9') && matches!(ten[3], b'2'..=b'9') && !goes_on(text, groups.end)).then_some(groups.end)
}

/// `030 123456`, `(020) 7946 0958`, `01 23 45 67 89`, `0170/1234567`, `07700900123`.
fn national(text: &str) -> Option<usize> {
    let opening = usize::from(text.starts_with('('));
    let digits = text.as_bytes().get(opening..opening + 2)?;
    if digits[0] != b'0' || !matches!(digits[1], b'1'..=b'9') {
        return None;
    }
    let groups = Groups::read(text, *NATIONAL.end());
    let sizes = groups.sizes();
    let allowed = if sizes.len() == 1 { NATIONAL_BARE } else { NATIONAL };
    let plausible = allowed.contains(&groups.digits)
        && sizes.iter().all(|&size| size >= 2)
        && !date(text, sizes)
        && !dotted_quad(&text[..groups.end], sizes)
        && !goes_on(text, groups.end);
    plausible.then_some(groups.end)
}

/// `01.02.2026`, whatever follows.
fn date(text: &str, sizes: &[usize]) -> bool {
    matches!(sizes, [2, 2, 4, ..]) && text.as_bytes()[2] == text.as_bytes()[5] && text.as_bytes()[2] != b' '
}

/// `010.001.002.003`.
fn dotted_quad(text: &str, sizes: &[usize]) -> bool {
    sizes.len() == 4 && sizes.iter().all(|&size| size <= 3) && text.matches('.').count() == 3
}

/// Whether digits go on behind a hyphen, dot or colon: a part number, a version, a time.
fn goes_on(text: &str, end: usize) -> bool {
    let rest = &text[end..];
    rest.strip_prefix(['-', '.', ':', '/', ',']).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Groups of digits from the beginning of a text, as many as fit.
struct Groups {
    sizes: [usize; Self::MOST],
    count: usize,
    digits: usize,
    /// Behind the last group, and behind the bracket that it closes.
    end: usize,
}

impl Groups {
    /// An E.164 number has 15 digits, so there are no more groups.
    const MOST: usize = 15;

    /// Reads groups while they have `most` digits together. What it looks at is bounded by that and by the gaps.
    fn read(text: &str, most: usize) -> Self {
        let mut groups = Self { sizes: [0; Self::MOST], count: 0, digits: 0, end: 0 };
        let mut at = usize::from(text.starts_with('('));
        while groups.count < Self::MOST {
            let size = digits_within(text, at, most + 1);
            if size == 0 || groups.digits + size > most {
                break;
            }
            groups.sizes[groups.count] = size;
            groups.count += 1;
            groups.digits += size;
            groups.end = at + size;
            let rest = &text[groups.end..];
            let Some(gap) = GAPS.iter().find(|gap| rest.starts_with(**gap)) else { break };
            at = groups.end + gap.len();
        }
        groups
    }

    fn sizes(&self) -> &[usize] {
        &self.sizes[..self.count]
    }
}

/// How many digits begin at `at`, counted up to `most`.
fn digits_within(text: &str, at: usize, most: usize) -> usize {
    text.as_bytes()[at..].iter().take(most).take_while(|byte| byte.is_ascii_digit()).count()
}
