//! From JSON to a skill and back, and what every failure looks like to a caller.

use std::time::Duration;

use clawhold_skill::audit::{self, Outcome};
use clawhold_skill::http::{self, Method, Rule};
use clawhold_skill::log::{self, Level};
use clawhold_skill::serde_json::{self, json};
use clawhold_skill::testing::{Credential, Exchange, Host};
use clawhold_skill::{Context, Error, data, secret, skill};

#[data]
#[derive(Debug, PartialEq)]
struct Settings {
    greeting: String,
    #[serde(default)]
    loud: bool,
}

/// Greets somebody the way the tenant likes it.
#[skill(name = "demo.greet")]
fn greet(cx: &Context, name: String, times: Option<u8>) -> Result<String, Error> {
    let Settings { greeting, .. } = cx.settings()?;
    Ok(vec![format!("{greeting}, {name}!"); times.unwrap_or(1).into()].join(" "))
}

/// Fails in the way of the standard library.
#[skill(name = "demo.parse")]
fn parse(text: String) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_str(&text)
}

/// Tells what the context says.
#[skill(name = "demo.whoami")]
fn whoami(cx: &Context) -> Vec<String> {
    let times = [cx.now_ms(), cx.deadline_ms()].map(|ms| ms.to_string());
    [cx.tenant_id(), cx.caller(), cx.skill(), &times[0], &times[1]].map(str::to_owned).to_vec()
}

fn host() -> Host {
    Host::new().settings(json!({"greeting": "Moin"}))
}

#[test]
fn a_call_reads_parameters_and_writes_the_answer() {
    for (input, answer) in [
        (json!({"name": "Ada"}), "Moin, Ada!"),
        (json!({"name": "Ada", "times": null}), "Moin, Ada!"),
        (json!({"name": "O'\"\\\u{1f980}", "times": 2}), "Moin, O'\"\\\u{1f980}! Moin, O'\"\\\u{1f980}!"),
    ] {
        assert_eq!(host().call("demo.greet", input).unwrap(), answer);
    }
}

#[test]
fn input_that_does_not_fit_names_the_parameter() {
    for (input, says) in [
        (json!({}), "`name` is missing"),
        (json!({"name": 5}), "`name`: invalid type: integer `5`, expected a string"),
        (json!({"name": "Ada", "times": 256}), "`times`: invalid value: integer `256`, expected u8"),
        (json!({"name": "Ada", "time": 2}), "there is no parameter `time`: this skill takes `name`, `times`"),
        (json!(["Ada"]), "must be a JSON object"),
    ] {
        let error = host().call("demo.greet", input).unwrap_err();
        assert_eq!(error.kind(), "invalid-input");
        assert!(error.message().contains(says), "{error}");
    }
}

#[test]
fn an_unknown_skill_fails_by_name() {
    let error = Host::new().call("demo.gone", json!({})).unwrap_err();
    assert_eq!(error, Error::failed("this package has no skill `demo.gone`"));
}

#[test]
fn the_context_is_what_the_host_says() {
    let host = Host::new().tenant("acme-corp").caller("token:ci").now_ms(5_000);
    assert_eq!(
        host.call("demo.whoami", json!({})).unwrap(),
        json!(["acme-corp", "token:ci", "demo.whoami", "5000", "15000"])
    );
}

#[test]
fn settings_that_do_not_fit_say_what_is_wrong() {
    assert_eq!(host().run(Context::settings::<Settings>).unwrap().greeting, "Moin");
    let error = Host::new().call("demo.greet", json!({"name": "Ada"})).unwrap_err();
    assert_eq!(error.kind(), "failed");
    assert!(error.message().contains("settings of this install") && error.message().contains("`greeting`"), "{error}");
}

#[test]
fn a_skill_may_have_an_error_of_its_own() {
    let error = Host::new().call("demo.parse", json!({"text": "{"})).unwrap_err();
    assert!(matches!(error, Error::Failed(_)), "{error}");
}

#[test]
fn every_rule_of_http_has_a_kind() {
    for (rule, kind) in [
        (Rule::InvalidRequest, "failed"),
        (Rule::Policy, "denied"),
        (Rule::Credential, "denied"),
        (Rule::Address, "denied"),
        (Rule::Dns, "unavailable"),
        (Rule::Connect, "unavailable"),
        (Rule::Tls, "failed"),
        (Rule::Protocol, "failed"),
        (Rule::Size, "failed"),
        (Rule::Deadline, "unavailable"),
        (Rule::Budget, "failed"),
        (Rule::Unavailable, "unavailable"),
    ] {
        let host = Host::new().respond(Exchange::get("https://a.example/").error(rule, "because"));
        let error = host.run(|_| http::get("https://a.example/").send()).unwrap_err();
        assert_eq!(Error::from(error).kind(), kind, "{rule:?}");
    }
}

