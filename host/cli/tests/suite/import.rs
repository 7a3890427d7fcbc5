//! `clawhold market import`, from a host of ours and from registries that lie.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::{Arc, Mutex};

use clawhold_tenancy::Digest;
use clawhold_test_support::guest::Guest;
use serde_json::{Value, json};

use crate::{Desk, text};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// `guests/polite` 1.0.0.
fn polite() -> Vec<u8> {
    Guest::of("polite", "(func $run (result i32) (call $yes))").unwrap().wasm
}

/// A registry on loopback that gives to a path what `answer` makes of the request's head, and tells what was asked.
struct Registry {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    fn start(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&heads), Arc::new(answer));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut stream = stream;
                    let (mut head, mut byte) = (Vec::new(), [0]);
                    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                        head.push(byte[0]);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    seen.lock().unwrap().push(head.clone());
                    answer(&head, &mut stream);
                });
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn give(stream: &mut TcpStream, status: &str, fields: &str, body: &[u8]) {
    let length = body.len();
    let _client_may_be_gone =
        write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n");
    let _client_may_be_gone = stream.write_all(body);
}

fn manifest(wasm: &[u8]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": Digest::of(b"{}"), "size": 2 },
        "layers": [{ "mediaType": "application/wasm", "digest": Digest::of(wasm), "size": wasm.len() }],
    })
}

/// Gives a manifest, `{}` as any config, and other bytes as the layer.
fn serve(head: &str, stream: &mut TcpStream, manifest: &[u8], layer: &[u8]) {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let body = match path {
        path if path.contains("/manifests/") => manifest,
        path if path.ends_with(&Digest::of(b"{}").to_string()) => b"{}",
        _ => layer,
    };
    give(stream, "200 OK", "", body);
}

/// A desk without a host: what is wrong is found before one is asked.
fn import(desk: &Desk, arguments: &[&str]) -> Output {
    desk.clawhold(&[&["market", "import", "--plain-http", "--dry-run"], arguments].concat())
}

#[test]
fn a_package_goes_from_one_host_to_another() {
    let (from, to) = (Desk::new(), Desk::new());
    let _serving = [from.serve("clawhold serve --dev"), to.serve("clawhold serve --dev")];
    // On each host the publisher has a key of its own, and a token.
    let publisher = |desk: &Desk| {
        let operator = std::fs::read_to_string(desk.folder.path().join(".clawhold/operator.token")).unwrap();
        desk.publisher(operator.trim(), "guests")
    };
    let (there, here) = (publisher(&from), publisher(&to));
    std::fs::write(from.folder.path().join("polite.wasm"), polite()).unwrap();
    from.done(&there, &["skill", "publish", "polite.wasm", "--key", "guests.pem"]);

    let source = format!("oci://{}/guests/polite:1.0.0", from.listen);
    let import = |more: &[&str], password: &str| {
        let line = [&["market", "import", "--plain-http", "--user", "ci", &source], more].concat();
        let mut command = to.command("clawhold");
        command.args(line).env("CLAWHOLD_TOKEN", &here).env("CLAWHOLD_REGISTRY_PASSWORD", password).output().unwrap()
    };
    let refused = import(&[], "clw_0123456789ab_wrong");
    assert!(!refused.status.success() && text(&refused).contains("no token from"), "{}", text(&refused));
    let tried = import(&["--dry-run", "--json"], &there);
    let checked: Value = serde_json::from_slice(&tried.stdout).unwrap_or_else(|_| panic!("{}", text(&tried)));
    assert_eq!((&checked["name"], &checked["version"]), (&json!("guests/polite"), &json!("1.0.0")));
    assert!(checked["published"].is_null());
    assert!(checked["signature"].as_str().unwrap().contains("which counts at its source alone"), "{checked}");
    let unsigned = import(&[], &there);
    assert!(!unsigned.status.success() && text(&unsigned).contains("is not signed"), "{}", text(&unsigned));
    let done = import(&["--key", "guests.pem"], &there);
    let digest = Digest::of(&polite()).to_string();
    for part in [
        "guests/polite 1.0.0\n",
        &format!("component  {digest}"),
        "as the manifest says",
        "signature  by the key",
        "guests/polite 1.0.0 published",
    ] {
        assert!(text(&done).contains(part), "{part:?} is not in {}", text(&done));
    }
    assert!(text(&import(&["--key", "guests.pem"], &there)).contains("was published before, the very same"));
}

