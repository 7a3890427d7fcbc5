//! The parts of tests that are in Python: servers and checks that somebody else has written.
//!
//! `cargo xtask test` sets an environment of the project's own up for them. Without it a test leaves its part in Python out, which whoever
//! runs the tests is told, also where the output of tests that pass is not shown; under CI it fails.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::Value;

/// The interpreter with what tests in Python need. `tmpdir` is the `CARGO_TARGET_TMPDIR` of whoever asks, who leaves that part of the test
/// out if there is none.
///
/// # Panics
///
/// Under CI, if there is none.
#[track_caller]
pub fn interpreter(tmpdir: &str) -> Option<PathBuf> {
    let python = Path::new(tmpdir).parent()?.join("python/bin/python");
    if python.exists() {
        return Some(python);
    }
    let (test, asked) = (std::thread::current(), Location::caller());
    // With one thread for all of them, tests run on the main one.
    let test = test.name().filter(|name| *name != "main").unwrap_or("a test");
    let notice = format!(
        "left out: what {test} ({}) does in Python, for there is no {}; run `cargo xtask test`, which sets it up",
        asked.file(),
        python.display()
    );
    assert!(!is_ci(std::env::var_os("CI").as_deref()), "{notice}");
    // What the macros print, a test that passes keeps to itself.
    let _nobody_may_listen = writeln!(std::io::stderr(), "{notice}");
    None
}

fn is_ci(says: Option<&OsStr>) -> bool {
    says.is_some_and(|says| !says.is_empty() && says != "false")
}

/// A server in Python that ends with this.
#[derive(Debug)]
pub struct Served {
    /// What it says of itself.
    pub said: Value,
    child: Child,
    /// Its end is the server's.
    stdin: Option<ChildStdin>,
}

impl Served {
    /// Starts a script of `tests/python`, which says a line of JSON when it is ready; nothing where there is no Python.
    ///
    /// # Panics
    ///
    /// If it does not start; and as [`interpreter`].
    #[track_caller]
    pub fn start(tmpdir: &str, script: &str, arguments: &[&str]) -> Option<Self> {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python");
        let mut command = Command::new(interpreter(tmpdir)?);
        command.arg(scripts.join(script)).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().expect("the interpreter is there");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says something");
        let said = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{script} did not start: it says {line:?}"));
        let stdin = child.stdin.take();
        Some(Self { said, child, stdin })
    }

    /// Where it is.
    ///
    /// # Panics
    ///
    /// If it did not say.
    pub fn origin(&self) -> &str {
        self.said["origin"].as_str().expect("a server says where it is")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKS: &str = "CLAWHOLD_TEST_ASKS_FOR_PYTHON";
    const NAME: &str = "python::tests::who_has_no_python_is_told_which_test_it_costs_and_ci_fails";

    /// The test is what asks, as a process of its own: what a passing test prints is not shown, and this is.
    #[test]
    fn who_has_no_python_is_told_which_test_it_costs_and_ci_fails() {
        if std::env::var_os(ASKS).is_some() {
            assert_eq!(interpreter("/nowhere/tmp"), None);
            return;
        }
        let asked = |ci: Option<&str>| {
            let mut test = Command::new(std::env::current_exe().unwrap());
            test.args(["--exact", NAME, "--test-threads=2"]).env(ASKS, "1").env_remove("CI");
            let done = test.envs(ci.map(|ci| ("CI", ci))).output().unwrap();
            let said = [done.stdout, done.stderr].map(|said| String::from_utf8(said).unwrap()).concat();
            assert!(said.contains("running 1 test"), "{said}");
            (done.status.success(), said)
        };
        for (ci, passes) in
            [(None, true), (Some(""), true), (Some("false"), true), (Some("true"), false), (Some("1"), false)]
        {
            let (passed, said) = asked(ci);
            assert_eq!(passed, passes, "CI={ci:?}: {said}");
            for part in ["left out", NAME, file!(), "/nowhere/python/bin/python", "cargo xtask test"] {
                assert!(said.contains(part), "CI={ci:?}: {part:?} is not in {said}");
            }
        }
    }
}
