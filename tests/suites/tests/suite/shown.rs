//! What holds a secret shows nothing of it, however it is printed, and neither does an error of whatever had one in its hands.

use std::any::type_name;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::{Debug, Display};
use std::path::Path;
use std::sync::Arc;

use clawhold_capabilities::{Journal, Leaks};
use clawhold_cli::config::Config;
use clawhold_cli::serve;
use clawhold_runtime::oci::RegistryProblem;
use clawhold_runtime::{BearerToken, Details, MadeToken, Problem, StoreKeys, StoreRows};
use clawhold_secret_store::keys::{DataKey, DataKeys, KeyRing as _};
use clawhold_secret_store::local::{LocalSecrets, MasterKey};
use clawhold_secret_store::{Change, SecretError, SecretStore as _, SecretValue, Versioned};
use clawhold_store::Store;
use clawhold_tenancy::audit::{Chain, Event, Outcome, SigningKey};
use clawhold_tenancy::secret_kind::SecretKind;
use clawhold_tenancy::{Context, Role, Scope, SecretName, TenantId};
use secrecy::SecretString;
use serde_json::json;

use crate::audit::change;
use crate::support::{TestHost, on_each_database, root};

on_each_database![nothing_that_holds_a_secret_shows_it];

const PLANTED: &str = "pl4nted-s3cret-value";

/// Types that hold a secret in the clear.
const HOLDS: [&str; 10] = [
    "SecretValue",
    "SecretString",
    "SecretUrl",
    "Zeroizing",
    "DataKey",
    "MasterKey",
    "SigningKey",
    "Versioned",
    "BearerToken",
    "MadeToken",
];

/// What a type has in it that can be shown and could be made of a secret: texts, and errors of others.
const SAYS: [&str; 6] = ["String", "Box<", "Arc<str>", "#[from]", "#[source]", "source:"];

/// Types that can be displayed and say something, and never have a secret in their hands.
const OF_OTHERS: [(&str, &str); 10] = [
    ("Actor", "says the name of a token"),
    ("Break", "says where an audit chain is broken"),
    ("HostPattern", "is the name of a host"),
    ("InvalidId", "says what is wrong with a name"),
    ("LoadError", "is of a component"),
    ("ManifestError", "is of a manifest"),
    ("Refused", "is of a component"),
    ("SettingProblem", "is of an origin in the settings"),
    ("Unreachable", "says what Redis says, whose address is not said by the host that cannot use it either"),
    ("Unverified", "is of an export"),
];

/// A type as its source has it.
struct Type<'c> {
    name: &'c str,
    is_public: bool,
    attributes: String,
    body: &'c str,
}

fn types(code: &str) -> Vec<Type<'_>> {
    let mut types = Vec::new();
    for word in ["struct ", "enum "] {
        for (at, _) in code.match_indices(word) {
            let (before, rest) = (&code[..at], &code[at + word.len()..]);
            // What stands before it in its line says who sees it.
            let line = before.rsplit('\n').next().unwrap();
            if !(line.is_empty() || line.starts_with("pub")) {
                continue;
            }
            let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap();
            let ends = ["\n}", ");\n", ";\n"].map(|end| rest.find(end));
            let end = ends.into_iter().flatten().min().unwrap_or(rest.len());
            let attributes = before.rsplit("\n\n").next().unwrap().lines().filter(|line| line.starts_with("#["));
            let (body, attributes) = (&rest[name.len()..end], attributes.collect());
            types.push(Type { name, is_public: line == "pub ", attributes, body });
        }
    }
    types
}

impl Type<'_> {
    fn mentions(&self, names: &BTreeSet<&str>) -> bool {
        self.body.split(|c: char| !c.is_alphanumeric()).any(|word| names.contains(word))
    }

    fn is(&self, shown: &str, derived: &str, code: &str) -> bool {
        let written = format!("{shown} for {}", self.name);
        let is_whole = |(at, _): (usize, &str)| !code[at + written.len()..].starts_with(char::is_alphanumeric);
        self.attributes.contains(derived) || code.match_indices(&written).any(is_whole)
    }
}

/// Public types of the host that can be printed: by `Debug`, with a secret in them or in what they are made of; and by `Display`, with a
/// secret or anything else in them that says something.
#[derive(Default)]
struct Printable {
    by_debug: BTreeSet<String>,
    by_display: BTreeSet<String>,
}

