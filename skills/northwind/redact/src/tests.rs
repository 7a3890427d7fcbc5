use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clawhold_skill::serde_json::json;
use clawhold_skill::testing::Host;

use super::{Kind, redact};

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (text, masked) in cases {
        assert_eq!(redact(text, &Kind::ALL).text, *masked, "{text:?}");
    }
}

#[test]
fn email_addresses() {
    check(&[
        ("Write to bob@example.com.", "Write to [email]."),
        ("<bob.smith+tag@mail.example.co.uk>, now", "<[email]>, now"),
        ("'bob@example.com' \"eve@example.org\"", "'[email]' \"[email]\""),
        ("mailto:bob@example.com?subject=x", "mailto:[email]?subject=x"),
        ("a@example.com,b@example.com;c@example.com", "[email],[email];[email]"),
        ("müller@bücher.example und πέτρος@example.gr", "[email] und [email]"),
        ("メールはbob@example.comです", "メールは[email]です"),
        ("x@xn--bcher-kva.xn--p1ai", "[email]"),
        ("bob@example.com... and on", "[email]... and on"),
        ("bob@example.com.2 and bob@example.com-", "[email].2 and [email]-"),
        ("4111111111111111@example.com +49301234567@example.com", "[email] +[email]"),
        ("me@localhost, @handle, a@b, @, @@, a@@example.com", "me@localhost, @handle, a@b, @, @@, a@@example.com"),
        ("bob.@example.com bob@-example.com", "bob.@example.com bob@-example.com"),
        ("npm i @scope/package@1.2.3", "npm i @scope/package@1.2.3"),
    ]);
}

