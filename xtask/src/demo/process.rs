//! Programs that run as long as the demo does, and its folder. However the demo ends, both are gone after it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

/// How long a program may take from its start to its first word. The host makes keys and a database first.
const START: Duration = Duration::from_mins(1);
/// How long a program may take to stop when asked. The host lets runs finish.
const STOP: Duration = Duration::from_secs(15);
/// How many lines of a program's output an error shows.
const SHOWN_LINES: usize = 15;

/// The demo's folder and its programs.
pub(super) struct Scene {
    shared: Arc<Shared>,
    folder: PathBuf,
    running: Vec<Running>,
}

#[derive(Default)]
struct Shared {
    children: Mutex<Vec<Child>>,
    folder: Mutex<Option<TempDir>>,
    /// The story is over, and a signal is the expected end.
    waits: AtomicBool,
}

/// A program that was started.
struct Running {
    name: &'static str,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Scene {
    /// Makes the folder, and from here on takes signals: they end the programs first.
    pub(super) fn open() -> Result<Self> {
        let directory =
            tempfile::Builder::new().prefix("clawhold-demo-").tempdir().context("make a temporary folder")?;
        let folder = directory.path().to_path_buf();
        let shared = Arc::new(Shared { folder: Mutex::new(Some(directory)), ..Shared::default() });
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("watch for Ctrl-C")?;
        let of_signals = Arc::clone(&shared);
        thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                of_signals.end();
                // As the shell counts a program that a signal ended, unless it was the way to end this one.
                std::process::exit(if of_signals.waits.load(Ordering::Relaxed) { 0 } else { 128 + signal });
            }
        });
        Ok(Self { shared, folder, running: Vec::new() })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a program, and gives what it prints behind `announcement` once it is ready.
    pub(super) fn start(&mut self, name: &'static str, command: &mut Command, announcement: &str) -> Result<String> {
        let log = self.folder.join(format!("{name}.log"));
        let errors = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let output = errors.try_clone()?;
        // A process group of its own: Ctrl-C reaches the demo only, which then ends its programs in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("start the {name}"))?;
        let stdout = child.stdout.take().context("a program without its output")?;
        lock(&self.shared.children).push(child);
        let running = Running { name, lines: copied(stdout, output), log };
        let deadline = Instant::now() + START;
        let ready = loop {
            match running.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(announcement) {
                        break rest.trim().to_owned();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "the {name} said nothing of `{announcement}` in {START:?}; its last words:\n{}",
                        running.last_words()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => return Err(running.ended()),
            }
        };
        self.running.push(running);
        Ok(ready)
    }

    /// Until a signal ends the demo, or the host ends by itself.
    pub(super) fn wait_until_told(&self) -> Result<()> {
        self.shared.waits.store(true, Ordering::Relaxed);
        let Some(last) = self.running.last() else { return Ok(()) };
        while last.lines.recv().is_ok() {}
        // A signal's own clean-up ends the host too, and then ends this program.
        if lock(&self.shared.children).is_empty() {
            loop {
                thread::park();
            }
        }
        Err(last.ended())
    }

    /// Keeps the folder, for somebody who wants to know what went wrong.
    pub(super) fn keep(&self) -> PathBuf {
        lock(&self.shared.folder).take().map_or_else(|| self.folder.clone(), TempDir::keep)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Shared {
    fn end(&self) {
        // Taken out first: whoever finds none knows that they are being ended.
        let mut children = std::mem::take(&mut *lock(&self.children));
        // The newest first: they call those before them.
        for child in children.iter_mut().rev() {
            stop(child);
        }
        drop(lock(&self.folder).take());
    }
}

/// Asks, and after a while no longer asks.
fn stop(child: &mut Child) {
    let _gone_already = kill_process(Pid::from_child(child), Signal::TERM);
    let deadline = Instant::now() + STOP;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _gone_already = child.kill();
            let _gone_now = child.wait();
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Its lines, which also go to its log. A pipe that nobody reads would stop the program.
fn copied(stdout: impl std::io::Read + Send + 'static, mut log: File) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _full_disk = writeln!(log, "{line}");
            let _nobody_waits = sender.send(line);
        }
    });
    lines
}

impl Running {
    fn ended(&self) -> anyhow::Error {
        anyhow::anyhow!("the {} ended by itself; its last words:\n{}", self.name, self.last_words())
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_is_ready_when_it_says_so_and_gone_with_the_scene() {
        let mut scene = Scene::open().unwrap();
        let script = "echo a word before; echo listening on $$; exec sleep 1000";
        let pid = scene.start("server", &mut shell(script), "listening on ").unwrap();
        let folder = scene.folder().to_path_buf();
        assert!(folder.join("server.log").is_file() && Path::new("/proc").join(&pid).exists());
        drop(scene);
        assert!(!Path::new("/proc").join(&pid).exists() && !folder.exists());
    }

    #[test]
    fn a_program_that_ends_early_is_quoted() {
        let mut scene = Scene::open().unwrap();
        let error = scene.start("host", &mut shell("echo no such file >&2; exit 1"), "listening").unwrap_err();
        assert!(error.to_string().contains("the host ended by itself") && error.to_string().contains("no such file"));
    }

    #[test]
    fn a_kept_folder_outlives_the_scene() {
        let scene = Scene::open().unwrap();
        let kept = scene.keep();
        drop(scene);
        assert!(kept.is_dir());
        fs::remove_dir_all(kept).unwrap();
    }
}
