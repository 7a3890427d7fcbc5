use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn known(packages: &[&str]) -> Known {
    Known::new(["lonely-publisher".parse().unwrap()], packages.iter().map(|name| name.parse().unwrap()))
}

#[test]
fn hostile_29_a_package_that_is_taken_for_another_publishers_is_refused() {
    let known = known(&["northwind/crm", "northwind/ticket-tools", "acme/crm", "globex/mail"]);
    for (name, expected) in [
        ("northw1nd/crm", Some((Why::Looks, "northwind/crm"))),
        ("north-wind/crm", Some((Why::Looks, "northwind/crm"))),
        ("northvvind/crm", Some((Why::Looks, "northwind/crm"))),
        ("nothwind/crm", Some((Why::Typing, "northwind/crm"))),
        ("northwinds/crm", Some((Why::Typing, "northwind/crm"))),
        ("nortwhind/crm", Some((Why::Typing, "northwind/crm"))),
        ("northwimd/crm", Some((Why::Typing, "northwind/crm"))),
        ("nothwind/c-rm", Some((Why::Typing, "northwind/crm"))),
        ("northw1nd/c-rm", Some((Why::Looks, "northwind/crm"))),
        ("northw1nd/tlcket-tools", Some((Why::Looks, "northwind/ticket-tools"))),
        ("northw1nd/ticket-tool", Some((Why::Typing, "northwind/ticket-tools"))),
        // What stands behind the slash is another thing.
        ("northw1nd/billing", None),
        // Its own.
        ("northwind/crm", None),
        ("northwind/c-rm", None),
        ("northwind/ticket-tool", None),
        // Somebody else's, whom nobody takes for another.
        ("globex/crm", None),
        ("globex/ticket-tools", None),
        ("contoso/crm", None),
        ("northbound/crm", None),
        // Two errors.
        ("nothwinds/crm", None),
        // Short names.
        ("acne/crm", None),
        ("acrne/crm", Some((Why::Looks, "acme/crm"))),
    ] {
        let said = known.look_alike(&name.parse().unwrap());
        let found = said.as_ref().map(|alike| (alike.why, alike.other.as_str()));
        assert_eq!(found, expected, "{name}");
    }
    let said = known.look_alike(&"northw1nd/crm".parse().unwrap()).unwrap().to_string();
    assert_eq!(said, "the name northw1nd/crm looks like northwind/crm, which is another publisher's");
}

#[test]
fn a_publisher_that_is_taken_for_another_is_refused() {
    for (one, other, expected) in [
        ("northwind", "northw1nd", Some(Why::Looks)),
        ("northwind", "northwlnd", Some(Why::Looks)),
        ("modern", "modem", Some(Why::Looks)),
        ("data-cloud", "data-c1oud", Some(Why::Looks)),
        ("cloud-nine", "doud-nine", Some(Why::Looks)),
        ("base64", "ba5e64", Some(Why::Looks)),
        ("zeta", "2eta", Some(Why::Looks)),
        ("b0b", "bob", Some(Why::Looks)),
        ("we8-9ear", "web-gear", Some(Why::Looks)),
        ("team-o", "team-0", Some(Why::Looks)),
        ("northwind", "northwind2", Some(Why::Typing)),
        ("northwind", "n0rthwimd", None),
        ("salesforce", "slaesforce", Some(Why::Typing)),
        ("salesforce", "salesforce-", Some(Why::Looks)),
        // Numbers and abbreviations.
        ("team-1", "team-2", None),
        ("team-1", "team-12", None),
        ("team-12", "team-21", None),
        ("shop24", "shop25", None),
        ("team-a", "team-b", None),
        ("a-team", "b-team", None),
        ("corp-uk", "corp-us", None),
        ("corp-uk-shop", "corp-us-shop", None),
        ("corp-eur", "corp-euf", Some(Why::Typing)),
        // Short names.
        ("mail", "main", None),
        ("mail", "mails", None),
        ("mails", "mains", Some(Why::Typing)),
    ] {
        for (there, new) in [(one, other), (other, one)] {
            let known = Known::new([there.parse().unwrap()], []);
            let said = known.publisher_look_alike(&new.parse().unwrap());
            assert_eq!(said.map(|alike| alike.why), expected, "{there} {new}");
            assert_eq!(known.publisher_look_alike(&there.parse().unwrap()), None, "nobody is taken for itself");
        }
    }
    let said = known(&[]).publisher_look_alike(&"lonely-pub1isher".parse().unwrap());
    assert_eq!(said.unwrap().other, "lonely-publisher", "it has no package");
}