impl Printable {
    fn look(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                self.look(&entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&entry).unwrap();
                self.read(text.split("\n#[cfg(test)]\nmod ").next().unwrap());
            }
        }
    }

    fn read(&mut self, code: &str) {
        let types = types(code);
        // Also by way of what only its own file sees.
        let mut holds = BTreeSet::from(HOLDS);
        while let Some(one) = types.iter().find(|one| !holds.contains(one.name) && one.mentions(&holds)) {
            holds.insert(one.name);
        }
        for one in types.iter().filter(|one| one.is_public) {
            let has_one = holds.contains(one.name);
            if has_one && one.is("Debug", "Debug", code) {
                self.by_debug.insert(one.name.to_owned());
            }
            let says = SAYS.iter().any(|word| one.body.contains(word));
            if (has_one || says) && one.is("Display", "thiserror::Error", code) {
                self.by_display.insert(one.name.to_owned());
            }
        }
    }
}

/// All that was printed, and the types by which.
#[derive(Default)]
struct Shown {
    texts: Vec<String>,
    by_debug: BTreeSet<String>,
    by_display: BTreeSet<String>,
}

fn name_of<T>() -> String {
    type_name::<T>().split('<').next().unwrap().rsplit("::").next().unwrap().to_owned()
}

impl Shown {
    fn bare<T: Debug>(&mut self, value: &T) {
        self.by_debug.insert(name_of::<T>());
        self.texts.push(format!("{value:?} {value:#?}"));
    }

    fn displayed<T: Display + Debug>(&mut self, value: &T) {
        self.by_display.insert(name_of::<T>());
        self.texts.push(format!("{value} {value:#} {value:?} {value:#?}"));
    }

    /// With all that it comes from.
    fn error<T: Error>(&mut self, error: &T) {
        self.displayed(error);
        let mut at = error.source();
        while let Some(source) = at {
            self.texts.push(format!("{source} {source:#} {source:?} {source:#?}"));
            at = source.source();
        }
    }

    /// One that holds what it comes from.
    fn failure(&mut self, error: &(impl Display + Debug)) {
        self.texts.push(format!("{error} {error:#} {error:?} {error:#?}"));
    }

    #[track_caller]
    fn has_nothing_of(&self, keys: &[u8]) {
        // Also as the numbers that bytes are.
        let numbers = |key: &[u8]| key.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let mut sought = vec![PLANTED.to_owned(), numbers(&PLANTED.as_bytes()[..6])];
        sought.extend(keys.windows(6).map(numbers));
        let has_one = |text: &&String| sought.iter().any(|part| text.contains(part));
        let found: Vec<_> = self.texts.iter().filter(has_one).collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

fn nothing_that_holds_a_secret_shows_it(test: &TestHost) {
    let folder = tempfile::tempdir().unwrap();
    let master = MasterKey::open_or_create(folder.path()).unwrap();
    let of_file = std::fs::read(folder.path().join("master.key")).unwrap();
    let mut shown = Shown::default();
    holders(&mut shown, &master);
    errors(&mut shown, folder.path(), &master);
    errors_of_a_store(&mut shown, test);
    shown.has_nothing_of(&of_file);

    let mut found = Printable::default();
    for layer in ["tenancy", "limiter", "secret-store", "store", "sandbox", "capabilities", "runtime", "api", "cli"] {
        found.look(&root().join("host").join(layer).join("src"));
    }
    compare("Debug", &found.by_debug, &shown.by_debug);
    let of_others = OF_OTHERS.map(|(name, _)| name.to_owned());
    let both: Vec<_> = of_others.iter().filter(|name| shown.by_display.contains(*name)).collect();
    assert!(both.is_empty(), "these are excused and printed: {both:?}");
    compare("Display", &found.by_display, &shown.by_display.into_iter().chain(of_others).collect());
}

/// What was found is what was printed: neither is anything left out here, nor is what looks for it blind.
#[track_caller]
fn compare(by: &str, found: &BTreeSet<String>, shown: &BTreeSet<String>) {
    let missed: Vec<_> = found.difference(shown).collect();
    assert!(missed.is_empty(), "these can hold a secret, have {by}, and are not printed here: {missed:?}");
    let unseen: Vec<_> = shown.difference(found).collect();
    assert!(unseen.is_empty(), "these are printed or excused here, and are not found by their {by}: {unseen:?}");
}

/// Whatever has one in it.
fn holders(shown: &mut Shown, master: &MasterKey) {
    let value = SecretValue::from(PLANTED.to_owned());
    let name: SecretName = "crm".parse().unwrap();
    let mut journal = Journal::default();
    journal.exposed.insert((name.clone(), Some("token".to_owned())), value.clone());
    let redis = format!("redis://:{PLANTED}@cache");
    let yaml = format!("database_url: postgres://clawhold:{PLANTED}@db/clawhold\nlimiter:\n  redis_url: {redis}\n");
    let config = Config::parse(&yaml).unwrap();
    let cluster = Config::parse(&format!("limiter:\n  redis_cluster: ['{redis}']\n")).unwrap();
    let token = format!("clw_0123456789ab_{PLANTED}");
    shown.bare(&value);
    shown.bare(&Versioned { version: 1, value: value.clone() });
    shown.bare(&journal);
    shown.bare(&config);
    shown.bare(config.database_url.as_ref().unwrap());
    shown.bare(&config.limiter);
    shown.bare(&cluster.limiter);
    shown.bare(&MadeToken { id: "0123456789ab".parse().unwrap(), token: SecretString::from(token.clone()) });
    shown.bare(&BearerToken::parse(&token).unwrap());
    shown.bare(&DataKey::generate(1).unwrap());
    shown.bare(master);
    shown.bare(&SigningKey::from_seed(PLANTED.repeat(2).as_bytes().first_chunk().unwrap()));
    let leaks = Leaks::of([(&name, &value)]).unwrap();
    shown.bare(&leaks);
    let mut found = Vec::new();
    let text = format!("it is {PLANTED}, or {}", hex::encode(PLANTED));
    shown.texts.push(leaks.redact(&text, "output", &mut found).unwrap());
    assert_eq!(found.len(), 2);
    for leak in &found {
        shown.displayed(leak);
    }
}

/// Errors of everything that had one in its hands.
fn errors(shown: &mut Shown, folder: &Path, master: &MasterKey) {
    let broken =
        format!(r#"{{"token_url":"{PLANTED}","client_id":"{PLANTED}","client_secret":"{PLANTED}","x":"{PLANTED}"}}"#);
    for kind in [SecretKind::Oauth2, SecretKind::AwsSigv4 { service: "s3".to_owned() }, SecretKind::HttpSignature] {
        for text in [PLANTED, broken.as_str()] {
            shown.texts.push(kind.check(text.as_bytes()).unwrap_err());
        }
    }
    shown.error(&SecretValue::from(PLANTED.to_owned()).field("token").unwrap_err());
    shown.error(&SecretValue::from(broken).field("y").unwrap_err());
    let key = DataKey::generate(1).unwrap();
    let sealed = key.seal(&[b"here"], PLANTED.as_bytes()).unwrap();
    shown.error(&key.open(&[b"there"], &sealed).unwrap_err());
    shown.error(&key.open(&[b"here"], PLANTED.as_bytes()).unwrap_err());
    // Somebody has written another secret into the key's file.
    let other = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("master.key"), other.path().join("master.key")).unwrap();
    let ring = MasterKey::open_or_create(other.path()).unwrap();
    std::fs::write(other.path().join("master.key"), PLANTED).unwrap();
    shown.error(&MasterKey::open_or_create(other.path()).unwrap_err());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        shown.error(&ring.prepare().await.unwrap_err());
        shown.error(&ring.unwrap("acme-corp", 1, PLANTED.as_bytes()).await.unwrap_err());
        let wrapped = master.wrap("acme-corp", &key).await.unwrap();
        shown.error(&ring.unwrap("globex", 1, &wrapped).await.unwrap_err());
    });

