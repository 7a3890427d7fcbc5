//! Pushing packages that are in order.

use clawhold_tenancy::Digest;
use serde_json::json;

use super::{CONFIG, code, manifest_of, message, polite, push, push_blob, push_manifest};
use crate::support::{TestHost, on_each_database};

on_each_database![what_is_pushed_is_published_as_by_the_api];

fn what_is_pushed_is_published_as_by_the_api(test: &TestHost) {
    let publisher = test.publisher("guests");
    let wasm = polite("1.0.0");
    let before = test.host_chain();
    let done = push(test, &publisher, "guests/polite:1.0.0", &wasm);
    assert_eq!(done.status, 201, "{}", done.body);
    assert_eq!(test.host_chain(), before + 1, "one entry in the audit log");
    let shown = test.get("/v1/market/packages/guests/polite", &publisher).ok();
    assert_eq!(shown["digest"], Digest::of(&wasm).to_string());
    // The manifest is the host's own, and the client is told so.
    let kept = done.headers["location"].to_str().unwrap().to_owned();
    let warning = done.headers["warning"].to_str().unwrap();
    assert!(!done.headers.contains_key("docker-content-digest") && warning.starts_with("299 - \""), "{warning}");
    assert!(warning.contains(kept.rsplit('/').next().unwrap()), "{warning}");
    let manifest = test.get(&kept, &publisher).ok();
    // The very same again changes nothing, whoever made the manifest.
    assert_eq!(push(test, &publisher, "guests/polite:1.0.0", &wasm).status, 201);
    let again = push_manifest(test, &publisher, "guests/polite:1.0.0", &manifest);
    assert_eq!(
        (again.status, again.headers["location"].to_str().unwrap()),
        (201, &kept[..]),
        "with blobs that are there"
    );
    assert_eq!(test.host_chain(), before + 1);
    // A tag does not move.
    let moved = [&wasm[..], &[0, 5, 4, b'm', b'o', b'r', b'e']].concat();
    let refused = push(test, &publisher, "guests/polite:1.0.0", &moved);
    assert_eq!((refused.status, code(&refused)), (409, "DENIED"), "{}", refused.body);
    assert!(message(&refused).contains("under a new version"), "{}", refused.body);
    assert_eq!(push(test, &publisher, "guests/polite:1.1.0", &polite("1.1.0")).status, 201);
}

#[test]
fn a_blob_comes_whole_or_in_parts() {
    let test = TestHost::start();
    let publisher = test.publisher("guests");
    let wasm = polite("1.0.0");
    let (first, rest) = wasm.split_at(wasm.len() / 3);
    let begun = test.ask("POST", "/v2/guests/polite/blobs/uploads/", &publisher, Some(b""));
    assert_eq!((begun.status, &begun.headers["range"]), (202, &"0-0".parse().unwrap()));
    let upload = begun.headers["location"].to_str().unwrap().to_owned();
    let part = |range: &str, bytes: &[u8]| {
        test.ask_with(&[("content-range", range)], "PATCH", &upload, &publisher, Some(bytes))
    };
    let done = part(&format!("0-{}", first.len() - 1), first);
    assert_eq!((done.status, &done.headers["range"]), (202, &format!("0-{}", first.len() - 1).parse().unwrap()));
    // Out of order, twice, and nonsense: what is there stays.
    for range in ["0-9".to_owned(), format!("{}-{}", first.len() + 1, wasm.len())] {
        let refused = part(&range, b"0123456789");
        assert_eq!((refused.status, code(&refused)), (416, "BLOB_UPLOAD_INVALID"), "{range}");
        assert_eq!(refused.headers["range"], format!("0-{}", first.len() - 1).as_str());
    }
    for range in ["", "0", "bytes 0-9/10", "9-x", "-1-9"] {
        let refused = part(range, b"0123456789");
        assert_eq!((refused.status, code(&refused)), (400, "BLOB_UPLOAD_INVALID"), "{range:?}");
    }
    let status = test.get(&upload, &publisher);
    assert_eq!((status.status, &status.headers["range"]), (204, &format!("0-{}", first.len() - 1).parse().unwrap()));
    let end = format!("{upload}?digest={}", Digest::of(&wasm));
    let done = test.ask("PUT", &end, &publisher, Some(rest));
    assert_eq!(done.status, 201, "{}", done.body);
    let blob = done.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(test.ask("HEAD", &blob, &publisher, None).status, 200, "its publisher sees it");
    let admin = test.tenant("acme-corp");
    assert_eq!(test.ask("HEAD", &blob, &admin, None).status, 404, "and nobody else");
    assert_eq!(test.get(&upload, &publisher).status, 404, "the upload has ended");
    assert_eq!(push_blob(&test, &publisher, "guests/polite", b"{}").status, 201);
    assert_eq!(push_manifest(&test, &publisher, "guests/polite:1.0.0", &manifest_of(&wasm)).status, 201);
    // What asks to be taken from another repository is to be sent like anything else.
    let mount = format!("/v2/guests/polite/blobs/uploads/?mount={}&from=guests/other", Digest::of(b"{}"));
    assert_eq!(test.ask("POST", &mount, &publisher, None).status, 202);
}

