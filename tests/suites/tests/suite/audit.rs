//! The audit log as a tenant or an auditor has it: exported, verified without the host, and compared with heads that were kept
//! elsewhere.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use clawhold_tenancy::audit::export::{Begin, End, FORMAT, Line, Unverified, Verifier};
use clawhold_tenancy::audit::{Event, Head, Outcome, PublicKey, Sealed, SealedEvent, SignedHead, SigningKey};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _, Row as _};

use crate::support::{Answer, TestHost, on_each_database, python, root};

on_each_database![
    an_export_is_whole_and_says_what_each_entry_says,
    hostile_42_each_change_of_an_export_is_named_by_two_verifiers,
    hostile_42_a_beginning_that_retention_did_not_remove_is_missed,
    detail_is_sealed_in_the_database_and_the_log_still_reads,
];

/// A tenant whose log has a dozen entries of all kinds; gives its admin's token.
fn busy(test: &TestHost) -> String {
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    for n in 0..3 {
        test.send("PUT", "/v1/tenants/acme-corp/secrets/token", &admin, &json!({ "value": format!("v{n}") })).ok();
        test.invoke("acme-corp", &admin, "probe.echo", &json!({ "text": "ü\n\"x\"" })).ok();
    }
    test.get("/v1/tenants/globex/secrets", &admin);
    admin
}

/// The export's lines, and the public key that it is signed with.
fn export(test: &TestHost, token: &str) -> (Vec<String>, PublicKey) {
    let Answer { status, headers, body } = test.get("/v1/tenants/acme-corp/audit/export", token);
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "application/x-ndjson"));
    let lines = body.as_str().unwrap().lines().map(ToOwned::to_owned).collect();
    (lines, test.host.audit_key())
}

fn verify(lines: &[String], key: PublicKey, outside: &[SignedHead]) -> Result<i64, Unverified> {
    let mut verifier = Verifier::new(key, outside.to_vec());
    for line in lines {
        verifier.line(line)?;
    }
    verifier.finish().map(|whole| whole.head.seq + 1 - whole.first)
}

