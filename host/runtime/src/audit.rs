//! Reading, verifying and exporting a tenant's audit log, and noting what was refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use clawhold_store::StoreError;
use clawhold_store::audit::Verification;
use clawhold_tenancy::audit::{Chain, Event, Head, Outcome, PublicKey, SignedHead};
use clawhold_tenancy::permit::ReadAudit;
use clawhold_tenancy::quota::{Amounts, Dimension};
use clawhold_tenancy::{Context, Permit, Scope, TenantId};

use crate::details::Detail;
use crate::{Entry, Host, Problem};

/// Entries that an export holds in memory at a time. 50: each is bounded by what a run may write.
const PAGE: u32 = 50;
/// Exports of one tenant at a time: a reader may be slow, and what was read for it waits in memory.
const EXPORTS: u64 = 2;

/// A tenant's log, piece by piece: each is read when it is asked for, so that a slow reader keeps no transaction open.
pub struct Export<'h> {
    host: &'h Host,
    tenant: TenantId,
    _place: ExportPlace,
    at: i64,
    /// The entry behind which it begins.
    pub start: Head,
    /// Where it ends: entries that come later are not in it.
    pub head: SignedHead,
}

/// The exports that are under way, by tenant.
#[derive(Default)]
pub(crate) struct Exports(Arc<Mutex<HashMap<TenantId, u64>>>);

struct ExportPlace(Arc<Mutex<HashMap<TenantId, u64>>>, TenantId);

impl Exports {
    fn place(&self, tenant: &TenantId) -> Result<ExportPlace, Problem> {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = under_way.entry(tenant.clone()).or_insert(0);
        if *used >= EXPORTS {
            let (reset_s, window_s) = (Some(1), None);
            return Err(Problem::Quota { dimension: "exports", limit: EXPORTS, used: *used, reset_s, window_s });
        }
        *used += 1;
        Ok(ExportPlace(Arc::clone(&self.0), tenant.clone()))
    }
}

impl Drop for ExportPlace {
    fn drop(&mut self) {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = under_way.get_mut(&self.1) {
            *used -= 1;
            if *used == 0 {
                under_way.remove(&self.1);
            }
        }
    }
}

impl Host {
    /// A tenant's entries, newest first, from before number `before`, with what each says in detail.
    pub async fn audit(
        &self,
        permit: &Permit<ReadAudit>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<(Entry, Detail)>, Problem> {
        let entries = self.store.tenant(permit.tenant()).await?.audit(before, limit).await?;
        self.opened(permit.tenant(), entries).await
    }

    async fn opened(&self, tenant: &TenantId, entries: Vec<Entry>) -> Result<Vec<(Entry, Detail)>, Problem> {
        let mut opened = Vec::with_capacity(entries.len());
        for entry in entries {
            let detail = self.details.open(Chain::Tenant(tenant), &entry.event).await?;
            opened.push((entry, detail));
        }
        Ok(opened)
    }

    /// Where the tenant's chain ends, signed.
    pub async fn audit_head(&self, permit: &Permit<ReadAudit>) -> Result<SignedHead, Problem> {
        let head = self.store.tenant(permit.tenant()).await?.audit_head().await?;
        Ok(self.heads.sign(permit.tenant().as_str(), head))
    }

    /// What signed heads are verified with.
    pub fn audit_key(&self) -> PublicKey {
        self.heads.public_key()
    }

    /// Where the chain of what happens to no single tenant ends: for whoever keeps a copy of it elsewhere.
    pub async fn host_audit_head(&self) -> Result<Head, Problem> {
        Ok(self.store.system("read the chain's end").await?.audit_head().await?)
    }

    /// Recomputes the tenant's chain, and compares it with the head that was kept outside of the database.
    pub async fn audit_verify(&self, permit: &Permit<ReadAudit>) -> Result<Verification, Problem> {
        // A long chain keeps a reader busy for seconds, and authentication needs readers too.
        let _alone = self.verifying.acquire().await.map_err(|e| Problem::internal("verifying", e))?;
        // Before the chain is read: what is written meanwhile must not look like a tail that was cut.
        let kept = self.heads.kept(permit.tenant().as_str()).await;
        let kept = kept.map_err(|e| Problem::internal("the heads that were kept cannot be read", e))?;
        let found = self.store.verify_audit(permit.tenant()).await?;
        let (Some(kept), Verification::Verified { head, .. }) = (kept, &found) else { return Ok(found) };
        if kept.seq > head.seq {
            let why = format!(
                "the tail was cut: the chain ends at {}, and a head that was kept outside of the database has number {}",
                head.seq, kept.seq
            );
            return Ok(Verification::Broken { seq: head.seq + 1, why });
        }
        // What retention has removed since cannot be compared any more.
        let mut tx = self.store.tenant(permit.tenant()).await?;
        let start = tx.audit_start().await?;
        if kept.seq < start.seq {
            return Ok(found);
        }
        let there = if kept.seq == start.seq {
            Some(start.hash)
        } else {
            tx.audit_entry(kept.seq).await?.map(|entry| entry.hash)
        };
        if there == Some(kept.hash) {
            return Ok(found);
        }
        let why = "a head that was kept outside of the database has another hash: the chain was rewritten";
        Ok(Verification::Broken { seq: kept.seq, why: why.to_owned() })
    }

    /// Begins an export of the tenant's log as it stands now.
    pub async fn export_audit(&self, permit: &Permit<ReadAudit>) -> Result<Export<'_>, Problem> {
        let tenant = permit.tenant().clone();
        let place = self.exports.place(&tenant)?;
        let mut tx = self.store.tenant(&tenant).await?;
        let (start, head) = (tx.audit_start().await?, tx.audit_head().await?);
        let head = self.heads.sign(tenant.as_str(), head);
        Ok(Export { host: self, tenant, _place: place, at: start.seq, start, head })
    }

