//! When a commit is on disk.
//!
//! SQLite would wait for the disk inside of each commit, and nothing else can be written meanwhile. Here it commits into its
//! write-ahead log and goes on, and whoever promises something to a caller waits for [`Disk::flush`] first: one flush serves
//! all that was committed before it, while the next group is being written.
//!
//! Before it copies the log into the database, SQLite flushes it by itself (`synchronous = NORMAL`), so the file is whole after
//! a power cut in any case, and what it lacks is the newest commits, for which nobody has an answer.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::StoreError;
use crate::error::failed;

/// The write-ahead log of a database. A clone is another handle to the same one.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Log>);

struct Log {
    path: PathBuf,
    file: Mutex<Option<Arc<File>>>,
    flushes: AtomicU64,
}

impl Disk {
    pub(crate) fn of_log(path: PathBuf) -> Self {
        Self(Arc::new(Log { path, file: Mutex::new(None), flushes: AtomicU64::new(0) }))
    }

    /// Returns once everything that was committed before the call is on disk.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        let log = Arc::clone(&self.0);
        let flushed = tokio::task::spawn_blocking(move || log.flush()).await;
        flushed.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(sqlx::Error::Io).map_err(failed("reach the disk"))
    }

    /// How often that was done.
    pub(crate) fn flushes(&self) -> u64 {
        self.0.flushes.load(Ordering::Relaxed)
    }
}

impl Log {
    fn flush(&self) -> io::Result<()> {
        self.file()?.sync_data()?;
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The file that has the log's name now: SQLite removes it with its last connection and makes another.
    fn file(&self) -> io::Result<Arc<File>> {
        let mut kept = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*kept
            && file.metadata()?.nlink() > 0
        {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(&self.path)?);
        *kept = Some(Arc::clone(&file));
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_replaced_is_opened_again() {
        let path = std::env::temp_dir().join(format!("clawhold-disk-{}", std::process::id()));
        let disk = Disk::of_log(path.clone());
        assert!(disk.0.flush().is_err(), "there is no log");
        let inode = || std::fs::metadata(&path).unwrap().ino();
        for flushes in 1..3 {
            std::fs::write(&path, "x").unwrap();
            disk.0.flush().unwrap();
            assert_eq!(disk.0.file().unwrap().metadata().unwrap().ino(), inode());
            assert_eq!(disk.flushes(), flushes);
            std::fs::remove_file(&path).unwrap();
        }
    }
}