#[test]
fn a_name_of_other_scripts_is_told_by_what_it_imitates() {
    for (text, expected) in [
        ("аcme", Some("acme")),
        ("nоrthwind/crm", Some("northwind/crm")),
        ("northwind∕crm", Some("northwind/crm")),
        ("ｎｏｒｔｈｗｉｎｄ", Some("northwind")),
        ("acmé-corp", Some("acme-corp")),
        ("ACMÉ", Some("acme")),
        ("north‐wind", Some("north-wind")),
        ("acme\u{200b}corp", Some("acmecorp")),
        ("acme", None),
        ("東京", None),
        ("", None),
        ("é", None),
        ("аcme corp", None),
    ] {
        assert_eq!(said_like(text).as_deref(), expected, "{text}");
    }
    assert_eq!(said_like(&"а".repeat(1000)), None);
}

/// Damerau and Levenshtein's distance (of adjacent characters), as textbooks have it.
fn distance(one: &[u8], other: &[u8]) -> usize {
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = usize::from(one[i - 1] != other[j - 1]);
                let swap = i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
                let swapped = if swap { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change).min(swapped)
            };
        }
    }
    rows[one.len()][other.len()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn one_typing_error_is_what_the_textbooks_say(one in "[abc]{5,8}", other in "[abc]{5,8}") {
        prop_assert_eq!(mistyped(one.as_bytes(), other.as_bytes()), distance(one.as_bytes(), other.as_bytes()) == 1);
    }

    #[test]
    fn the_index_finds_what_a_look_at_each_name_finds(
        names in prop::collection::vec("[ab1l-]{5,7}", 1..20),
        new in "[ab1l-]{5,7}",
    ) {
        let names: Vec<Publisher> = names.iter().filter_map(|name| name.parse().ok()).collect();
        if let Ok(new) = new.parse::<Publisher>() {
            let named = Named::new(new.as_str());
            let each = names.iter().any(|name| named.is_taken_for(&Named::new(name.as_str())).is_some());
            prop_assert_eq!(Known::new(names, []).publisher_look_alike(&new).is_some(), each);
        }
    }
}

/// Measured by `cargo test --release -- --ignored --nocapture figure`.
#[test]
#[ignore = "a figure, not a rule"]
fn figure_of_a_hundred_thousand_names() {
    let word = |mut seed: u64| {
        let mut text = String::new();
        for _ in 0..12 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push(char::from(b'a' + u8::try_from((seed >> 33) % 26).unwrap()));
        }
        text
    };
    for (case, publishers) in [("1,000 publishers", 1_000), ("100,000 publishers", 100_000), ("1 publisher", 1)] {
        let names: Vec<PackageName> =
            (0..100_000).map(|i| format!("{}/{}", word(i % publishers), word(i + 7)).parse().unwrap()).collect();
        let (first, count) = (names[0].clone(), names.len());
        let start = Instant::now();
        let known = Known::new([], names);
        println!("{case}: {count} names built in {:?}", start.elapsed());
        let bad: PackageName = format!("{}x/{}", first.publisher(), "another-name").parse().unwrap();
        let start = Instant::now();
        for _ in 0..100 {
            assert_eq!(known.look_alike(&bad), None);
        }
        println!("{case}: asked in {:?}", start.elapsed() / 100);
    }
}
