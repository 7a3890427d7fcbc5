//! Tokens that are refused: whose token it is, is told.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::{TestHost, becomes};

#[test]
fn refused_tokens_are_told_to_their_tenant_in_sum_on_sqlite() {
    told_in_sum(TestHost::start(), "");
}

#[test]
fn refused_tokens_are_told_to_their_tenant_in_sum_on_postgres() {
    let test = TestHost::on_postgres();
    let yaml = format!("database_url: {}\n", test.postgres.as_ref().unwrap().app);
    told_in_sum(test, &yaml);
}

fn told_in_sum(test: TestHost, yaml: &str) {
    let admin = test.tenant("acme-corp");
    let globex = test.tenant("globex");
    let made = |name: &str, expires: Option<&str>| {
        let body = json!({ "name": name, "role": "caller", "expires": expires });
        let made = test.send("POST", "/v1/tenants/acme-corp/tokens", &test.operator, &body).ok();
        ["id", "token"].map(|key| made[key].as_str().unwrap().to_owned())
    };
    let (guessed, revoked) = (made("guessed", None), made("revoked", None));
    let short = OffsetDateTime::now_utc() + Duration::from_millis(300);
    let expired = made("expired", Some(&short.format(&Rfc3339).unwrap()));
    test.ask("DELETE", &format!("/v1/tenants/acme-corp/tokens/{}", revoked[0]), &admin, None);
    let skills = "/v1/tenants/acme-corp/skills";
    let refused = |token: &str| test.get(skills, token).status == 401;
    assert!(becomes(|| refused(&expired[1])));
    for _ in 0..40 {
        assert!(refused(&format!("clw_{}_wrong", guessed[0])) && refused(&revoked[1]));
        assert!(refused("clw_0123456789abcdef_unknown"));
    }
    let entries = |test: &TestHost| {
        let mut entries = test.audit("acme-corp", &admin);
        entries.retain(|entry| entry["action"] == "token.refuse");
        entries
    };
    // The first of each is told within a second or two, while the host runs.
    assert!(becomes(|| entries(&test).len() >= 3));
    assert!(refused(&revoked[1]));
    // What was counted and not told yet is told when the host ends.
    let test = test.restarted(yaml);
    let entries = entries(&test);
    assert!(entries.len() <= 3 + 2, "{entries:?}");
    let times = |token: &[String; 2], why: &str| -> u64 {
        let of_it = entries.iter().filter(|entry| entry["resource"] == format!("token:{}", token[0]));
        of_it
            .map(|entry| {
                let detail = &entry["detail"];
                assert_eq!((&detail["why"], &detail["last_from"]), (&json!(why), &json!("127.0.0.1")), "{entry}");
                assert_eq!((&entry["outcome"], &entry["actor"]), (&json!("denied"), &json!("host:authentication")));
                detail["times"].as_u64().unwrap()
            })
            .sum()
    };
    assert_eq!(times(&guessed, "wrong secret"), 40);
    assert_eq!(times(&revoked, "revoked"), 41);
    assert!(times(&expired, "expired") >= 1);
    assert!(test.audit("globex", &globex).iter().all(|entry| entry["action"] != "token.refuse"));
    assert_eq!(test.get("/v1/tenants/acme-corp/audit/verify", &admin).ok()["verified"], json!(true));
}
