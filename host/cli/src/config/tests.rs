use std::time::Duration;

use clawhold_capabilities::Roots;

use super::*;

#[track_caller]
fn refused(text: &str, expected: &[&str]) {
    let loaded = Config::parse(text).and_then(|config| config.check().map(|()| config));
    let said = format!("{:#}", loaded.expect_err(text));
    for part in expected {
        assert!(said.contains(part), "{said:?} does not say {part:?}");
    }
}

#[test]
fn hostile_45_a_configuration_with_a_mistake_is_refused_and_the_place_is_named() {
    refused("listn: 127.0.0.1:1\n", &["listn", "line 1", "listen"]);
    refused("listen: 127.0.0.1:1\negress:\n  opne: []\n", &["opne", "line 3"]);
    refused("listen: everywhere\n", &["line 1"]);
    refused("egress:\n  open: [10.0.0.0/33]\n", &["line 2"]);
    refused("egress:\n  tenants: {Acme: {open: []}}\n", &["line 2"]);
    refused("egress:\n  tenants:\n    acme-corp:\n      opne: []\n", &["opne", "line 4"]);
    refused("egress:\n  allow: ['https://x.com/']\n", &["https://x.com/", "line 2"]);
    refused("egress:\n  deny: ['*.com.*']\n", &["*.com.*", "line 2"]);
    refused("egress:\n  dns: [resolver]\n", &["resolver", "10.0.0.2", "line 2"]);
    for proxy in ["https://proxy:3128", "proxy:3128", "http://user:hunter2@proxy:3128", "http://"] {
        refused(&format!("egress:\n  proxy: {proxy}\n"), &["egress.proxy", "http://host:port"]);
    }
    refused("egress:\n  requests_at_once: 0\n", &["egress.requests_at_once", "1 to 10000"]);
    refused("egress:\n  first_byte_s: 0\n", &["egress.first_byte_s", "1 to 3600"]);
    refused("secrets:\n  on_leak: shout\n", &["line 2"]);
    refused("tenant_quotas:\n  acme-corp:\n    max_runs: 1\n", &["max_runs", "line 3", "max_concurrent_runs"]);
    refused("tenant_quotas:\n  acme-corp:\n    max_concurrent_runs: -1\n", &["line 3"]);
    refused(
        "tenant_quotas:\n  acme-corp:\n    max_concurrent_runs: 0\n",
        &["max_concurrent_runs", "use 1 to 100000 (runs)"],
    );
    refused("tenant_quotas:\n  Acme:\n    max_concurrent_runs: 1\n", &["Acme", "tenant's id"]);
    refused("tenant_quotas:\n  acme-corp:\n    max_fuel_per_minute: 99999999999999999999\n", &["line 3"]);
    refused("tenant_quotas:\n  acme-corp:\n    max_memory_mb: 512 MiB\n", &["line 3"]);
    refused("tenant_quotas:\n  default:\n    max_queue: 10001\n", &["default.max_queue", "0 to 10000"]);
    refused("quota_ceiling:\n  max_runs: 3\n", &["max_runs", "line 2"]);
    let above = "quota_ceiling:\n  max_installs: 5\ntenant_quotas:\n  pro:\n    max_installs: 6\n";
    refused(above, &["tenant_quotas.pro.max_installs", "above the operator's ceiling of 5"]);
    refused("tiers: [Gold]\n", &["line 1", "a-z"]);
    refused("limiter:\n  hosts: 0\n", &["limiter.hosts", "1 to 10000"]);
    let both = "limiter:\n  redis_url: redis://a\n  redis_cluster: [redis://b]\n";
    refused(both, &["limiter", "redis_url or redis_cluster"]);
    refused("metrics:\n  tenants: 1001\n", &["metrics", "1000"]);
    refused("limits:\n  memory_mb: 4096\n", &["limits.memory_mb", "1 to 128"]);
    refused("limits:\n  memory_mb: 64 MiB\n", &["line 2"]);
    refused("limits:\n  scratch_mb: 4096\n", &["limits.scratch_mb", "0 to 1024"]);
    refused("require_pure: sometimes\n", &["line 1"]);
    refused("tenant_quotas:\n  acme-corp:\n    require_pur: true\n", &["require_pur", "line 3", "require_pure"]);
    refused("run_slots: 0\n", &["run_slots"]);
    refused("compute_slots: 0\n", &["compute_slots", "1 to 1024"]);
    refused("compute_slots: 1025\n", &["compute_slots", "1 to 1024"]);
    refused("database_connections: 0\n", &["database_connections"]);
    refused("audit:\n  heads_interval_s: 0\n", &["audit.heads_interval_s"]);
    refused("audit:\n  heads_fil: x\n", &["heads_fil", "line 2"]);
    refused("listen: [\n", &["line"]);
}

