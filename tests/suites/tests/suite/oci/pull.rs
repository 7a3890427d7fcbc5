//! Pulling what is published.

use clawhold_tenancy::Digest;
use serde_json::json;

use super::{CONFIG, LAYER, MANIFEST, bytes, code, message};
use crate::support::{TestHost, becomes, on_each_database, probe};

on_each_database![a_package_is_an_artifact_whose_digest_stays];

fn a_package_is_an_artifact_whose_digest_stays(test: &TestHost) {
    let auditor = {
        test.tenant("acme-corp");
        test.token("acme-corp", "auditor")
    };
    test.publish(probe());
    let path = |of: &str| format!("/v2/northwind/probe/{of}");
    let by_tag = test.get(&path("manifests/1.0.0"), &auditor);
    let digest = by_tag.headers["docker-content-digest"].to_str().unwrap().to_owned();
    assert_eq!(by_tag.headers["content-type"], MANIFEST);
    let manifest = by_tag.ok();
    assert_eq!(manifest["config"]["mediaType"], CONFIG);
    assert_eq!(manifest["layers"][0]["mediaType"], LAYER);
    assert_eq!(manifest["layers"][0]["digest"], Digest::of(probe()).to_string());
    assert_eq!(manifest["layers"][0]["annotations"]["org.opencontainers.image.title"], "probe-1.0.0.wasm");
    for reference in [&digest[..], "1.0.0", "latest"] {
        let (status, fields, text) = bytes(test, &path(&format!("manifests/{reference}")), &auditor, None);
        assert_eq!((status, Digest::of(&text).to_string()), (200, digest.clone()), "{reference}");
        assert_eq!(fields["docker-content-digest"], digest.as_str());
    }
    let config = path(&format!("blobs/{}", manifest["config"]["digest"].as_str().unwrap()));
    let (_, _, text) = bytes(test, &config, &auditor, None);
    let config: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&config["architecture"], &config["os"]), (&json!("wasm"), &json!("wasip2")));
    assert_eq!(config["layerDigests"], json!([Digest::of(probe())]));
    assert_eq!(config["component"]["exports"], json!(["clawhold:skill/handler@0.1.0"]));
    assert!(config["component"]["imports"].as_array().unwrap().contains(&json!("clawhold:skill/http@0.1.0")));

    let layer = path(&format!("blobs/{}", Digest::of(probe())));
    let size = probe().len();
    let (status, fields, whole) = bytes(test, &layer, &auditor, None);
    assert!(status == 200 && whole == probe(), "the component is what was published");
    assert_eq!(fields["docker-content-digest"], Digest::of(probe()).to_string().as_str());
    for (range, expected) in [("bytes=0-99", 0..100), ("bytes=100-", 100..size), ("bytes=-7", size - 7..size)] {
        let (status, fields, part) = bytes(test, &layer, &auditor, Some(range));
        assert!(status == 206 && part == probe()[expected.clone()], "{range}: {status}");
        let said = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
        assert_eq!(fields["content-range"], said.as_str());
    }
    let (status, fields, _) = bytes(test, &layer, &auditor, Some(&format!("bytes={size}-")));
    assert_eq!((status, &fields["content-range"]), (416, &format!("bytes */{size}").parse().unwrap()));
    let head = test.ask("HEAD", &layer, &auditor, None);
    assert_eq!((head.status, &head.headers["content-length"]), (200, &size.to_string().parse().unwrap()));
    let head = test.ask("HEAD", &path("manifests/1.0.0"), &auditor, None);
    assert_eq!((head.status, &head.headers["docker-content-digest"]), (200, &digest.parse().unwrap()));

    let referrers = test.get(&path(&format!("referrers/{digest}?artifactType=x")), &auditor);
    assert_eq!(referrers.headers["oci-filters-applied"], "artifactType");
    assert_eq!(referrers.ok()["manifests"], json!([]));
    assert_eq!(test.get(&path("tags/list"), &auditor).ok(), json!({ "name": "northwind/probe", "tags": ["1.0.0"] }));
}

#[test]
fn what_is_not_there_is_told_in_the_same_words_whatever_else_is_there() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let manifest = test.get("/v2/northwind/probe/manifests/1.0.0", &admin).headers["docker-content-digest"].clone();
    let (manifest, nothing) = (manifest.to_str().unwrap(), format!("sha256:{}", "0".repeat(64)));
    let component = Digest::of(probe());
    for (of, expected, paths) in [
        (
            "a version",
            "MANIFEST_UNKNOWN",
            vec![
                "northwind/probe/manifests/9.0.0".to_owned(),
                "northwind/other/manifests/1.0.0".to_owned(),
                "nobody/other/manifests/latest".to_owned(),
                format!("northwind/probe/manifests/{nothing}"),
                format!("northwind/other/manifests/{manifest}"),
                // Each kind of thing is where it belongs, and nowhere else.
                format!("northwind/probe/manifests/{component}"),
            ],
        ),
        (
            "a blob",
            "BLOB_UNKNOWN",
            vec![
                format!("northwind/probe/blobs/{nothing}"),
                format!("northwind/other/blobs/{component}"),
                format!("nobody/other/blobs/{component}"),
                format!("northwind/probe/blobs/{manifest}"),
            ],
        ),
        (
            "a package",
            "NAME_UNKNOWN",
            vec![
                "northwind/other/tags/list".to_owned(),
                "nobody/other/tags/list".to_owned(),
                format!("nobody/other/referrers/{manifest}"),
            ],
        ),
    ] {
        let answers: Vec<_> = paths.iter().map(|path| test.get(&format!("/v2/{path}"), &admin)).collect();
        for (answer, path) in answers.iter().zip(&paths) {
            assert_eq!((answer.status, code(answer)), (404, expected), "{of} at {path}");
            assert_eq!(answer.body, answers[0].body, "{of} at {path}");
        }
        assert!(message(&answers[0]).contains("not for this token"), "{}", answers[0].body);
    }
}

