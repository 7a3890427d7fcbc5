//! The master key: 32 random bytes in a file, made at the first start; and behind them those that were added since.
//!
//! All of them have wrapped data keys, and the newest that is in use wraps those to come. One that was added is in use once something was
//! wrapped by it for all hosts to see: one that no other host has would make keys that nobody else can read. The first key is also what other
//! keys of the host follow from, such as the one that signs heads of audit chains, so it stays for ever.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::{fmt, fs};

use hkdf::Hkdf;
use rustix::fs::{FlockOperation, flock};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The key's file in the host's data folder.
const FILE: &str = "master.key";

/// Bytes of the key: the strength of AES-256.
const BYTES: usize = 32;

/// Keys that a file may have: one a month for longer than anybody keeps a host.
const MOST: usize = 1024;

/// What names a key and tells nothing of it. Of a few hundred keys no two have the same.
pub(crate) type Fingerprint = [u8; 8];

/// The key from which every other one of this host is derived. Lost with its file, and with it every secret sealed
/// under it: the file belongs into a backup of its own, apart from the database's.
pub struct MasterKey {
    path: PathBuf,
    /// As the file has them; never empty.
    keys: RwLock<Vec<Key>>,
    /// The newest by which something is known to be wrapped, counted from 1.
    in_use: AtomicU32,
}

type Key = Zeroizing<[u8; BYTES]>;

/// Why there is no master key. The host must not start without.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be made or read.
    #[error("cannot {operation} the master key {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Others than its owner may read or write the file.
    #[error(
        "others than its owner may use the master key {path} (mode {mode:04o}): run `chmod 600 {path}`, and if somebody else could have read it, replace the secrets"
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Somebody else owns the file, and could change it at any time.
    #[error("the master key {path} belongs to user {owner}, the host runs as {user}: run `chown {user} {path}`")]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// The file is something else.
    #[error(
        "{path} is no master key: it has {length} bytes and should have {BYTES}, or a multiple of that; put the right file back, or move this one away if no secret was ever stored"
    )]
    Length {
        /// The file.
        path: PathBuf,
        /// How many bytes it has.
        length: u64,
    },
    /// The file has other keys than this host has read from it.
    #[error(
        "the master key {path} is not the one that this host works with: put that one back, or start the host again if this one is right"
    )]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// The file has as many keys as it may have.
    #[error("the master key {path} has {MOST} keys, and may have no more")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Another process changes the file.
    #[error("another process changes the master key {path}; try again")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gives no random bytes.
    #[error("cannot make a master key: the operating system gives no random bytes")]
    NoRandomness,
}

impl MasterKey {
    /// The key in this folder, made if there is none. Of two hosts that start at once, both get the same.
    pub fn open_or_create(folder: &Path) -> Result<Self, KeyFileError> {
        let path = folder.join(FILE);
        if !path.try_exists().map_err(io_error("look for", &path))? {
            create(folder, &path)?;
        }
        let keys = RwLock::new(read(&path)?);
        Ok(Self { path, keys, in_use: AtomicU32::new(1) })
    }

    /// The version of the key that wraps, counted from 1.
    pub fn in_use(&self) -> u32 {
        self.in_use.load(Ordering::Acquire)
    }

    /// This key was seen to have wrapped something.
    pub(crate) fn use_from_now(&self, version: u32) {
        self.in_use.fetch_max(version, Ordering::AcqRel);
    }

    /// The version of the key behind the one in use, which is added to the file if there is none. The file is replaced as a whole.
    pub(crate) fn next(&self) -> Result<u32, KeyFileError> {
        // Closed, and with it unlocked, at the end.
        let _folder = lock(&self.path)?;
        self.read_again()?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let used = self.in_use.load(Ordering::Acquire) as usize;
        if keys.len() == used {
            if used >= MOST {
                return Err(KeyFileError::Full { path: self.path.clone() });
            }
            let mut key = Key::default();
            getrandom::fill(&mut *key).map_err(|_| KeyFileError::NoRandomness)?;
            let mut all = keys.clone();
            all.push(key);
            replace(&self.path, &all)?;
            *keys = all;
        }
        Ok(u32::try_from(used + 1).unwrap_or(u32::MAX))
    }

    /// Reads the file again, which somebody may have added a key to.
    pub(crate) fn read_again(&self) -> Result<(), KeyFileError> {
        let read = read(&self.path)?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        // Those that nothing was wrapped by are no loss. Of the others one that is missing or another is somebody's mistake, and what is in
        // memory still opens everything.
        let used = self.in_use.load(Ordering::Acquire) as usize;
        if !read.starts_with(&keys[..used]) {
            return Err(KeyFileError::Replaced { path: self.path.clone() });
        }
        *keys = read;
        Ok(())
    }

    /// What names the key of this version, if there is one.
    pub(crate) fn fingerprint(&self, version: u32) -> Option<Fingerprint> {
        let derived = self.derive_of(version, "fingerprint")?;
        derived.first_chunk().copied()
    }