    for yaml in [
        format!("database_url: [{PLANTED}]\n"),
        format!("database_url: \"{PLANTED}\n"),
        format!("limiter:\n  redis_url: {{a: {PLANTED}}}\n"),
        format!("limiter:\n  redis_cluster: {PLANTED}\n"),
    ] {
        shown.failure(&Config::parse(&yaml).unwrap_err());
    }
    let proxy = Config::parse(&format!("egress:\n  proxy: http://user:{PLANTED}@proxy:3128\n")).unwrap();
    shown.failure(&proxy.egress.settings().unwrap_err());
}

/// Errors of a store that has one: what is kept was changed, belongs to another key, or cannot be reached.
fn errors_of_a_store(shown: &mut Shown, test: &TestHost) {
    test.tenant("acme-corp");
    let tenant: TenantId = "acme-corp".parse().unwrap();
    let name: SecretName = "crm".parse().unwrap();
    let cx = Context::of_host("test", Scope::Host, Role::Operator);
    let event = || Event::by(&cx, "secret.put", "secret:crm".to_owned(), Outcome::Success);
    let value = || SecretValue::from(PLANTED.to_owned());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (store, secrets, details) = runtime.block_on(async {
        let store = Store::open(&test.store()).await.unwrap();
        let opened = |folder: &Path| {
            let master = Arc::new(MasterKey::open_or_create(folder).unwrap());
            let keys = DataKeys::new(Arc::clone(&master) as _, Arc::new(StoreKeys(store.clone())));
            let details = Details::new(Arc::clone(&keys));
            let rows = StoreRows::new(store.clone(), Arc::clone(&details));
            (LocalSecrets::new(keys, master, rows), details)
        };
        let (secrets, details) = opened(test.folder());
        secrets.put(&tenant, &name, value(), Change::told(event())).await.unwrap();
        let full = Change { most: 1, ..Change::told(event()) };
        shown.error(&secrets.put(&tenant, &"other".parse().unwrap(), value(), full).await.unwrap_err());
        let elsewhere = tempfile::tempdir().unwrap();
        let other = opened(elsewhere.path()).0.get(&tenant, &name).await.unwrap_err();
        assert!(matches!(other, SecretError::OtherKey { .. } | SecretError::Damaged { .. }), "{other}");
        shown.error(&other);
        shown.error(&RegistryProblem::from(Problem::from(other)));
        let other = opened(elsewhere.path()).0.get(&tenant, &name).await.unwrap_err();
        shown.error(&Problem::from(other));
        (store, secrets, details)
    });
    change(test, "UPDATE secrets SET version = version + 1");
    let damaged = runtime.block_on(secrets.get(&tenant, &name)).unwrap_err();
    assert!(matches!(damaged, SecretError::Damaged { .. }), "{damaged}");
    shown.error(&damaged);
    shown.error(&Problem::from(damaged));
    change(test, "ALTER TABLE secrets RENAME TO gone");
    runtime.block_on(async {
        for failed in [
            secrets.put(&tenant, &name, value(), Change::told(event())).await.unwrap_err(),
            secrets.get(&tenant, &name).await.unwrap_err(),
        ] {
            assert!(matches!(failed, SecretError::Failed(_)), "{failed}");
            shown.error(&failed);
            shown.error(&Problem::from(failed));
        }
        let failed = store.tenant(&tenant).await.unwrap().secret(&name).await.unwrap_err();
        let source = failed.source().and_then(<dyn Error>::downcast_ref::<clawhold_store::Failure>).unwrap();
        shown.error(source);
        shown.error(&failed);
        shown.error(&Problem::from(failed));
    });
    change(test, "ALTER TABLE gone RENAME TO secrets");
    runtime.block_on(async {
        store.close().await;
        let away = secrets.put(&tenant, &name, value(), Change::told(event())).await.unwrap_err();
        assert!(matches!(away, SecretError::Unavailable(_)), "{away}");
        shown.error(&away);
        let told = event().with(&json!({ "value": PLANTED }));
        let unsealed = details.seal(Chain::Tenant(&"globex".parse().unwrap()), told).await.unwrap_err();
        shown.error(&unsealed);
        shown.error(&Problem::from(unsealed));
    });
}

