use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Crm, Customer, SAMPLES, serve};

async fn start() -> Crm {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let customers = SAMPLES.map(|name| Customer::sample(name, &format!("{name}-token")).unwrap());
    serve(listener, customers.into()).unwrap()
}

async fn get(url: String, token: &'static str) -> (u16, Value) {
    let ask = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(&url).header("authorization", format!("Bearer {token}")).call().unwrap();
        (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// `soql` with the few characters escaped that a URL needs.
async fn query(crm: &Crm, soql: &str, token: &'static str) -> (u16, Value) {
    let q = soql.replace('%', "%25").replace('&', "%26").replace(' ', "+");
    get(format!("{}/services/data/v59.0/query?q={q}", crm.url()), token).await
}

fn names(answer: &Value) -> Vec<&str> {
    answer["records"].as_array().unwrap().iter().map(|record| record["Name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_token_shows_its_own_customers_data_only() {
    let crm = start().await;
    let soql = r"SELECT Id, Name FROM Account WHERE Name = 'O\'Brien & Sons'";
    let (status, acme) = query(&crm, soql, "acme-corp-token").await;
    let (_, globex) = query(&crm, soql, "globex-token").await;
    assert_eq!((status, &acme["totalSize"], &acme["done"]), (200, &json!(1), &json!(true)));
    assert_eq!(names(&acme), names(&globex));
    assert_ne!(acme["records"][0]["Id"], globex["records"][0]["Id"]);

    let all = "SELECT Name FROM Account ORDER BY Name";
    let (_, acme) = query(&crm, all, "acme-corp-token").await;
    let (_, globex) = query(&crm, all, "globex-token").await;
    assert_eq!(names(&acme), ["Harbour Lights", "Meridian Tools", "O'Brien & Sons"]);
    assert_eq!(names(&globex), ["O'Brien & Sons", "Polar Optics"]);
}

#[tokio::test]
async fn a_name_that_is_pasted_into_the_query_can_read_everything() {
    let crm = start().await;
    let name = "x' OR Name LIKE '%";
    let pasted = format!("SELECT Name FROM Account WHERE Name = '{name}'");
    let escaped = format!("SELECT Name FROM Account WHERE Name = '{}'", name.replace('\'', r"\'"));
    let (_, open) = query(&crm, &pasted, "acme-corp-token").await;
    let (_, closed) = query(&crm, &escaped, "acme-corp-token").await;
    assert_eq!(names(&open).len(), 3, "a skill that pastes must fail its tests here");
    assert!(names(&closed).is_empty());
}

#[tokio::test]
async fn errors_are_lists_as_the_api_has_them() {
    let crm = start().await;
    let (status, answer) = query(&crm, "SELECT Id FROM Account", "a-guess").await;
    assert_eq!(status, 401);
    assert_eq!(answer, json!([{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]));
    let (status, answer) = query(&crm, "SELECT Id FROM", "globex-token").await;
    assert_eq!((status, &answer[0]["errorCode"]), (400, &json!("MALFORMED_QUERY")));
    let (status, answer) = get(format!("{}/services/data/v59.0/limits", crm.url()), "globex-token").await;
    assert_eq!((status, &answer[0]["errorCode"]), (404, &json!("NOT_FOUND")));
    assert_eq!(crm.refused(), 1);
}

#[tokio::test]
async fn what_was_seen_names_no_credential() {
    let crm = start().await;
    for _ in 0..2 {
        query(&crm, "SELECT Id FROM Account", "acme-corp-token").await;
    }
    query(&crm, "SELECT Id FROM Case", "globex-token").await;
    let (_, seen) = get(format!("{}/__seen", crm.url()), "").await;
    let [acme, globex] = [&seen["customers"][0], &seen["customers"][1]];
    assert_eq!((&acme["customer"], &acme["requests"]), (&json!("acme-corp"), &json!(2)));
    assert_eq!((&globex["customer"], &globex["requests"]), (&json!("globex"), &json!(1)));
    assert_ne!(acme["credentials"], globex["credentials"]);
    assert_eq!(acme["credentials"].as_array().unwrap().len(), 1);
    assert_eq!(globex["last_query"], "SELECT Id FROM Case");
    assert!(!seen.to_string().contains("-token"), "{seen}");
    assert_eq!(crm.seen("acme-corp").requests, 2);
}

#[test]
fn a_customer_is_printed_without_its_token() {
    let customer = Customer::sample("globex", "very-secret").unwrap();
    assert!(!format!("{customer:?}").contains("very-secret"));
}
