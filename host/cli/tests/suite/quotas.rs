//! Quotas at the terminal, and what those who watch the host read.

use std::io::Write as _;
use std::process::{Command, Stdio};

use clawhold_test_support::redis::Redis;

use crate::faults::Prepared;
use crate::{Desk, Serving, text};

fn prepared(yaml: &str) -> (Prepared, Serving) {
    let desk = Desk::new();
    std::fs::write(desk.folder.path().join("clawhold.yaml"), yaml).unwrap();
    Prepared::at(desk, "clawhold serve --dev --config clawhold.yaml")
}

impl Prepared {
    /// What a command says, and its exit code.
    fn says(&self, token: &str, arguments: &[&str]) -> (String, i32) {
        let done = self.desk.command(crate::CLAWHOLD).args(arguments).env("CLAWHOLD_TOKEN", token).output().unwrap();
        (text(&done), done.status.code().unwrap())
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn an_operator_sets_a_quota_and_an_admin_sees_what_is_used() {
    let (prepared, _serving) = prepared("tenant_quotas:\n  default:\n    max_skill_calls_per_minute: 500\n");
    let operator = |arguments: &[&str]| prepared.says(&prepared.operator, arguments);
    let admin = |arguments: &[&str]| prepared.says(&prepared.admin, arguments);
    let (said, code) = operator(&["tenant", "set-quota", "acme-corp", "--max-runs", "10", "--max-queue=5"]);
    assert_eq!(code, 0, "{said}");
    let (shown, _) = admin(&["tenant", "quota", "show", "acme-corp"]);
    let row = |of: &str, key: &str| -> Vec<String> {
        let line = of.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("no {key} in {of}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row(&shown, "max_concurrent_runs"), ["max_concurrent_runs", "10", "runs", "override"]);
    assert_eq!(row(&shown, "max_memory_mb"), ["max_memory_mb", "512", "MiB", "built-in"]);
    operator(&["tenant", "set-quota", "acme-corp", "--max-skill-calls-per-minute", "inherit"]);
    let (shown, _) = admin(&["tenant", "quota", "show", "acme-corp"]);
    assert_eq!(row(&shown, "max_skill_calls_per_minute")[3], "default");
    for (wrong, says) in [("-1", "1 to 100000"), ("1000000", "1 to 100000"), ("ten", "or `inherit`")] {
        let (said, code) = operator(&["tenant", "set-quota", "acme-corp", &format!("--max-runs={wrong}")]);
        assert!(code == 2 && said.contains("--max-concurrent-runs") && said.contains(says), "{said}");
    }
    assert_eq!(operator(&["tenant", "set-quota", "acme-corp"]).1, 2, "it changes nothing");
    let (said, code) = operator(&["tenant", "set-tier", "acme-corp", "gold"]);
    assert!(code == 3 && said.contains("standard, free, pro, enterprise"), "{said}");
    assert_eq!(operator(&["tenant", "set-tier", "acme-corp", "pro"]).1, 0);
    assert_eq!(admin(&["tenant", "set-quota", "acme-corp", "--max-runs", "99"]).1, 3);

    let greet = ["invoke", "acme-corp", "hello.greet", "{\"name\": \"Ada\"}"];
    assert_eq!(admin(&greet).1, 0);
    let (screen, _) = admin(&["usage", "acme-corp"]);
    assert!(screen.contains("max_skill_calls_per_minute") && screen.contains("hello.greet"), "{screen}");
    assert_eq!(row(&screen, "max_installs")[1..5], ["[#...................]", "1", "of", "100"]);
    assert_eq!(row(&screen, "hello.greet")[1..4], ["1", "100", "%"]);
    let (json, _) = admin(&["--json", "usage", "acme-corp"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["skills"][0]["calls"], 1);

    // What it says when a quota is used up, and what it does when it is told to be patient.
    operator(&["tenant", "set-quota", "acme-corp", "--max-skill-calls-per-minute", "30"]);
    let busy: Vec<_> = (0..40).map(|_| admin(&greet)).filter(|(_, code)| *code != 0).collect();
    let (said, code) = busy.first().expect("thirty at once");
    assert_eq!(*code, 3);
    for part in ["A quota is used up", "of 30 max_skill_calls_per_minute", "call again in", "--retry", "clawhold usage"]
    {
        assert!(said.contains(part), "{said}");
    }
    let (said, code) = admin(&["invoke", "--retry", "acme-corp", "hello.greet", "{\"name\": \"Ada\"}"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("; try 1 of 5 in "), "{said}");
}

#[test]
fn a_screen_that_is_watched_follows() {
    let (prepared, _serving) = prepared("");
    let greet = ["invoke", "acme-corp", "hello.greet", "{\"name\": \"Ada\"}"];
    let mut watching = prepared
        .desk
        .command(crate::CLAWHOLD)
        .args(["usage", "acme-corp", "--watch", "--every", "1"])
        .env("CLAWHOLD_TOKEN", &prepared.admin)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(watching.stdout.take().unwrap()));
    let (mut seen, mut screens) = (Vec::new(), 0);
    for line in lines.map_while(Result::ok) {
        if line.starts_with("acme-corp") {
            screens += 1;
            assert!(screens < 20, "it is called and not shown");
        }
        if line.starts_with("hello.greet") {
            seen.push(line.split_whitespace().nth(1).unwrap().to_owned());
            if seen.last().is_some_and(|calls| calls == "2") {
                break;
            }
        }
        // Each call after a screen without it.
        if line.starts_with("max_skill_calls_per_minute") && screens <= 2 {
            assert_eq!(prepared.says(&prepared.admin, &greet).1, 0);
        }
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert_eq!(seen.last().unwrap(), "2", "{seen:?}");
}

#[test]
fn use_of_a_host_that_was_killed_is_exact_to_one_interval() {
    let (prepared, serving) = prepared("");
    let greet = ["invoke", "acme-corp", "hello.greet", "{\"name\": \"Ada\"}"];
    for _ in 0..3 {
        assert_eq!(prepared.says(&prepared.admin, &greet).1, 0);
    }
    // What is counted is written every ten seconds.
    std::thread::sleep(std::time::Duration::from_secs(11));
    // It is killed when this is dropped.
    drop(serving);
    let _serving = prepared.desk.serve("clawhold serve --dev --config clawhold.yaml");
    let (json, _) = prepared.says(&prepared.admin, &["--json", "usage", "acme-corp"]);
    let usage: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(usage["skills"][0]["calls"], 3, "{usage}");
}

#[test]
fn metrics_pass_the_check_of_prometheus_itself() {
    let port = free_port();
    let (prepared, _serving) = prepared(&format!("operations_listen: 127.0.0.1:{port}\n"));
    let greet = ["invoke", "acme-corp", "hello.greet", "{\"name\": \"Ada\"}"];
    assert_eq!(prepared.says(&prepared.admin, &greet).1, 0);
    let get = |path: &str| ureq::get(format!("http://127.0.0.1:{port}{path}")).call();
    let mut answer = get("/metrics").unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let metrics = answer.body_mut().read_to_string().unwrap();
    assert!(metrics.contains("clawhold_runs_total{reason=\"ok\",tenant_id=\"other\"} 1"), "{metrics}");
    assert!(metrics.contains("process_resident_memory_bytes"), "{metrics}");
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool; `cargo xtask test` installs it, as root");
    check.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let said = check.wait_with_output().unwrap();
    assert!(said.status.success() && text(&said).is_empty(), "{}", text(&said));
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let mut redis = Redis::start().unwrap();
    let yaml = format!("limiter:\n  redis_url: {}\n", redis.url());
    let (prepared, _serving) = prepared(&yaml);
    let well = prepared.says(&prepared.operator, &["doctor"]);
    assert!(well.1 == 0 && well.0.contains("1 hosts share their quotas"), "{}", well.0);
    let offline = prepared.says("", &["doctor", "--config", "clawhold.yaml", "--data", ".clawhold"]);
    assert!(offline.1 == 0 && offline.0.contains("Redis answers"), "{}", offline.0);
    redis.tell("stop").unwrap();
    let apart = || prepared.says(&prepared.operator, &["doctor"]);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while apart().1 == 0 {
        assert!(std::time::Instant::now() < until, "{}", apart().0);
    }
    assert!(apart().0.contains("Redis does not answer, and the host goes on with a part"), "{}", apart().0);
    let offline = prepared.says("", &["doctor", "--config", "clawhold.yaml", "--data", ".clawhold"]);
    assert!(offline.1 == 1 && offline.0.contains("the shared limiter did not answer"), "{}", offline.0);
    std::fs::write(prepared.desk.folder.path().join("wrong.yaml"), "tenant_quotas:\n  pro:\n    max_runs: 1\n")
        .unwrap();
    let wrong = prepared.says("", &["doctor", "--config", "wrong.yaml"]);
    assert!(wrong.1 == 1 && wrong.0.contains("max_runs") && wrong.0.contains("line 3"), "{}", wrong.0);
    let nothing = prepared.says("", &["doctor"]);
    assert!(nothing.1 == 1 && nothing.0.contains("--config FILE"), "{}", nothing.0);
    let caller = prepared.says(&prepared.admin, &["doctor"]);
    assert_eq!(caller.1, 1, "{}", caller.0);
}
