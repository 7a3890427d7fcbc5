//! Native code: compiled when a package is published, kept on disk under a MAC, kept in memory while it is used.

use std::fs::DirBuilder;
use std::fs::FileTimes;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::Context as _;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use clawhold_tenancy::Digest;
use hmac::{Hmac, KeyInit, Mac};
use moka::future::Cache;
use sha2::Sha256;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::Refused;
use crate::compile::{CompilerLimits, compile};
use crate::engine::Settings;
use crate::gate::{Gate, Payer};
use crate::linkers::Linkers;
use crate::run::Skill;
use crate::shelf::Shelf;

const MAC_BYTES: usize = 32;

/// How the name of a file ends that is still being written.
pub(crate) const DRAFT: &str = ".tmp";

/// What the sandbox did outside of runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Components compiled.
    pub compiled: u64,
    /// Artifact files read.
    pub read: u64,
    /// Artifact files whose MAC did not fit.
    pub rejected: u64,
    /// Artifact files removed because there were too many bytes of them.
    pub evicted: u64,
    /// Bytes of artifact files.
    pub disk_bytes: u64,
}

/// Why a component could not be made ready to run.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// Its author can mend it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The host is at fault.
    #[error("the artifact store failed: {0}")]
    Host(String),
}

#[derive(Debug, Default)]
struct Counters {
    compiled: AtomicU64,
    read: AtomicU64,
    rejected: AtomicU64,
    evicted: AtomicU64,
}

pub(crate) struct Artifacts<T: Send + 'static> {
    engine: Engine,
    store: Arc<Files>,
    /// One compilation at a time for packages that are published and one for those that tenants have: calls need the cores and
    /// the memory too, and must not wait for publications. Within each, the publisher whose packages took the least time is next.
    publishing: Arc<Gate>,
    making_again: Arc<Gate>,
    compiler: CompilerLimits,
    loaded: Cache<Digest, Arc<Skill<T>>>,
    tampered: Mutex<Option<UnboundedReceiver<Digest>>>,
}

/// The directory of artifacts, and the key that vouches for them.
struct Files {
    dir: Dir,
    key: [u8; 32],
    /// Changes with the engine's version and settings: old files are then not found, and made again.
    compatibility: u64,
    /// What is on disk, for its bound.
    shelf: Mutex<Shelf>,
    counters: Counters,
    /// Told of each file that somebody else changed.
    tampering: UnboundedSender<Digest>,
}