    /// The version of the key that has this fingerprint.
    pub(crate) fn of_fingerprint(&self, fingerprint: Fingerprint) -> Option<u32> {
        let count = u32::try_from(self.keys().len()).unwrap_or(u32::MAX);
        (1..=count).rev().find(|version| self.fingerprint(*version) == Some(fingerprint))
    }

    /// A key for one purpose, named by `label`. Neither this key nor one of another label follows from it.
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; 32]> {
        self.derive_of(1, label).expect("there is a first key")
    }

    /// The same of the key of this version, if there is one.
    pub(crate) fn derive_of(&self, version: u32, label: &str) -> Option<Zeroizing<[u8; 32]>> {
        let keys = self.keys();
        let key = keys.get(usize::try_from(version).ok()?.checked_sub(1)?)?;
        let mut derived = Zeroizing::new([0; 32]);
        expand(key, &[], &[b"clawhold key v1: ", label.as_bytes()], &mut *derived);
        Some(derived)
    }

    /// HKDF-SHA-256, RFC 5869, of the first key.
    pub(super) fn expand(&self, salt: &[u8], info: &[&[u8]], into: &mut [u8]) {
        expand(&self.keys()[0], salt, info, into);
    }

    fn keys(&self) -> RwLockReadGuard<'_, Vec<Key>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn of(byte: u8) -> Self {
        let keys = RwLock::new(vec![Zeroizing::new([byte; BYTES])]);
        Self { path: PathBuf::new(), keys, in_use: AtomicU32::new(1) }
    }
}

fn expand(key: &Key, salt: &[u8], info: &[&[u8]], into: &mut [u8]) {
    Hkdf::<Sha256>::new(Some(salt), &**key)
        .expand_multi_info(info, into)
        .expect("HKDF gives 8,160 bytes, and no caller wants more");
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// Written whole under another name and linked to its own, which fails if somebody was faster: nobody ever reads half
/// a key, and nobody's key is overwritten.
fn create(folder: &Path, path: &Path) -> Result<(), KeyFileError> {
    let mut key = Key::default();
    getrandom::fill(&mut *key).map_err(|_| KeyFileError::NoRandomness)?;
    let (draft, written) = write_draft(folder, &[key])?;
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    });
    let removed = fs::remove_file(&draft);
    linked.and(removed).and_then(|()| File::open(folder)?.sync_all()).map_err(io_error("make", path))
}

/// Of all processes on this machine, only one changes the file at a time. By its folder: the file is another one afterwards.
fn lock(path: &Path) -> Result<File, KeyFileError> {
    let folder = File::open(path.parent().unwrap_or(Path::new("."))).map_err(io_error("lock", path))?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(folder),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(KeyFileError::Busy { path: path.to_owned() }),
        Err(error) => Err(io_error("lock", path)(error.into())),
    }
}

/// Written whole under another name, which then takes the place of the old one.
fn replace(path: &Path, keys: &[Key]) -> Result<(), KeyFileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let (draft, written) = write_draft(folder, keys)?;
    let replaced = written.and_then(|()| fs::rename(&draft, path)).and_then(|()| File::open(folder)?.sync_all());
    if replaced.is_err() {
        // Gone already, or it cannot be removed either.
        let _ = fs::remove_file(&draft);
    }
    replaced.map_err(io_error("replace", path))
}

fn write_draft(folder: &Path, keys: &[Key]) -> Result<(PathBuf, io::Result<()>), KeyFileError> {
    let mut unique = [0; 8];
    getrandom::fill(&mut unique).map_err(|_| KeyFileError::NoRandomness)?;
    let draft = folder.join(format!(".{FILE}.{:016x}", u64::from_be_bytes(unique)));
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut file| {
        keys.iter().try_for_each(|key| file.write_all(&**key))?;
        file.sync_all()
    });
    Ok((draft, written))
}

