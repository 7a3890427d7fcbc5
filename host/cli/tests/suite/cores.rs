//! Where guests compute.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clawhold_test_support::guest::Guest;

use crate::{CLAWHOLD, Desk};

/// Callers that end with the test.
struct Callers(Vec<Child>);

impl Drop for Callers {
    fn drop(&mut self) {
        for caller in &mut self.0 {
            let _may_have_ended = caller.kill();
            let _either_way = caller.wait();
        }
    }
}

/// Where the system keeps what it knows of each of a process's threads that guests run on.
fn guest_threads(process: u32) -> Vec<PathBuf> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let is_guest = |thread: &PathBuf| std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name == "guest\n");
    threads.map(|thread| thread.unwrap().path()).filter(is_guest).collect()
}

/// Ticks of the clock that a thread has computed.
fn computed(thread: &Path) -> u64 {
    let stat = std::fs::read_to_string(thread.join("stat")).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(11).unwrap().parse().unwrap()
}

/// The cores that a thread may be put on, as the system lists them.
fn cores_of(thread: &Path) -> String {
    let status = std::fs::read_to_string(thread.join("status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
}

#[test]
fn two_runs_that_are_put_on_one_core_part_at_a_tick() {
    let all = cores_of(Path::new("/proc/self"));
    let Some((first, _)) = all.split_once([',', '-']) else {
        eprintln!("skipped: there is one core only");
        return;
    };
    let desk = Desk::new();
    let serving = desk.serve("clawhold serve --dev");
    let operator = std::fs::read_to_string(desk.folder.path().join(".clawhold/operator.token")).unwrap();
    let operator = operator.trim();
    desk.done(operator, &["tenant", "create", "acme-corp"]);
    let admin = desk.done(operator, &["token", "create", "--tenant", "acme-corp", "--role", "admin", "--name", "a"]);
    let author = desk.publisher(operator, "guests");
    let text = ";;! [limits]\n;;! fuel = 10_000_000_000\n;;! timeout_ms = 60_000\n\
                (func $run (result i32) (loop $again (br $again)) (unreachable))";
    std::fs::write(desk.folder.path().join("turns.wasm"), Guest::of("turns", text).unwrap().wasm).unwrap();
    desk.done(&author, &["skill", "publish", "turns.wasm", "--key", "guests.pem"]);
    desk.done(&author, &["market", "grant", "guests/turns", "tenant:acme-corp"]);
    desk.done(&admin, &["install", "add", "acme-corp", "guests/turns", "--yes"]);
    let caller = |_| {
        let mut command = desk.command(CLAWHOLD);
        command.args(["--token", &admin, "invoke", "acme-corp", "guest.turns", "{}"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let _callers = Callers((0..2).map(caller).collect());

    // Two runs, as many permits as cores and nobody who waits: each stays on its thread, and nothing but a tick looks where that is.
    let threads = guest_threads(serving.0.id());
    let until = Instant::now() + Duration::from_secs(20);
    let busy = loop {
        let before: BTreeMap<_, _> = threads.iter().map(|thread| (thread, computed(thread))).collect();
        std::thread::sleep(Duration::from_millis(200));
        let busy: Vec<_> = threads.iter().filter(|thread| computed(thread) > before[thread] + 4).collect();
        if busy.len() == 2 {
            break busy;
        }
        assert!(Instant::now() < until, "two runs do not compute");
    };
    for thread in &busy {
        let number = thread.file_name().unwrap();
        let put = Command::new("taskset").args(["-pc", first]).arg(number).output().unwrap();
        assert!(put.status.success(), "{}", crate::text(&put));
    }
    let until = Instant::now() + Duration::from_secs(2);
    while busy.iter().all(|thread| cores_of(thread) == first) {
        assert!(Instant::now() < until, "they share a core");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Neither is bound to where it went.
    assert!(busy.iter().any(|thread| cores_of(thread) == all));
}
