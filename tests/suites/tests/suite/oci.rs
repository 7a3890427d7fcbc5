//! The OCI registry: what it gives, what it takes, and what real clients of others make of it.

mod broken;
mod clients;
mod pull;
mod push;
mod tokens;

use clawhold_tenancy::Digest;
use clawhold_test_support::guest::{Guest, with_manifest};
use serde_json::{Value, json};
use ureq::Agent;

use crate::support::{Answer, TestHost};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";

/// The package that most of these tests push: `guests/polite` of this version.
pub(crate) fn polite(version: &str) -> Vec<u8> {
    static COMPONENT: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let component = COMPONENT.get_or_init(|| {
        let guest = Guest::of("polite", "(func $run (result i32) (call $yes))").unwrap();
        let manifest = clawhold_test_support::guest::manifest("polite", "");
        let with = with_manifest(&[], &manifest);
        guest.wasm.strip_suffix(&with[..]).unwrap().to_vec()
    });
    let manifest = clawhold_test_support::guest::manifest("polite", "");
    with_manifest(component, &manifest.replace("1.0.0", version))
}

/// The manifest of a package whose config is `{}`.
pub(crate) fn manifest_of(wasm: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": Digest::of(b"{}"), "size": 2 },
        "layers": [{ "mediaType": LAYER, "digest": Digest::of(wasm), "size": wasm.len() }],
    })
}

/// Pushes a blob in one request.
pub(crate) fn push_blob(test: &TestHost, token: &str, repository: &str, blob: &[u8]) -> Answer {
    let path = format!("/v2/{repository}/blobs/uploads/?digest={}", Digest::of(blob));
    test.ask("POST", &path, token, Some(blob))
}

fn push_manifest(test: &TestHost, token: &str, to: &str, manifest: &Value) -> Answer {
    let (repository, tag) = to.rsplit_once(':').unwrap();
    let path = format!("/v2/{repository}/manifests/{tag}");
    test.ask_with(&[("content-type", MANIFEST)], "PUT", &path, token, Some(manifest.to_string().as_bytes()))
}

/// Pushes all of a package.
fn push(test: &TestHost, token: &str, to: &str, wasm: &[u8]) -> Answer {
    let repository = to.rsplit_once(':').unwrap().0;
    for blob in [b"{}".as_slice(), wasm] {
        assert_eq!(push_blob(test, token, repository, blob).status, 201);
    }
    push_manifest(test, token, to, &manifest_of(wasm))
}

/// The code of the one error that an answer tells.
fn code(answer: &Answer) -> &str {
    match answer.body["errors"].as_array().map(Vec::as_slice) {
        Some([one]) if one["message"].as_str().is_some_and(|said| !said.is_empty()) => one["code"].as_str().unwrap(),
        _ => panic!("no error of the registry's form: {} {}", answer.status, answer.body),
    }
}

fn message(answer: &Answer) -> &str {
    answer.body["errors"][0]["message"].as_str().unwrap_or_default()
}

/// The status, fields and bytes of an answer that need not be text.
fn bytes(test: &TestHost, path: &str, token: &str, range: Option<&str>) -> (u16, http::HeaderMap, Vec<u8>) {
    let agent: Agent = Agent::config_builder().http_status_as_error(false).max_idle_connections(0).build().into();
    let mut request = agent.get(format!("{}{path}", test.url)).header("authorization", format!("Bearer {token}"));
    if let Some(range) = range {
        request = request.header("range", range);
    }
    let mut answer = request.call().unwrap();
    let bytes = answer.body_mut().with_config().limit(100 << 20).read_to_vec().unwrap();
    (answer.status().as_u16(), answer.headers().clone(), bytes)
}