fn read(path: &Path) -> Result<Vec<Key>, KeyFileError> {
    let fail = io_error("read", path);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) => return Err(fail(e)),
    };
    // Of the open file, not of the path: what is checked is what is read.
    let is = match file.metadata() {
        Ok(is) => is,
        Err(e) => return Err(fail(e)),
    };
    let user = rustix::process::geteuid().as_raw();
    let path = path.to_owned();
    if is.uid() != user {
        return Err(KeyFileError::Owner { path, owner: is.uid(), user });
    }
    if is.mode() & 0o077 != 0 {
        return Err(KeyFileError::Mode { path, mode: is.mode() & 0o7777 });
    }
    let length = is.len();
    let count = usize::try_from(length / BYTES as u64).unwrap_or(usize::MAX);
    if !is.is_file() || !(1..=MOST).contains(&count) || length != (count * BYTES) as u64 {
        return Err(KeyFileError::Length { path, length });
    }
    let mut keys = vec![Key::default(); count];
    keys.iter_mut().try_for_each(|key| file.read_exact(&mut **key)).map_err(fail)?;
    Ok(keys)
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    let path = path.to_owned();
    move |source| KeyFileError::Io { operation, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn bytes(key: &MasterKey) -> [u8; BYTES] {
        *key.keys()[0]
    }

    #[test]
    fn a_key_that_is_added_wraps_and_the_first_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (here, there) = (MasterKey::open_or_create(folder.path()), MasterKey::open_or_create(folder.path()));
        let (here, there) = (here.unwrap(), there.unwrap());
        let before = here.derive("artifact-mac");
        assert_eq!((here.in_use(), here.next().unwrap(), here.in_use()), (1, 2, 1));
        assert_eq!((here.derive("artifact-mac"), here.derive_of(3, "x")), (before, None));
        assert_ne!(here.derive_of(1, "x"), here.derive_of(2, "x"));
        assert_eq!((here.next().unwrap(), there.next().unwrap()), (2, 2), "one that waits to be used is the next");
        assert_eq!(here.derive_of(2, "x"), there.derive_of(2, "x"));
        there.use_from_now(2);
        assert_eq!((there.in_use(), there.next().unwrap()), (2, 3), "what another host added is kept");
        here.read_again().unwrap();
        assert_eq!(here.derive_of(3, "x"), there.derive_of(3, "x"));
        assert!(here.derive_of(3, "x").is_some());
        assert_eq!(here.fingerprint(2).and_then(|of| here.of_fingerprint(of)), Some(2));
        assert_eq!(here.of_fingerprint([0; 8]), None);
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left behind");
        // Somebody puts another file there: what is in memory still opens everything, and nothing is added to a stranger's.
        here.use_from_now(3);
        fs::write(&path, [7; BYTES]).unwrap();
        for refused in [here.read_again().unwrap_err(), here.next().unwrap_err()] {
            assert!(matches!(refused, KeyFileError::Replaced { .. }), "{refused}");
        }
        assert_eq!(fs::read(&path).unwrap(), [7; BYTES]);
        assert!(here.derive_of(3, "x").is_some());
    }

    #[test]
    fn a_file_takes_no_more_keys_than_it_may_have_and_one_change_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::open_or_create(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        let held = lock(&path).unwrap();
        assert!(matches!(key.next().unwrap_err(), KeyFileError::Busy { .. }));
        drop(held);
        let mut full = fs::read(&path).unwrap();
        full.resize(MOST * BYTES, 7);
        fs::write(&path, &full).unwrap();
        key.read_again().unwrap();
        key.use_from_now(1024);
        assert!(matches!(key.next().unwrap_err(), KeyFileError::Full { .. }));
        assert_eq!(fs::read(&path).unwrap(), full, "and it can still be read");
    }

    #[test]
    fn the_key_is_made_once_for_its_owner_alone_and_stays_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let made = MasterKey::open_or_create(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(bytes(&made), bytes(&MasterKey::open_or_create(folder.path()).unwrap()));
        assert_ne!(bytes(&made), [0; BYTES]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn two_hosts_that_start_at_once_have_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        let keys: Vec<_> = std::thread::scope(|scope| {
            let host = || {
                start.wait();
                bytes(&MasterKey::open_or_create(folder.path()).unwrap())
            };
            let hosts: Vec<_> = (0..8).map(|_| scope.spawn(host)).collect();
            hosts.into_iter().map(|host| host.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_key_that_others_can_use_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        MasterKey::open_or_create(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        for mode in [0o640, 0o604, 0o666, 0o620, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refusal = MasterKey::open_or_create(folder.path()).unwrap_err().to_string();
            assert!(refusal.contains(&format!("chmod 600 {}", path.display())), "{refusal}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            MasterKey::open_or_create(folder.path()).unwrap();
        }
    }

    #[test]
    fn a_key_that_somebody_else_owns_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        MasterKey::open_or_create(folder.path()).unwrap();
        let path = folder.path().join(FILE);
        // Only root can give a file away; without that right there is nothing to test.
        if std::os::unix::fs::chown(&path, Some(65_534), None).is_ok() {
            let refusal = MasterKey::open_or_create(folder.path()).unwrap_err().to_string();
            assert!(refusal.contains("chown"), "{refusal}");
        }
    }

    #[test]
    fn a_file_of_another_length_is_no_key() {
        for content in [&b""[..], &[7; 31], &[7; 33]] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(FILE);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let refusal = MasterKey::open_or_create(folder.path()).unwrap_err();
            assert!(matches!(refusal, KeyFileError::Length { .. }), "{refusal}");
            assert_eq!(fs::read(&path).unwrap(), content, "it is left as it is");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = MasterKey::open_or_create(&folder.path().join("none")).unwrap_err();
        assert!(matches!(refusal, KeyFileError::Io { operation: "make", .. }), "{refusal}");
    }

    #[test]
    fn each_label_has_its_own_key_and_always_the_same() {
        let key = MasterKey::of(1);
        assert_eq!(key.derive("artifact-mac"), key.derive("artifact-mac"));
        assert_ne!(key.derive("artifact-mac"), key.derive("audit-head"));
        assert_ne!(key.derive("artifact-mac"), MasterKey::of(2).derive("artifact-mac"));
        assert_ne!(*key.derive(""), bytes(&key));
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        assert_eq!(format!("{:?}", MasterKey::of(1)), "MasterKey(…)");
    }
}
