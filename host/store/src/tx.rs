//! The two doors: a transaction bound to one tenant, and one bound to a reason.
//!
//! After an error a transaction is good for nothing but to be dropped: PostgreSQL refuses every further statement,
//! and SQLite goes on with half of the work done.

use std::marker::PhantomData;
use std::sync::Arc;

use clawhold_tenancy::TenantId;
use clawhold_tenancy::audit::{HOST_CHAIN, Head, SealedEvent};

use crate::error::failed;
use crate::moved::Moved;
use crate::{StoreError, audit, driver};

/// A transaction that cannot change anything. Ends when it is dropped.
#[derive(Debug)]
pub struct Read;

/// A transaction that ends with an audit entry, or undoes everything when it is dropped.
#[derive(Debug)]
pub struct Write;

/// One tenant's data and nobody else's: each query names the tenant.
#[must_use = "dropped without `commit`, it undoes everything"]
pub struct TenantTx<M> {
    pub(crate) tx: driver::Tx,
    pub(crate) tenant: TenantId,
    moved: Arc<Moved>,
    mode: PhantomData<M>,
}

/// What belongs to no single tenant: tenants, packages, tokens of the host and of publishers, authentication.
#[must_use = "dropped without `commit`, it undoes everything"]
pub struct SystemTx<M> {
    pub(crate) tx: driver::Tx,
    /// Heads that are known to others once this is committed.
    heads: Vec<(String, Head)>,
    moved: Arc<Moved>,
    mode: PhantomData<M>,
}

impl<M> TenantTx<M> {
    pub(crate) fn new(tx: driver::Tx, tenant: TenantId, moved: Arc<Moved>) -> Self {
        Self { tx, tenant, moved, mode: PhantomData }
    }

    /// The tenant that this transaction is bound to.
    pub fn tenant_id(&self) -> &TenantId {
        &self.tenant
    }
}

impl TenantTx<Write> {
    /// Makes the changes permanent, with this entry at the end of the tenant's chain.
    pub async fn commit(self, event: SealedEvent) -> Result<Head, StoreError> {
        self.commit_all(&event, &[]).await
    }

    /// Makes the changes permanent, with these entries at the end of the tenant's chain.
    pub async fn commit_all(mut self, first: &SealedEvent, more: &[SealedEvent]) -> Result<Head, StoreError> {
        let events: Vec<&SealedEvent> = std::iter::once(first).chain(more).collect();
        let head = audit::append(&mut self.tx, self.tenant.as_str(), &events).await?;
        self.tx.commit().await.map_err(failed("commit"))?;
        self.moved.note([(self.tenant.as_str(), head)]);
        Ok(head)
    }
}

impl<M> SystemTx<M> {
    pub(crate) fn new(tx: driver::Tx, moved: Arc<Moved>) -> Self {
        Self { tx, heads: Vec::new(), moved, mode: PhantomData }
    }
}

impl SystemTx<Write> {
    /// Also tells a tenant, in its own chain, what is done to it. More than one tenant: in ascending order of their
    /// ids, as each locks its chain until the end.
    pub async fn append(&mut self, tenant: &TenantId, events: &[SealedEvent]) -> Result<Head, StoreError> {
        driver::bind(&mut self.tx, tenant.as_str()).await?;
        let head = audit::append(&mut self.tx, tenant.as_str(), &events.iter().collect::<Vec<_>>()).await?;
        driver::bind(&mut self.tx, HOST_CHAIN).await?;
        self.heads.push((tenant.to_string(), head));
        Ok(head)
    }

    /// Makes the changes permanent, with this entry at the end of the host's chain.
    pub async fn commit(self, event: SealedEvent) -> Result<Head, StoreError> {
        self.commit_all(&event, &[]).await
    }

    /// Makes the changes permanent, with these entries at the end of the host's chain.
    pub async fn commit_all(mut self, first: &SealedEvent, more: &[SealedEvent]) -> Result<Head, StoreError> {
        let events: Vec<&SealedEvent> = std::iter::once(first).chain(more).collect();
        let head = audit::append(&mut self.tx, HOST_CHAIN, &events).await?;
        self.tx.commit().await.map_err(failed("commit"))?;
        self.moved.note(self.heads.iter().map(|(chain, head)| (chain.as_str(), *head)).chain([(HOST_CHAIN, head)]));
        Ok(head)
    }
}