#[test]
fn what_a_registry_lies_about_is_not_taken() {
    let desk = Desk::new();
    let wasm = polite();
    let good = manifest(&wasm);
    let with = |place: &str, value: Value| {
        let mut manifest = manifest(&polite());
        *manifest.pointer_mut(place).unwrap() = value;
        manifest.to_string()
    };
    let mut changed = wasm.clone();
    changed[20] ^= 1;
    let longer = [&wasm[..], b"more"].concat();
    for (wrong, manifest, layer, tag, says) in [
        (
            "another component of the same size",
            good.to_string(),
            &changed,
            "1.0.0",
            "is not the one that its manifest names",
        ),
        ("bytes behind the component", good.to_string(), &longer, "1.0.0", "has more than the"),
        ("half a component", good.to_string(), &wasm[..wasm.len() / 2].to_vec(), "1.0.0", "and its manifest says"),
        (
            "a size that is not the component's",
            with("/layers/0/size", json!(wasm.len() + 1)),
            &wasm,
            "1.0.0",
            "and its manifest says",
        ),
        (
            "a component that is too large",
            with("/layers/0/size", json!(1_u64 << 40)),
            &wasm,
            "1.0.0",
            "67108864 are allowed",
        ),
        (
            "a layer that is packed",
            with("/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar+gzip")),
            &wasm,
            "1.0.0",
            "not compressed",
        ),
        (
            "a layer of another kind",
            with("/layers/0/mediaType", json!("text/html")),
            &wasm,
            "1.0.0",
            "has the media type",
        ),
        (
            "an image",
            with("/config/mediaType", json!("application/vnd.oci.image.config.v1+json")),
            &wasm,
            "1.0.0",
            "has the media type",
        ),
        (
            "a list of manifests",
            with("/mediaType", json!("application/vnd.oci.image.index.v1+json")),
            &wasm,
            "1.0.0",
            "no index",
        ),
        ("two layers", with("/layers", json!([good["layers"][0], good["layers"][0]])), &wasm, "1.0.0", "2 layers"),
        ("a manifest that is no JSON", "<html>".to_owned(), &wasm, "1.0.0", "cannot be read"),
        ("an endless manifest", " ".repeat(300_000), &wasm, "1.0.0", "has more than the 262144 bytes"),
        ("a tag that was moved", good.to_string(), &wasm, "2.0.0", "the tag 2.0.0 has the version 1.0.0"),
        ("no component", manifest(b"#!/bin/sh").to_string(), &b"#!/bin/sh".to_vec(), "1.0.0", "not WebAssembly"),
    ] {
        let layer = layer.clone();
        let registry = Registry::start(move |head, stream| serve(head, stream, manifest.as_bytes(), &layer));
        let refused = import(&desk, &[&format!("oci://{}/guests/polite:{tag}", registry.address)]);
        assert!(!refused.status.success() && text(&refused).contains(says), "{wrong}: {}", text(&refused));
    }
    // And by digest, whatever the tag would be.
    let registry = {
        let (manifest, wasm) = (good.to_string(), wasm.clone());
        Registry::start(move |head, stream| serve(head, stream, manifest.as_bytes(), &wasm))
    };
    let by = |digest: Digest| import(&desk, &[&format!("oci://{}/guests/polite@{digest}", registry.address)]);
    let right = by(Digest::of(good.to_string().as_bytes()));
    assert!(right.status.success() && text(&right).contains("the one that was asked for"), "{}", text(&right));
    let wrong = by(Digest::of(b"other"));
    assert!(text(&wrong).contains("not the one that was asked for"), "{}", text(&wrong));
}

