//! The signed index on this host: what becomes of each published version, as far as it was verified.
//!
//! It is read at the start, when another host tells of a change, and twice a second in case nobody does. What was
//! verified is acted on: what must not run is forgotten, and runs of what was revoked end. A host that cannot read it runs what
//! it knows until that expires, and then nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use clawhold_marketplace::index::{Entry, Head, Index, IndexRefused, Roots, Seen, Status};
use clawhold_marketplace::key::SigningKey;
use clawhold_store::{IndexRow, SystemTx, Write};
use clawhold_tenancy::PackageName;
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use serde_json::json;
use tokio::sync::Mutex as AsyncMutex;

use crate::{Host, Problem};

/// Between two looks whether the index has changed: within the second that a revocation may take.
const LOOK: Duration = Duration::from_millis(400);

/// How long a head is good, unless the operator says otherwise. 10 minutes: a host that is cut off from its database that long
/// could not record a run either.
pub const INDEX_LIFE: Duration = Duration::from_mins(10);

/// How often whoever wants to change it lets another host go first.
const RACES: u32 = 20;

/// How many packages are named of those that are left out: an entry of a chain has a bound.
const LEFT_OUT: usize = 20;

/// What a host keeps the index with.
pub struct IndexKeeping {
    /// Signs and verifies it. All hosts on one database have the same.
    pub key: SigningKey,
    /// Where it is remembered which state was seen, apart from the database.
    pub seen: Option<PathBuf>,
    /// How long a head is good.
    pub life: Duration,
}

/// The index as it was verified last.
pub(crate) struct KeptIndex {
    keeping: IndexKeeping,
    state: RwLock<Option<Arc<Index>>>,
    /// When the state expires, in microseconds since 1970; 0 without one.
    fresh_until_us: AtomicI64,
    /// The head's text that the state was verified with.
    head: Mutex<String>,
    /// Why what is in the database now is not believed; said once.
    refused: Mutex<Option<String>>,
    reading: AsyncMutex<()>,
}

impl KeptIndex {
    pub(crate) fn new(keeping: IndexKeeping) -> Self {
        Self {
            keeping,
            state: RwLock::default(),
            fresh_until_us: AtomicI64::new(0),
            head: Mutex::default(),
            refused: Mutex::default(),
            reading: AsyncMutex::default(),
        }
    }

    /// What is verified, if anything is.
    pub(crate) fn state(&self) -> Option<Arc<Index>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether what is known may still be relied on.
    pub(crate) fn is_fresh(&self) -> bool {
        now_us() < self.fresh_until_us.load(Ordering::Relaxed)
    }

