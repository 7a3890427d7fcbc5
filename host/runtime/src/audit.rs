//! Reading and verifying a tenant's audit log, and noting what was refused.

use clawhold_store::StoreError;
use clawhold_store::audit::Verification;
use clawhold_tenancy::audit::{Event, Head, Outcome};
use clawhold_tenancy::permit::ReadAudit;
use clawhold_tenancy::{Context, Permit, Scope};

use crate::{Entry, Host, Problem};

impl Host {
    /// A tenant's entries, newest first, from before number `before`.
    pub async fn audit(
        &self,
        permit: &Permit<ReadAudit>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Entry>, Problem> {
        Ok(self.store.tenant(permit.tenant()).await?.audit(before, limit).await?)
    }

    /// Where the tenant's chain ends.
    pub async fn audit_head(&self, permit: &Permit<ReadAudit>) -> Result<Head, Problem> {
        Ok(self.store.tenant(permit.tenant()).await?.audit_head().await?)
    }

    /// Where the chain of what happens to no single tenant ends: for whoever keeps a copy of it elsewhere.
    pub async fn host_audit_head(&self) -> Result<Head, Problem> {
        Ok(self.store.system("read the chain's end").await?.audit_head().await?)
    }

    /// Recomputes the tenant's chain.
    pub async fn audit_verify(&self, permit: &Permit<ReadAudit>) -> Result<Verification, Problem> {
        // A long chain keeps a reader busy for seconds, and authentication needs readers too.
        let _alone = self.verifying.acquire().await.map_err(|e| Problem::internal("verifying", e))?;
        Ok(self.store.tenant(permit.tenant()).await?.audit_verify().await?)
    }

    /// Notes that a token asked for what it may not have. Told to the tenant it belongs to, or to the host, and not
    /// to the tenant it asked for: that one must not learn who else is here.
    pub async fn note_refusal(&self, cx: &Context, action: &'static str, resource: String) {
        let event = Event::by(cx, action, resource, Outcome::Denied);
        let noted = match &cx.scope {
            Scope::Tenant(tenant) => self.writer.append(tenant.clone(), None, vec![event]).await,
            Scope::Host | Scope::Publisher(_) => self.note_on_the_host(event).await,
        };
        if let Err(error) = noted {
            tracing::error!(%error, actor = %cx.actor, "a refusal could not be noted");
        }
    }

    async fn note_on_the_host(&self, event: Event) -> Result<(), StoreError> {
        self.store.system_write("note a refusal").await?.commit(event).await.map(|_| ())
    }
}