/// What the verifier in Python says: how many entries, or the number of the broken one.
fn verify_in_python(python: &Path, lines: &[String], key: PublicKey) -> Result<i64, i64> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("export.ndjson");
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let said = Command::new(python)
        .arg(root().join("tests/python/verify_audit.py"))
        .args([file.to_str().unwrap(), &key.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.first() {
        Some(&"whole") => Ok(words[2].parse().unwrap()),
        Some(&"broken") => Err(words[1].parse().unwrap()),
        _ => panic!("{text} {}", String::from_utf8_lossy(&said.stderr)),
    }
}

fn an_export_is_whole_and_says_what_each_entry_says(test: &TestHost) {
    let admin = busy(test);
    let (lines, key) = export(test, &admin);
    let entries = test.audit("acme-corp", &admin);
    assert_eq!(verify(&lines, key, &[]).unwrap(), i64::try_from(entries.len()).unwrap());
    for (line, entry) in lines[1..].iter().zip(&entries) {
        let line: Value = serde_json::from_str(line).unwrap();
        for name in ["seq", "actor", "action", "resource", "outcome", "run", "trace", "hash", "detail"] {
            assert_eq!(line[name], entry[name], "{name}");
        }
    }
    assert!(lines.len() > 10 && entries.iter().any(|entry| entry["outcome"] == "denied"));
    let auditor = test.token("acme-corp", "auditor");
    assert_eq!(test.get("/v1/tenants/acme-corp/audit/export", &auditor).status, 200);
    // The head by itself is signed by the same key.
    let head = test.get("/v1/tenants/acme-corp/audit/head", &admin).ok();
    let head: SignedHead = serde_json::from_value(head).unwrap();
    head.verify(&key).unwrap();
}

fn hostile_42_each_change_of_an_export_is_named_by_two_verifiers(test: &TestHost) {
    let admin = busy(test);
    let (lines, key) = export(test, &admin);
    let python = python();
    let last = lines.len() - 1;
    let end = i64::try_from(last).unwrap();
    let edited = |from: &str, to: &str| {
        let mut lines = lines.clone();
        assert!(lines[5].contains(from), "{}", lines[5]);
        lines[5] = lines[5].replace(from, to);
        lines
    };
    let entry: Value = serde_json::from_str(&lines[5]).unwrap();
    let sealed = entry["sealed"].as_str().unwrap();
    let without = |at: std::ops::Range<usize>| {
        let mut lines = lines.clone();
        lines.drain(at);
        lines
    };
    let mut swapped = lines.clone();
    swapped.swap(4, 5);
    let mut twice = lines.clone();
    twice.insert(5, lines[4].clone());
    let mut renumbered = without(4..5);
    for line in &mut renumbered[4..last - 1] {
        let mut entry: Value = serde_json::from_str(line).unwrap();
        entry["seq"] = json!(entry["seq"].as_i64().unwrap() - 1);
        *line = entry.to_string();
    }
    let outcome = format!("\"outcome\":{}", entry["outcome"]);
    for (what, changed, place) in [
        ("edited actor", edited("\"actor\":\"", "\"actor\":\"x"), 5),
        ("edited action", edited("\"action\":\"", "\"action\":\"x"), 5),
        ("edited outcome", edited(&outcome, "\"outcome\":\"failure\""), 5),
        ("edited time", edited("\"at_us\":1", "\"at_us\":2"), 5),
        ("edited detail", edited(sealed, &sealed.replacen(&sealed[8..12], "AAAA", 1)), 5),
        ("deleted", without(4..5), 4),
        ("deleted and numbered anew", renumbered, 4),
        ("reordered", swapped, 4),
        ("inserted", twice, 4),
        ("the last entry cut", without(last - 1..last), end - 1),
        ("the tail cut with the head", without(last - 2..last + 1), end - 2),
    ] {
        let Err(Unverified::Broken(broken)) = verify(&changed, key, &[]) else { panic!("{what} was not noticed") };
        assert_eq!(broken.seq, place, "{what}: {broken}");
        if let Some(python) = &python {
            assert_eq!(verify_in_python(python, &changed, key), Err(place), "{what}");
        }
    }
    if let Some(python) = &python {
        assert_eq!(verify_in_python(python, &lines, key), Ok(end - 1));
    }
    // Somebody else's signature, and a tail that was cut before the host signed anew.
    let other = SigningKey::from_seed(&[9; 32]);
    assert!(matches!(verify(&lines, other.public(), &[]), Err(Unverified::Head(_))));
    let later: SignedHead = serde_json::from_value(test.get("/v1/tenants/acme-corp/audit/head", &admin).ok()).unwrap();
    assert_eq!(verify(&lines, key, std::slice::from_ref(&later)).unwrap(), end - 1);
    test.send("PUT", "/v1/tenants/acme-corp/secrets/token", &admin, &json!({ "value": "later" })).ok();
    let later: SignedHead = serde_json::from_value(test.get("/v1/tenants/acme-corp/audit/head", &admin).ok()).unwrap();
    let Err(Unverified::Broken(broken)) = verify(&lines, key, &[later]) else { panic!("a cut tail was not noticed") };
    assert_eq!(broken.seq, end);
}

/// Rows as whoever has the database sees them.
fn rows(test: &TestHost, query: &'static str) -> Vec<sqlx::any::AnyRow> {
    test.runtime.block_on(async {
        let mut connection = AnyConnection::connect(&test.database()).await.unwrap();
        sqlx::query(query).fetch_all(&mut connection).await.unwrap()
    })
}

pub(crate) fn change(test: &TestHost, statements: &'static str) {
    change_at(test, &test.database(), statements);
}

fn change_at(test: &TestHost, database: &str, statements: &'static str) {
    test.runtime.block_on(async {
        let mut connection = AnyConnection::connect(database).await.unwrap();
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
    });
}

fn detail_is_sealed_in_the_database_and_the_log_still_reads(test: &TestHost) {
    let admin = busy(test);
    let entries = test.audit("acme-corp", &admin);
    assert!(entries.iter().any(|entry| entry["detail"]["package"] == "northwind/probe"));
    let kept = rows(test, "SELECT detail FROM audit");
    assert!(kept.len() > 10);
    for row in &kept {
        let detail: Vec<u8> = row.try_get("detail").unwrap();
        assert!(!String::from_utf8_lossy(&detail).contains("package"), "detail is in the clear");
    }
    // One entry's detail put into another does not open there.
    change(
        test,
        "UPDATE audit SET detail = (SELECT b.detail FROM audit b WHERE b.tenant_id = 'acme-corp' AND b.seq = 1) \
         WHERE tenant_id = 'acme-corp' AND seq = 3",
    );
    assert_eq!(test.audit("acme-corp", &admin)[2]["detail_lost"], "damaged");
}

#[test]
fn a_tenant_whose_key_is_destroyed_has_a_log_that_verifies_and_says_nothing() {
    let test = TestHost::start();
    let admin = busy(&test);
    change(&test, "DELETE FROM data_keys WHERE tenant_id = 'acme-corp'");
    let test = test.restarted("");
    let entries = test.audit("acme-corp", &admin);
    assert!(entries.iter().any(|entry| entry["detail_lost"] == "shredded"), "{entries:?}");
    assert!(entries.iter().all(|entry| entry["detail"].is_null()));
    assert_eq!(test.get("/v1/tenants/acme-corp/audit/verify", &admin).ok()["verified"], true);
}

fn hostile_42_a_beginning_that_retention_did_not_remove_is_missed(test: &TestHost) {
    let admin = busy(test);
    // All of it at last, which leaves a head and a beginning that fit one another.
    for cut in [
        "INSERT INTO chain_starts (tenant_id, seq, hash) SELECT tenant_id, seq, hash FROM audit \
         WHERE tenant_id = 'acme-corp' AND seq = 3; DELETE FROM audit WHERE tenant_id = 'acme-corp' AND seq <= 3",
        "UPDATE chain_starts SET seq = heads.seq, hash = heads.hash FROM chain_heads heads \
         WHERE heads.tenant_id = chain_starts.tenant_id; DELETE FROM audit WHERE tenant_id = 'acme-corp'",
    ] {
        change(test, cut);
        let found = test.get("/v1/tenants/acme-corp/audit/verify", &admin).ok();
        assert_eq!(found["verified"], false, "{found}");
        assert!(found["why"].as_str().unwrap().contains("audit.retain"), "{found}");
        let (lines, key) = export(test, &admin);
        let first = verify(&lines, key, &[]).unwrap_err().to_string();
        assert!(first.contains("audit.retain"), "{first}");
        if let Some(python) = python() {
            assert!(verify_in_python(&python, &lines, key).is_err());
        }
    }
}

#[test]
fn hostile_42_a_cut_tail_with_its_head_set_back_is_caught_by_the_outside_head() {
    cut_tail(TestHost::start(), "");
}

#[test]
fn hostile_42_a_cut_tail_on_postgres_is_caught_by_the_outside_head() {
    let test = TestHost::on_postgres();
    let yaml = format!("database_url: {}\n", test.postgres.as_ref().unwrap().app);
    cut_tail(test, &yaml);
}

fn cut_tail(test: TestHost, yaml: &str) {
    let database = test.database();
    let admin = busy(&test);
    // The host stops, and puts its heads into their file.
    let test = test.restarted(yaml);
    assert_eq!(test.get("/v1/tenants/acme-corp/audit/verify", &admin).ok()["verified"], true);
    let entries = test.audit("acme-corp", &admin).len();
    change_at(
        &test,
        &database,
        "DELETE FROM audit WHERE tenant_id = 'acme-corp' AND seq > 6; \
         UPDATE chain_heads SET seq = 6, hash = (SELECT hash FROM audit WHERE tenant_id = 'acme-corp' AND seq = 6) \
         WHERE tenant_id = 'acme-corp'",
    );
    let found = test.get("/v1/tenants/acme-corp/audit/verify", &admin).ok();
    assert_eq!((&found["verified"], &found["seq"]), (&json!(false), &json!(7)), "{found}");
    assert!(found["why"].as_str().unwrap().contains("tail was cut"), "{found}");
    // Grown again beyond the place, it is another chain.
    for _ in 0..entries {
        test.send("PUT", "/v1/tenants/acme-corp/secrets/token", &admin, &json!({ "value": "again" })).ok();
    }
    let found = test.get("/v1/tenants/acme-corp/audit/verify", &admin).ok();
    assert!(found["why"].as_str().unwrap().contains("rewritten"), "{found}");
}

/// The worked example of docs/audit.md.
fn example() -> (String, SigningKey) {
    let key = SigningKey::from_seed(&[7; 32]);
    let events = [
        ("token:ci#0123456789ab", "secret.put", "secret:salesforce", Outcome::Success, &b"\x01\x02"[..]),
        ("token:ci#0123456789ab", "secret.list", "/v1/tenants/globex/secrets", Outcome::Denied, b""),
    ];
    let mut at = Head::EMPTY;
    let mut text =
        serde_json::to_string(&Begin { clawhold_audit: FORMAT, chain: "acme-corp".to_owned(), after: at.into() })
            .unwrap();
    for (n, (actor, action, resource, outcome, sealed)) in (0..).zip(events) {
        let event: SealedEvent = Event {
            at_us: 1_700_000_000_000_000 + n,
            actor: actor.to_owned(),
            action: action.to_owned(),
            resource: resource.to_owned(),
            outcome,
            run: None,
            trace: "0123456789abcdef0123456789abcdef".parse().unwrap(),
            detail: Sealed::from_ciphertext(sealed.to_vec()),
        };
        let next = at.after("acme-corp", &event);
        let sealed = base64::prelude::BASE64_STANDARD.encode(sealed);
        let line = Line::of((next.seq, at.hash, next.hash), &event, None, &sealed, None);
        text += "\n";
        text += &serde_json::to_string(&line).unwrap();
        at = next;
    }
    let head = key.sign("acme-corp", at, 1_700_000_001_000_000);
    text += "\n";
    text += &serde_json::to_string(&End { head }).unwrap();
    (text + "\n", key)
}

#[test]
fn the_worked_example_of_the_docs_is_what_the_code_makes() {
    let (text, key) = example();
    let docs = std::fs::read_to_string(root().join("docs/audit.md")).unwrap_or_default();
    assert!(docs.contains(&text), "docs/audit.md should have:\n{text}");
    let key = key.public();
    assert!(docs.contains(&key.to_string()), "docs/audit.md should have the key {key}");
    let lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    assert_eq!(verify(&lines, key, &[]).unwrap(), 2);
    if let Some(python) = python() {
        assert_eq!(verify_in_python(&python, &lines, key), Ok(2));
    }
}

#[test]
fn a_tenant_that_reads_its_exports_slowly_has_two_of_them_and_another_has_its_own() {
    use clawhold_tenancy::permit::ReadAudit;
    use clawhold_tenancy::{Context, Role, Scope, TenantId};
    let test = TestHost::start();
    test.tenant("acme-corp");
    test.tenant("globex");
    let permit = |name: &str| {
        let tenant: TenantId = name.parse().unwrap();
        Context::of_host("test", Scope::Tenant(tenant.clone()), Role::Auditor).permit::<ReadAudit>(&tenant).unwrap()
    };
    let (acme, globex) = (permit("acme-corp"), permit("globex"));
    let begin = |permit| test.runtime.block_on(test.host.export_audit(permit));
    let (first, second) = (begin(&acme).unwrap(), begin(&acme).unwrap());
    let Err(refused) = begin(&acme) else { panic!("a third export was begun") };
    assert!(refused.to_string().contains("exports"), "{refused}");
    assert!(begin(&globex).is_ok());
    drop(first);
    assert!(begin(&acme).is_ok());
    drop(second);
}