#[test]
fn a_config_may_say_more_as_long_as_it_is_true() {
    let test = TestHost::start();
    let publisher = test.publisher("guests");
    let wasm = polite("1.0.0");
    let config = json!({ "architecture": "wasm", "os": "wasip2", "layerDigests": [Digest::of(&wasm)], "author": "x" })
        .to_string();
    for blob in [config.as_bytes(), &wasm] {
        assert_eq!(push_blob(&test, &publisher, "guests/polite", blob).status, 201);
    }
    let mut manifest = manifest_of(&wasm);
    manifest["config"] = json!({ "mediaType": CONFIG, "digest": Digest::of(config.as_bytes()), "size": config.len() });
    let done = push_manifest(&test, &publisher, "guests/polite:1.0.0", &manifest);
    assert_eq!(done.status, 201, "{}", done.body);
}

#[test]
fn a_signature_rides_along_as_an_annotation() {
    use clawhold_marketplace::key::SigningKey;
    use clawhold_marketplace::signing::{PackageStatement, sign};
    let test = TestHost::start();
    let publisher = test.publisher("guests");
    let wasm = polite("1.0.0");
    let statement = PackageStatement {
        package: "guests/polite".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        digest: Digest::of(&wasm),
        signed_us: 1,
    };
    for blob in [b"{}".as_slice(), &wasm] {
        assert_eq!(push_blob(&test, &publisher, "guests/polite", blob).status, 201);
    }
    let key = SigningKey::from_seed(&[7; 32]);
    let signature = sign(&key, &statement);
    let mut manifest = manifest_of(&wasm);
    manifest["annotations"] = json!({ "vnd.clawhold.package.signature": signature });
    let refused = push_manifest(&test, &publisher, "guests/polite:1.0.0", &manifest);
    assert_eq!((refused.status, code(&refused)), (400, "MANIFEST_INVALID"), "{}", refused.body);
    assert!(message(&refused).contains("the publisher has no key"), "{}", refused.body);
    let key = json!({ "key": key.public().to_string() });
    test.send("POST", "/v1/market/publishers/guests/keys", &test.operator, &key).ok();
    for blob in [b"{}".as_slice(), &wasm] {
        assert_eq!(push_blob(&test, &publisher, "guests/polite", blob).status, 201);
    }
    let done = push_manifest(&test, &publisher, "guests/polite:1.0.0", &manifest);
    assert_eq!(done.status, 201, "{}", done.body);
    let kept = test.get("/v2/guests/polite/manifests/1.0.0", &publisher).ok();
    assert_eq!(kept["annotations"]["vnd.clawhold.package.signature"], signature);
}
