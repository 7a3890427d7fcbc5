//! What becomes of answered runs when something breaks: the host is killed, the database stops or hangs, the disk is full. Each with
//! hosts as processes of their own, under load.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clawhold_test_support::postgres::{Database, Stoppable};
use serde_json::Value;

use crate::{Desk, Serving};

/// Kills of one host.
const KILLS: usize = 20;
/// Answers before each of them.
const BETWEEN: usize = 40;

/// A host with a skill that is installed for acme-corp.
pub(crate) struct Prepared {
    pub(crate) desk: Desk,
    pub(crate) operator: String,
    pub(crate) admin: String,
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One answer: its status, its problem, and its run.
type Answer = (u16, String, Option<String>);

fn migrate(owner: &str) -> anyhow::Result<()> {
    let done = Desk::new().clawhold(&["db", "migrate", "--database-url", owner]);
    anyhow::ensure!(done.status.success(), "{}", crate::text(&done));
    Ok(())
}

fn postgres() -> Database {
    Database::new(migrate).unwrap()
}

impl Prepared {
    fn new(database: Option<String>) -> (Self, Serving) {
        Self::at(Desk { database, ..Desk::new() }, "clawhold serve --dev")
    }

    /// A host that is started so, with a tenant that has a skill and is not bounded soon.
    pub(crate) fn at(desk: Desk, serve: &str) -> (Self, Serving) {
        let serving = desk.serve(serve);
        let operator = std::fs::read_to_string(desk.folder.path().join(".clawhold/operator.token")).unwrap();
        let operator = operator.trim().to_owned();
        desk.done(&operator, &["tenant", "create", "acme-corp"]);
        let plenty = ["--max-skill-calls-per-minute=10000000", "--max-fuel-per-minute=100000000000000"];
        let more = ["--max-audit-records-per-minute=10000000", "--max-runs=1000"];
        desk.done(&operator, &[&["tenant", "set-quota", "acme-corp"], &plenty[..], &more[..]].concat());
        let admin =
            desk.done(&operator, &["token", "create", "--tenant", "acme-corp", "--role", "admin", "--name", "a"]);
        let author = desk.publisher(&operator, "my-company");
        assert!(desk.clawhold(&["skill", "new", "hello"]).status.success());
        desk.done(&author, &["skill", "publish", "hello", "--key", "my-company.pem"]);
        desk.done(&author, &["market", "grant", "my-company/hello", "tenant:acme-corp"]);
        desk.done(&admin, &["install", "add", "acme-corp", "my-company/hello", "--yes"]);
        (Self { desk, operator, admin }, serving)
    }

    fn ask(&self, url: &str) -> Option<Answer> {
        ask(url, &self.admin)
    }

    fn url(&self) -> String {
        format!("{}/v1/tenants/acme-corp/skills/hello.greet/invoke", self.desk.url)
    }

    /// Calls from four callers until told to stop, or until nobody answers and that ends it.
    fn under_load<R>(&self, work: impl FnOnce(&mpsc::Receiver<Answer>) -> R) -> (R, Vec<Answer>) {
        let stop = AtomicBool::new(false);
        let (answers, heard) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (answers, url, token, stop) = (answers.clone(), self.url(), &self.admin, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        match ask(&url, token) {
                            Some(answer) => answers.send(answer).unwrap(),
                            None => std::thread::sleep(Duration::from_millis(5)),
                        }
                    }
                });
            }
            drop(answers);
            // Also when `work` panics: the scope waits for its threads.
            let stopping = StopAtEnd(&stop);
            let done = work(&heard);
            drop(stopping);
            (done, heard.iter().collect())
        })
    }

    /// Every answered run is in the log, none twice, and the chain is whole.
    fn check(&self, answers: &[Answer]) {
        let recorded = self.desk.runs(&self.admin);
        let distinct: BTreeSet<&String> = recorded.iter().collect();
        assert_eq!(distinct.len(), recorded.len(), "a run is recorded twice");
        let answered: Vec<&String> = answers.iter().filter(|a| a.0 == 200).filter_map(|a| a.2.as_ref()).collect();
        assert!(!answered.is_empty());
        let lost: Vec<_> = answered.iter().filter(|run| !distinct.contains(*run)).collect();
        assert!(lost.is_empty(), "answered and not recorded: {lost:?}");
        assert!(self.desk.done(&self.admin, &["audit", "verify", "acme-corp"]).contains("unbroken"));
        let mut chained = BTreeMap::new();
        let folder = tempfile::tempdir().unwrap();
        let export = folder.path().join("export.ndjson");
        self.desk.done(&self.admin, &["audit", "export", "acme-corp", "--out", export.to_str().unwrap()]);
        for line in std::fs::read_to_string(export).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            if line["action"] == "skill.invoke" {
                *chained.entry(line["run"].as_str().unwrap().to_owned()).or_insert(0) += 1;
            }
        }
        assert!(chained.values().all(|times| *times == 1), "a run is in the chain twice");
        assert_eq!(chained.keys().collect::<BTreeSet<_>>(), distinct, "the chain and the records differ");
    }
}

