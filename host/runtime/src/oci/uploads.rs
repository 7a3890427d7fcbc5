//! Blobs that are being pushed, and those that were and whose manifest has not come yet.
//!
//! They are in memory, and only on the host that took them: a push is short, and what is not on a disk is not left
//! there. Each is bounded, so is what one publisher and all together hold, and each ends by itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use clawhold_marketplace::oci::DOCUMENT_BYTES;
use clawhold_tenancy::limits::COMPONENT_BYTES;
use clawhold_tenancy::{Digest, PackageName, Publisher, RequestId};
use sha2::{Digest as _, Sha256};

use super::problem::{RegistryCode, RegistryProblem};
use crate::Host;

/// Uploads of one publisher that are under way or wait for their manifest, and of all. A package is two of them.
const OF_ONE_PUBLISHER: usize = 8;
const OF_ALL: usize = 64;
/// Bytes that they hold: as many packages of the largest size as may be published at a time.
const BYTES_OF_ONE_PUBLISHER: u64 = 2 * (COMPONENT_BYTES + DOCUMENT_BYTES);
const BYTES_OF_ALL: u64 = 8 * (COMPONENT_BYTES + DOCUMENT_BYTES);
/// How long an upload lives that nobody writes to, and however it is written to.
const IDLE: Duration = Duration::from_mins(2);
const LIFE: Duration = Duration::from_mins(15);
/// How often what is over is looked for, beside at each new upload.
const SWEEP: Duration = Duration::from_secs(30);
/// Bytes that a blob grows by: what a reader of the network gives may be a single byte.
const PIECE: usize = 256 * 1024;

/// Bytes as they came, and their digest so far.
#[derive(Default)]
pub(crate) struct Spool {
    pieces: Vec<Vec<u8>>,
    hash: Sha256,
}

impl Spool {
    fn add(&mut self, mut bytes: &[u8]) {
        self.hash.update(bytes);
        while !bytes.is_empty() {
            if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
                // The first grows to its size, for a config has a few hundred bytes.
                let room = if self.pieces.is_empty() { 0 } else { PIECE };
                self.pieces.push(Vec::with_capacity(room));
            }
            let Some(piece) = self.pieces.last_mut() else { return };
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - piece.len()));
            piece.extend_from_slice(now);
            bytes = later;
        }
    }

    /// All of it in one piece.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    pub(crate) fn size(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }
}

#[derive(Default)]
pub(crate) struct Uploads(Mutex<Table>);

#[derive(Default)]
struct Table {
    open: HashMap<RequestId, Open>,
    done: HashMap<(PackageName, Digest), Done>,
}

struct Open {
    package: PackageName,
    /// Not here while a request writes to it.
    spool: Option<Spool>,
    size: u64,
    began: Instant,
    touched: Instant,
}

struct Done {
    spool: Arc<Spool>,
    size: u64,
    at: Instant,
}

impl Table {
    fn sweep(&mut self, now: Instant) {
        let over = |since: Instant, most: Duration| now.saturating_duration_since(since) >= most;
        self.open.retain(|_, open| open.spool.is_none() || !over(open.touched, IDLE) && !over(open.began, LIFE));
        self.done.retain(|_, done| !over(done.at, LIFE));
    }

    /// Forgets a publisher's oldest blob whose manifest is overdue; `false` if there is none.
    fn drop_left_behind(&mut self, publisher: &Publisher, now: Instant) -> bool {
        let overdue = |done: &Done| now.saturating_duration_since(done.at) >= IDLE;
        let own = self.done.iter().filter(|((package, _), done)| package.publisher() == *publisher && overdue(done));
        let oldest = own.min_by_key(|(_, done)| done.at).map(|(key, _)| key.clone());
        oldest.is_some_and(|key| self.done.remove(&key).is_some())
    }

    /// Publisher and bytes of each upload.
    fn held(&self) -> impl Iterator<Item = (Publisher, u64)> {
        let open = self.open.values().map(|open| (open.package.publisher(), open.size));
        open.chain(self.done.iter().map(|((package, _), done)| (package.publisher(), done.size)))
    }
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Whole after a panic too: entries come and go one at a time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new upload, which is called after the request that begins it.
    pub(crate) fn begin(&self, id: RequestId, package: &PackageName) -> Result<(), RegistryProblem> {
        let now = Instant::now();
        let mut table = self.lock();
        table.sweep(now);
        let publisher = package.publisher();
        let own = table.held().filter(|(other, _)| *other == publisher).count();
        // What an earlier push left behind makes room, so that some that failed do not keep the next away.
        if own >= OF_ONE_PUBLISHER && !table.drop_left_behind(&publisher, now) || table.held().count() >= OF_ALL {
            return Err(full());
        }
        let open = Open { package: package.clone(), spool: Some(Spool::default()), size: 0, began: now, touched: now };
        table.open.insert(id, open);
        Ok(())
    }