impl<T: Send + 'static> Artifacts<T> {
    pub(crate) fn open(engine: &Engine, settings: &Settings) -> anyhow::Result<Self> {
        let dir = private_directory(&settings.artifacts)?;
        let (tampering, tampered) = unbounded_channel();
        let shelf = Shelf::read(&dir, settings.artifact_disk_bytes).context("cannot read the artifact directory")?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self {
            engine: engine.clone(),
            store: Arc::new(Files {
                dir,
                key: settings.artifact_key,
                compatibility: hasher.finish(),
                shelf: Mutex::new(shelf),
                counters: Counters::default(),
                tampering,
            }),
            tampered: Mutex::new(Some(tampered)),
            publishing: Gate::of_turns(settings.compiler.cpu),
            making_again: Gate::of_turns(settings.compiler.cpu),
            compiler: settings.compiler,
            loaded: Cache::builder()
                .max_capacity(settings.artifact_cache_bytes)
                .weigher(|_, skill: &Arc<Skill<T>>| u32::try_from(skill.native_bytes).unwrap_or(u32::MAX))
                .build(),
        })
    }

    pub(crate) fn counts(&self) -> Counts {
        let counters = &self.store.counters;
        Counts {
            compiled: counters.compiled.load(Ordering::Relaxed),
            read: counters.read.load(Ordering::Relaxed),
            rejected: counters.rejected.load(Ordering::Relaxed),
            evicted: counters.evicted.load(Ordering::Relaxed),
            disk_bytes: self.store.shelf.lock().unwrap_or_else(PoisonError::into_inner).bytes(),
        }
    }

    /// Names each component whose artifact somebody else changed. Can be taken once.
    pub(crate) fn tampered(&self) -> Option<UnboundedReceiver<Digest>> {
        self.tampered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Compiles a component that is new here, unless it is there already. It is not kept in memory, and goes first when the disk
    /// is full, until somebody loads it: publishing alone drives nobody else's out.
    pub(crate) async fn publish(
        &self,
        linkers: &Linkers<T>,
        payer: Payer,
        wasm: Vec<u8>,
    ) -> Result<Arc<Skill<T>>, LoadError> {
        let digest = Digest::of(&wasm);
        if let Some(skill) = self.loaded.get(&digest).await {
            return Ok(skill);
        }
        let (component, bytes) = if let Some(found) = self.on_disk(digest, SystemTime::UNIX_EPOCH).await? {
            found
        } else {
            let _alone = self.publishing.pass(payer).await;
            // Somebody may have published the same meanwhile.
            match self.on_disk(digest, SystemTime::UNIX_EPOCH).await? {
                Some(found) => found,
                None => self.compile(digest, wasm, SystemTime::UNIX_EPOCH).await?,
            }
        };
        Ok(Arc::new(Skill::link(linkers, digest, &component, bytes)?))
    }

    /// The component, from memory, else from disk, else compiled from what `wasm` gives: once, whoever asks. `payer` stands for
    /// its publisher.
    pub(crate) async fn load<W>(
        &self,
        linkers: &Linkers<T>,
        payer: Payer,
        digest: Digest,
        wasm: W,
    ) -> Result<Arc<Skill<T>>, LoadError>
    where
        W: Future<Output = anyhow::Result<Vec<u8>>> + Send,
    {
        if let Some(skill) = self.loaded.get(&digest).await {
            return Ok(skill);
        }
        let made = self.loaded.try_get_with(digest, async {
            let (component, bytes) = if let Some(found) = self.on_disk(digest, SystemTime::now()).await? {
                found
            } else {
                let _alone = self.making_again.pass(payer).await;
                let wasm = wasm.await.map_err(|e| LoadError::Host(format!("{e:#}")))?;
                self.compile(digest, wasm, SystemTime::now()).await?
            };
            Skill::link(linkers, digest, &component, bytes).map(Arc::new).map_err(LoadError::from)
        });
        made.await.map_err(|shared: Arc<LoadError>| LoadError::clone(&shared))
    }

    /// Drops a component's native code, in memory and on disk.
    pub(crate) async fn discard(&self, digest: Digest) {
        self.loaded.invalidate(&digest).await;
        let store = Arc::clone(&self.store);
        let _unused = blocking(move || {
            store.remove(&store.name(digest));
            Ok(())
        })
        .await;
    }

    async fn on_disk(&self, digest: Digest, used: SystemTime) -> Result<Option<(Component, u64)>, LoadError> {
        let (engine, store) = (self.engine.clone(), Arc::clone(&self.store));
        let read = move || {
            let stale =
                |why: &String| tracing::warn!(%digest, why, "an artifact is of another engine and is made again");
            store.read(digest, used).and_then(|native| map(&engine, &native).inspect_err(stale).ok())
        };
        blocking(move || Ok(read())).await
    }

    async fn compile(&self, digest: Digest, wasm: Vec<u8>, used: SystemTime) -> Result<(Component, u64), LoadError> {
        if Digest::of(&wasm) != digest {
            return Err(LoadError::Host(format!("the stored component is not {digest}")));
        }
        self.store.counters.compiled.fetch_add(1, Ordering::Relaxed);
        let native = compile(&wasm, self.compiler).await?;
        let (engine, store) = (self.engine.clone(), Arc::clone(&self.store));
        blocking(move || {
            if let Err(error) = store.write(digest, &native, used) {
                // The next start compiles again; that is slow and not wrong.
                tracing::warn!(%digest, error = format!("{error:#}"), "an artifact could not be kept");
            }
            // What was compiled a moment ago fails to load for one reason: no slot of the pool has room for it.
            map(&engine, &native).map_err(|why| Refused::Compile(why).into())
        })
        .await
    }
}

impl Files {
    fn name(&self, digest: Digest) -> String {
        format!("{}-{:016x}.cwasm", digest.hex(), self.compatibility)
    }

    /// Covers the digest and the engine too, so that a file under another's name does not verify.
    fn mac(&self, digest: Digest, native: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(b"clawhold-artifact-v1");
        mac.update(digest.as_bytes());
        mac.update(&self.compatibility.to_be_bytes());
        mac.update(native);
        mac
    }

