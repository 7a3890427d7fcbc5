use clawhold_skill::http::{Method, Rule};
use clawhold_skill::serde_json::{Value, json};
use clawhold_skill::testing::{Credential, Exchange, Host, Reply};
use clawhold_skill::{Error, testing};

use super::{lookup_account, open_cases};

const API: &str = "https://northwind.my.salesforce.com/services/data/v59.0/query?q=";
const ACCOUNT: &str = "001A0000001AAAAQA2";

fn host(reply: Reply) -> Host {
    Host::new()
        .settings(json!({"instance_url": "https://northwind.my.salesforce.com/"}))
        .secret("salesforce", "test-token")
        .respond(reply)
}

fn any() -> Exchange {
    Exchange::starting_with(Method::Get, API)
}

fn page(records: Value) -> Value {
    json!({"totalSize": records.as_array().unwrap().len(), "done": true, "records": records})
}

#[test]
fn finds_obrien_and_audits_the_id_only() {
    let url = format!(
        "{API}SELECT%20Id%2C%20Name%2C%20Industry%2C%20Website%2C%20Phone%20FROM%20Account%20WHERE%20Name%20%3D%20\
         %27O%5C%27Brien%27%20LIMIT%201"
    );
    let host = host(Exchange::get(&url).json(
        200,
        page(json!([{"attributes": {"type": "Account"}, "Id": ACCOUNT, "Name": "O'Brien", "Industry": "Ports"}])),
    ));

    let account = host.run(|cx| lookup_account(cx, "O'Brien".into())).unwrap().unwrap();

    assert_eq!((account.name.as_str(), account.industry.as_deref()), ("O'Brien", Some("Ports")));
    assert_eq!(host.requests()[0].credential, Some(Credential::Bearer("salesforce".into())));
    let audits = host.audits();
    assert_eq!((audits[0].action.as_str(), audits[0].resource.as_str()), ("crm.account.read", ACCOUNT));
    assert!(!format!("{audits:?}").contains("Brien"));
}

#[test]
fn an_injection_stays_one_literal() {
    let host = host(any().json(200, page(json!([]))));
    assert_eq!(host.call("crm.lookup_account", json!({"name": "x' OR Name LIKE '%"})).unwrap(), Value::Null);
    let url = host.requests()[0].url.clone();
    assert!(url.ends_with("%27x%5C%27%20OR%20Name%20LIKE%20%5C%27%25%27%20LIMIT%201"), "{url}");
    assert_eq!(host.audits(), [], "nothing was read");
}

#[test]
fn lists_open_cases() {
    let host = host(any().json(
        200,
        page(json!([{
            "Id": "500A0000001BBBB", "CaseNumber": "00001026", "Subject": null, "Status": "New",
            "CreatedDate": "2026-01-02T03:04:05.000+0000",
        }])),
    ));
    let cases = host.call("crm.open_cases", json!({"account_id": ACCOUNT, "limit": 5})).unwrap();
    assert_eq!(cases[0]["number"], "00001026");
    assert!(host.requests()[0].url.ends_with("%20LIMIT%205"));
    let audits = host.audits();
    assert_eq!((audits[0].resource.as_str(), &audits[0].detail), (ACCOUNT, &json!({"cases": 1})));
}

#[test]
fn refusals_say_what_to_do() {
    let expired = json!([{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]);
    let limit = json!([{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]);
    let malformed = json!([{"message": "unexpected token: O'Brien", "errorCode": "MALFORMED_QUERY"}]);
    for (reply, kind, says) in [
        (any().json(401, expired), "denied", "secret `salesforce`"),
        (any().json(403, limit), "unavailable", "request limit"),
        (any().text(403, "no"), "denied", "read rights"),
        (any().text(429, ""), "unavailable", "429"),
        (any().text(503, "<html>"), "unavailable", "503"),
        (any().text(302, ""), "failed", "instance_url"),
        (any().json(400, malformed), "failed", "MALFORMED_QUERY"),
        (any().text(200, "<html>"), "failed", "not what was expected"),
        (any().error(Rule::Deadline, "no answer within 10 s"), "unavailable", "10 s"),
        (any().error(Rule::Policy, "host not allowed"), "denied", "not allowed"),
    ] {
        let host = host(reply);
        let error = host.run(|cx| lookup_account(cx, "O'Brien".into())).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(says), "{error}");
        assert!(!error.message().contains("Brien"), "{error}");
        assert_eq!(host.audits(), []);
    }
}

#[test]
fn wrong_input_never_reaches_the_crm() {
    let host = Host::new().settings(json!({"instance_url": "https://northwind.my.salesforce.com"}));
    for (skill, input, says) in [
        ("crm.lookup_account", json!({"name": " "}), "`name`"),
        ("crm.lookup_account", json!({}), "`name`"),
        ("crm.open_cases", json!({"account_id": "001' OR Id != '"}), "`account_id`"),
        ("crm.open_cases", json!({"account_id": ACCOUNT, "limit": 0}), "`limit`"),
        ("crm.open_cases", json!({"account_id": ACCOUNT, "limit": 201}), "`limit`"),
        ("crm.open_cases", json!({"account_id": ACCOUNT, "limit": -1}), "`limit`"),
    ] {
        let error = host.call(skill, input).unwrap_err();
        assert_eq!(error.kind(), "invalid-input");
        assert!(error.message().contains(says), "{error}");
    }
    assert_eq!(host.requests(), []);
}

#[test]
fn an_install_without_settings_or_secret_says_so() {
    let error = Host::new().run(|cx| open_cases(cx, ACCOUNT.into(), None)).unwrap_err();
    assert!(matches!(&error, Error::Failed(message) if message.contains("instance_url")), "{error}");
    let unconnected = Host::new().settings(json!({"instance_url": "https://northwind.my.salesforce.com"}));
    let error = unconnected.run(|cx| open_cases(cx, ACCOUNT.into(), None)).unwrap_err();
    assert!(matches!(&error, Error::Denied(message) if message.contains("`salesforce`")), "{error}");
}

#[test]
fn the_package_offers_two_skills() {
    let names: Vec<String> = testing::skills().into_iter().map(|skill| skill.name).collect();
    assert_eq!(names, ["crm.lookup_account", "crm.open_cases"]);
}