    /// Bytes that an upload has.
    pub(crate) fn size(&self, id: RequestId, package: &PackageName) -> Result<u64, RegistryProblem> {
        let table = self.lock();
        table.open.get(&id).filter(|open| open.package == *package).map(|open| open.size).ok_or_else(no_upload)
    }

    /// Takes an upload to write to it: one request at a time.
    pub(crate) fn write(&self, id: RequestId, package: &PackageName) -> Result<Writing<'_>, RegistryProblem> {
        let mut table = self.lock();
        let open = table.open.get_mut(&id).filter(|open| open.package == *package).ok_or_else(no_upload)?;
        let spool = open.spool.take().ok_or_else(|| {
            let why = "another request writes to this upload; wait for it, or begin a new one";
            RegistryProblem::new(RegistryCode::BlobUploadInvalid, why)
        })?;
        Ok(Writing { uploads: self, id, package: package.clone(), spool: Some(spool) })
    }

    fn grow(&self, id: RequestId, package: &PackageName, by: u64) -> Result<(), RegistryProblem> {
        let mut table = self.lock();
        let publisher = package.publisher();
        let of_one: u64 = table.held().filter(|(other, _)| *other == publisher).map(|(_, size)| size).sum();
        let of_all: u64 = table.held().map(|(_, size)| size).sum();
        let open = table.open.get_mut(&id).ok_or_else(no_upload)?;
        if open.size + by > COMPONENT_BYTES {
            return Err(too_large());
        }
        if of_one + by > BYTES_OF_ONE_PUBLISHER || of_all + by > BYTES_OF_ALL {
            return Err(full());
        }
        open.size += by;
        open.touched = Instant::now();
        Ok(())
    }

    /// A blob that was pushed and whose manifest has not come.
    pub(crate) fn done(&self, package: &PackageName, digest: &Digest) -> Option<Arc<Spool>> {
        self.lock().done.get(&(package.clone(), *digest)).map(|done| Arc::clone(&done.spool))
    }

    pub(crate) fn forget(&self, package: &PackageName, digest: &Digest) {
        self.lock().done.remove(&(package.clone(), *digest));
    }
}

/// An upload in the hands of one request. Dropped, it waits for the next one.
pub struct Writing<'h> {
    uploads: &'h Uploads,
    id: RequestId,
    package: PackageName,
    spool: Option<Spool>,
}

impl Writing<'_> {
    /// Bytes that are there.
    pub fn size(&self) -> u64 {
        self.spool.as_ref().map_or(0, Spool::size)
    }

    /// Adds what came.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), RegistryProblem> {
        self.uploads.grow(self.id, &self.package, bytes.len() as u64)?;
        if let Some(spool) = &mut self.spool {
            spool.add(bytes);
        }
        Ok(())
    }

    /// The end of the upload: its bytes are those of the digest, or nothing is left of it.
    pub fn finish(mut self, digest: &Digest) -> Result<(), RegistryProblem> {
        let Some(spool) = self.spool.take() else { return Err(no_upload()) };
        let found: [u8; 32] = spool.hash.clone().finalize().into();
        let size = spool.size();
        let mut table = self.uploads.lock();
        table.open.remove(&self.id);
        if found != *digest.as_bytes() {
            let why = format!("the {size} bytes that came are not those of {digest}; push the blob again");
            return Err(RegistryProblem::new(RegistryCode::DigestInvalid, why));
        }
        table.done.insert((self.package.clone(), *digest), Done { spool: Arc::new(spool), size, at: Instant::now() });
        Ok(())
    }

    /// Gives the upload up.
    pub fn cancel(mut self) {
        self.spool = None;
        self.uploads.lock().open.remove(&self.id);
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        if let Some(spool) = self.spool.take()
            && let Some(open) = self.uploads.lock().open.get_mut(&self.id)
        {
            open.spool = Some(spool);
        }
    }
}

/// Ends what nobody goes on with, as long as there is a host.
pub(crate) async fn keep(host: Weak<Host>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(host) = host.upgrade() else { return };
        host.registry.uploads.lock().sweep(Instant::now());
    }
}

fn no_upload() -> RegistryProblem {
    let why = "there is no such upload, or it was not gone on with in time; begin it again, on the same host";
    RegistryProblem::new(RegistryCode::BlobUploadUnknown, why)
}

pub(crate) fn too_large() -> RegistryProblem {
    let why =
        format!("a blob may have {COMPONENT_BYTES} bytes; build the package with `clawhold skill build`, which strips");
    RegistryProblem::new(RegistryCode::SizeInvalid, why)
}