#[test]
fn each_key_of_egress_is_what_skills_meet() {
    let text = "egress:\n  open: [10.20.0.0/16]\n  tenants: {acme-corp: {open: [10.30.5.7/32]}}\n  \
                allow: ['*.salesforce.com']\n  deny: [pastebin.com]\n  dns: [10.0.0.2, '127.0.0.1:5353', '::1']\n  \
                proxy: http://10.0.0.3:3128\n  roots: bundled\n  requests_at_once: 7\n  first_byte_s: 9\n";
    let config = Config::parse(text).unwrap();
    let settings = config.egress.settings().unwrap();
    assert_eq!(settings.rule.open, ["10.20.0.0/16".parse().unwrap()]);
    assert_eq!(settings.tenants[&"acme-corp".parse().unwrap()], ["10.30.5.7/32".parse().unwrap()]);
    let dns: Vec<String> = settings.dns.iter().map(ToString::to_string).collect();
    assert_eq!(dns, ["10.0.0.2:53", "127.0.0.1:5353", "[::1]:53"]);
    assert_eq!(settings.proxy.unwrap().to_string(), "http://10.0.0.3:3128/");
    assert!(matches!(settings.roots, Roots::Bundled));
    assert_eq!((settings.at_once, settings.first_byte), (7, Duration::from_secs(9)));
    let ceiling = config.egress.ceiling();
    let reaches = |url: &str| ceiling.check(&url.parse().unwrap()).is_ok();
    assert!(reaches("https://acme.salesforce.com/") && !reaches("https://example.com/"));
    assert!(!reaches("https://pastebin.com/"));
    let usual = Config::parse("").unwrap().egress.settings().unwrap();
    assert!(matches!(usual.roots, Roots::Platform) && usual.proxy.is_none() && usual.dns.is_empty());
    assert_eq!((usual.at_once, usual.first_byte), (64, Duration::from_secs(30)));
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "listen: 127.0.0.1:1\nlimits:\n  fuel: 5\n").unwrap();
    let env = HashMap::from([
        ("CLAWHOLD_LISTEN".to_owned(), "127.0.0.1:2".to_owned()),
        ("CLAWHOLD_EGRESS_OPEN".to_owned(), "10.0.0.0/8, fd00::/8".to_owned()),
        ("CLAWHOLD_TENANT_QUOTAS".to_owned(), "{default: {max_concurrent_runs: 3}}".to_owned()),
    ]);
    let config = Config::load(Some(file.path()), &env).unwrap();
    assert_eq!(config.listen, Some("127.0.0.1:2".parse().unwrap()));
    assert_eq!((config.ceiling().fuel, config.egress.open.len()), (5, 2));
    assert_eq!(config.tenant_quotas["default"].max_concurrent_runs, Some(3));
    let wrong = HashMap::from([("CLAWHOLD_RUN_SLOTS".to_owned(), "many".to_owned())]);
    assert!(Config::load(None, &wrong).unwrap_err().to_string().contains("CLAWHOLD_RUN_SLOTS"));
}
