//! Pushes that are refused, each named by what is wrong with it.

use clawhold_tenancy::Digest;
use clawhold_tenancy::limits::COMPONENT_BYTES;
use serde_json::{Value, json};

use super::{CONFIG, MANIFEST, code, manifest_of, message, polite, push_blob};
use crate::support::{TestHost, becomes};

/// A push of `guests/polite` 1.0.0 with one thing changed.
struct Push {
    wrong: &'static str,
    blobs: Vec<Vec<u8>>,
    to: &'static str,
    media_type: &'static str,
    manifest: Vec<u8>,
}

/// A push that is in order but for what `change` does to it.
fn push(wrong: &'static str, change: impl FnOnce(&mut Push, &mut Value)) -> Push {
    let wasm = polite("1.0.0");
    let mut manifest = manifest_of(&wasm);
    let to = "guests/polite/manifests/1.0.0";
    let mut push = Push { wrong, blobs: vec![b"{}".to_vec(), wasm], to, media_type: MANIFEST, manifest: vec![] };
    change(&mut push, &mut manifest);
    if push.manifest.is_empty() {
        push.manifest = manifest.to_string().into_bytes();
    }
    push
}

/// Sets a place of the manifest.
fn set(place: &'static str, value: Value) -> impl FnOnce(&mut Push, &mut Value) {
    let (above, key) = place.rsplit_once('/').unwrap();
    move |_, manifest| manifest.pointer_mut(above).unwrap()[key] = value
}

/// The same with another component, which the manifest names.
fn of(wrong: &'static str, wasm: Vec<u8>) -> Push {
    push(wrong, |push, manifest| {
        *manifest = manifest_of(&wasm);
        push.blobs[1] = wasm;
    })
}

