//! Packages that are refused, each named by what is wrong with it: by the API, and by the registry where they get that far. Nothing of
//! them is left, neither a row nor a file.

mod bytes;

use clawhold_marketplace::key::SigningKey;
use clawhold_marketplace::signing::{PackageStatement, sign};
use clawhold_tenancy::Digest;
use clawhold_tenancy::audit::now_us;
use clawhold_test_support::guest::with_manifest;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _};

use super::package;
use crate::oci::{manifest_of, push_blob};
use crate::support::{Answer, TestHost};

const REQUIRED: &str = "market:\n  signatures: required\n";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What is published, and what becomes of it.
struct Broken {
    wrong: &'static str,
    wasm: Vec<u8>,
    /// The seed of the key that signs it, or what stands where the signature should.
    signature: Signature,
    /// What the API answers: the status, and what it says.
    answer: (u16, &'static str),
    /// What the registry answers.
    push: (u16, &'static str, &'static str),
}

enum Signature {
    None,
    By(u8),
    /// By the right key, of another package, version or file.
    Of(fn(&mut PackageStatement)),
}

/// Signed by the right key.
fn broken(wrong: &'static str, wasm: Vec<u8>, says: &'static str) -> Broken {
    let signature = Signature::By(1);
    Broken { wrong, wasm, signature, answer: (422, says), push: (400, "MANIFEST_INVALID", says) }
}

fn signed(wrong: &'static str, signature: Signature, says: &'static str) -> Broken {
    Broken { signature, ..broken(wrong, package("guests/good", "1.0.0", ""), says) }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn signature(broken: &Broken) -> Option<String> {
    let mut statement = PackageStatement {
        package: "guests/good".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        digest: Digest::of(&broken.wasm),
        signed_us: now_us(),
    };
    match broken.signature {
        Signature::None => None,
        Signature::By(seed) => Some(sign(&key(seed), &statement)),
        Signature::Of(change) => {
            change(&mut statement);
            Some(sign(&key(1), &statement))
        }
    }
}

/// A component with this name and version in its manifest, whatever they are.
fn called(name: &str, version: &str) -> Vec<u8> {
    let about =
        format!("[package]\nname = {name:?}\nversion = {version:?}\ndescription = \"Says yes\"\nlicense = \"MIT\"\n");
    with_manifest(&bytes::good(), &about)
}

/// A package whose `describe` says this of its skills: name, description, schemas of input and output.
fn describes(skills: &[[&str; 4]]) -> Vec<u8> {
    with_manifest(&bytes::describing(skills), &bytes::about())
}

/// A package of a component that has these imports and no code.
fn imports(import: &str) -> Vec<u8> {
    let text = format!(
        "(component (import {import:?} (instance)) (instance $i) (export \"clawhold:skill/handler@0.1.0\" (instance $i)))"
    );
    with_manifest(&wat::parse_str(text).unwrap(), &bytes::about())
}

fn table() -> Vec<Broken> {
    let good = package("guests/good", "1.0.0", "");
    let twice = with_manifest(&good, &bytes::about());
    let many: Vec<String> = (0..10_000).map(|n| format!("guest.s{n}")).collect();
    let many: Vec<[&str; 4]> = many.iter().map(|name| [name, "Does it", "{}", "{}"]).collect();
    let far = r#"{"$ref": "https://evil.example.com/schema.json"}"#;
    vec![
        signed("unsigned", Signature::None, "is not signed"),
        signed("a key that nobody has registered", Signature::By(9), "has no key"),
        signed("a key that is revoked", Signature::By(3), "is revoked"),
        signed("a key that is not valid yet", Signature::By(2), "is valid from 2999"),
        signed(
            "the signature of another package",
            Signature::Of(|of| of.package = "guests/other".parse().unwrap()),
            "is for guests/other",
        ),
        signed(
            "the signature of another version",
            Signature::Of(|of| of.version = "1.0.1".parse().unwrap()),
            "is for guests/good 1.0.1",
        ),
        signed("the signature of another file", Signature::Of(|of| of.digest = Digest::of(b"x")), "is for a file with"),
        broken("cut off", good[..good.len() - 9].to_vec(), "damaged"),
        broken("cut off in the middle", good[..good.len() / 2].to_vec(), "damaged"),
        broken("bytes behind the component", [&good[..], b"more"].concat(), "damaged"),
        broken("a component behind the component", [&good[..], &good[..]].concat(), "damaged"),
        broken("two manifests", twice, "2 sections named"),
        broken("no manifest", bytes::good(), "carries no manifest"),
        broken("a manifest that is no text", with_manifest_bytes(&[0xff, 0xfe]), "not UTF-8"),
        broken("a manifest of something else", with_manifest(&bytes::good(), "[package]\nname = 1\n"), "name"),
        broken("uses http and does not say so", imports("clawhold:skill/http@0.1.0"), "uses http"),
        broken("uses secrets and does not say so", imports("clawhold:skill/secrets@0.1.0"), "uses secrets"),
        broken("runs on WASI and does not say so", imports("wasi:io/poll@0.2.6"), "[wasi]"),
        broken("imports what there is not", imports("evil:host/files@1.0.0"), "does not offer"),
        broken("describes no skill", describes(&[]), "describes no skill"),
        broken("describes a skill with a bad name", describes(&[["a b", "x", "{}", "{}"]]), "skill name"),
        broken(
            "describes a skill twice",
            describes(&[["guest.a", "x", "{}", "{}"], ["guest.a", "y", "{}", "{}"]]),
            "twice",
        ),
        broken("describes a skill with nothing", describes(&[["guest.a", "", "{}", "{}"]]), "description of guest.a"),
        broken("a schema that is no JSON", describes(&[["guest.a", "x", "{", "{}"]]), "input schema of guest.a"),
        broken(
            "a schema that is none",
            describes(&[["guest.a", "x", "{}", r#"{"type": 7}"#]]),
            "output schema of guest.a",
        ),
        broken("a schema that is elsewhere", describes(&[["guest.a", "x", far, "{}"]]), "input schema of guest.a"),
        broken("10,000 skills", describes(&many), "skills"),
        broken("a packed file", bytes::bomb(), "not WebAssembly"),
        broken("the version 1.0", called("guests/good", "1.0"), "line 3"),
        broken("the version v1.0.0", called("guests/good", "v1.0.0"), "line 3"),
        broken("a version with build metadata", called("guests/good", "1.0.0+x"), "build metadata"),
        broken("a name with a letter of another script", called("guеsts/good", "1.0.0"), "not a package name"),
        broken("a name that leads elsewhere", called("guests/../good", "1.0.0"), "not a package name"),
        Broken {
            answer: (409, "exists already as"),
            push: (409, "DENIED", "exists already as"),
            ..broken("a version that is there", package("guests/there", "1.0.0", "[limits]\nmemory_mb = 8\n"), "")
        },
    ]
}

fn with_manifest_bytes(data: &[u8]) -> Vec<u8> {
    let text = with_manifest(&[], "..");
    let head = text.strip_suffix(b"..").unwrap();
    assert_eq!(data.len(), 2, "the section's length stays what it is");
    [&bytes::good()[..], head, data].concat()
}

/// All that the host keeps of packages: rows and files.
fn kept(test: &TestHost) -> Vec<String> {
    const TABLES: [&str; 7] = [
        "SELECT name || ' ' || CAST(published AS TEXT) || ' ' || newest || about || words FROM packages ORDER BY name",
        "SELECT package || '@' || version || ' ' || digest || ' ' || status || mac FROM versions ORDER BY package, version",
        "SELECT digest FROM components ORDER BY digest",
        "SELECT package || '@' || version || ' ' || kind || ' ' || digest FROM oci_documents ORDER BY package, version, kind",
        "SELECT CAST(counter AS TEXT) FROM market_index",
        "SELECT package || ' ' || grantee FROM grants ORDER BY package, grantee",
        "SELECT name || ' ' || keys FROM publishers ORDER BY name",
    ];
    let address = test.database();
    let mut all = test.runtime.block_on(async {
        let mut connection = AnyConnection::connect(&address).await.unwrap();
        let mut all = Vec::new();
        for table in TABLES {
            all.extend(sqlx::query_scalar::<_, String>(table).fetch_all(&mut connection).await.unwrap());
        }
        all
    });
    all.extend(files(test));
    all
}

/// The artifacts.
fn files(test: &TestHost) -> Vec<String> {
    let folder = std::fs::read_dir(test.folder().join("artifacts"));
    let names = folder.into_iter().flatten().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// A publisher with a key that is good (1), one that is for later (2), and one that is revoked (3).
fn publisher(test: &TestHost) -> String {
    let add = |body: &Value| test.send("POST", "/v1/market/publishers/guests/keys", &test.operator, body).ok();
    let ask = json!({ "name": "guests", "key": key(1).public().to_string() });
    test.send("POST", "/v1/market/publishers", &test.operator, &ask).ok();
    add(&json!({ "key": key(2).public().to_string(), "not_before": "2999-01-01T00:00:00Z" }));
    add(&json!({ "key": key(3).public().to_string() }));
    let path = format!("/v1/market/publishers/guests/keys/{}/revoke", key(3).public().id());
    test.send("POST", &path, &test.operator, &json!({})).ok();
    test.publisher("guests")
}

fn publish(test: &TestHost, author: &str, wasm: &[u8], signature: Option<&str>, query: &str) -> Answer {
    let fields: Vec<_> = signature.into_iter().map(|text| ("clawhold-signature", text)).collect();
    test.ask_with(&fields, "POST", &format!("/v1/market/packages{query}"), author, Some(wasm))
}

fn push(test: &TestHost, author: &str, to: &str, wasm: &[u8], manifest: &Value) -> Answer {
    let (repository, tag) = to.rsplit_once(':').unwrap();
    for blob in [b"{}".as_slice(), wasm] {
        assert_eq!(push_blob(test, author, repository, blob).status, 201);
    }
    let path = format!("/v2/{repository}/manifests/{tag}");
    test.ask_with(&[("content-type", MANIFEST)], "PUT", &path, author, Some(manifest.to_string().as_bytes()))
}

/// What an answer says is wrong, and that it says what to do.
fn says(answer: &Answer) -> String {
    let detail = answer.body["detail"].as_str().or(answer.body["errors"][0]["message"].as_str()).unwrap_or_default();
    let faults = answer.body["faults"].as_array().map_or(&[][..], Vec::as_slice);
    let remedy = |fault: &Value| fault["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty());
    let helps = faults.iter().any(remedy) || detail.contains("; ") || detail.contains("\n   ");
    assert!(helps, "it does not say what to do: {}", answer.body);
    faults.iter().fold(detail.to_owned(), |all, fault| all + fault["what"].as_str().unwrap())
}

fn each_is_refused_and_leaves_nothing(test: &TestHost) {
    let author = publisher(test);
    let there = Broken { ..broken("", package("guests/there", "1.0.0", ""), "") };
    let statement = PackageStatement {
        package: "guests/there".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        digest: Digest::of(&there.wasm),
        signed_us: now_us(),
    };
    publish(test, &author, &there.wasm, Some(&sign(&key(1), &statement)), "").ok();
    let before = kept(test);
    for broken in table() {
        let (wrong, signature) = (broken.wrong, signature(&broken));
        let (status, expected) = broken.answer;
        let refused = publish(test, &author, &broken.wasm, signature.as_deref(), "");
        assert_eq!(refused.status, status, "{wrong}: {}", refused.body);
        let said = says(&refused);
        assert!(said.contains(expected), "{wrong}: {said:?} does not say {expected:?}");
        assert_eq!(kept(test), before, "{wrong}, published");

        let mut manifest = manifest_of(&broken.wasm);
        if let Some(signature) = &signature {
            manifest["annotations"] = json!({ "vnd.clawhold.package.signature": signature });
        }
        let (status, code, expected) = broken.push;
        let repository = if status == 409 { "guests/there" } else { "guests/good" };
        let refused = push(test, &author, &format!("{repository}:1.0.0"), &broken.wasm, &manifest);
        assert_eq!(
            (refused.status, &refused.body["errors"][0]["code"]),
            (status, &json!(code)),
            "{wrong}: {}",
            refused.body
        );
        let said = says(&refused);
        assert!(said.contains(expected), "{wrong}: {said:?} does not say {expected:?}");
        assert_eq!(kept(test), before, "{wrong}, pushed");
    }
    // Said without publishing it is the same, and leaves as little; so does what is good.
    for broken in table().iter().filter(|broken| broken.answer.0 == 422) {
        let checked = publish(test, &author, &broken.wasm, signature(broken).as_deref(), "?check=true");
        assert_eq!(checked.status, 422, "{}: {}", broken.wrong, checked.body);
    }
    let good = broken("nothing", package("guests/good", "1.0.0", ""), "");
    publish(test, &author, &good.wasm, signature(&good).as_deref(), "?check=true").ok();
    assert_eq!(kept(test), before, "checked");
    publish(test, &author, &good.wasm, signature(&good).as_deref(), "").ok();
}

#[test]
fn hostile_26_what_is_wrong_with_a_package_is_said_and_nothing_of_it_is_left_on_sqlite() {
    each_is_refused_and_leaves_nothing(&TestHost::with(REQUIRED));
}

#[test]
fn hostile_26_what_is_wrong_with_a_package_is_said_and_nothing_of_it_is_left_on_postgres() {
    each_is_refused_and_leaves_nothing(&TestHost::on_postgres_with(REQUIRED));
}

/// What only a push can get wrong: what its manifest says of the bytes.
#[test]
fn hostile_26_a_push_whose_manifest_lies_leaves_nothing() {
    let test = TestHost::start();
    let author = test.publisher("guests");
    let (good, bomb) = (package("guests/good", "1.0.0", ""), bytes::bomb());
    let changed = |wasm: &[u8], at: &str, value: Value| {
        let mut manifest = manifest_of(wasm);
        *manifest.pointer_mut(at).unwrap() = value;
        manifest
    };
    let packed = json!("application/vnd.oci.image.layer.v1.tar+gzip");
    let other = json!(Digest::of(b"other"));
    let before = kept(&test);
    for (wrong, tag, wasm, manifest, code, expected) in [
        (
            "a layer that unpacks to 200 MB",
            "1.0.0",
            &bomb,
            changed(&bomb, "/layers/0/mediaType", packed),
            "MANIFEST_INVALID",
            "not compressed",
        ),
        ("the same under the right name", "1.0.0", &bomb, manifest_of(&bomb), "MANIFEST_INVALID", "not WebAssembly"),
        (
            "another kind of layer",
            "1.0.0",
            &good,
            changed(&good, "/layers/0/mediaType", json!("text/html")),
            "MANIFEST_INVALID",
            "application/wasm",
        ),
        (
            "another kind of manifest",
            "1.0.0",
            &good,
            changed(&good, "/mediaType", json!("application/vnd.oci.image.index.v1+json")),
            "MANIFEST_INVALID",
            "index",
        ),
        (
            "the digest of other bytes",
            "1.0.0",
            &good,
            changed(&good, "/layers/0/digest", other),
            "MANIFEST_BLOB_UNKNOWN",
            "the layer",
        ),
        (
            "another size",
            "1.0.0",
            &good,
            changed(&good, "/layers/0/size", json!(7)),
            "SIZE_INVALID",
            "write what it has",
        ),
        ("the tag v1.0.0", "v1.0.0", &good, manifest_of(&good), "MANIFEST_INVALID", "is no version"),
        ("the tag 1.0", "1.0", &good, manifest_of(&good), "MANIFEST_INVALID", "is no version"),
        (
            "the tag of another version",
            "1.0.1",
            &good,
            manifest_of(&good),
            "MANIFEST_INVALID",
            "push it to guests/good:1.0.0",
        ),
    ] {
        let refused = push(&test, &author, &format!("guests/good:{tag}"), wasm, &manifest);
        assert_eq!(
            (refused.status, &refused.body["errors"][0]["code"]),
            (400, &json!(code)),
            "{wrong}: {}",
            refused.body
        );
        let said = says(&refused);
        assert!(said.contains(expected), "{wrong}: {said:?} does not say {expected:?}");
        assert_eq!(kept(&test), before, "{wrong}");
    }
    // Nor is a body unpacked because a field says that it can be.
    let refused = test.ask_with(&[("content-encoding", "gzip")], "POST", "/v1/market/packages", &author, Some(&bomb));
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert_eq!(kept(&test), before);
    assert_eq!(push(&test, &author, "guests/good:1.0.0", &good, &manifest_of(&good)).status, 201);
}

/// On two hosts, or on one: what the slower one has compiled is gone.
#[test]
fn of_those_that_publish_one_version_at_once_one_wins_and_of_the_others_no_file_is_left() {
    let one = TestHost::on_postgres();
    let other = TestHost::beside(&one, &format!("database_url: {}\n", one.store()));
    let alone = TestHost::start();
    for hosts in [vec![&one, &other], vec![&alone]] {
        let authors = [hosts[0].publisher("guests"), hosts[0].publisher("guests")];
        for version in ["1.0.0", "1.0.1", "1.0.2"] {
            let before: usize = hosts.iter().map(|host| files(host).len()).sum();
            let answers: Vec<u16> = std::thread::scope(|scope| {
                let publish = |n: usize| {
                    let (host, author) = (hosts[n % hosts.len()], &authors[n % authors.len()]);
                    scope.spawn(move || {
                        let wasm = package("guests/good", version, &format!("[limits]\nmemory_mb = {}\n", 8 + n));
                        host.ask_ungranted("POST", "/v1/market/packages", author, Some(&wasm)).status
                    })
                };
                let all: Vec<_> = (0..2).map(publish).collect();
                all.into_iter().map(|one| one.join().unwrap()).collect()
            });
            assert_eq!(answers.iter().filter(|status| **status == 201).count(), 1, "{answers:?}");
            assert!(answers.iter().all(|status| matches!(status, 201 | 409)), "{answers:?}");
            let after: usize = hosts.iter().map(|host| files(host).len()).sum();
            assert_eq!(after, before + 1, "of the version {version}");
        }
        assert_eq!(kept(hosts[0]).iter().filter(|line| line.starts_with("guests/good@")).count(), 3 + 2 * 3);
    }
}

#[test]
fn hostile_29_of_two_publishers_that_look_alike_and_come_at_once_one_wins() {
    let one = TestHost::on_postgres();
    let other = TestHost::beside(&one, &format!("database_url: {}\n", one.store()));
    let acme = one.tenant("acme-corp");
    for round in 0..8 {
        let names = [format!("melon-{round}-trade"), format!("me1on-{round}-trade")];
        let answers: Vec<u16> = std::thread::scope(|scope| {
            let [first, second] = names.each_ref().map(|name| json!({ "name": name }));
            let (one, other, acme) = (&one, &other, &acme);
            let begun = [
                scope.spawn(move || one.send("POST", "/v1/market/publishers", &one.operator, &first).status),
                scope.spawn(move || other.send("POST", "/v1/tenants/acme-corp/publishers", acme, &second).status),
            ];
            begun.map(|one| one.join().unwrap()).to_vec()
        });
        let mut sorted = answers.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [201, 409], "{names:?}: {answers:?}");
    }
}
