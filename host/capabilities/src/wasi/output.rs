//! What a guest writes into a scratch file through a stream.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::scratch::{Account, locked};

/// Bytes of one write.
const WRITE_BYTES: usize = 64 * 1024;

/// A stream into a file. It writes at once and leaves nothing to be written later, so what was counted is what is there.
pub(super) struct Output {
    file: Arc<File>,
    /// Where the next byte goes; at the end of the file, wherever that is, when not set.
    at: Option<u64>,
    account: Arc<Mutex<Account>>,
}

impl Output {
    pub(super) fn new(file: Arc<File>, at: Option<u64>, account: Arc<Mutex<Account>>) -> Self {
        Self { file, at, account }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = match self.at {
            Some(at) => at,
            None => self.file.metadata()?.len(),
        };
        let end = at.checked_add(bytes.len() as u64).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        locked(&self.account).grow(&self.file, end)?;
        self.file.write_all_at(bytes, at)?;
        if self.at.is_some() {
            self.at = Some(end);
        }
        Ok(())
    }
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BYTES {
            return Err(StreamError::trap("more was written at once than check-write allows"));
        }
        self.put(&bytes).map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}