#[test]
fn a_push_that_is_not_what_it_says_is_refused_and_leaves_nothing() {
    let test = TestHost::start();
    let publisher = test.publisher("guests");
    let wasm = polite("1.0.0");
    let config = |text: &'static str| {
        move |push: &mut Push, manifest: &mut Value| {
            push.blobs[0] = text.into();
            manifest["config"] =
                json!({ "mediaType": CONFIG, "digest": Digest::of(text.as_bytes()), "size": text.len() });
        }
    };
    let (other, layer) = (Digest::of(b"other"), manifest_of(&wasm)["layers"][0].clone());
    let table = [
        (
            push("a list of manifests", |p, _| p.media_type = "application/vnd.oci.image.index.v1+json"),
            400,
            "MANIFEST_INVALID",
            "no index",
        ),
        (
            push(
                "a manifest of another kind inside",
                set("/mediaType", json!("application/vnd.docker.distribution.manifest.v2+json")),
            ),
            400,
            "MANIFEST_INVALID",
            "docker",
        ),
        (
            push("a manifest that is no JSON", |p, _| p.manifest = b"{\"schemaVersion\":2".to_vec()),
            400,
            "MANIFEST_INVALID",
            "cannot be read",
        ),
        (
            push("a manifest with something behind it", |p, m| p.manifest = format!("{m} {{}}").into()),
            400,
            "MANIFEST_INVALID",
            "cannot be read",
        ),
        (
            push("an image's config", set("/config/mediaType", json!("application/vnd.oci.image.config.v1+json"))),
            400,
            "MANIFEST_INVALID",
            "the config has the media type",
        ),
        (push("a config that was not pushed", |p, _| p.blobs[0] = vec![]), 400, "MANIFEST_BLOB_UNKNOWN", "the config"),
        (
            push("a config of another component", config("{\"layerDigests\":[\"sha256:00\"]}")),
            400,
            "MANIFEST_INVALID",
            "the config says the layers",
        ),
        (push("a config of another machine", config("{\"architecture\":\"amd64\"}")), 400, "MANIFEST_INVALID", "amd64"),
        (push("a config that is a list", config("[]")), 400, "MANIFEST_INVALID", "the config cannot be read"),
        (push("a layer that was not pushed", |p, _| p.blobs[1] = vec![]), 400, "MANIFEST_BLOB_UNKNOWN", "the layer"),
        (
            push("a layer of other bytes than were pushed", set("/layers/0/digest", json!(other))),
            400,
            "MANIFEST_BLOB_UNKNOWN",
            "the layer",
        ),
        (
            push("a layer larger than it is", set("/layers/0/size", json!(wasm.len() + 1))),
            400,
            "SIZE_INVALID",
            "write what it has",
        ),
        (push("a layer smaller than it is", set("/layers/0/size", json!(1))), 400, "SIZE_INVALID", "write what it has"),
        (
            push("a layer larger than may be", set("/layers/0/size", json!(COMPONENT_BYTES + 1))),
            400,
            "SIZE_INVALID",
            "67108864 are allowed",
        ),
        (
            push("a layer of another kind", set("/layers/0/mediaType", json!("text/html"))),
            400,
            "MANIFEST_INVALID",
            "application/wasm",
        ),
        (
            push(
                "a layer that is packed",
                set("/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar+gzip")),
            ),
            400,
            "MANIFEST_INVALID",
            "not compressed",
        ),
        (push("two layers", set("/layers", json!([layer, layer]))), 400, "MANIFEST_INVALID", "2 layers"),
        (push("no layer", set("/layers", json!([]))), 400, "MANIFEST_INVALID", "0 layers"),
        (
            push("a digest of another kind", set("/layers/0/digest", json!(format!("sha512:{}", "0".repeat(128))))),
            400,
            "DIGEST_INVALID",
            "use sha256:",
        ),
        (
            push(
                "something that refers to a manifest",
                set("/subject", json!({ "mediaType": MANIFEST, "digest": other, "size": 1 })),
            ),
            400,
            "UNSUPPORTED",
            "has a subject",
        ),
        (
            push("a signature that is none", set("/annotations", json!({ "vnd.clawhold.package.signature": "yes" }))),
            400,
            "MANIFEST_INVALID",
            "clawhold skill sign",
        ),
        (
            push("a tag that is another version", |p, _| p.to = "guests/polite/manifests/2.0.0"),
            400,
            "MANIFEST_INVALID",
            "of version 1.0.0; push it to guests/polite:1.0.0",
        ),
        (
            push("a tag that is no version", |p, _| p.to = "guests/polite/manifests/v1.0.0"),
            400,
            "MANIFEST_INVALID",
            "is no version",
        ),
        (
            push("the tag `latest`", |p, _| p.to = "guests/polite/manifests/latest"),
            400,
            "MANIFEST_INVALID",
            "is no version",
        ),
        (
            push("another package's repository", |p, _| p.to = "guests/other/manifests/1.0.0"),
            400,
            "MANIFEST_INVALID",
            "the package is guests/polite",
        ),
        (
            push("another publisher's repository", |p, _| p.to = "northwind/polite/manifests/1.0.0"),
            404,
            "NAME_UNKNOWN",
            "not for this token",
        ),
        (
            push("a repository that is no package", |p, _| p.to = "guests/..%2fpolite/manifests/1.0.0"),
            400,
            "NAME_INVALID",
            "publisher/name",
        ),
        (of("a layer that is cut off", wasm[..wasm.len() - 9].to_vec()), 400, "MANIFEST_INVALID", "damaged"),
        (of("a layer with something behind it", [&wasm[..], b"more"].concat()), 400, "MANIFEST_INVALID", "damaged"),
        (of("a core module", wat::parse_str("(module)").unwrap()), 400, "MANIFEST_INVALID", "core module"),
        (of("no WebAssembly", b"#!/bin/sh".to_vec()), 400, "MANIFEST_INVALID", "not WebAssembly"),
        (
            of("a packed file under the right name", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0]),
            400,
            "MANIFEST_INVALID",
            "not WebAssembly",
        ),
        (
            of(
                "no manifest of ours inside",
                wat::parse_str("(component (instance $i) (export \"clawhold:skill/handler@0.1.0\" (instance $i)))")
                    .unwrap(),
            ),
            400,
            "MANIFEST_INVALID",
            "carries no manifest",
        ),
    ];
    for (push, status, expected, says) in table {
        let Push { wrong, blobs, to, media_type, manifest } = push;
        let repository = to.split("/manifests/").next().unwrap();
        // What goes to somebody else's repository, or to none, is refused before it is read.
        for blob in blobs
            .iter()
            .filter(|blob| !blob.is_empty() && repository.starts_with("guests/") && !repository.contains('%'))
        {
            push_blob(&test, &publisher, repository, blob);
        }
        let path = format!("/v2/{to}");
        let refused = test.ask_with(&[("content-type", media_type)], "PUT", &path, &publisher, Some(&manifest));
        assert_eq!((refused.status, code(&refused)), (status, expected), "{wrong}: {}", refused.body);
        assert!(message(&refused).contains(says), "{wrong}: {}", refused.body);
        let remedy = message(&refused).contains("; ") || message(&refused).contains("\n   ");
        assert!(remedy, "{wrong} does not say what to do: {}", refused.body);
        assert_eq!(test.get("/v1/market/packages/guests/polite", &publisher).status, 404, "{wrong}");
        // Of a manifest that cannot be read nobody knows which blobs it meant: they wait until their time is over. One that
        // can be read takes them along.
        super::push_manifest(&test, &publisher, "guests/polite:9.9.9", &manifest_of(&wasm));
    }
    // What was read and refused is gone; the same push in order is taken.
    let good = push("nothing", |_, _| {});
    for blob in &good.blobs {
        assert_eq!(push_blob(&test, &publisher, "guests/polite", blob).status, 201);
    }
    let path = format!("/v2/{}", good.to);
    let done = test.ask_with(&[("content-type", MANIFEST)], "PUT", &path, &publisher, Some(&good.manifest));
    assert_eq!(done.status, 201, "{}", done.body);
}

