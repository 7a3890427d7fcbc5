//! Text, as the host reads it out of a package: parsed, made into a policy, planned, kept and read back.

use std::collections::BTreeSet;
use std::str;
use std::sync::LazyLock;

use anyhow::Result;
use clawhold_marketplace::{Choice, Narrowing, PackageError, plan, read};
use clawhold_tenancy::manifest::{Manifest, ManifestError};
use clawhold_tenancy::policy::Policy;
use clawhold_tenancy::{Digest, RunLimits, SecretName, TenantId};
use clawhold_test_support::guest::with_manifest;
use fastrand::Rng;
use serde_json::{Map, Value};
use url::Url;

use crate::{Subject, TARGETS, mutate, said};

/// What a manifest is made of, good and bad.
pub(crate) const WORDS: &[&str] = &[
    "[package]",
    "[[secrets]]",
    "[[http]]",
    "[audit]",
    "[wasi]",
    "[limits]",
    "[[package]]",
    "[secrets]",
    "[a.b.c]",
    "name",
    "version",
    "description",
    "license",
    "purpose",
    "reveal",
    "host",
    "host_setting",
    "methods",
    "paths",
    "credentials",
    "actions",
    "scratch_mb",
    "fuel",
    "timeout_ms",
    "memory_mb",
    "host_calls",
    "log_lines",
    " = ",
    "\n",
    "\"\"\"",
    "'''",
    "\"",
    "'",
    "[",
    "]",
    "{",
    "}",
    "[[",
    "]]",
    ",",
    ".",
    "#",
    "\\",
    "\\u0000",
    "\\U0010FFFF",
    "\\uD800",
    "true",
    "false",
    "nan",
    "inf",
    "-0",
    "0x7f",
    "0o7",
    "0b1",
    "1_000",
    "9223372036854775807",
    "18446744073709551616",
    "1e400",
    "1979-05-27T07:32:00Z",
    "{a={a={a={",
    "[[[[[[[[",
    "a.a.a.a.a.a",
    "northwind/crm",
    "a/b",
    "../x",
    "1.0.0",
    "1.0.0-rc.1",
    "1.0.0+build",
    "99999999999999999999.0.0",
    "GET",
    "POST",
    "api.example.com",
    "*.example.com",
    "*.com",
    "api.example.com:8443",
    "api.example.com:0",
    "api.example.com:65536",
    "[::1]",
    "127.0.0.1",
    "0x7f.1",
    "localhost",
    "xn--nxasmq6b",
    "xn--",
    "a..b",
    "EXAMPLE.com",
    "b\u{fc}ro.example",
    "/v1/*",
    "/",
    "*",
    "/a*b",
    "/../x",
    "/%2e%2e",
    "/a?b",
    "crm.account.read",
    "secret.put",
    "run.x",
    "\u{0}",
    "\u{7f}",
    "\u{202e}",
    "\u{feff}",
    "\u{1f980}",
    "\r",
    "\t",
    "   ",
];

/// All that a manifest can say.
const FULL: &str = r#"[package]
name = "northwind/crm"
version = "1.4.0"
description = "Look up accounts"
license = "Apache-2.0"

[[secrets]]
name = "salesforce"
purpose = "Bearer token for the CRM API"
reveal = true

[[secrets]]
name = "hook"
purpose = "Signs"

[[http]]
host = "*.my.salesforce.com"
methods = ["GET", "POST"]
paths = ["/services/data/*", "/exact"]
credentials = ["salesforce"]

[[http]]
host_setting = "instance_url"
methods = ["GET"]
paths = ["/*"]

[audit]
actions = ["crm.account.read", "crm.case.list"]

[wasi]
scratch_mb = 8

[limits]
memory_mb = 32
timeout_ms = 5000
fuel = 1_000_000_000
host_calls = 64
"#;

pub(crate) fn generate(rng: &mut Rng) -> Vec<u8> {
    static BASES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let kept = crate::files(&TARGETS[0]).unwrap_or_default();
        [FULL.as_bytes().to_vec()].into_iter().chain(kept.into_iter().map(|(_, input)| input)).collect()
    });
    let base = if rng.bool() { FULL.as_bytes() } else { mutate::one(rng, &BASES) };
    match (rng.u8(..8), str::from_utf8(base)) {
        (0..3, Ok(base)) => mutate::text(rng, base, WORDS).into_bytes(),
        (3..5, _) => composed(rng).into_bytes(),
        _ => {
            let mut input = base.to_vec();
            let other = mutate::one(rng, &BASES);
            mutate::bytes(rng, &mut input, WORDS, other);
            input
        }
    }
}

