use serde_json::{Value, json};

use super::super::data::Customer;
use super::super::soql;
use super::run;

fn customer() -> Customer {
    Customer::new("test", "token")
        .account(json!({"Id": "001A0000001AAAAQA2", "Name": "O'Brien & Sons", "Industry": "Ports"}))
        .account(json!({"Id": "001A0000002AAAAQA2", "Name": "100% Cotton"}))
        .account(json!({"Id": "001A0000003AAAAQA2", "Name": "Éire Glass", "Industry": "Glass"}))
}

fn names(condition: &str) -> Vec<String> {
    let query = soql::parse(&format!("SELECT name FROM account {condition}")).unwrap();
    let records = run(&query, customer().tables(), "v59.0").unwrap();
    records.iter().map(|record| record["Name"].as_str().unwrap().split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn conditions_pick_records() {
    for (condition, expected) in [
        ("", &["O'Brien", "100%", "Éire"][..]),
        (r"WHERE Name = 'o\'brien & SONS'", &["O'Brien"]),
        ("WHERE Name = 'O%'", &[]),
        ("WHERE Name LIKE 'O%'", &["O'Brien"]),
        ("WHERE Name LIKE 'éire_glass'", &["Éire"]),
        ("WHERE Name LIKE '%l%s%s'", &["Éire"]),
        (r"WHERE Name LIKE '%\%%'", &["100%"]),
        ("WHERE Name LIKE '%%%'", &["O'Brien", "100%", "Éire"]),
        ("WHERE Industry = null", &["100%"]),
        ("WHERE Industry != 'ports'", &["100%", "Éire"]),
        ("WHERE Industry > 'Glass'", &["O'Brien"]),
        ("WHERE Id = '001A0000002AAAA'", &["100%"]),
        ("WHERE Id = '001A0000002aaaa'", &[]),
        ("WHERE Id = '001A'", &[]),
        ("WHERE NOT Name LIKE 'O%' AND Industry != null", &["Éire"]),
        ("WHERE Name = 'x' OR Name LIKE '%'", &["O'Brien", "100%", "Éire"]),
        ("ORDER BY Name", &["100%", "O'Brien", "Éire"]),
        ("ORDER BY Industry DESC LIMIT 2", &["O'Brien", "Éire"]),
        ("LIMIT 0", &[]),
    ] {
        assert_eq!(names(condition), expected, "{condition}");
    }
}

#[test]
fn a_record_says_what_it_is_and_holds_what_was_asked() {
    let query = soql::parse("SELECT Id, Phone FROM Account LIMIT 1").unwrap();
    let records = run(&query, customer().tables(), "v59.0").unwrap();
    let url = "/services/data/v59.0/sobjects/Account/001A0000001AAAAQA2";
    let expected = json!({
        "attributes": {"type": "Account", "url": url}, "Id": "001A0000001AAAAQA2", "Phone": Value::Null,
    });
    assert_eq!(records, [expected]);
}

#[test]
fn unknown_names_are_refused_even_where_no_record_is_looked_at() {
    for (soql, code, says) in [
        ("SELECT Id FROM Contact", "INVALID_TYPE", "'Contact'"),
        ("SELECT Password FROM Account", "INVALID_FIELD", "'Password' on entity 'Account'"),
        ("SELECT Id FROM Case WHERE Owner.Name = 'x'", "INVALID_FIELD", "'Owner.Name' on entity 'Case'"),
        ("SELECT Id FROM Account ORDER BY Size", "INVALID_FIELD", "'Size'"),
    ] {
        let error = run(&soql::parse(soql).unwrap(), customer().tables(), "v59.0").unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains(says), "{error}");
    }
}
