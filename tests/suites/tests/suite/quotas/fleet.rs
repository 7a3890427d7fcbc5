//! Two whole hosts with one Redis and one PostgreSQL.

use clawhold_test_support::redis::Redis;
use serde_json::json;

use super::{QUOTA, echo, of};
use crate::support::{TestHost, becomes};

#[test]
fn two_hosts_share_quotas_and_what_is_said_of_them() {
    let mut redis = Redis::start().unwrap();
    let yaml = format!("limiter:\n  redis_url: {}\n", redis.url());
    let one = TestHost::on_postgres_with(&yaml);
    let database = one.postgres.as_ref().unwrap().app.clone();
    let other = TestHost::beside(&one, &format!("{yaml}database_url: {database}\n"));
    let admin = one.with_probe("acme-corp", "https://acme.example.com");
    let hosts = |of: &TestHost, line: &str| of.host.metrics().lines().any(|known| known == line);
    assert!(becomes(|| hosts(&one, "clawhold_limiter_hosts 2") && hosts(&other, "clawhold_limiter_hosts 2")));
    for test in [&one, &other] {
        echo(test, &admin).ok();
    }
    // What is said on one host holds on the other within a second.
    one.send("PATCH", QUOTA, &one.operator, &json!({ "max_skill_calls_per_minute": 12 })).ok();
    let began = std::time::Instant::now();
    assert!(becomes(|| of(&other.get(QUOTA, &admin).ok(), "max_skill_calls_per_minute").0 == 12));
    while other.get("/v1/tenants/acme-corp/usage", &admin).ok()["dimensions"][0]["limit"] != 12 {
        assert!(began.elapsed().as_millis() < 1000);
    }
    let mut admitted = 2;
    for _ in 0..10 {
        for test in [&one, &other] {
            admitted += u64::from(echo(test, &admin).status == 200);
        }
    }
    assert!((12..=14).contains(&admitted), "{admitted} of 12, and what runs off meanwhile");
    // Both show what was used on either.
    for test in [&one, &other] {
        let usage = test.get("/v1/tenants/acme-corp/usage", &admin).ok();
        assert!(usage["dimensions"][0]["used"].as_u64().unwrap() >= 10, "{usage}");
    }
    // Without Redis each goes on with its half, says so, and comes back.
    redis.tell("stop").unwrap();
    one.send("PATCH", QUOTA, &one.operator, &json!({ "max_skill_calls_per_minute": 2000 })).ok();
    assert!(becomes(|| echo(&other, &admin).status == 200 && hosts(&other, "clawhold_limiter_apart 1")));
    assert!(becomes(|| echo(&one, &admin).headers["ratelimit-policy"] == "\"max_skill_calls_per_minute\";q=1000;w=60"));
    redis.tell("start").unwrap();
    assert!(becomes(|| hosts(&one, "clawhold_limiter_apart 0") && hosts(&other, "clawhold_limiter_apart 0")));
    assert!(becomes(|| echo(&one, &admin).headers["ratelimit-policy"] == "\"max_skill_calls_per_minute\";q=2000;w=60"));
}