#[test]
fn an_address_with_a_password_is_said_without_it() {
    let mut shown = Shown::default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for address in [
        format!("postgres://clawhold:{PLANTED}@127.0.0.1:1/clawhold"),
        format!("postgres://127.0.0.1:1/clawhold?user=clawhold&password={PLANTED}"),
        format!("postgres://clawhold:{PLANTED}@[nowhere/clawhold"),
        format!("postgresql://clawhold:{PLANTED}@127.0.0.1:port/clawhold"),
        // Mistakes that are made: letters that a password has to be written otherwise for, and other words before it.
        format!("postgres://clawhold:{PLANTED}?x@127.0.0.1:1/clawhold"),
        format!("postgres://clawhold:{PLANTED}/x@127.0.0.1:1/clawhold"),
        format!("postgres://clawhold:{PLANTED}#x@127.0.0.1:1/clawhold"),
        format!("Postgres://clawhold:{PLANTED}@127.0.0.1:1/clawhold"),
        format!("postgress://clawhold:{PLANTED}@127.0.0.1:1/clawhold"),
        format!("mysql://clawhold:{PLANTED}@127.0.0.1:1/clawhold"),
        format!("clawhold:{PLANTED}@127.0.0.1:1/clawhold"),
    ] {
        let opened = runtime.block_on(Store::open(&address)).map(drop);
        shown.error(&opened.expect_err(&address));
        let folder = tempfile::tempdir().unwrap();
        let config = Config::parse(&format!("database_url: \"{address}\"\n")).unwrap();
        let refused = runtime.block_on(serve::host(folder.path(), &config, None)).map(drop);
        shown.failure(&refused.expect_err(&address));
    }
    for address in [
        format!("redis://:{PLANTED}@127.0.0.1:port/"),
        format!("redis://:{PLANTED}@[nowhere/"),
        format!("rediss:{PLANTED}"),
        format!("http://:{PLANTED}@127.0.0.1:1/"),
    ] {
        for key in [format!("redis_url: \"{address}\""), format!("redis_cluster: [\"{address}\"]")] {
            let folder = tempfile::tempdir().unwrap();
            let config = Config::parse(&format!("limiter:\n  {key}\n")).unwrap();
            let refused = runtime.block_on(serve::host(folder.path(), &config, None)).map(drop);
            shown.failure(&refused.expect_err(&address));
        }
    }
    shown.has_nothing_of(&[]);
}
