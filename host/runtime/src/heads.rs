//! Signed heads of the audit chains, put where the database's owner does not write.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use clawhold_store::Store;
use clawhold_tenancy::audit::{HOST_CHAIN, Head, PublicKey, SignedHead, SigningKey, now_us};

use crate::Host;

/// Tenants whose heads are read at a time when the host starts.
const PAGE: u32 = 200;

/// A second place for heads.
pub trait HeadSink: Send + Sync {
    /// Adds heads, and returns once they are kept.
    fn append(&self, heads: &[SignedHead]) -> io::Result<()>;

    /// The newest head of this chain that this key signed, if there is one.
    fn newest(&self, chain: &str, key: &PublicKey) -> io::Result<Option<SignedHead>>;
}

/// Signs heads, and puts them into a sink at intervals.
pub struct Heads {
    key: SigningKey,
    sink: Option<Arc<dyn HeadSink>>,
    every: Duration,
    /// Moved and not in the sink yet.
    waiting: Mutex<BTreeMap<String, Head>>,
}

impl Heads {
    /// Without a sink heads are signed when somebody asks, and kept nowhere.
    pub fn new(key: SigningKey, sink: Option<Arc<dyn HeadSink>>, every: Duration) -> Self {
        Self { key, sink, every, waiting: Mutex::default() }
    }

    /// What heads are verified with.
    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    pub(crate) fn sign(&self, chain: &str, head: Head) -> SignedHead {
        self.key.sign(chain, head, now_us())
    }

    /// What the sink has of this chain.
    pub(crate) async fn kept(&self, chain: &str) -> io::Result<Option<SignedHead>> {
        let Some(sink) = self.sink.clone() else { return Ok(None) };
        let (chain, key) = (chain.to_owned(), self.key.public());
        tokio::task::spawn_blocking(move || sink.newest(&chain, &key)).await.map_err(io::Error::other)?
    }

    /// Puts what has moved into the sink. What could not be put there stays for the next time.
    pub(crate) async fn put(&self, store: &Store) {
        let Some(sink) = self.sink.clone() else { return };
        let batch = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.extend(store.take_moved());
            std::mem::take(&mut *waiting)
        };
        if batch.is_empty() {
            return;
        }
        let signed: Vec<_> = batch.iter().map(|(chain, head)| self.sign(chain, *head)).collect();
        let put = tokio::task::spawn_blocking(move || sink.append(&signed)).await.map_err(io::Error::other);
        if let Err(error) = put.and_then(|put| put) {
            tracing::error!(%error, "the heads of audit chains could not be kept in their second place");
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            for (chain, head) in batch {
                waiting.entry(chain).or_insert(head);
            }
        }
    }
}

/// Puts heads into the sink at intervals, as long as there is a host; first those of all chains, as they are found.
pub(crate) async fn keep(host: Weak<Host>) {
    let Some(every) = host.upgrade().map(|host| host.heads.every) else { return };
    if let Some(host) = host.upgrade()
        && let Err(error) = host.look_at_all_chains().await
    {
        tracing::warn!(%error, "the heads of audit chains could not be read at the start");
    }
    loop {
        tokio::time::sleep(every).await;
        let Some(host) = host.upgrade() else { return };
        host.heads.put(&host.store).await;
    }
}

impl Host {
    async fn look_at_all_chains(&self) -> Result<(), clawhold_store::StoreError> {
        if self.heads.sink.is_none() {
            return Ok(());
        }
        let mut found = BTreeMap::new();
        let mut after = None;
        loop {
            let tenants = self.store.system("keep heads").await?.tenants(after.as_ref(), PAGE).await?;
            for tenant in &tenants {
                let head = self.store.tenant(&tenant.id).await?.audit_head().await?;
                found.insert(tenant.id.to_string(), head);
            }
            match tenants.into_iter().next_back() {
                Some(last) => after = Some(last.id),
                None => break,
            }
        }
        found.insert(HOST_CHAIN.to_owned(), self.store.system("keep heads").await?.audit_head().await?);
        let mut waiting = self.heads.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for (chain, head) in found.into_iter().filter(|(_, head)| head.seq > 0) {
            waiting.entry(chain).or_insert(head);
        }
        Ok(())
    }
}

/// A file with a line of JSON for each head. It is opened anew each time, so that it can be moved away.
pub struct HeadFile(pub PathBuf);

impl HeadSink for HeadFile {
    fn append(&self, heads: &[SignedHead]) -> io::Result<()> {
        let mut lines = Vec::new();
        for head in heads {
            serde_json::to_writer(&mut lines, head)?;
            lines.push(b'\n');
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.0)?;
        // A line that was cut when the disk was full must not take the next one with it.
        let mut last = [b'\n'];
        if file.seek(io::SeekFrom::End(-1)).is_ok() {
            file.read_exact(&mut last)?;
        }
        if last != [b'\n'] {
            lines.insert(0, b'\n');
        }
        file.write_all(&lines)?;
        file.sync_all()
    }

    fn newest(&self, chain: &str, key: &PublicKey) -> io::Result<Option<SignedHead>> {
        let file = match File::open(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut newest: Option<SignedHead> = None;
        for line in BufReader::new(file).split(b'\n') {
            // A line that was cut when the machine lost power is none.
            let Ok(head) = serde_json::from_slice::<SignedHead>(&line?) else { continue };
            let newer = newest.as_ref().is_none_or(|known| head.seq >= known.seq);
            if head.chain == chain && newer && head.verify(key).is_ok() {
                newest = Some(head);
            }
        }
        Ok(newest)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_file_gives_the_newest_head_that_the_key_signed() {
        let folder = tempfile::tempdir().unwrap();
        let file = HeadFile(folder.path().join("heads.ndjson"));
        let (ours, theirs) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        assert_eq!(file.newest("acme-corp", &ours.public()).unwrap(), None);
        let head = |seq| Head { seq, hash: [7; 32] };
        file.append(&[ours.sign("acme-corp", head(1), 1), ours.sign("globex", head(9), 1)]).unwrap();
        file.append(&[ours.sign("acme-corp", head(3), 2), theirs.sign("acme-corp", head(5), 3)]).unwrap();
        let mut half = OpenOptions::new().append(true).open(&file.0).unwrap();
        half.write_all(b"{\"chain\":\"acme\xff").unwrap();
        let newest = file.newest("acme-corp", &ours.public()).unwrap().unwrap();
        assert_eq!((newest.seq, newest.at_us), (3, 2));
        file.append(&[ours.sign("acme-corp", head(4), 4)]).unwrap();
        assert_eq!(file.newest("acme-corp", &ours.public()).unwrap().unwrap().seq, 4, "behind a line that was cut");
        assert_eq!(std::fs::metadata(&file.0).unwrap().mode() & 0o777, 0o600);
    }
}
