//! The directory of a run's scratch files: made when the run first asks for it, gone with the run.
//!
//! Below the host's folder each process has a directory that it holds a lock on, and each run one in that. A process
//! that starts removes the directories that nobody holds a lock on: those of processes that were killed.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt as _};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};

/// Directories below each other. What a run leaves is removed directory by directory, with one open at each level.
pub(super) const DEPTH: usize = 16;

/// Files and directories that a run may hold open. Each is one of the process's own descriptors, which all tenants'
/// connections need as well.
const OPEN: usize = 16;

/// Where this process keeps the scratch files of all runs.
pub struct ScratchRoot {
    all: Dir,
    own: String,
    dir: Dir,
    _lock: OwnedFd,
}

impl ScratchRoot {
    /// Makes a directory for this process, and removes those of processes that are gone.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut private = std::fs::DirBuilder::new();
        std::os::unix::fs::DirBuilderExt::mode(private.recursive(true), 0o700).create(path)?;
        let all = Dir::open_ambient_dir(path, ambient_authority())?;
        // Whoever starts at the same time must not take our new directory for one that is left over.
        let _alone = lock(&all, FlockOperation::LockExclusive)?;
        for entry in all.entries()? {
            let name = entry?.file_name();
            let ours = FlockOperation::NonBlockingLockExclusive;
            if all.open_dir(&name).is_ok_and(|dir| lock(&dir, ours).is_ok()) {
                all.remove_dir_all(&name)?;
                tracing::info!(directory = %name.display(), "scratch files of a process that is gone were removed");
            }
        }
        let (own, dir) = create(&all)?;
        let lock = lock(&dir, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { all, own, dir, _lock: lock })
    }
}

/// A lock on a directory, held until what is given back is dropped.
fn lock(dir: &Dir, how: FlockOperation) -> io::Result<OwnedFd> {
    // A `Dir` is only a place to begin paths at, and cannot be locked itself.
    let opened = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    flock(&opened, how)?;
    Ok(opened)
}

impl Drop for ScratchRoot {
    fn drop(&mut self) {
        remove(&self.all, &self.own);
    }
}

/// One run's directory.
pub(super) struct RunDir {
    root: Arc<ScratchRoot>,
    name: String,
    pub(super) dir: Dir,
}

impl RunDir {
    pub(super) fn create(root: Arc<ScratchRoot>) -> io::Result<Self> {
        let (name, dir) = create(&root.dir)?;
        Ok(Self { root, name, dir })
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        remove(&self.root.dir, &self.name);
    }
}

/// A new directory with a name that nobody can guess, for the host's user alone.
fn create(parent: &Dir) -> io::Result<(String, Dir)> {
    let mut name = [0; 16];
    getrandom::fill(&mut name).map_err(io::Error::other)?;
    let name = hex::encode(name);
    let mut private = DirBuilder::new();
    private.mode(0o700);
    parent.create_dir_with(&name, &private)?;
    let dir = parent.open_dir(&name)?;
    Ok((name, dir))
}

fn remove(parent: &Dir, name: &str) {
    if let Err(error) = parent.remove_dir_all(name)
        && error.kind() != ErrorKind::NotFound
    {
        // The next start removes it.
        tracing::error!(directory = name, %error, "scratch files could not be removed");
    }
}

/// What a run's files take.
///
/// What grows is counted before it grows. What shrinks is not: the directory is measured again when the count has
/// reached the limit, so that no way of removing a file that is still open or still written to makes room.
pub(super) struct Account {
    dir: Dir,
    most_bytes: u64,
    most_files: u32,
    bytes: u64,
    files: u32,
    /// Whether the count may be more than there is.
    above: bool,
    /// What the guest has open, or had.
    open: Vec<Weak<File>>,
    /// Where the guest's author reads why a write failed: the error that a program sees often says less.
    explain: Option<Box<dyn FnOnce(String) + Send>>,
}