#[test]
fn card_numbers() {
    check(&[
        ("4111111111111111", "[card]"),
        ("Visa 4111 1111 1111 1111 exp 12/27", "Visa [card] exp 12/27"),
        ("Amex 3782-822463-10005.", "Amex [card]."),
        ("4222222222222", "[card]"),
        ("6304000000000000000", "[card]"),
        ("2223003122003222", "[card]"),
        ("4111\u{a0}1111\u{202f}1111\u{2011}1111", "[card]"),
        ("No. 12 4111 1111 1111 1111 123", "No. 12 [card] 123"),
        ("card:5555555555554444,6011111111111117", "card:[card],[card]"),
        ("4111111111111112", "4111111111111112"),
        ("4111 1111  1111 1111", "4111 1111  1111 1111"),
        ("x4111111111111111 4111111111111111x", "x4111111111111111 4111111111111111x"),
        ("41111111111111111111", "41111111111111111111"),
        ("at 1767225600000 and 0000000000000000", "at 1767225600000 and 0000000000000000"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
    ]);
}

#[test]
fn ibans() {
    check(&[
        ("DE89370400440532013000", "[iban]"),
        ("IBAN: DE89 3704 0044 0532 0130 00, BIC COBADEFF", "IBAN: [iban], BIC COBADEFF"),
        ("gb29 nwbk 6016 1331 9268 19", "[iban]"),
        ("NO93 8601 1117 947", "[iban]"),
        ("MT84MALT011000012345MTLCAST001S", "[iban]"),
        ("FR14-2004-1010-0505-0001-3M02-606", "[iban]"),
        ("DE88370400440532013000", "DE88370400440532013000"),
        ("DE8937040044053201300", "DE8937040044053201300"),
        ("DE893704004405320130000", "DE893704004405320130000"),
        ("ZZ89370400440532013000", "ZZ89370400440532013000"),
        ("XDE89370400440532013000", "XDE89370400440532013000"),
        ("DE89", "DE89"),
    ]);
}

#[test]
fn phone_numbers() {
    check(&[
        ("call +4930123456 now", "call [phone] now"),
        ("+49 (0)30 123456-78, +49 (0) 30/123456", "[phone], [phone]"),
        ("+1 (415) 555-2671. 2026 was", "[phone]. 2026 was"),
        ("tel:+33.1.23.45.67.89", "tel:[phone]"),
        ("0049 30 12345678", "[phone]"),
        ("(415) 555-2671, 415-555-2671, 1-415-555-2671, 415.555.2671", "[phone], [phone], [phone], [phone]"),
        ("030 1234567, 0170/1234567, (020) 7946 0958", "[phone], [phone], [phone]"),
        ("01 23 45 67 89 ou 01.23.45.67.89", "[phone] ou [phone]"),
        ("mobile 07700900123", "mobile [phone]"),
        ("+49\u{a0}30\u{a0}123456 日本", "[phone] 日本"),
        ("+1234567, +0123456789, +1234567890123456", "+1234567, +0123456789, +1234567890123456"),
    ]);
}

#[test]
fn plain_numbers_and_dates_stay() {
    for text in [
        "12345678",
        "3141592653",
        "9,007,199,254,740,993",
        "0.1234567890 and 10.1234567",
        "2026-01-02T03:04:05.678Z",
        "2026-01-02 03:04:05",
        "01.02.2026 12:30",
        "01.02.2026 1234",
        "01-02-2026",
        "31/12/2026",
        "192.168.100.200 and 010.001.002.003",
        "version 1.22.333.4444",
        "ISBN 978-3-16-148410-0",
        "0001234567",
        "part 415-555-2671-9",
        "8f14e45f-ceea-467f-a9f5-1a2b3c4d5e6f",
        "1 + 12345678 = 12345679",
        "1+12345678",
        "EUR 1 234 567,89",
        "№ 42",
    ] {
        check(&[(text, text)]);
    }
}

#[test]
fn only_the_kinds_that_were_asked_for_are_masked() {
    let host = Host::new();
    let text = "bob@example.com, eve@example.com, 4111 1111 1111 1111, +4930123456";
    let answer = host.call("redact.text", json!({"text": text, "kinds": ["card", "email"]})).unwrap();
    assert_eq!(
        answer,
        json!({
            "text": "[email], [email], [card], +4930123456",
            "found": [{"kind": "email", "count": 2}, {"kind": "card", "count": 1}],
        })
    );
    assert_eq!(host.audits()[0].detail, json!({"email": 2, "card": 1}));
    assert!(!format!("{:?}", host.audits()).contains("example.com"));
}

#[test]
fn wrong_input_is_named() {
    for (input, says) in [
        (json!({"text": "x", "kinds": []}), "`kinds` is empty"),
        (json!({"text": "x", "kinds": ["ssn"]}), "`kinds`: unknown variant `ssn`"),
        (json!({"text": 7}), "`text`"),
    ] {
        let error = Host::new().call("redact.text", input).unwrap_err();
        assert!(error.kind() == "invalid-input" && error.message().contains(says), "{error}");
    }
}

#[test]
fn a_megabyte_of_anything_takes_linear_time() {
    const SIZE: usize = 1 << 20;
    // Generous for an unoptimised build on a busy machine; quadratic time would take hours.
    const LIMIT: Duration = Duration::from_secs(20);
    for unit in [
        "1", "4111", "4111 ", "1 ", "12-", "+1", "+", "(", "(0)", "0049", "030 ", "@", "a@", "a.", "a@b.", "a@b.1.",
        "DE89", "DE89 ", "D", "é", "1é", "\u{a0}1", "日@",
    ] {
        let text = unit.repeat(SIZE / unit.len());
        let start = Instant::now();
        redact(&text, &Kind::ALL);
        assert!(start.elapsed() < LIMIT, "{unit:?} took {:?}", start.elapsed());
    }
}

#[test]
fn no_text_over_the_characters_that_matter_breaks_it() {
    const PIECES: [&str; 12] = ["1", "0", "4111", " ", "-", ".", "@", "a", "é", "日", "+", "DE89"];
    // Every combination of five would be a quarter of a million; a fixed step visits all pieces in all places.
    for seed in (0..12_usize.pow(5)).step_by(7) {
        let mut text = String::new();
        let mut rest = seed;
        for _ in 0..5 {
            write!(text, "{}", PIECES[rest % 12]).unwrap();
            rest /= 12;
        }
        redact(&text, &Kind::ALL);
    }
}