    /// The native code, if the file is there and this host made it. It counts as used then, unless that is the epoch.
    fn read(&self, digest: Digest, used: SystemTime) -> Option<Vec<u8>> {
        let mut file = match self.dir.open(self.name(digest)) {
            Ok(file) => file,
            Err(error) => {
                if error.kind() == ErrorKind::NotFound {
                    self.shelf().forget(&self.name(digest));
                } else {
                    tracing::warn!(%digest, %error, "an artifact cannot be opened and is made again");
                }
                return None;
            }
        };
        self.counters.read.fetch_add(1, Ordering::Relaxed);
        let mut tag = [0; MAC_BYTES];
        let mut native = Vec::new();
        let whole = file.read_exact(&mut tag).and_then(|()| file.read_to_end(&mut native));
        if whole.is_err() || self.mac(digest, &native).verify_slice(&tag).is_err() {
            self.counters.rejected.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%digest, "an artifact was changed by somebody else; it is made again");
            // Nobody may be there to hear it; the log has it in any case.
            let _heard = self.tampering.send(digest);
            return None;
        }
        if used > SystemTime::UNIX_EPOCH {
            // The time in the file is for the next start; not being able to set it costs a file its place, no more.
            let _kept = file.into_std().set_times(FileTimes::new().set_modified(used));
            self.shelf().touch(&self.name(digest), used);
        }
        Some(native)
    }

    fn write(&self, digest: Digest, native: &[u8], used: SystemTime) -> anyhow::Result<()> {
        let name = self.name(digest);
        let mut unique = [0; 8];
        getrandom::fill(&mut unique).map_err(|e| anyhow::anyhow!("no randomness: {e}"))?;
        let draft = format!("{name}.{}{DRAFT}", hex::encode(unique));
        let mut file =
            self.dir.open_with(&draft, OpenOptions::new().write(true).create_new(true).mode(0o600))?.into_std();
        let written = file
            .write_all(&self.mac(digest, native).finalize().into_bytes())
            .and_then(|()| file.write_all(native))
            .and_then(|()| file.set_modified(used))
            .and_then(|()| file.sync_all())
            .and_then(|()| self.dir.rename(&draft, &self.dir, &name));
        if let Err(error) = written {
            let _unused = self.dir.remove_file(&draft);
            return Err(error.into());
        }
        let excess = self.shelf().put(&name, (native.len() + MAC_BYTES) as u64, used);
        for name in excess {
            self.counters.evicted.fetch_add(1, Ordering::Relaxed);
            self.remove(&name);
        }
        Ok(())
    }

    fn remove(&self, name: &str) {
        self.shelf().forget(name);
        match self.dir.remove_file(name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(name, %error, "an artifact could not be removed");
            }
            _ => {}
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Only numbers and names are changed under it.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a directory that nobody but this user can enter, made if it is not there.
fn private_directory(path: &Path) -> anyhow::Result<Dir> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create the artifact directory {}", path.display()))?;
    let dir = Dir::open_ambient_dir(path, ambient_authority())
        .with_context(|| format!("cannot open the artifact directory {}", path.display()))?;
    // Of the directory that was opened, not of whatever has its name by now.
    let seen = rustix::fs::fstat(&dir).context("cannot look at the artifact directory")?;
    let others = seen.st_mode & 0o077;
    anyhow::ensure!(
        others == 0 && seen.st_uid == rustix::process::geteuid().as_raw(),
        "the artifact directory {} holds native code and is open to others; run `chmod 700` and `chown` on it",
        path.display()
    );
    Ok(dir)
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, LoadError> + Send + 'static,
) -> Result<R, LoadError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| LoadError::Host(format!("the compiler failed: {e}")))?
}

/// Native code that this process compiled, or whose MAC was verified over these very bytes.
#[allow(unsafe_code)]
fn map(engine: &Engine, native: &[u8]) -> Result<(Component, u64), String> {
    // SAFETY: `native` is what this program's own compiler process gave: either a moment ago, or when the file
    // was written under a key that only this host has, which `Files::read` has checked over these bytes in memory,
    // so a file changed meanwhile is not seen.
    match unsafe { Component::deserialize(engine, native) } {
        Ok(component) => Ok((component, native.len() as u64)),
        Err(error) => Err(format!("{error:#}")),
    }
}
