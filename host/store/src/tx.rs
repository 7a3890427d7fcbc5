//! The two doors: a transaction bound to one tenant, and one bound to a reason.
//!
//! After an error a transaction is good for nothing but to be dropped: PostgreSQL refuses every further statement,
//! and SQLite goes on with half of the work done.

use std::marker::PhantomData;

use clawhold_tenancy::TenantId;
use clawhold_tenancy::audit::{Event, HOST_CHAIN, Head};

use crate::error::failed;
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
    mode: PhantomData<M>,
}

/// What belongs to no single tenant: tenants, packages, tokens of the host and of publishers, authentication.
#[must_use = "dropped without `commit`, it undoes everything"]
pub struct SystemTx<M> {
    pub(crate) tx: driver::Tx,
    mode: PhantomData<M>,
}

impl<M> TenantTx<M> {
    pub(crate) fn new(tx: driver::Tx, tenant: TenantId) -> Self {
        Self { tx, tenant, mode: PhantomData }
    }

    /// The tenant that this transaction is bound to.
    pub fn tenant_id(&self) -> &TenantId {
        &self.tenant
    }
}

impl TenantTx<Write> {
    /// Makes the changes permanent, with this entry at the end of the tenant's chain.
    pub async fn commit(self, event: Event) -> Result<Head, StoreError> {
        self.commit_all(&event, &[]).await
    }

    /// Makes the changes permanent, with these entries at the end of the tenant's chain.
    pub async fn commit_all(mut self, first: &Event, more: &[Event]) -> Result<Head, StoreError> {
        let events: Vec<&Event> = std::iter::once(first).chain(more).collect();
        let head = audit::append(&mut self.tx, self.tenant.as_str(), &events).await?;
        self.tx.commit().await.map_err(failed("commit"))?;
        Ok(head)
    }
}

impl<M> SystemTx<M> {
    pub(crate) fn new(tx: driver::Tx) -> Self {
        Self { tx, mode: PhantomData }
    }
}

impl SystemTx<Write> {
    /// Also tells a tenant, in its own chain, what is done to it. More than one tenant: in ascending order of their
    /// ids, as each locks its chain until the end.
    pub async fn append(&mut self, tenant: &TenantId, events: &[Event]) -> Result<Head, StoreError> {
        driver::bind(&mut self.tx, tenant.as_str()).await?;
        let head = audit::append(&mut self.tx, tenant.as_str(), &events.iter().collect::<Vec<_>>()).await?;
        driver::bind(&mut self.tx, HOST_CHAIN).await?;
        Ok(head)
    }

    /// Makes the changes permanent, with this entry at the end of the host's chain.
    pub async fn commit(self, event: Event) -> Result<Head, StoreError> {
        self.commit_all(&event, &[]).await
    }

    /// Makes the changes permanent, with these entries at the end of the host's chain.
    pub async fn commit_all(mut self, first: &Event, more: &[Event]) -> Result<Head, StoreError> {
        let events: Vec<&Event> = std::iter::once(first).chain(more).collect();
        let head = audit::append(&mut self.tx, HOST_CHAIN, &events).await?;
        self.tx.commit().await.map_err(failed("commit"))?;
        Ok(head)
    }
}