#[test]
fn names_that_no_package_can_have_lead_nowhere() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let long = "a".repeat(300);
    for (path, status, expected) in [
        ("/v2/..%2f..%2fetc/passwd/manifests/1.0.0", 400, "NAME_INVALID"),
        ("/v2/northwind/..%2fprobe/tags/list", 400, "NAME_INVALID"),
        ("/v2/North%57ind/probe/tags/list", 400, "NAME_INVALID"),
        ("/v2/northwind/prob%00e/tags/list", 400, "NAME_INVALID"),
        ("/v2/northwind/%ff/tags/list", 400, "NAME_INVALID"),
        (&format!("/v2/northwind/{long}/tags/list"), 400, "NAME_INVALID"),
        ("/v2/probe/manifests/1.0.0", 404, "NAME_UNKNOWN"),
        ("/v2/a/b/c/manifests/1.0.0", 404, "NAME_UNKNOWN"),
        ("/v2/_catalog", 404, "NAME_UNKNOWN"),
        ("/v2/northwind/probe/manifests/..%2f1.0.0", 404, "MANIFEST_UNKNOWN"),
        ("/v2/northwind/probe/manifests/v1.0.0", 404, "MANIFEST_UNKNOWN"),
        ("/v2/northwind/probe/manifests/sha512:00", 404, "MANIFEST_UNKNOWN"),
        ("/v2/northwind/probe/blobs/sha256:00", 400, "DIGEST_INVALID"),
        ("/v2/northwind/probe/blobs/..%2f..%2fetc", 400, "DIGEST_INVALID"),
        ("/v2/northwind/probe/referrers/md5:00", 400, "DIGEST_INVALID"),
        ("/v2/northwind/probe/tags/list?n=-1", 400, "UNSUPPORTED"),
    ] {
        let answer = test.get(path, &admin);
        assert_eq!((answer.status, code(&answer)), (status, expected), "{path}");
    }
    for (method, path) in [
        ("DELETE", "/v2/northwind/probe/manifests/1.0.0".to_owned()),
        ("DELETE", format!("/v2/northwind/probe/blobs/{}", Digest::of(probe()))),
    ] {
        let answer = test.ask(method, &path, &admin, None);
        assert_eq!((answer.status, code(&answer)), (405, "UNSUPPORTED"), "{method} {path}");
    }
}

#[test]
fn tags_come_in_pages() {
    let test = TestHost::start();
    let publisher = test.publisher("guests");
    for version in ["1.0.0", "1.1.0", "1.1.1-rc.1", "1.10.0", "2.0.0"] {
        let pushed = super::push(&test, &publisher, &format!("guests/polite:{version}"), &super::polite(version));
        assert_eq!(pushed.status, 201, "{}", pushed.body);
    }
    let (mut path, mut pages) = ("/v2/guests/polite/tags/list?n=2".to_owned(), Vec::new());
    loop {
        let answer = test.get(&path, &publisher);
        let link = answer.headers.get("link").map(|link| link.to_str().unwrap().to_owned());
        pages.push(answer.ok()["tags"].take());
        let Some(link) = link else { break };
        link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().clone_into(&mut path);
    }
    assert_eq!(pages, [json!(["1.0.0", "1.1.0"]), json!(["1.1.1-rc.1", "1.10.0"]), json!(["2.0.0"])]);
    for (query, expected) in [("n=0", json!([])), ("last=1.10.0", json!(["2.0.0"])), ("n=5&last=3", json!([]))] {
        let answer = test.get(&format!("/v2/guests/polite/tags/list?{query}"), &publisher);
        assert!(!answer.headers.contains_key("link"), "{query}");
        assert_eq!(answer.ok()["tags"], expected, "{query}");
    }
}

/// A component waits in memory for its reader, so nobody has many of them waiting.
#[test]
fn pulls_that_nobody_reads_are_bounded() {
    use std::io::{Read as _, Write as _};
    let test = TestHost::start();
    let (publisher, admin) = (test.publisher("guests"), test.tenant("acme-corp"));
    // More than fits into the buffers between: 24 MiB that mean nothing.
    let wasm = {
        let mut wasm = super::polite("1.0.0");
        wasm.extend([0, 0x83, 0x80, 0x80, 0x0c, 2, b'o', b'f']);
        wasm.resize(wasm.len() + (24 << 20), 0);
        wasm
    };
    test.ask("POST", "/v1/market/packages", &publisher, Some(&wasm)).ok();
    let path = format!("/v2/guests/polite/blobs/{}", Digest::of(&wasm));
    let address = test.url.strip_prefix("http://").unwrap();
    let begin = |token: &str| {
        let mut pull = std::net::TcpStream::connect(address).unwrap();
        write!(pull, "GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n").unwrap();
        let mut status = [0; 12];
        pull.read_exact(&mut status).unwrap();
        (pull, status == *b"HTTP/1.1 200")
    };
    let held = [begin(&admin), begin(&admin)];
    assert!(held.iter().all(|(_, given)| *given));
    let refused = test.get(&path, &admin);
    assert_eq!((refused.status, code(&refused)), (429, "TOOMANYREQUESTS"), "{}", refused.body);
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(test.ask("HEAD", &path, &admin, None).status, 200, "what is not read takes no place");
    assert!(begin(&publisher).1, "another waits for nobody");
    drop(held);
    assert!(becomes(|| begin(&admin).1), "a place is not given back");
}
