//! A value that is planted as a secret, used and given away in every way, is found nowhere afterwards.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

use crate::{Desk, root, text};

/// Long enough to be looked for, and with letters that are written otherwise in URLs and base64.
const USED: &str = "pl4nted/used+1f9a2b7c?>>";
const READ: &str = "pl4nted&read=8c77d1e0~??";

/// A server that sends back the head of each request.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    // Ends with the test's process.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", head.len());
            let _client_may_be_gone = stream.write_all(&[answer.as_bytes(), &head].concat());
        }
    });
    origin
}

/// The value in the forms in which it would be found.
fn forms(value: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![value.as_bytes().to_vec(), hex::encode(value).into_bytes()];
    forms.push(hex::encode_upper(value).into_bytes());
    forms.push(value.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}")).into_bytes());
    forms.push(value.replace('/', "%2F").replace('+', "%2B").into_bytes());
    // At each of the three places that it may have in a longer text, without the letters that its neighbours change.
    for before in 0..3 {
        let padded = ["_".repeat(before).as_bytes(), value.as_bytes()].concat();
        for encoded in [BASE64_STANDARD_NO_PAD.encode(&padded), BASE64_URL_SAFE_NO_PAD.encode(&padded)] {
            let skipped = (before * 4).div_ceil(3);
            forms.push(encoded.as_bytes()[skipped..encoded.len() - 1].to_vec());
        }
    }
    forms
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn hostile_20_a_planted_value_is_in_no_file_no_log_and_no_answer() {
    let origin = echo();
    let desk = Desk::new();
    let serve = "env CLAWHOLD_LOG=trace CLAWHOLD_EGRESS_OPEN=127.0.0.1/32 clawhold serve --dev 2> log.txt";
    let mut serving = desk.serve(serve);
    let operator = std::fs::read_to_string(desk.folder.path().join(".clawhold/operator.token")).unwrap();
    let operator = operator.trim().to_owned();
    let mut said = String::new();
    let mut tell = |token: &str, arguments: &[&str], input: Option<&str>| {
        let mut command = desk.command(crate::CLAWHOLD);
        command.env("CLAWHOLD_TOKEN", token).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(input.map_or_else(Stdio::null, |_| Stdio::piped()));
        let mut child = command.spawn().unwrap();
        if let Some(input) = input {
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        }
        let done = child.wait_with_output().unwrap();
        let all = text(&done);
        said += &all;
        (done.status.success(), String::from_utf8(done.stdout).unwrap().trim().to_owned(), all)
    };
    tell(&operator, &["tenant", "create", "acme-corp"], None);
    let token = |role: &[&'static str]| [&["token", "create", "--name", "x", "--role"], role].concat();
    let (_, admin, _) = tell(&operator, &token(&["admin", "--tenant", "acme-corp"]), None);
    let (_, author, _) = tell(&operator, &token(&["publisher", "--publisher", "northwind"]), None);
    let probe = root().join("tests/guests/probe");
    let (published, _, why) = tell(&author, &["skill", "publish", probe.to_str().unwrap()], None);
    assert!(published, "{why}");
    for (name, value) in [("token", "another value"), ("token", USED), ("readable", READ)] {
        assert!(tell(&admin, &["secret", "put", &format!("acme-corp/{name}"), "-"], Some(value)).0);
    }
    let settings = serde_json::json!({ "origin": origin }).to_string();
    let add =
        ["install", "add", "acme-corp", "northwind/probe", "--settings", &settings, "--reveal", "readable", "--yes"];
    let (installed, _, why) = tell(&admin, &add, None);
    assert!(installed, "{why}");

    let url = format!("{origin}/allowed/x");
    let mut runs = vec![serde_json::json!({ "url": url, "with_token": true }).to_string()];
    for place in ["log", "two lines", "error", "panic", "audit", "request", "path", "output"] {
        for form in ["plain", "hex", "percent"] {
            let ask = serde_json::json!({ "name": "readable", "form": form, "place": place, "url": url });
            runs.push(ask.to_string());
        }
    }
    for (at, input) in runs.iter().enumerate() {
        let skill = if at == 0 { "probe.fetch" } else { "probe.leak" };
        let (_, _, all) = tell(&admin, &["invoke", "acme-corp", skill, input], None);
        assert!(at > 0 || all.contains("[redacted: token]"), "the peer sent it back: {all}");
    }
    for arguments in [
        &["secret", "rollback", "acme-corp/token"][..],
        &["secret", "rollback", "acme-corp/token"],
        &["secret", "versions", "acme-corp/token"],
        &["keys", "rotate", "--tenant", "acme-corp"],
        &["run", "list", "acme-corp"],
        &["audit", "list", "acme-corp"],
        &["audit", "verify", "acme-corp"],
        &["usage", "acme-corp"],
        &["--json", "run", "list", "acme-corp"],
        &["--json", "audit", "list", "acme-corp"],
    ] {
        let (done, _, why) = tell(&admin, arguments, None);
        assert!(done, "{arguments:?}: {why}");
    }
    let (_, list, _) = tell(&admin, &["--json", "run", "list", "acme-corp"], None);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    for run in list["items"].as_array().unwrap() {
        tell(&admin, &["--json", "run", "show", "acme-corp", run["id"].as_str().unwrap()], None);
    }
    let (rotated, _, why) = tell(&operator, &["keys", "rotate", "--add-master"], None);
    assert!(rotated, "{why}");
    // What a host leaves behind that had no time to tidy up: the write-ahead log is still there.
    serving.0.kill().unwrap();
    serving.0.wait().unwrap();
    let left = files(desk.folder.path());
    for name in ["clawhold.db", "clawhold.db-wal", "log.txt"] {
        assert!(left.iter().any(|path| path.ends_with(name)), "{name} is not in {left:?}");
    }
    let log = std::fs::read(desk.folder.path().join("log.txt")).unwrap();
    assert!(log.len() > 10_000, "the log has {} bytes: it tells of nothing", log.len());
    let mut places: Vec<(String, Vec<u8>)> = vec![("what was printed".to_owned(), said.into_bytes())];
    places.extend(left.iter().map(|path| (path.display().to_string(), std::fs::read(path).unwrap())));
    let forms = [USED, READ].map(forms).concat();
    let sought = AhoCorasick::new(&forms).unwrap();
    // It is found where it is.
    assert!(sought.is_match(format!("x{}", BASE64_STANDARD_NO_PAD.encode(format!("ab{USED}c"))).as_bytes()));
    for (place, bytes) in &places {
        if let Some(found) = sought.find(bytes) {
            let around = &bytes[found.start().saturating_sub(80)..(found.end() + 80).min(bytes.len())];
            panic!("{place} has it at {}: {}", found.start(), String::from_utf8_lossy(around));
        }
    }
}
