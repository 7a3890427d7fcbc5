//! E-mail addresses: RFC 5321 without quoted local parts, and with the letters that RFC 6531 adds.

use crate::span::Span;

pub(crate) fn find(text: &str, from: usize, end: usize) -> Option<Span> {
    let mut floor = from;
    let mut at = from;
    loop {
        at += text[at..end].find('@')?;
        if let (Some(start), Some(end)) = (local_start(&text[floor..at]), domain_end(&text[at + 1..end])) {
            return Some(Span { start: floor + start, end: at + 1 + end });
        }
        // The next search backwards stops here, so that no byte is searched twice.
        at += 1;
        floor = at;
    }
}

/// Where the local part at the end of `before` begins.
fn local_start(before: &str) -> Option<usize> {
    let start = before.rfind(|c| !local(c)).map_or(0, |at| at + before[at..].chars().next().map_or(0, char::len_utf8));
    // Quotes, brackets and dots before the first letter belong to the sentence.
    let lead = before[start..].find(|c| letter_or_digit(c) || c == '_')?;
    (!before.ends_with('.')).then_some(start + lead)
}

/// Where the domain at the beginning of `after` ends: labels with dots between, the last one of letters.
fn domain_end(after: &str) -> Option<usize> {
    let end = after.find(|c| !(letter_or_digit(c) || matches!(c, '-' | '.'))).unwrap_or(after.len());
    // An empty label ends the domain: `a@b.example...` is an address at the end of a sentence.
    let end = after[..end].find("..").unwrap_or(end);
    let mut domain = after[..end].trim_end_matches(['.', '-']);
    loop {
        let (rest, last) = domain.rsplit_once('.')?;
        if top_level(last) {
            return (!rest.starts_with(['.', '-'])).then_some(domain.len());
        }
        domain = rest;
    }
}

fn top_level(label: &str) -> bool {
    let punycode = label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"));
    punycode || (label.chars().nth(1).is_some() && label.chars().all(char::is_alphabetic))
}

fn local(c: char) -> bool {
    letter_or_digit(c) || "!#$%&'*+-/=?^_`{|}~.".contains(c)
}

fn letter_or_digit(c: char) -> bool {
    // From Thai on come the scripts that are written without spaces between words; there an address would swallow
    // the sentence around it.
    c.is_ascii_alphanumeric() || (c.is_alphanumeric() && c > '\u{7f}' && c < '\u{e00}')
}