/// Tables and keys that there are, with values of any kind.
fn composed(rng: &mut Rng) -> String {
    const TABLES: [(&str, &[&str]); 6] = [
        ("[package]", &["name", "version", "description", "license"]),
        ("[[secrets]]", &["name", "purpose", "reveal"]),
        ("[[http]]", &["host", "host_setting", "methods", "paths", "credentials"]),
        ("[audit]", &["actions"]),
        ("[wasi]", &["scratch_mb"]),
        ("[limits]", &["fuel", "memory_mb", "timeout_ms", "host_calls", "audit_entries", "output_kb", "log_lines"]),
    ];
    let mut text =
        String::from("[package]\nname = \"a1/b2\"\nversion = \"1.0.0\"\ndescription = \"x\"\nlicense = \"MIT\"\n");
    if mutate::once_in(rng, 8) {
        text.clear();
    }
    for _ in 0..rng.usize(..40) {
        let (table, keys) = mutate::one(rng, &TABLES[usize::from(!text.is_empty())..]);
        text.extend(["\n", *table, "\n"]);
        for key in *keys {
            if !mutate::once_in(rng, 4) {
                text.extend([*key, " = ", &value(rng, key), "\n"]);
            }
        }
    }
    text
}

fn value(rng: &mut Rng, key: &str) -> String {
    if mutate::once_in(rng, 12) {
        return (*mutate::one(rng, WORDS)).to_owned();
    }
    let word = |rng: &mut Rng| format!("{:?}", mutate::one(rng, WORDS));
    let good = match key {
        "methods" => "[\"GET\", \"POST\"]",
        "paths" => "[\"/v1/*\", \"/exact\"]",
        "host" => "\"api.example.com\"",
        "host_setting" => "\"origin\"",
        "purpose" | "description" | "license" => "\"For people\"",
        "version" => "\"1.2.3\"",
        "reveal" => "true",
        "name" => return format!("\"s{}\"", rng.u8(..)),
        "actions" => return format!("[\"crm.a{}\"]", rng.u8(..)),
        "credentials" => "[]",
        _ => return mutate::number(rng).to_string(),
    };
    match rng.u8(..6) {
        0 => word(rng),
        1 => format!("[{}]", (0..rng.usize(..80)).map(|_| word(rng)).collect::<Vec<_>>().join(", ")),
        _ => good.to_owned(),
    }
}

struct Parser {
    /// The smallest component that a manifest can be in.
    component: Vec<u8>,
    tenant: TenantId,
}

pub(crate) fn start() -> Result<Box<dyn Subject>> {
    let text = r#"(component (instance $i) (export "clawhold:skill/handler@0.1.0" (instance $i)))"#;
    Ok(Box::new(Parser { component: wat::parse_str(text)?, tenant: "acme-corp".parse()? }))
}

impl Subject for Parser {
    fn run(&mut self, input: &[u8]) -> Result<String, String> {
        let Ok(text) = str::from_utf8(input) else {
            return match read(&with_text(&self.component, input)) {
                Err(PackageError::NotText) => Ok("refused: not text".to_owned()),
                other => Err(format!("what is no text is read as {other:?}")),
            };
        };
        let packed = read(&with_manifest(&self.component, text));
        match Manifest::parse(text) {
            Err(error) => {
                said(&error.to_string())?;
                match packed {
                    Err(PackageError::Manifest(same)) if same == error => {}
                    other => return Err(format!("{error}, and in a package it is {other:?}")),
                }
                Ok(match error {
                    ManifestError::Syntax(_) => "refused: syntax".to_owned(),
                    ManifestError::Value { place, .. } => {
                        format!("refused: {}", place.chars().filter(|c| !c.is_ascii_digit()).collect::<String>())
                    }
                })
            }
            Ok(manifest) => {
                match packed {
                    Ok(package) if package.manifest == manifest && package.manifest_text == text => {}
                    other => return Err(format!("it is good, and in a package it is {other:?}")),
                }
                self.derive(&manifest)?;
                Ok("accepted".to_owned())
            }
        }
    }
}

