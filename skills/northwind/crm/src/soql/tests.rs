use super::{Id, literal};

/// Reads one literal as the SOQL reference describes it, and gives its value and whatever stands behind it.
fn read(soql: &str) -> Option<(String, &str)> {
    let mut rest = soql.strip_prefix('\'')?.chars();
    let mut value = String::new();
    loop {
        match rest.next()? {
            '\'' => return Some((value, rest.as_str())),
            '\\' => value.push(match rest.next()?.to_ascii_lowercase() {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'b' => '\u{8}',
                'f' => '\u{c}',
                c @ ('"' | '\'' | '\\') => c,
                'u' => {
                    let digits = rest.as_str().get(..4)?;
                    rest = rest.as_str()[4..].chars();
                    char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
                }
                _ => return None,
            }),
            c if c.is_control() => return None,
            c => value.push(c),
        }
    }
}

#[track_caller]
fn check(text: &str) {
    let soql = format!("{} LIMIT 1", literal(text));
    assert_eq!(read(&soql), Some((text.to_owned(), " LIMIT 1")), "{soql}");
}

#[test]
fn a_literal_reads_back_as_the_text_and_ends_where_it_should() {
    for text in [
        "",
        "O'Brien",
        "x' OR Name LIKE '%",
        r"x\' OR Name LIKE \'%",
        r"ends in a backslash\",
        r"\\\'''\\",
        "\"double\"",
        "line\nfeed\rreturn\ttab\u{8}back\u{c}form",
        "nul\0 escape\u{1b} delete\u{7f} nel\u{85} ls\u{2028} ps\u{2029}",
        r"\u0027 is not a quote",
        "Łódź 日本 🦀 e\u{301}",
        "100%_sure",
        "') LIMIT 0 --",
    ] {
        check(text);
    }
}

#[test]
fn every_short_text_over_the_characters_that_matter_reads_back() {
    const CHARACTERS: [char; 9] = ['\'', '\\', '"', 'n', 'u', '0', '\n', '\0', 'é'];
    let mut texts = vec![String::new()];
    for _ in 0..4 {
        let longer: Vec<String> =
            texts.iter().flat_map(|text| CHARACTERS.iter().map(move |c| format!("{text}{c}"))).collect();
        for text in &longer {
            check(text);
        }
        texts = longer;
    }
}

#[test]
fn every_character_reads_back() {
    // All of the first blocks, where the special characters are, and a sample of the rest.
    for c in ('\0'..=char::MAX).filter(|&c| u32::from(c) < 0x3000 || u32::from(c) % 97 == 0) {
        check(&c.to_string());
    }
}

#[test]
fn an_id_is_15_or_18_letters_and_digits() {
    for (text, valid) in [
        ("001A0000001AAAA", true),
        ("001A0000001AAAAQA2", true),
        ("", false),
        ("001A0000001AAA", false),
        ("001A0000001AAAAQ", false),
        ("001A0000001AAA'", false),
        ("001A0000001AAA ", false),
        ("001A0000001AAÄ", false),
    ] {
        assert_eq!(Id::parse(text).is_ok(), valid, "{text:?}");
    }
}
