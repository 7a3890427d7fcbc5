//! Pieces of a text, and what stands around them.

/// A piece of a text, in bytes; both ends lie between characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Finds the first hit that begins at or after `from` and ends at or before `end`.
///
/// It may look at the text around, and must look at each byte a bounded number of times before it moves on.
pub(crate) type Finder = fn(text: &str, from: usize, end: usize) -> Option<Span>;

/// All hits in a piece of the text, none of which overlap.
pub(crate) fn find_all(text: &str, within: Span, find: Finder) -> impl Iterator<Item = Span> {
    let mut from = within.start;
    std::iter::from_fn(move || {
        let hit = find(text, from, within.end)?;
        from = hit.end;
        Some(hit)
    })
}

/// The pieces between `taken`, which is in order.
pub(crate) fn free(length: usize, taken: &[Span]) -> impl Iterator<Item = Span> {
    let starts = std::iter::once(0).chain(taken.iter().map(|span| span.end));
    let ends = taken.iter().map(|span| span.start).chain(std::iter::once(length));
    starts.zip(ends).map(|(start, end)| Span { start, end })
}

/// Whether a letter or digit of any script ends right before `at`: a number that continues a word is no number.
pub(crate) fn follows_word(text: &str, at: usize) -> bool {
    text[..at].chars().next_back().is_some_and(char::is_alphanumeric)
}

/// Whether a letter or digit of any script begins at `at`.
pub(crate) fn precedes_word(text: &str, at: usize) -> bool {
    text[at..].chars().next().is_some_and(char::is_alphanumeric)
}

/// The length in bytes of a space or hyphen at `at`, as people group digits with; 0 when there is none.
pub(crate) fn separator(text: &str, at: usize) -> usize {
    match text[at..].chars().next() {
        // No-break space, narrow no-break space, non-breaking hyphen, en dash: what word processors make of them.
        Some(c @ (' ' | '-' | '\u{a0}' | '\u{202f}' | '\u{2011}' | '\u{2013}')) => c.len_utf8(),
        _ => 0,
    }
}

/// Where the run of ASCII digits that begins at `at` ends.
pub(crate) fn digits_end(text: &str, at: usize) -> usize {
    let rest = &text.as_bytes()[at..];
    at + rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len())
}