/// It is not read to find out: it has up to 64 MiB, and there may be many who try.
#[test]
fn a_component_is_no_config_of_another() {
    let test = TestHost::start();
    let publisher = test.publisher("guests");
    let (published, wasm) = (polite("1.0.0"), polite("1.1.0"));
    assert_eq!(super::push(&test, &publisher, "guests/polite:1.0.0", &published).status, 201);
    assert_eq!(push_blob(&test, &publisher, "guests/polite", &wasm).status, 201);
    let mut manifest = manifest_of(&wasm);
    for (size, expected) in [(2, "SIZE_INVALID"), (published.len(), "MANIFEST_INVALID")] {
        manifest["config"] = json!({ "mediaType": CONFIG, "digest": Digest::of(&published), "size": size });
        let refused = super::push_manifest(&test, &publisher, "guests/polite:1.1.0", &manifest);
        assert_eq!((refused.status, code(&refused)), (400, expected), "{}", refused.body);
    }
}

#[test]
fn what_a_refused_push_brought_is_gone() {
    let test = TestHost::start();
    let publisher = test.publisher("guests");
    let wasm = polite("1.0.0");
    let layer = format!("/v2/guests/polite/blobs/{}", Digest::of(&wasm));
    for blob in [b"{}".as_slice(), &wasm] {
        assert_eq!(push_blob(&test, &publisher, "guests/polite", blob).status, 201);
    }
    assert_eq!(test.ask("HEAD", &layer, &publisher, None).status, 200);
    let refused = super::push_manifest(&test, &publisher, "guests/polite:2.0.0", &manifest_of(&wasm));
    assert_eq!(code(&refused), "MANIFEST_INVALID");
    assert_eq!(test.ask("HEAD", &layer, &publisher, None).status, 404);
}

