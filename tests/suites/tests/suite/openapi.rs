//! The description of the API: complete, true, and in a file that a person can read.

use std::collections::BTreeSet;
use std::sync::Arc;

use clawhold_tenancy::{Digest, PackageName, Publisher, SecretName, SkillName, TenantId, TokenId};
use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use crate::support::{TestHost, golden};

#[test]
fn the_description_is_the_golden_file() {
    let test = TestHost::start();
    let description = clawhold_api::description(Arc::clone(&test.host));
    let served = test.get("/v1/openapi.json", "");
    assert_eq!(served.headers["content-type"], "application/json");
    assert_eq!(served.ok(), description);
    golden("openapi.json", &(serde_json::to_string_pretty(&description).unwrap() + "\n"));
}

#[test]
fn every_route_is_described_and_every_reference_leads_somewhere() {
    let test = TestHost::start();
    let description = clawhold_api::description(Arc::clone(&test.host));
    let mut ids = BTreeSet::new();
    for row in clawhold_api::table(Arc::clone(&test.host)) {
        let operation = &description["paths"][row.path][row.method.to_lowercase()];
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{} {}", row.method, row.path));
        assert!(ids.insert(id.to_owned()), "{id} is there twice");
        let named = operation["parameters"].as_array().unwrap().iter();
        let named = named.filter_map(|parameter| parameter["$ref"].as_str()?.strip_prefix("#/components/parameters/"));
        let named: BTreeSet<String> = named.map(|name| format!("{{{name}}}")).collect();
        for part in row.path.split('/').filter(|part| part.starts_with('{')) {
            assert!(named.contains(part), "{id} does not describe {part}");
        }
    }
    let mut references = BTreeSet::new();
    collect(&description, &mut references);
    assert!(references.len() > 30, "{references:?}");
    for reference in references {
        assert!(description.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str).map(ToOwned::to_owned));
            members.values().for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

#[test]
fn the_form_of_an_id_in_the_description_is_the_form_that_is_read() {
    let long = "a".repeat(64);
    let hex = "0123456789abcdef";
    let digest = format!("sha256:{}", hex.repeat(4));
    let texts = [
        "",
        "a",
        "ab",
        "a-b",
        "-ab",
        "a_b",
        "_ab",
        "a.b",
        "A",
        "Ab",
        "ab/cd",
        "a/cd",
        "ab/c",
        "ab/cd/ef",
        "../b",
        "a:b",
        "ab\n",
        "\0ab",
        "а-b",
        "ａｂ",
        "crm.lookup_account",
        &long,
        &long[1..],
        &hex.repeat(2),
        &hex[..12],
        &hex[..11],
        "0123456789ABCDEF",
        &digest,
        &digest[..70],
        &digest.to_uppercase(),
        &digest.replace('a', "A"),
        &hex.repeat(4),
    ];
    fn agree<T: JsonSchema + std::str::FromStr>(texts: &[&str]) {
        let validator = jsonschema::validator_for(schema_for!(T).as_value()).unwrap();
        let mut read = 0;
        for text in texts {
            assert_eq!(
                validator.is_valid(&Value::from(*text)),
                text.parse::<T>().is_ok(),
                "{} {text:?}",
                T::schema_name()
            );
            read += usize::from(text.parse::<T>().is_ok());
        }
        assert!(0 < read && read < texts.len(), "{}", T::schema_name());
    }
    agree::<TenantId>(&texts);
    agree::<Publisher>(&texts);
    agree::<PackageName>(&texts);
    agree::<SecretName>(&texts);
    agree::<SkillName>(&texts);
    agree::<TokenId>(&texts);
    agree::<Digest>(&texts);
}