fn full() -> RegistryProblem {
    let why = "as many pushes are under way as may be; push again in a minute";
    RegistryProblem::new(RegistryCode::TooManyRequests, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> PackageName {
        name.parse().unwrap()
    }

    fn begun(uploads: &Uploads, name: &str) -> Result<RequestId, RegistryProblem> {
        let id = RequestId::now();
        uploads.begin(id, &package(name)).map(|()| id)
    }

    #[test]
    fn parts_make_a_blob_of_the_right_digest_alone() {
        let (uploads, crm) = (Uploads::default(), package("northwind/crm"));
        let blob: Vec<u8> = (0..=250).cycle().take(PIECE * 2 + 7).collect();
        let id = begun(&uploads, "northwind/crm").unwrap();
        for part in blob.chunks(100_003) {
            uploads.write(id, &crm).unwrap().add(part).unwrap();
        }
        assert_eq!(uploads.size(id, &crm).unwrap(), blob.len() as u64);
        let digest = Digest::of(&blob);
        uploads.write(id, &crm).unwrap().finish(&digest).unwrap();
        assert_eq!(uploads.done(&crm, &digest).unwrap().bytes(), blob);
        assert!(uploads.done(&package("northwind/other"), &digest).is_none());
        assert!(uploads.write(id, &crm).is_err());
        let id = begun(&uploads, "northwind/crm").unwrap();
        let wrong = uploads.write(id, &crm).unwrap().finish(&digest).unwrap_err();
        assert!(matches!(wrong, RegistryProblem::Refused { code: RegistryCode::DigestInvalid, .. }));
        assert!(uploads.lock().open.is_empty(), "nothing is left of what did not fit");
    }

    #[test]
    fn one_request_writes_at_a_time_and_to_its_own_package() {
        let uploads = Uploads::default();
        let id = begun(&uploads, "northwind/crm").unwrap();
        let held = uploads.write(id, &package("northwind/crm")).unwrap();
        assert!(uploads.write(id, &package("northwind/crm")).is_err());
        assert!(uploads.write(id, &package("northwind/other")).is_err());
        drop(held);
        assert!(uploads.write(id, &package("northwind/crm")).is_ok());
    }

    #[test]
    fn uploads_are_bounded_in_number_in_bytes_and_in_time() {
        let uploads = Uploads::default();
        let ids: Vec<_> = (0..OF_ONE_PUBLISHER).map(|_| begun(&uploads, "northwind/crm").unwrap()).collect();
        assert!(begun(&uploads, "northwind/other").is_err());
        let other = begun(&uploads, "globex/crm").unwrap();
        let piece = vec![0; usize::try_from(COMPONENT_BYTES / 8).unwrap()];
        let fill = |id, name| {
            let mut writing = uploads.write(id, &package(name)).unwrap();
            (0..9).find_map(|_| writing.add(&piece).err()).map(|problem| problem.to_string())
        };
        assert!(fill(ids[0], "northwind/crm").unwrap().contains("a blob may have 67108864 bytes"));
        assert!(fill(ids[1], "northwind/crm").unwrap().contains("a blob may have"));
        assert!(fill(ids[2], "northwind/crm").unwrap().contains("as many pushes"));
        uploads.write(other, &package("globex/crm")).unwrap().add(b"x").unwrap();
        uploads.lock().sweep(Instant::now() + IDLE);
        assert!(uploads.lock().open.is_empty());
        assert!(begun(&uploads, "northwind/crm").is_ok());
    }

    #[test]
    fn what_was_left_behind_makes_room() {
        let (uploads, crm) = (Uploads::default(), package("northwind/crm"));
        for n in 0..OF_ONE_PUBLISHER {
            let blob = n.to_string();
            let mut writing = uploads.write(begun(&uploads, "northwind/crm").unwrap(), &crm).unwrap();
            writing.add(blob.as_bytes()).unwrap();
            writing.finish(&Digest::of(blob.as_bytes())).unwrap();
        }
        assert!(begun(&uploads, "northwind/crm").is_err(), "their manifests may still come");
        let later = Instant::now() + IDLE;
        assert!(!uploads.lock().drop_left_behind(&"globex".parse().unwrap(), later));
        assert!(uploads.lock().drop_left_behind(&"northwind".parse().unwrap(), later));
        assert!(uploads.done(&crm, &Digest::of(b"0")).is_none(), "the oldest");
        assert!(begun(&uploads, "northwind/crm").is_ok());
        uploads.lock().sweep(Instant::now() + LIFE);
        assert!(uploads.lock().done.is_empty());
    }

    #[test]
    fn single_bytes_take_no_more_room_than_many() {
        let mut spool = Spool::default();
        for _ in 0..=PIECE {
            spool.add(b"x");
        }
        assert_eq!(spool.pieces.len(), 2);
    }
}
