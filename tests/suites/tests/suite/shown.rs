//! What holds a secret shows nothing of it, however it is printed.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Debug;
use std::path::Path;

use clawhold_capabilities::Journal;
use clawhold_cli::config::{Config, LimiterConfig};
use clawhold_runtime::{BearerToken, MadeToken};
use clawhold_secret_store::keys::{DataKey, KeyError};
use clawhold_secret_store::local::MasterKey;
use clawhold_secret_store::{FieldError, SecretError, SecretValue, Versioned};
use clawhold_tenancy::secret_kind::SecretKind;
use secrecy::SecretString;

use crate::support::root;

const PLANTED: &str = "pl4nted-s3cret-value";

/// Types that hold a secret in the clear.
const HOLDS: [&str; 9] = [
    "SecretValue",
    "SecretString",
    "SecretUrl",
    "Zeroizing",
    "DataKey",
    "MasterKey",
    "Versioned",
    "BearerToken",
    "MadeToken",
];

/// Public types of the host with such a one in them that can be printed.
fn printable(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            printable(&entry, found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&entry).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for word in ["pub struct ", "pub enum "] {
                for (at, _) in code.match_indices(word) {
                    let rest = &code[at + word.len()..];
                    let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap();
                    let end = [rest.find("\n}"), rest.find(");\n")].into_iter().flatten().min().unwrap_or(rest.len());
                    let holds = HOLDS.iter().any(|held| {
                        rest[name.len()..end].split(|c: char| !c.is_alphanumeric()).any(|part| part == *held)
                    });
                    let before = &code[..at];
                    let attributes = before.rsplit("\n\n").next().unwrap();
                    let debug = attributes.contains("Debug") || code.contains(&format!("Debug for {name}"));
                    if holds && debug {
                        found.insert(name.to_owned());
                    }
                }
            }
        }
    }
}

fn bare(shown: &mut Vec<String>, name: &str, value: &impl Debug) -> String {
    shown.push(format!("{value:?} {value:#?}"));
    name.to_owned()
}

fn with_sources(error: &dyn Error) -> String {
    let cause = error.source().map(with_sources).unwrap_or_default();
    format!("{error} {error:?} {cause}")
}

#[test]
fn nothing_that_holds_a_secret_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let master = MasterKey::open_or_create(folder.path()).unwrap();
    let of_file = std::fs::read(folder.path().join("master.key")).unwrap();
    let value = SecretValue::from(PLANTED.to_owned());
    let mut journal = Journal::default();
    journal.exposed.insert(("crm".parse().unwrap(), Some("token".to_owned())), value.clone());
    let url = format!("postgres://clawhold:{PLANTED}@db/clawhold");
    let redis = format!("redis://:{PLANTED}@cache");
    let yaml = format!("database_url: {url}\nlimiter:\n  redis_url: {redis}\n");
    let config = Config::parse(&yaml).unwrap();
    let cluster = Config::parse(&format!("limiter:\n  redis_cluster: ['{redis}']\n")).unwrap();
    let id = "0123456789ab";
    let token = format!("clw_{id}_{PLANTED}");
    let made = MadeToken { id: "0123456789ab".parse().unwrap(), token: SecretString::from(token.clone()) };

    let mut shown = Vec::new();
    let printed = BTreeSet::from([
        bare(&mut shown, "SecretValue", &value),
        bare(&mut shown, "Versioned", &Versioned { version: 1, value: value.clone() }),
        bare(&mut shown, "Journal", &journal),
        bare(&mut shown, "Config", &config),
        bare(&mut shown, "LimiterConfig", &(&config.limiter, &cluster.limiter) as &(&LimiterConfig, &LimiterConfig)),
        bare(&mut shown, "MadeToken", &made),
        bare(&mut shown, "BearerToken", &BearerToken::parse(&token).unwrap()),
        bare(&mut shown, "DataKey", &DataKey::generate(1).unwrap()),
        bare(&mut shown, "MasterKey", &master),
    ]);
    let mut found = BTreeSet::new();
    for layer in ["tenancy", "limiter", "secret-store", "store", "sandbox", "capabilities", "runtime", "api", "cli"] {
        printable(&root().join("host").join(layer).join("src"), &mut found);
    }
    let missed: Vec<_> = found.difference(&printed).collect();
    assert!(missed.is_empty(), "these hold a secret, can be printed, and are not printed here: {missed:?}");

    // Errors of everything that had one in its hands.
    let broken =
        format!(r#"{{"token_url":"{PLANTED}","client_id":"{PLANTED}","client_secret":"{PLANTED}","x":"{PLANTED}"}}"#);
    for kind in [SecretKind::Oauth2, SecretKind::AwsSigv4 { service: "s3".to_owned() }, SecretKind::HttpSignature] {
        for text in [PLANTED, broken.as_str()] {
            shown.push(kind.check(text.as_bytes()).unwrap_err());
        }
    }
    shown.push(with_sources(&value.field("token").unwrap_err()));
    shown.push(with_sources(&SecretValue::from(broken).field("y").unwrap_err()));
    shown.push(with_sources(&FieldError::NoObject));
    let key = DataKey::generate(1).unwrap();
    let sealed = key.seal(&[b"here"], PLANTED.as_bytes()).unwrap();
    shown.push(with_sources(&key.open(&[b"there"], &sealed).unwrap_err()));
    shown.push(with_sources(&KeyError::OtherKey));
    shown.push(with_sources(&SecretError::Damaged { name: "crm".parse().unwrap(), why: "x" }));
    shown.push(format!("{:#}", Config::parse(&format!("database_url: [{PLANTED}]\n")).unwrap_err()));
    shown.push(format!("{:#}", Config::parse(&format!("limiter:\n  redis_url: {{a: {PLANTED}}}\n")).unwrap_err()));
    for text in &shown {
        assert!(!text.contains(PLANTED), "{text}");
        // Nor as the numbers that bytes are.
        assert!(!text.contains("112, 108, 52"), "{text}");
        for key in of_file.windows(6) {
            let numbers = key.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            assert!(!text.contains(&numbers), "the key is in {text}");
        }
    }
    assert_eq!(format!("{:?}", Some(&value)), "Some(SecretValue(…))");
}