#[test]
fn an_upload_that_is_not_in_order_is_refused() {
    let test = TestHost::start();
    let (publisher, other) = (test.publisher("guests"), test.publisher("northwind"));
    let begin = || {
        let begun = test.ask("POST", "/v2/guests/polite/blobs/uploads/", &publisher, None);
        assert_eq!(begun.status, 202, "{}", begun.body);
        begun.headers["location"].to_str().unwrap().to_owned()
    };
    let upload = begin();
    let of_other = upload.replace("guests/polite", "northwind/polite");
    let elsewhere = upload.replace("guests/polite", "guests/other");
    let never = "/v2/guests/polite/blobs/uploads/01900000-0000-7000-8000-000000000000";
    let right = Digest::of(b"blob");
    let asked: [(&str, &str, &str, String, &str, u16, &str); 9] = [
        (
            "a digest that is not that of the bytes",
            "PUT",
            &publisher,
            format!("{}?digest={right}", begin()),
            "blub",
            400,
            "DIGEST_INVALID",
        ),
        ("no digest", "PUT", &publisher, begin(), "blob", 400, "DIGEST_INVALID"),
        (
            "a digest of another kind",
            "PUT",
            &publisher,
            format!("{}?digest=md5:00", begin()),
            "blob",
            400,
            "DIGEST_INVALID",
        ),
        (
            "a digest in capitals",
            "PUT",
            &publisher,
            format!("{}?digest=sha256:{}", begin(), right.hex().to_uppercase()),
            "blob",
            400,
            "DIGEST_INVALID",
        ),
        ("an upload that was not begun", "PATCH", &publisher, never.to_owned(), "blob", 404, "BLOB_UPLOAD_UNKNOWN"),
        (
            "an upload that can have no such name",
            "PATCH",
            &publisher,
            "/v2/guests/polite/blobs/uploads/..%2fx".to_owned(),
            "blob",
            404,
            "BLOB_UPLOAD_UNKNOWN",
        ),
        ("the upload of another repository", "PATCH", &publisher, elsewhere, "blob", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("another publisher's upload", "PATCH", &other, upload, "blob", 404, "NAME_UNKNOWN"),
        ("another publisher's upload as one's own", "PATCH", &other, of_other, "blob", 404, "BLOB_UPLOAD_UNKNOWN"),
    ];
    for (wrong, method, token, path, body, status, expected) in asked {
        let refused = test.ask(method, &path, token, Some(body.as_bytes()));
        assert_eq!((refused.status, code(&refused)), (status, expected), "{wrong}: {}", refused.body);
    }
    // What did not fit is gone with its upload.
    assert_eq!(test.ask("HEAD", &format!("/v2/guests/polite/blobs/{right}"), &publisher, None).status, 404);
}

#[test]
fn uploads_that_never_end_are_bounded_in_number_and_in_size() {
    use std::io::{Read as _, Write as _};
    let test = TestHost::start();
    let (publisher, other) = (test.publisher("guests"), test.publisher("northwind"));
    let begin =
        |token: &str, repository: &str| test.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), token, None);
    for _ in 0..8 {
        assert_eq!(begin(&publisher, "guests/polite").status, 202);
    }
    let refused = begin(&publisher, "guests/other");
    assert_eq!((refused.status, code(&refused)), (429, "TOOMANYREQUESTS"));
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(begin(&other, "northwind/crm").status, 202, "another publisher waits for nobody");
    // One that says that it is too large is refused before it is read, one that does not say so while it is.
    let address = test.url.strip_prefix("http://").unwrap();
    let path = begin(&other, "northwind/crm").headers["location"].to_str().unwrap().to_owned();
    let answer = |head: String, body: &mut dyn FnMut(&mut std::net::TcpStream)| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "{head}\r\nhost: x\r\nauthorization: Bearer {other}\r\nconnection: close\r\n\r\n").unwrap();
        body(&mut stream);
        let mut said = String::new();
        let _may_be_reset = stream.read_to_string(&mut said);
        said
    };
    for (line, most) in
        [(format!("PATCH {path}"), COMPONENT_BYTES), ("PUT /v2/northwind/crm/manifests/1.0.0".into(), 262_144)]
    {
        let said = answer(format!("{line} HTTP/1.1\r\ncontent-length: {}", most + 1), &mut |_| {});
        assert!(said.starts_with("HTTP/1.1 400") && said.contains("SIZE_INVALID"), "{said}");
        assert!(said.contains(&format!("larger than {most} bytes")), "{said}");
    }
    let mut sent = 0_u64;
    let chunk = [b"100000\r\n".to_vec(), vec![0; 1 << 20], b"\r\n".to_vec()].concat();
    let said = answer(format!("PATCH {path} HTTP/1.1\r\ntransfer-encoding: chunked"), &mut |stream| {
        while sent < 2 * COMPONENT_BYTES && stream.write_all(&chunk).is_ok() {
            sent += 1 << 20;
        }
    });
    assert!(said.is_empty() || said.contains("SIZE_INVALID"), "{said}");
    assert!(sent < 2 * COMPONENT_BYTES, "it was read to the end");
    // Whoever goes away leaves the upload to be gone on with.
    let path = begin(&other, "northwind/crm").headers["location"].to_str().unwrap().to_owned();
    let mut gone = std::net::TcpStream::connect(address).unwrap();
    write!(
        gone,
        "PATCH {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {other}\r\ncontent-length: 1000\r\n\r\n0123456789"
    )
    .unwrap();
    let holds = |range: &str| test.get(&path, &other).headers.get("range").is_some_and(|found| found == range);
    assert!(becomes(|| holds("0-9")));
    let busy = test.ask("PATCH", &path, &other, Some(b"x"));
    assert_eq!(code(&busy), "BLOB_UPLOAD_INVALID", "one request writes at a time");
    drop(gone);
    let resumed = || test.ask_with(&[("content-range", "10-10")], "PATCH", &path, &other, Some(b"x")).status;
    assert!(becomes(|| resumed() == 202));
}
