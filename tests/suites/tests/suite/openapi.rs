//! The description of the API: complete, true, and in a file that a person can read.

use std::collections::BTreeSet;
use std::sync::Arc;

use clawhold_tenancy::{Digest, PackageName, Publisher, SecretName, SkillName, TenantId, TokenId};
use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

use crate::support::{TestHost, golden, python, root};

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
    // What is not `/v1` is the contract of others, who describe it.
    for row in clawhold_api::table(Arc::clone(&test.host)).iter().filter(|row| row.path.starts_with("/v1/")) {
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
    agree::<TenantId>(&texts);
    agree::<Publisher>(&texts);
    agree::<PackageName>(&texts);
    agree::<SecretName>(&texts);
    agree::<SkillName>(&texts);
    agree::<TokenId>(&texts);
    agree::<Digest>(&texts);
}

fn agree<T: JsonSchema + std::str::FromStr>(texts: &[&str]) {
    let validator = jsonschema::validator_for(schema_for!(T).as_value()).unwrap();
    let mut read = 0;
    for text in texts {
        assert_eq!(validator.is_valid(&Value::from(*text)), text.parse::<T>().is_ok(), "{} {text:?}", T::schema_name());
        read += usize::from(text.parse::<T>().is_ok());
    }
    assert!(0 < read && read < texts.len(), "{}", T::schema_name());
}

/// What each role's fuzzing fills paths with, so that it gets behind the first 404.
const KNOWN: &str = r#"
[parameters]
"path.tenant" = "acme-corp"
"path.publisher" = "northwind"
"path.name" = "probe"
"path.skill" = "probe.echo"
"path.secret" = "token"
"#;

#[test]
fn a_tool_that_reads_the_description_finds_no_answer_outside_it() {
    let Some(python) = python() else { return };
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    test.invoke("acme-corp", &admin, "probe.echo", &json!({ "text": "x" })).ok();
    let publisher = test.publisher("northwind");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("schemathesis.toml");
    std::fs::write(&config, KNOWN).unwrap();
    for (role, token) in [("admin", &admin), ("operator", &test.operator), ("publisher", &publisher)] {
        let mut tool = std::process::Command::new(python.with_file_name("schemathesis"));
        tool.env("SCHEMATHESIS_HOOKS", root().join("tests/python/schemathesis_hooks.py"));
        tool.current_dir(&folder).args(["--config-file".as_ref(), config.as_os_str()]);
        tool.args([
            "run",
            &format!("{}/v1/openapi.json", test.url),
            "--header",
            &format!("Authorization: Bearer {token}"),
        ]);
        // Much of what fits the description is refused for what is there: a name that is taken, a version that is not.
        tool.args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"]);
        tool.args(["--seed", "5", "--generation-deterministic"]);
        tool.args(["--max-examples", "25", "--suppress-health-check", "all", "--continue-on-failure", "--no-color"]);
        // The tool would else put tokens of its own in place of the right one.
        tool.args(["--generation-with-security-parameters", "false"]);
        let done = tool.output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        eprintln!("{said}");
        assert!(done.status.success(), "as {role}: {said}\n{}", String::from_utf8_lossy(&done.stderr));
        assert!(test.host_chain() > 0, "the host is there");
    }
}