#[test]
fn every_status_has_a_kind() {
    for (status, kind) in [
        (400, "failed"),
        (401, "denied"),
        (403, "denied"),
        (404, "failed"),
        (408, "unavailable"),
        (429, "unavailable"),
        (500, "unavailable"),
        (503, "unavailable"),
    ] {
        let host = Host::new().respond(Exchange::get("https://a.example/x?token=1").text(status, "no"));
        let error = host.run(|_| http::get("https://a.example/x?token=1").send()?.error_for_status()).unwrap_err();
        assert_eq!(error.status(), Some(status));
        let error = Error::from(error);
        assert_eq!((error.kind(), error.message()), (kind, &*format!("GET https://a.example/x answered {status}")));
    }
}

#[test]
fn a_request_is_what_was_built() {
    let host = Host::new()
        .secret("api", r#"{"user": "u", "pass": "p"}"#)
        .respond(Exchange::matching(|_| true).json(200, json!({"ok": true})).header("X-Rest", "9"));
    let response = host.run(|_| {
        let api = secret("api")?;
        let request = http::put("https://a.example/things?v=1")
            .query("q", "a b&c=d#e%f+ü/'")
            .query("n", 7)
            .header("Accept", "application/json")
            .json(&json!({"a": 1}))
            .timeout(Duration::from_micros(1500))
            .basic(&api.field("user")?, &api.field("pass")?);
        Ok::<_, Error>(request.send()?)
    });
    let response = response.unwrap();
    assert_eq!((response.status(), response.header("x-rest")), (200, Some("9")));
    assert_eq!(response.json::<serde_json::Value>().unwrap(), json!({"ok": true}));
    let sent = &host.requests()[0];
    assert_eq!(sent.url, "https://a.example/things?v=1&q=a%20b%26c%3Dd%23e%25f%2B%C3%BC%2F%27&n=7");
    assert_eq!((sent.method, sent.timeout_ms, sent.json()), (Method::Put, Some(1), json!({"a": 1})));
    assert!(sent.headers.contains(&("content-type".into(), "application/json".into())));
    let credential = Credential::Basic { username: "api.user".into(), password: "api.pass".into() };
    assert_eq!(sent.credential, Some(credential));
}

#[test]
fn secrets_are_used_and_not_seen() {
    // RFC 4231, test case 2.
    const JEFE: &str = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let host = Host::new().secret("key", "Jefe").secret("open", r#"{"a": "b", "n": 1}"#).allow_reveal("open");
    host.run(|_| {
        let key = secret("key")?;
        let code = key.hmac_sha256(b"what do ya want for nothing?")?;
        assert_eq!(code.map(|byte| format!("{byte:02x}")).concat(), JEFE);
        assert_eq!(format!("{key:?}"), r#"Secret("key")"#);
        assert_eq!(Error::from(key.reveal().unwrap_err()).kind(), "denied");
        assert_eq!(Error::from(key.field("a").unwrap_err()).kind(), "failed");
        assert_eq!(Error::from(secret("gone").unwrap_err()).kind(), "denied");
        let open = secret("open")?;
        assert_eq!(open.field("a")?.reveal()?, "b");
        assert!(open.field("n").is_err(), "a number is no field");
        Ok::<_, Error>(())
    })
    .unwrap();
}

#[test]
fn audit_entries_and_log_lines_are_seen() {
    let host = Host::new();
    host.run(|_| {
        audit::success("a.read", "1")?;
        audit::record("a.read", "2", Outcome::Denied, &json!({"why": "no"}))?;
        assert!(matches!(audit::record("a.read", "3", Outcome::Success, &"text"), Err(audit::Error::Invalid(_))));
        assert!(matches!(audit::success(&"x".repeat(65), "3"), Err(audit::Error::Invalid(_))));
        log::info!("read {} of {total}", 1, total = 2);
        Ok::<_, Error>(())
    })
    .unwrap();
    let audits = host.audits();
    assert_eq!(audits.len(), 2);
    assert!(audits[0].detail.is_null());
    assert_eq!((audits[1].outcome, &audits[1].detail), (Outcome::Denied, &json!({"why": "no"})));
    assert_eq!((host.logs()[0].level, host.logs()[0].message.as_str()), (Level::Info, "read 1 of 2"));
}

#[test]
fn answers_are_given_in_order_when_they_are_given_once() {
    let url = "https://a.example/poll";
    let host =
        Host::new().respond(Exchange::get(url).text(202, "").once()).respond(Exchange::get(url).text(200, "done"));
    let statuses = host.run(|_| [(); 3].map(|()| http::get(url).send().unwrap().status()));
    assert_eq!(statuses, [202, 200, 200]);
}

#[test]
#[should_panic(
    expected = "no answer is scripted for DELETE https://a.example/1; scripted are:\n  GET https://a.example/1"
)]
fn a_request_that_nobody_scripted_is_named() {
    let host = Host::new().respond(Exchange::get("https://a.example/1").text(200, ""));
    let _ = host.run(|_| http::delete("https://a.example/1").send());
}

#[test]
#[should_panic(expected = "only inside of `clawhold_skill::testing::Host::run`")]
fn a_skill_without_a_host_is_told_so() {
    let _ = secret("x");
}
