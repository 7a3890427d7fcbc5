//! What a case cannot say of itself: that it hangs, that a thread somewhere panicked, that the process is gone.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::Target;
use crate::campaign::{Finding, Origin, findings};

/// How this process ends when a case hangs: nothing else can stop it.
pub const HANGS: i32 = 3;

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Room for a case's name in the file that tells of it.
const NAME_BYTES: usize = 512;

/// A case that is under way.
struct Case {
    since: Instant,
    /// Looks since then. A machine that was put to sleep wakes up with much time gone and few of them.
    looks: u32,
    origin: Origin,
    input: Vec<u8>,
}

/// Watches one case after the other.
pub(crate) struct Watch {
    case: Arc<Mutex<Option<Case>>>,
    /// Holds the name of the case: what kills this process leaves it for whoever started it.
    current: Option<File>,
}

impl Watch {
    /// `current` is for a process that somebody supervises.
    pub(crate) fn start(target: &'static Target, supervised: bool) -> Result<Self> {
        listen_for_panics();
        let case: Arc<Mutex<Option<Case>>> = Arc::default();
        let watched = Arc::clone(&case);
        thread::spawn(move || {
            while Arc::strong_count(&watched) > 1 {
                thread::sleep(LOOK);
                let late = lock(&watched).take_if(|case| {
                    case.looks += 1;
                    LOOK * case.looks > target.patience
                });
                if let Some(case) = late {
                    let what = format!("it takes more than {} s; {}", target.patience.as_secs(), threads());
                    Finding::new(target, case.origin, what, case.input).tell();
                    std::process::exit(HANGS);
                }
            }
        });
        let path = findings(target).join("current");
        let current = supervised.then(|| File::create(&path)).transpose();
        Ok(Self { case, current: current.with_context(|| format!("cannot write {}", path.display()))? })
    }

    pub(crate) fn begin(&self, origin: &Origin, input: &[u8]) {
        if let Some(file) = &self.current {
            let mut name = origin.to_string().into_bytes();
            name.resize(NAME_BYTES, b' ');
            // Without it a crash is still seen, only not which case it was.
            let _told = file.write_all_at(&name, 0);
        }
        *lock(&self.case) =
            Some(Case { since: Instant::now(), looks: 0, origin: origin.clone(), input: input.to_vec() });
    }

    /// How long it took.
    pub(crate) fn end(&self) -> Duration {
        lock(&self.case).take().map_or(Duration::ZERO, |case| case.since.elapsed())
    }
}

/// What each thread of this process does, as the system sees it: a case that hangs tells nothing itself.
fn threads() -> String {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let told = tasks.map(|task| {
        let stat = read(task.path().join("stat"));
        let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next()).unwrap_or('?');
        let waits = read(task.path().join("wchan"));
        format!("{} {state} {waits}", read(task.path().join("comm")))
    });
    format!("its threads: {}", told.collect::<Vec<_>>().join(", "))
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The panics since this was last asked, in whatever thread they were and whoever caught them.
pub(crate) fn panics() -> Vec<String> {
    std::mem::take(&mut *lock(&PANICS))
}

fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            lock(&PANICS).push(panic.to_string());
            before(panic);
        }));
    });
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
