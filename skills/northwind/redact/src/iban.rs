//! IBANs: ISO 13616, a country's letters, two check digits and an account number of the country's length.

use crate::span::{Span, follows_word, precedes_word, separator};

/// The length of an IBAN by country, from the SWIFT registry.
const LENGTHS: &[(usize, &str)] = &[
    (15, "NO"),
    (16, "BE"),
    (18, "DK FI FK FO GL NL SD"),
    (19, "MK SI"),
    (20, "AT BA EE KZ LT LU MN XK"),
    (21, "CH CR HR LI LV"),
    (22, "BG BH DE GB GE IE ME RS VA"),
    (23, "AE GI IL IQ OM SO TL"),
    (24, "AD CZ DJ ES MD PK RO SA SE SK TN VG"),
    (25, "LY PT ST"),
    (26, "IS TR"),
    (27, "BI FR GR IT MC MR SM"),
    (28, "AL AZ BY CY DO GT HN HU LB NI PL SV"),
    (29, "BR EG PS QA UA"),
    (30, "JO KW MU YE"),
    (31, "MT SC"),
    (32, "LC"),
    (33, "RU"),
];

pub(crate) fn find(text: &str, from: usize, end: usize) -> Option<Span> {
    let bytes = text.as_bytes();
    (from..end.saturating_sub(3))
        // The cheap test first: two letters and two digits are rare.
        .filter(|&at| {
            bytes[at..at + 2].iter().all(u8::is_ascii_alphabetic)
                && bytes[at + 2..at + 4].iter().all(u8::is_ascii_digit)
        })
        .filter(|&at| !follows_word(text, at))
        .find_map(|at| number(text, at, end).map(|end| Span { start: at, end }))
}

/// Where the IBAN that begins at `start` ends.
fn number(text: &str, start: usize, end: usize) -> Option<usize> {
    let length = country_length(&text[start..start + 2])?;
    let mut characters = Vec::with_capacity(length);
    let mut at = start;
    while characters.len() < length {
        // At most one separator between two characters, so that the search stays within twice the length.
        at += separator(text, at);
        let character = *text.as_bytes()[..end].get(at)?;
        if !character.is_ascii_alphanumeric() {
            return None;
        }
        characters.push(character);
        at += 1;
    }
    (!precedes_word(text, at) && checks(&characters)).then_some(at)
}

fn country_length(country: &str) -> Option<usize> {
    let country = country.to_ascii_uppercase();
    LENGTHS.iter().find(|(_, countries)| countries.split(' ').any(|known| known == country)).map(|(length, _)| *length)
}

/// ISO/IEC 7064, MOD 97-10: with the first four characters behind and letters as 10 to 35, the rest is 1.
fn checks(characters: &[u8]) -> bool {
    let (head, tail) = characters.split_at(4);
    let rest = tail.iter().chain(head).fold(0, |rest: u32, &character| {
        let value = char::from(character).to_digit(36).expect("letters and digits only");
        (rest * if value < 10 { 10 } else { 100 } + value) % 97
    });
    rest == 1
}