#[test]
fn a_body_without_end_is_left() {
    let desk = Desk::new();
    let wasm = polite();
    let most = wasm.len();
    let manifest = manifest(&wasm).to_string();
    let sent = Arc::new(Mutex::new(0_usize));
    let registry = {
        let sent = Arc::clone(&sent);
        Registry::start(move |head, stream| {
            if head.contains("/manifests/") || head.contains(&Digest::of(b"{}").to_string()) {
                return serve(head, stream, manifest.as_bytes(), b"");
            }
            // Without a length, so that nothing tells how much there will be; and with one that lies would be cut by HTTP.
            let _client_may_be_gone = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
            let piece = vec![0; 65_536];
            while *sent.lock().unwrap() < 1 << 30 && stream.write_all(&piece).is_ok() {
                *sent.lock().unwrap() += piece.len();
            }
        })
    };
    let refused = import(&desk, &[&format!("oci://{}/guests/polite:1.0.0", registry.address)]);
    assert!(text(&refused).contains(&format!("has more than the {most} bytes")), "{}", text(&refused));
    assert!(*sent.lock().unwrap() < 64 << 20, "it was read on");
}

#[test]
fn credentials_go_to_the_registry_and_nowhere_else() {
    let desk = Desk::new();
    let wasm = polite();
    let manifest = manifest(&wasm).to_string();
    let store = {
        let wasm = wasm.clone();
        Registry::start(move |head, stream| {
            let body = if head.contains("/token") { b"{\"token\":\"of-the-thief\"}" } else { &wasm[..] };
            give(stream, "200 OK", "", body);
        })
    };
    let at = store.address.clone();
    let realm = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&realm);
    let registry = Registry::start(move |head, stream| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let token = head.contains("authorization: Bearer");
        if path.starts_with("/token") {
            give(stream, "200 OK", "", b"{\"token\":\"short\"}");
        } else if !token {
            let challenge = format!("www-authenticate: Bearer realm=\"{}\",service=\"x\"\r\n", told.lock().unwrap());
            give(stream, "401 Unauthorized", &challenge, b"");
        } else if path.contains("/manifests/") || path.ends_with(&Digest::of(b"{}").to_string()) {
            serve(head, stream, manifest.as_bytes(), b"");
        } else {
            give(stream, "307 Temporary Redirect", &format!("location: http://{at}/blob?signed=secret\r\n"), b"");
        }
    });
    let import = || {
        let mut command = desk.command("clawhold");
        let source = format!("oci://{}/guests/polite:1.0.0", registry.address);
        command.args(["market", "import", "--plain-http", "--dry-run", "--user", "ci", &source]);
        command.env("CLAWHOLD_REGISTRY_PASSWORD", "hunter2").output().unwrap()
    };
    *realm.lock().unwrap() = format!("http://{}/token", registry.address);
    let done = import();
    assert!(done.status.success(), "{}", text(&done));
    let asked = registry.heads().join("");
    assert!(asked.contains("authorization: Basic") && asked.contains("authorization: Bearer short"), "{asked}");
    assert!(asked.contains("scope=repository%3Aguests%2Fpolite%3Apull"), "it asks to pull, and for nothing else");
    let stored = store.heads().join("");
    assert!(stored.contains("GET /blob?signed=secret") && !stored.to_lowercase().contains("authorization"), "{stored}");
    // One that names another place as its own gets no password there.
    *realm.lock().unwrap() = format!("http://{}/token", store.address);
    import();
    let stored = store.heads().join("");
    assert!(stored.contains("GET /token") && !stored.to_lowercase().contains("authorization"), "{stored}");
}

#[test]
fn a_registry_that_sends_one_in_circles_is_left() {
    let desk = Desk::new();
    for (to, says) in [
        ("/again", "redirects again and again"),
        ("ftp://127.0.0.1/x", "not protected by TLS"),
        ("http://[", "no address"),
    ] {
        let registry = Registry::start(move |_, stream| give(stream, "302 Found", &format!("location: {to}\r\n"), b""));
        let refused = import(&desk, &[&format!("oci://{}/guests/polite:1.0.0", registry.address)]);
        assert!(!refused.status.success() && text(&refused).contains(says), "{to}: {}", text(&refused));
        assert!(registry.heads().len() <= 6, "{to}");
    }
}
