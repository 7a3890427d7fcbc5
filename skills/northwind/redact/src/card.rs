//! Payment card numbers: ISO/IEC 7812, 13 to 19 digits of which the last is a Luhn check digit.

use crate::span::{Span, digits_end, follows_word, precedes_word, separator};

const SHORTEST: usize = 13;
const LONGEST: usize = 19;
/// Cards are printed in groups of three digits and more; columns of smaller numbers are no card.
const SMALLEST_GROUP: usize = 3;

pub(crate) fn find(text: &str, from: usize, end: usize) -> Option<Span> {
    let mut at = from;
    while at < end {
        if !text.as_bytes()[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        if !follows_word(text, at)
            && let Some(end) = number(text, at, end)
        {
            return Some(Span { start: at, end });
        }
        // A number begins at the beginning of a group only.
        at = digits_end(text, at);
    }
    None
}

/// Where the longest card number that begins at `start` ends.
fn number(text: &str, start: usize, end: usize) -> Option<usize> {
    let mut digits = [0; LONGEST];
    let mut count = 0;
    let mut at = start;
    let mut longest = None;
    loop {
        let group_end = digits_end(&text[..end], at);
        let group = &text.as_bytes()[at..group_end];
        if group.len() < SMALLEST_GROUP || count + group.len() > LONGEST {
            return longest;
        }
        for byte in group {
            digits[count] = byte - b'0';
            count += 1;
        }
        if count >= SHORTEST && !precedes_word(text, group_end) && plausible(&digits[..count]) {
            longest = Some(group_end);
        }
        match separator(text, group_end) {
            0 => return longest,
            length if group_end + length < end => at = group_end + length,
            _ => return longest,
        }
    }
}

fn plausible(digits: &[u8]) -> bool {
    // No card begins with 0, 1 or 7 but those of airlines and fuel companies; millisecond timestamps do begin with 1.
    !matches!(digits[0], 0 | 1 | 7) && luhn(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| match (place % 2, digit) {
            (0, digit) => u32::from(digit),
            (_, digit @ 0..=4) => u32::from(digit) * 2,
            (_, digit) => u32::from(digit) * 2 - 9,
        })
        .sum();
    sum.is_multiple_of(10)
}
