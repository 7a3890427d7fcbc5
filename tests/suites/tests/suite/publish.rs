//! Publishing: what its author is told on the way, and what is kept of native code.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use clawhold_test_support::guest::Guest;
use serde_json::{Value, json};

use crate::support::{TestHost, becomes, probe};

/// Publishes and gives each line of the answer.
fn lines(test: &TestHost, wasm: &[u8], publisher: &str) -> Vec<Value> {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let request = http::Request::post(format!("{}/v1/market/packages", test.url))
        .header("authorization", format!("Bearer {publisher}"))
        .header("accept", "application/x-ndjson");
    let mut answer = agent.run(request.body(wasm.to_vec()).unwrap()).unwrap();
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let text = answer.body_mut().read_to_string().unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_author_is_told_how_far_a_publication_is() {
    let test = TestHost::start();
    let told = lines(&test, probe(), &test.publisher("northwind"));
    let stages: Vec<&str> = told.iter().filter_map(|line| line["stage"].as_str()).collect();
    assert!(stages.contains(&"compiling"), "{told:?}");
    assert_eq!(told.last().unwrap()["published"]["name"], "northwind/probe", "{told:?}");
    // And a refusal is the last line, as the document that it would have been.
    let lies = "(func (export \"clawhold:skill/handler@0.1.0#describe\") (result i32) unreachable)\n\
                (func $run (result i32) (call $yes))";
    let guest = Guest::of("lies", lies);
    let told = lines(&test, &guest.unwrap().wasm, &test.publisher("guests"));
    let problem = &told.last().unwrap()["problem"];
    assert_eq!((&problem["type"], &problem["status"]), (&json!("/problems/package-refused"), &json!(422)), "{told:?}");
}

#[test]
fn hostile_26_native_code_that_was_changed_is_not_run_and_the_operator_is_told() {
    let test = TestHost::start();
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    assert_eq!(test.invoke("acme-corp", &admin, "probe.echo", &json!({ "text": "x" })).status, 200);
    let artifacts = test.folder().join("artifacts");
    assert_eq!(std::fs::metadata(&artifacts).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&artifacts).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    // A host that starts anew has nothing in memory.
    let test = test.restarted("");
    let before = test.host_chain();
    assert_eq!(test.invoke("acme-corp", &admin, "probe.echo", &json!({ "text": "x" })).status, 200);
    let counts = test.host.counts().0;
    assert_eq!((counts.rejected, counts.compiled), (1, 1));
    let patience = Instant::now() + Duration::from_secs(20);
    while test.host_chain() == before {
        assert!(Instant::now() < patience, "the audit log does not tell of it");
        std::thread::yield_now();
    }
}

#[test]
fn an_artifact_directory_that_is_open_to_others_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let artifacts = folder.path().join("artifacts");
    std::fs::create_dir(&artifacts).unwrap();
    std::fs::set_permissions(&artifacts, std::fs::Permissions::from_mode(0o750)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = clawhold_cli::config::Config::default();
    let refused = runtime.block_on(clawhold_cli::serve::host(folder.path(), &config, None)).err().unwrap();
    assert!(format!("{refused:#}").contains("chmod 700"), "{refused:#}");
}

/// A publication has its place before its file is read, so slow ones and large ones cannot pile up.
#[test]
fn publications_under_way_are_bounded_for_each_publisher() {
    use std::io::Write;
    let test = TestHost::start();
    let (slow, other) = (test.publisher("guests"), test.publisher("northwind"));
    let address = test.url.strip_prefix("http://").unwrap();
    let begin = || {
        let mut upload = std::net::TcpStream::connect(address).unwrap();
        write!(
            upload,
            "POST /v1/market/packages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {slow}\r\ncontent-length: 1000\r\n\r\nx"
        )
        .unwrap();
        upload
    };
    let publish = |token: &str| test.ask("POST", "/v1/market/packages", token, Some(b"no package"));
    let mut held = vec![begin(), begin()];
    let refused = || publish(&slow);
    // One that asks takes a place itself, and an upload that comes just then is refused: another takes its part.
    let full = becomes(|| {
        refused().status == 503 || {
            held.push(begin());
            false
        }
    });
    assert!(full, "{}", refused().body);
    assert!(refused().body["detail"].as_str().unwrap().contains("of this publisher"), "{}", refused().body);
    assert!(refused().headers.contains_key("retry-after"));
    assert_eq!(publish(&other).status, 422, "another publisher waits for nobody");
    drop(held);
    assert!(becomes(|| publish(&slow).status == 422), "a place is not given back");
}

#[test]
fn a_package_of_another_publisher_is_refused_and_that_is_noted() {
    let test = TestHost::start();
    let other = test.publisher("guests");
    let before = test.host_chain();
    let refused = test.ask("POST", "/v1/market/packages", &other, Some(crate::support::crm()));
    assert_eq!((refused.status, refused.problem()), (403, "forbidden".to_owned()), "{}", refused.body);
    assert_eq!(test.host_chain(), before + 1);
}