/// The same for bytes that are no text.
fn with_text(component: &[u8], manifest: &[u8]) -> Vec<u8> {
    use wasm_encoder::{CustomSection, Section as _};
    let mut wasm = component.to_vec();
    CustomSection { name: "clawhold:manifest".into(), data: manifest.into() }.append_to(&mut wasm);
    wasm
}

impl Parser {
    /// What follows from a manifest that was accepted.
    fn derive(&self, manifest: &Manifest) -> Result<(), String> {
        let kept = serde_json::to_string(manifest).map_err(|e| format!("it cannot be kept: {e}"))?;
        if serde_json::from_str::<Manifest>(&kept).map_err(|e| format!("it cannot be read back: {e}"))? != *manifest {
            return Err("it is not read back as it was kept".to_owned());
        }
        let settings: Map<String, Value> = manifest
            .http
            .iter()
            .filter_map(|ask| ask.host_setting.clone())
            .map(|setting| (setting, "https://acme.example.com:8443".into()))
            .collect();
        let (settings, none) = (Value::Object(settings), Value::Object(Map::new()));
        let ceiling = RunLimits::default_ceiling();
        let all: BTreeSet<SecretName> = manifest.secrets.iter().map(|ask| ask.name.clone()).collect();
        let made = |settings: &Value, reveal: &BTreeSet<SecretName>| {
            Policy::from_manifest(manifest, settings, reveal, &ceiling)
        };
        let policy = made(&settings, &all).map_err(|e| format!("it makes no policy: {e}"))?;
        let careful = made(&settings, &BTreeSet::new()).map_err(|e| format!("it makes no policy: {e}"))?;
        if careful.secrets.values().any(|reveal| *reveal) {
            return Err("a secret is revealed that nobody named".to_owned());
        }
        if manifest.secrets.iter().any(|ask| policy.secrets.get(&ask.name) != Some(&ask.reveal)) {
            return Err("what it asks to read is not what it may read".to_owned());
        }
        let unset = manifest.http.iter().any(|ask| ask.host_setting.is_some());
        match made(&none, &all) {
            Err(problem) if unset => said(&problem.to_string())?,
            Ok(_) if !unset => {}
            other => return Err(format!("without settings it makes {other:?}")),
        }
        if policy.limits != policy.limits.within(&ceiling) {
            return Err(format!("its limits are above the ceiling: {:?}", policy.limits));
        }
        let kept = serde_json::to_string(&policy).map_err(|e| format!("its policy cannot be kept: {e}"))?;
        let back: Policy = serde_json::from_str(&kept).map_err(|e| format!("its policy cannot be read back: {e}"))?;
        if back != policy || back.digest() != policy.digest() {
            return Err("its policy is not read back as it was kept".to_owned());
        }
        reaches(&policy)?;
        let choice = Choice { settings: &settings, reveal: &all, narrowing: &Narrowing::default(), narrowed: None };
        let plan = plan(&self.tenant, manifest, Digest::of(b"x"), choice, &ceiling, Some(&careful))
            .map_err(|e| format!("it makes no plan: {e}"))?;
        let reads = plan.adds.iter().filter(|right| right.contains("read the value")).count();
        if reads != manifest.secrets.iter().filter(|ask| ask.reveal).count() {
            return Err(format!("the plan does not say what may be read: {:?}", plan.adds));
        }
        Ok(())
    }
}

/// What a rule says is allowed, and what none says is not.
fn reaches(policy: &Policy) -> Result<(), String> {
    for rule in &policy.http {
        let host = rule.host.to_string().replacen("*.", "sub.", 1);
        for path in &rule.paths {
            let text = format!("{}://{host}{}", rule.scheme, path.replace('*', "x"));
            let url = Url::parse(&text).map_err(|e| format!("no URL fits a rule: {} {path}: {e}", rule.host))?;
            let method = *rule.methods.first().ok_or("a rule without a method")?;
            let credential = rule.credentials.first();
            if let Err(denial) = policy.allows(method, &url, credential) {
                return Err(format!("a rule does not allow what it names: {text}: {denial:?}"));
            }
        }
    }
    let nowhere = Url::parse("https://unlisted.invalid/").map_err(|e| e.to_string())?;
    let listed = policy.http.iter().any(|rule| rule.host.to_string().contains("invalid"));
    for method in policy.http.iter().flat_map(|rule| &rule.methods) {
        if !listed && policy.allows(*method, &nowhere, None).is_ok() {
            return Err("a host is allowed that no rule names".to_owned());
        }
    }
    Ok(())
}