fn ask(url: &str, token: &str) -> Option<Answer> {
    send(url, &[("authorization", &format!("Bearer {token}"))])
}

fn ask_with_key(url: &str, token: &str, key: &str) -> Answer {
    send(url, &[("authorization", &format!("Bearer {token}")), ("idempotency-key", key)]).unwrap()
}

fn send(url: &str, fields: &[(&str, &str)]) -> Option<Answer> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into();
    let request = fields.iter().fold(agent.post(url), |request, (name, value)| request.header(*name, *value));
    let sent = request.send(r#"{"name": "Ada"}"#);
    let mut answer = sent.ok()?;
    let status = answer.status().as_u16();
    assert!(status != 503 || answer.headers().contains_key("retry-after"), "503 without Retry-After");
    let body: Value = serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()?;
    let run = body["run"]["id"].as_str().map(ToOwned::to_owned);
    Some((status, body["type"].as_str().unwrap_or_default().to_owned(), run))
}

fn kill_again_and_again(database: Option<String>) {
    let (prepared, mut serving) = Prepared::new(database);
    let mut known = Vec::new();
    let ((), rest) = prepared.under_load(|heard| {
        for _ in 0..KILLS {
            known.extend(heard.iter().take(BETWEEN));
            // `kill -9`, in the middle of whatever it does.
            drop(std::mem::replace(&mut serving, Serving::nothing()));
            serving = prepared.desk.serve("clawhold serve --dev");
        }
        known.extend(heard.iter().take(BETWEEN));
    });
    known.extend(rest);
    assert!(known.len() > KILLS * BETWEEN);
    prepared.check(&known);
    assert!(serving.terminate().success());
}

#[test]
fn hostile_43_every_answered_run_of_a_host_that_was_killed_20_times_is_in_its_log_and_none_is_twice() {
    kill_again_and_again(None);
}

#[test]
fn hostile_43_the_same_on_postgresql() {
    kill_again_and_again(Some(postgres().app));
}

/// Waits for an answer with this status, and collects what came before.
fn wait_for(heard: &mpsc::Receiver<Answer>, into: &mut Vec<Answer>, what: &str, status: u16) {
    let until = Instant::now() + Duration::from_mins(1);
    loop {
        let answer =
            heard.recv_timeout(Duration::from_secs(40)).unwrap_or_else(|_| panic!("nobody is answered: {what}"));
        let found = answer.0 == status;
        into.push(answer);
        if found {
            return;
        }
        assert!(Instant::now() < until, "no {status}: {what}");
    }
}

#[test]
fn hostile_37_a_database_that_stops_under_load_costs_no_answered_run_and_comes_back_alone() {
    let mut server = Stoppable::start().unwrap();
    let database = server.database(migrate).unwrap();
    let (prepared, serving) = Prepared::new(Some(database.app));
    let mut known = Vec::new();
    let ((), rest) = prepared.under_load(|heard| {
        for _ in 0..2 {
            known.extend(heard.iter().take(BETWEEN));
            server.tell("stop").unwrap();
            wait_for(heard, &mut known, "while the database is down", 503);
            server.tell("start").unwrap();
            wait_for(heard, &mut known, "after it is back", 200);
        }
    });
    known.extend(rest);
    // Runs that were under way are told that they are not recorded; everything else is refused before it begins.
    let odd: Vec<_> = known.iter().filter(|a| !matches!(a.0, 200 | 503) && a.1 != "/problems/unrecorded").collect();
    assert!(odd.is_empty(), "{odd:?}");
    prepared.check(&known);
    assert!(serving.terminate().success());
}

