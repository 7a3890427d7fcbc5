//! A host that is killed while it seals everything anew.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::faults::Prepared;
use crate::{CLAWHOLD, Desk, Serving};

const SECRETS: usize = 60;
const KILLS: u64 = 6;

fn ask(desk: &Desk, token: &str, method: http::Method, path: &str, body: &Value) -> Value {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{}/v1/{path}", desk.url))
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(body.to_string())
        .unwrap();
    let mut answer = agent.run(request).unwrap();
    let said: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    assert!(answer.status().is_success(), "{path}: {said}");
    said
}

#[test]
fn a_rotation_that_is_killed_again_and_again_is_gone_on_with_and_loses_nothing() {
    let desk = Desk::new();
    let (prepared, mut serving) = Prepared::at(desk, "clawhold serve --dev");
    let (desk, admin, operator) = (&prepared.desk, &prepared.admin, &prepared.operator);
    desk.done(operator, &["tenant", "set-quota", "acme-corp", "--max-secrets=1000"]);
    for (secret, text) in (0..SECRETS).flat_map(|n| [(n, "one"), (n, "two")]) {
        let path = format!("tenants/acme-corp/secrets/s{secret}");
        ask(desk, admin, http::Method::PUT, &path, &json!({ "value": format!("{text}-{secret}") }));
    }
    let mut made_before: Option<String> = None;
    for kill in 0..KILLS {
        let mut command = desk.command(CLAWHOLD);
        command.args(["--token", operator, "keys", "rotate"]).stdout(Stdio::null()).stderr(Stdio::piped());
        command.args(made_before.iter().flat_map(|time| ["--made-before", time]));
        let rotating = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + 17 * kill));
        serving.0.kill().unwrap();
        serving.0.wait().unwrap();
        let said = String::from_utf8(rotating.wait_with_output().unwrap().stderr).unwrap();
        let told = said.split("--made-before ").nth(1).and_then(|rest| rest.split_whitespace().next());
        made_before = made_before.or(told.map(ToOwned::to_owned));
        serving = Serving::nothing();
        drop(std::mem::replace(&mut serving, desk.serve("clawhold serve --dev")));
    }
    let made_before = made_before.unwrap_or_else(|| "2001-01-01T00:00:00Z".to_owned());
    let again = ["keys", "rotate", "--made-before", &made_before];
    assert!(desk.done(operator, &again).contains("keys of the host and of 1 of 1 tenants are new"));
    let rest = ask(
        desk,
        operator,
        http::Method::POST,
        "tenants/acme-corp/keys/rotate",
        &json!({ "made_before": made_before }),
    );
    assert_eq!((&rest["resealed"], &rest["is_new"]), (&json!(0), &json!(false)), "{rest}");
    // Each value opens, the older one too.
    for secret in 0..SECRETS {
        let path = format!("tenants/acme-corp/secrets/s{secret}/rollback");
        let back = ask(desk, admin, http::Method::POST, &path, &json!({ "version": 1 }));
        assert_eq!(back["version"], 3);
    }
    assert!(desk.done(admin, &["audit", "verify", "acme-corp"]).contains("unbroken"));
    assert!(serving.terminate().success());
}