    /// Notes that a token asked for what it may not have. Told to the tenant it belongs to, or to the host, and not
    /// to the tenant it asked for: that one must not learn who else is here.
    ///
    /// A tenant's token can fill its log no faster than its runs can: beyond `max_audit_records_per_minute` refusals are counted, and
    /// told in sum as those of that quota.
    pub async fn note_refusal(&self, cx: &Context, action: &'static str, resource: String) {
        if let Scope::Tenant(tenant) = &cx.scope
            && let Ok(quota) = self.quota_lately(tenant).await
        {
            let meter = self.admission.limiter().meter(tenant, &quota);
            if meter.charge(&Amounts::of(Dimension::AuditRecords, 1)).is_err() {
                return;
            }
        }
        let event = Event::by(cx, action, resource, Outcome::Denied);
        let noted = self.note_on_chain(&cx.scope, event).await;
        if let Err(error) = noted {
            tracing::error!(%error, actor = %cx.actor, "a refusal could not be noted");
        }
    }

    /// On the tenant's chain, or on the host's for what belongs to no tenant.
    pub(crate) async fn note_on_chain(&self, scope: &Scope, event: Event) -> Result<(), Problem> {
        match scope {
            Scope::Tenant(tenant) => self.note_for(tenant, event).await,
            Scope::Host | Scope::Publisher(_) => self.note_on_the_host(event).await,
        }
    }

    async fn note_for(&self, tenant: &TenantId, event: Event) -> Result<(), Problem> {
        let event = self.details.seal(Chain::Tenant(tenant), event).await?;
        Ok(self.writer.append(tenant.clone(), None, vec![event], None).await?)
    }

    async fn note_on_the_host(&self, event: Event) -> Result<(), Problem> {
        let event = self.details.seal(Chain::Host, event).await?;
        let noted: Result<_, StoreError> = self.store.system_write("note a refusal").await?.commit(event).await;
        Ok(noted.map(drop)?)
    }
}

impl Export<'_> {
    /// The next entries; none at the end.
    pub async fn next(&mut self) -> Result<Vec<(Entry, Detail)>, Problem> {
        let mut tx = self.host.store.tenant(&self.tenant).await?;
        let mut entries = tx.audit_after(self.at, PAGE).await?;
        entries.retain(|entry| entry.seq <= self.head.seq);
        if entries.first().is_some_and(|first| first.seq > self.at + 1) && tx.audit_start().await? != self.start {
            let why = "retention removed entries while they were exported; export again";
            return Err(Problem::Unavailable(why.to_owned()));
        }
        if let Some(last) = entries.last() {
            self.at = last.seq;
        }
        self.host.opened(&self.tenant, entries).await
    }
}