#[test]
fn hostile_37_a_database_that_hangs_hangs_no_check_of_health() {
    let mut server = Stoppable::start().unwrap();
    let database = server.database(migrate).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let desk = Desk { database: Some(database.app), ..Desk::new() };
    let serving = desk.serve(&format!("env CLAWHOLD_OPERATIONS_LISTEN={free} clawhold serve --dev"));
    let health = |path: &str| {
        let asked = Instant::now();
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let answer = agent.get(format!("http://{free}{path}")).call().unwrap();
        (answer.status().as_u16(), asked.elapsed())
    };
    assert_eq!((health("/healthz").0, health("/readyz").0), (200, 200));
    server.tell("hang").unwrap();
    let (alive, ready) = (health("/healthz"), health("/readyz"));
    assert!(alive.0 == 200 && alive.1 < Duration::from_secs(1), "{alive:?}");
    assert!(ready.0 == 503 && ready.1 < Duration::from_secs(4), "{ready:?}");
    server.tell("go").unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while health("/readyz").0 != 200 {
        assert!(Instant::now() < until, "it does not come back");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(serving.terminate().success());
}

/// A small file system for a test, if this user may mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m,mode=0700");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|done| done.status.success());
        mounted.then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _best_effort = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 16, 1 << 10, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

#[test]
fn hostile_44_a_full_disk_refuses_work_loses_nothing_and_says_so() {
    let Some(disk) = SmallDisk::mount(48) else {
        eprintln!("left out: hostile_44, because this user may not mount a small file system");
        return;
    };
    let (mut prepared, serving) = Prepared::new(None);
    // The host moves to the small disk with all that it has.
    assert!(serving.terminate().success());
    let data = disk.0.path().join("data");
    let copied = prepared.desk.command("cp").args(["-a", ".clawhold"]).arg(&data).status().unwrap();
    assert!(copied.success());
    let serve = format!("clawhold serve --dev --data {}", data.display());
    let serving = prepared.desk.serve(&serve);
    let url = prepared.url();
    assert_eq!(prepared.ask(&url).unwrap().0, 200);
    let filler = disk.0.path().join("filler");
    let mut known = Vec::new();
    let ((), rest) = prepared.under_load(|heard| {
        known.extend(heard.iter().take(BETWEEN));
        fill(&filler);
        wait_for(heard, &mut known, "while the disk is full", 503);
        std::fs::remove_file(&filler).unwrap();
        wait_for(heard, &mut known, "after there is room again", 200);
    });
    known.extend(rest);
    let odd: Vec<_> = known.iter().filter(|a| !matches!(a.0, 200 | 503) && a.1 != "/problems/unrecorded").collect();
    assert!(odd.is_empty(), "{odd:?}");
    prepared.check(&known);
    // A write that is not a run is refused, too, and works later.
    fill(&filler);
    let refused = prepared.desk.clawhold(&["--token", &prepared.operator, "tenant", "create", "globex"]);
    assert_eq!(refused.status.code(), Some(1), "{}", crate::text(&refused));
    assert!(crate::text(&refused).contains("call again"), "{}", crate::text(&refused));
    std::fs::remove_file(&filler).unwrap();
    prepared.desk.done(&prepared.operator, &["tenant", "create", "globex"]);
    prepared.admin.clear();
    assert!(serving.terminate().success());
}

#[test]
fn two_hosts_on_one_database_believe_one_another_within_a_second_and_keep_one_chain() {
    let database = postgres();
    let (prepared, first) = Prepared::new(Some(database.app.clone()));
    // The second host has the first one's master key, as all hosts of one database must.
    let other = Desk { database: Some(database.app.clone()), ..Desk::new() };
    let data = other.folder.path().join(".clawhold");
    std::fs::create_dir(&data).unwrap();
    std::fs::copy(prepared.desk.folder.path().join(".clawhold/master.key"), data.join("master.key")).unwrap();
    let second = other.serve("clawhold serve --dev");
    let on_second = format!("{}/v1/tenants/acme-corp/skills/hello.greet/invoke", other.url);
    let until_refused = |token: &str, status: u16| {
        let changed = Instant::now();
        while ask(&on_second, token).unwrap().0 != status {
            assert!(
                changed.elapsed() < Duration::from_secs(1),
                "the second host still believes what the first changed"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        changed.elapsed()
    };

    // Both write one chain at the same time.
    let mut known = Vec::new();
    let ((), rest) = prepared.under_load(|heard| {
        for _ in 0..100 {
            known.push(ask(&on_second, &prepared.admin).unwrap());
        }
        known.extend(heard.iter().take(100));
    });
    known.extend(rest);
    assert!(known.iter().all(|answer| answer.0 == 200), "{known:?}");
    prepared.check(&known);

    // A key that is sent to both at once runs once, and its repeat gets that answer.
    let on_first = prepared.url();
    for n in 0..20 {
        let key = format!("both-{n}");
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| ask_with_key(&on_second, &prepared.admin, &key));
            (ask_with_key(&on_first, &prepared.admin, &key), other.join().unwrap())
        });
        let again = ask_with_key(&on_second, &prepared.admin, &key);
        let runs: BTreeSet<_> = [&one, &other, &again].into_iter().filter_map(|answer| answer.2.clone()).collect();
        assert_eq!((runs.len(), again.0), (1, 200), "{one:?} {other:?} {again:?}");
        assert!([&one, &other].iter().all(|answer| matches!(answer.0, 200 | 409)), "{one:?} {other:?}");
        known.push(again);
    }
    prepared.check(&known);

    // A token that is revoked on one is refused on the other, and so is an install that was removed.
    let made = ["token", "create", "--tenant", "acme-corp", "--role", "caller", "--name", "c"];
    let caller = prepared.desk.done(&prepared.admin, &made);
    assert_eq!(ask(&on_second, &caller).unwrap().0, 200);
    let id = caller.split('_').nth(1).unwrap();
    prepared.desk.done(&prepared.admin, &["token", "revoke", "--tenant", "acme-corp", id]);
    until_refused(&caller, 401);

    // The same when nobody tells the second host any more, and it can listen no more either.
    let caller = prepared.desk.done(&prepared.admin, &made);
    assert_eq!(ask(&on_second, &caller).unwrap().0, 200);
    database.deafen().unwrap();
    let id = caller.split('_').nth(1).unwrap();
    prepared.desk.done(&prepared.admin, &["token", "revoke", "--tenant", "acme-corp", id]);
    until_refused(&caller, 401);
    prepared.desk.done(&prepared.admin, &["install", "remove", "acme-corp", "my-company/hello"]);
    until_refused(&prepared.admin, 404);
    assert!(first.terminate().success() && second.terminate().success());
}