    /// What is wrong with the index that the database has, if something is.
    pub(crate) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The head's text, as it was verified.
    fn head(&self) -> String {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn seen(&self) -> io::Result<Option<Seen>> {
        let known = self.state().map(|state| state.seen());
        let Some(path) = &self.keeping.seen else { return Ok(known) };
        let kept = match std::fs::read_to_string(path) {
            Ok(text) => Some(text.trim().parse::<Seen>().map_err(|error| io::Error::other(error.to_string()))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(kept.into_iter().chain(known).max_by_key(|seen| seen.counter))
    }

    /// Remembers what was seen, before anybody acts on it.
    fn note_seen(&self, seen: &Seen) -> io::Result<()> {
        let Some(path) = &self.keeping.seen else { return Ok(()) };
        let draft = path.with_extension("draft");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        writeln!(file, "{seen}")?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    fn set(&self, index: Index, head: String) -> Option<Arc<Index>> {
        self.fresh_until_us.store(index.head().expires_us, Ordering::Relaxed);
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.state.write().unwrap_or_else(PoisonError::into_inner).replace(Arc::new(index))
    }
}

impl Host {
    /// Reads the index before anybody asks for it, or begins it. What goes wrong is tried again.
    pub async fn open_index(&self) {
        let opened = async {
            self.read_index().await?;
            self.renew_index().await
        };
        if let Err(problem) = opened.await {
            tracing::error!(%problem, "the index of packages could not be read; nothing runs until it is");
        }
    }

    /// Forgets the index, and reads it as after a start.
    pub async fn forget_index(&self) {
        {
            let _reading = self.index.reading.lock().await;
            self.index.state.write().unwrap_or_else(PoisonError::into_inner).take();
            self.index.head.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        self.open_index().await;
    }

    /// Why the index that the database has is not believed, if it is not.
    pub fn index_refused(&self) -> Option<String> {
        self.index.refused()
    }

    /// Reads the index if it is another than the one that was verified last, and acts on what is other in it.
    pub(crate) async fn read_index(&self) -> Result<(), Problem> {
        // One at a time: of two readers the slower one could put an older state back.
        let _reading = self.index.reading.lock().await;
        let mut tx = self.store.system("read the index").await?;
        let Some(head) = tx.index_head().await? else { return Ok(()) };
        if self.index.head() == head {
            // What was refused meanwhile is not what the database has any more, such as a replica that lagged.
            self.index.refused.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Ok(());
        }
        // What was left out is perhaps put right by now.
        let known = self.index.state().filter(|known| known.left_out().len() == 0);
        let rows = tx.index_rows(known.as_ref().map_or(-1, |known| known.head().counter)).await?;
        drop(tx);
        let verified = match self.verified(known, rows, None, head.clone()).await? {
            // Some of it is not what was signed; perhaps all else is.
            Err(IndexRefused::OtherEntries | IndexRefused::Ahead { .. } | IndexRefused::Twice { .. }) => {
                let mut tx = self.store.system("read the whole index").await?;
                // All of one moment, or what changes meanwhile would look changed past the host.
                let is_same = tx.index_head().await?.as_ref() == Some(&head);
                let (rows, roots) = (tx.index_rows(-1).await?, tx.index_roots().await?);
                drop(tx);
                if !is_same {
                    return Err(Problem::Unavailable("the index changed while it was read".to_owned()));
                }
                self.verified(self.index.state(), rows, Some(roots), head.clone()).await?
            }
            verified => verified,
        };
        let index = match verified {
            Ok(index) => index,
            Err(refused) => {
                self.refuse_index(refused.to_string());
                return Err(Problem::Unavailable(
                    "the index of packages is not believed; the operator's log says why".to_owned(),
                ));
            }
        };
        self.index
            .note_seen(&index.seen())
            .map_err(|e| Problem::internal("the index that was seen cannot be kept", e))?;
        self.note_left_out(&index);
        let before = self.index.set(index, head);
        self.act_on_index(before.as_deref());
        Ok(())
    }

    /// What these rows are under this head: on top of what is known, or by themselves; with roots as far as they are what was signed.
    async fn verified(
        &self,
        known: Option<Arc<Index>>,
        rows: Vec<IndexRow>,
        roots: Option<Vec<(PackageName, String)>>,
        head: String,
    ) -> Result<Result<Index, IndexRefused>, Problem> {
        let keys = [self.index.keeping.key.public()];
        let seen = self.index.seen().map_err(|e| Problem::internal("the index that was seen last is not known", e))?;
        let may_renew = self.store.pinned().await?.is_none();
        let verify = move || {
            let entries: Vec<Entry> = rows.iter().filter_map(entry).collect();
            let roots = roots.map(|roots| {
                let root = |(package, digits)| {
                    let mut root = [0; 32];
                    hex::decode_to_slice::<String>(digits, &mut root).ok().map(|()| (package, root))
                };
                roots.into_iter().filter_map(root).collect()
            });
            let at = |now| match (&roots, &known) {
                (None, Some(known)) => known.updated(entries.clone(), &head, &keys, now),
                (None, None) => Index::verify(entries.clone(), &head, &keys, seen.as_ref(), now),
                (Some(roots), known) => {
                    let known = known.as_deref();
                    Index::verify_apart(entries.clone(), roots, known, &head, &keys, seen.as_ref(), now)
                }
            };
            match at(now_us()) {
                // Who signs it may take it up again after all hosts were down; it is good once it has been signed anew.
                Err(IndexRefused::Expired(at_us)) if may_renew => at(at_us - 1),
                verified => verified,
            }
        };
        tokio::task::spawn_blocking(verify).await.map_err(|e| Problem::internal("the index", e))
    }

    /// Tells the operator which packages are left out.
    fn note_left_out(&self, index: &Index) {
        let left_out: Vec<&str> = index.left_out().map(PackageName::as_str).collect();
        if !left_out.is_empty() {
            let why = "what is stored of these packages is not what the host signed; put their rows in `versions` back from a backup";
            let packages = &left_out[..left_out.len().min(LEFT_OUT)];
            // Others than before are news.
            self.note_tampered_as(
                &format!("market:index {}", left_out.join(" ")),
                "market:index".to_owned(),
                json!({ "why": why, "count": left_out.len(), "packages": packages }),
            );
        }
    }

    /// What must not run is forgotten, and what is revoked ends.
    fn act_on_index(&self, before: Option<&Index>) {
        let Some(now) = self.index.state() else { return };
        let revoked = now.entries().iter().filter(|entry| entry.status.cancels());
        // Of what is left out nobody knows whether it is revoked.
        let before_entries = before.map_or(&[][..], Index::entries);
        let left_out = before_entries.iter().filter(|entry| now.is_left_out(&entry.package));
        self.sandbox.withdraw(revoked.chain(left_out).map(|entry| entry.digest));
        let changed = before.map_or_else(Vec::new, |before| now.changes_since(before));
        if !changed.is_empty() {
            // What is being looked up just now may be from before.
            self.fresh.note_change();
        }
        for change in changed {
            if let Some(entry) = change.is.or(change.was) {
                self.resolved.forget_package(&entry.package);
            }
        }
    }

    /// Says once that what the database has is not believed.
    fn refuse_index(&self, why: String) {
        {
            let mut refused = self.index.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if refused.as_ref() == Some(&why) {
                return;
            }
            *refused = Some(why.clone());
        }
        tracing::error!(%why, "the index of packages in the database is not believed; what was verified before is used until it expires");
        self.note_apart(event("host.reject_index", Outcome::Denied).with(&json!({ "why": why })));
    }

    /// Signs the index with this entry, which the transaction has just written. All others are what was verified: whoever has changed one in the
    /// database does not get it signed.
    pub(crate) async fn sign_index(&self, tx: &mut SystemTx<Write>, changed: Entry) -> Result<(), Problem> {
        let (package, version) = (&changed.package, &changed.version);
        let row = tx.index_row(package, version).await?;
        // Nor is what somebody has changed of this one. It is signed all the same, or a version could be kept from being revoked: hosts that
        // read such a row leave the package out.
        if row.as_ref().and_then(entry).as_ref() != Some(&changed) {
            self.note_tampered(
                format!("package:{package}@{version}"),
                json!({ "why": "its row is not what the host signed" }),
            );
        }
        let known = self.index.state().ok_or_else(|| Problem::internal("nothing is known of the index", package))?;
        let now = now_us();
        let (head, roots) =
            known.next_head(changed, now, now.saturating_add(self.index.life_us())).map_err(|_| Problem::Changed)?;
        self.put_head(tx, &head, &roots).await
    }

    async fn put_head(&self, tx: &mut SystemTx<Write>, head: &Head, roots: &Roots) -> Result<(), Problem> {
        for (package, root) in roots.iter() {
            tx.put_index_root(package, &hex::encode(root)).await?;
        }
        Ok(tx.put_index_head(head.counter, &head.sign(&self.index.keeping.key)).await?)
    }

    /// A transaction that changes the index, and the counter that its changes have: nobody else changes it until the end. What is signed
    /// on top of a state that this host does not believe would make it good.
    pub(crate) async fn change_index(&self, reason: &'static str) -> Result<(SystemTx<Write>, i64), Problem> {
        for _ in 0..RACES {
            self.read_index().await?;
            if self.index.state().is_none() {
                self.begin_index().await?;
            }
            if let Some(why) = self.index.refused() {
                return Err(Problem::Unavailable(format!("nothing of the marketplace can be changed: {why}")));
            }
            let mut tx = self.store.system_write(reason).await?;
            let counter = tx.lock_index().await?;
            // Another host may have changed it just before.
            if tx.index_head().await? == Some(self.index.head()) {
                return Ok((tx, counter + 1));
            }
        }
        Err(Problem::Unavailable("the marketplace changes too fast just now; try again in a moment".to_owned()))
    }

    /// Makes the first head, or a newer one over the same state when half of the time is over.
    async fn renew_index(&self) -> Result<(), Problem> {
        if self.store.pinned().await?.is_some() {
            return Ok(());
        }
        let (now, life) = (now_us(), self.index.life_us());
        let Some(state) = self.index.state() else { return self.begin_index().await };
        if self.index.refused().is_some() || state.head().expires_us - now > life / 2 {
            return Ok(());
        }
        let old = self.index.head();
        let head = Head { issued_us: now, expires_us: now.saturating_add(life), ..state.head().clone() };
        self.store.renew_index_head(&old, &head.sign(&self.index.keeping.key)).await?;
        self.read_index().await
    }

    /// Signs the first state that there is. Not where one was seen before: then the database has lost it.
    async fn begin_index(&self) -> Result<(), Problem> {
        let begun = self.details.seal(Chain::Host, event("host.begin_index", Outcome::Success)).await?;
        let mut tx = self.store.system_write("begin the index").await?;
        let counter = tx.lock_index().await?;
        if tx.index_head().await?.is_some() {
            drop(tx);
            return self.read_index().await;
        }
        let seen = self.index.seen().map_err(|e| Problem::internal("the index that was seen last is not known", e))?;
        if seen.is_some() || tx.has_versions_of_an_index().await? {
            drop(tx);
            let why = "the database has no index, and there has been one: it was taken out, the database was put back to an older state, or is another one; put the row in `market_index` back from a backup";
            self.refuse_index(why.to_owned());
            return Ok(());
        }
        let entries: Vec<Entry> = tx.index_rows(-1).await?.iter().filter_map(entry).collect();
        let now = now_us();
        let head = Head::over(&entries, counter, now, now.saturating_add(self.index.life_us()));
        self.put_head(&mut tx, &head, &Roots::of(&entries)).await?;
        tx.commit(begun).await?;
        self.read_index().await
    }

    /// Why nothing may run: what is known of packages has expired.
    pub(crate) fn require_fresh_index(&self) -> Result<(), Problem> {
        if self.index.is_fresh() {
            return Ok(());
        }
        Err(Problem::Unavailable(
            "this host has not been able to verify for a while which packages are still good, and runs none until then; call again in a moment"
                .to_owned(),
        ))
    }
}

impl KeptIndex {
    fn life_us(&self) -> i64 {
        i64::try_from(self.keeping.life.as_micros()).unwrap_or(i64::MAX)
    }
}

fn event(action: &str, outcome: Outcome) -> Event {
    Event::by_host("index", action, "market:index", outcome)
}

/// `None` for what cannot be read: it is not what was signed.
fn entry(row: &IndexRow) -> Option<Entry> {
    let status = row.status.parse::<Status>();
    let status = status.inspect_err(|error| tracing::error!(package = %row.package, version = %row.version, %error, "a version's status in the database cannot be read"));
    Some(Entry {
        package: row.package.clone(),
        version: row.version.clone(),
        digest: row.digest,
        status: status.ok()?,
        changed_us: row.changed_us,
        counter: row.counter,
    })
}

/// Reads and renews the index as long as there is a host.
pub(crate) async fn keep(host: Weak<Host>) {
    loop {
        let Some(host) = host.upgrade() else { return };
        let kept = async {
            host.read_index().await?;
            host.renew_index().await
        };
        if let Err(problem) = kept.await {
            tracing::debug!(%problem, "the index could not be kept up to date");
        }
        drop(host);
        tokio::time::sleep(LOOK).await;
    }
}

/// Tells tenants what became of versions, as long as there is a host. Apart from the above: with many tenants it takes a while, and a
/// revocation must not wait for it.
pub(crate) async fn keep_telling(host: Weak<Host>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(host) = host.upgrade() else { return };
        if let Err(problem) = host.tell_tenants().await {
            tracing::debug!(%problem, "tenants could not be told what became of a version; it is tried again");
        }
    }
}