pub(super) fn locked(account: &Mutex<Account>) -> MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Account {
    pub(super) fn new(dir: Dir, most_bytes: u64, most_files: u32, explain: Box<dyn FnOnce(String) + Send>) -> Self {
        let open = Vec::new();
        Self { dir, most_bytes, most_files, bytes: 0, files: 0, above: false, open, explain: Some(explain) }
    }

    /// Something was removed or cut, or did not come to be.
    pub(super) fn shrunk(&mut self) {
        self.above = true;
    }

    /// Makes room for a file that shall be `size` bytes long.
    pub(super) fn grow(&mut self, file: &File, size: u64) -> io::Result<()> {
        let more = size.saturating_sub(file.metadata()?.len());
        if more > self.most_bytes.saturating_sub(self.bytes) {
            self.measure()?;
        }
        if more > self.most_bytes.saturating_sub(self.bytes) {
            return Err(self.full("more bytes"));
        }
        self.bytes += more;
        Ok(())
    }

    /// Makes room for another file or directory.
    pub(super) fn add(&mut self) -> io::Result<()> {
        if self.files >= self.most_files {
            self.measure()?;
        }
        if self.files >= self.most_files {
            return Err(self.full("more files"));
        }
        self.files += 1;
        Ok(())
    }

    /// Whether another may be opened.
    pub(super) fn may_open(&mut self) -> io::Result<()> {
        self.open.retain(|file| file.strong_count() > 0);
        if self.open.len() < OPEN { Ok(()) } else { Err(self.full("more of them open")) }
    }

    pub(super) fn opened(&mut self, file: &Arc<File>) {
        self.open.push(Arc::downgrade(file));
    }

    /// What a guest is told at a limit: that its disk is full. Explained once a run.
    fn full(&mut self, wanted: &str) -> io::Error {
        if let Some(explain) = self.explain.take() {
            explain(format!(
                "warn wasi:filesystem: no room for {wanted}; a run may have {} bytes in {} scratch files and hold {OPEN} of them open; ask for more bytes with `scratch_mb` under [wasi] in skill.toml",
                self.most_bytes, self.most_files
            ));
        }
        rustix::io::Errno::NOSPC.into()
    }

    /// Counts anew: what has a name, and what is open without one. Only after something shrank, so a guest at its limit
    /// cannot make the host measure again and again for nothing.
    fn measure(&mut self) -> io::Result<()> {
        if !self.above {
            return Ok(());
        }
        let (mut bytes, mut files) = (0, 0);
        tree(&self.dir, &mut bytes, &mut files)?;
        let mut seen = Vec::new();
        for file in self.open.iter().filter_map(Weak::upgrade) {
            let known = file.metadata()?;
            if known.nlink() == 0 && !seen.contains(&known.ino()) {
                seen.push(known.ino());
                bytes += known.len();
                files += 1;
            }
        }
        (self.bytes, self.files, self.above) = (bytes, files, false);
        Ok(())
    }
}

fn tree(dir: &Dir, bytes: &mut u64, files: &mut u32) -> io::Result<()> {
    for entry in dir.entries()? {
        let entry = entry?;
        *files += 1;
        if entry.file_type()?.is_dir() {
            tree(&entry.open_dir()?, bytes, files)?;
        } else {
            *bytes += entry.metadata()?.len();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &Path) -> usize {
        std::fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn left_overs_of_a_killed_process_are_removed_and_those_of_a_living_one_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scratch");
        let living = Arc::new(ScratchRoot::open(&path).unwrap());
        let run = RunDir::create(Arc::clone(&living)).unwrap();
        run.dir.create_dir("a").unwrap();
        run.dir.write("a/b", b"x").unwrap();
        // A process that is killed leaves its directory, and its lock is gone.
        std::fs::create_dir_all(path.join("dead/run")).unwrap();
        std::fs::write(path.join("dead/run/secret"), b"x").unwrap();
        let second = ScratchRoot::open(&path).unwrap();
        assert!(!path.join("dead").exists());
        assert!(run.dir.exists("a/b"));
        assert_eq!(names(&path), 2);
        drop((second, run));
        assert_eq!((names(&path), names(&path.join(&living.own))), (1, 0));
        drop(living);
        assert_eq!(names(&path), 0);
    }

    #[test]
    fn only_the_hosts_user_can_look_into_scratch_directories() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scratch");
        let root = Arc::new(ScratchRoot::open(&path).unwrap());
        let run = RunDir::create(Arc::clone(&root)).unwrap();
        let own = path.join(&root.own);
        for path in [&path, &own, &own.join(&run.name)] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700, "{}", path.display());
        }
    }
}
