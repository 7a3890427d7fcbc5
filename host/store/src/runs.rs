//! Run records. They are written by [`crate::RunWriter`], together with their audit entries.

use clawhold_tenancy::run::{Reason, Record, Usage};
use clawhold_tenancy::{RunId, TenantId};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::bulk::{Bound, Bulk, ROWS};
use crate::driver::Kind;
use crate::error::failed;
use crate::fields::{Fields, integer, json};
use crate::{StoreError, TenantTx, Write};

impl<M> TenantTx<M> {
    /// One run.
    pub async fn run(&mut self, id: &RunId) -> Result<Option<Record>, StoreError> {
        sqlx::query("SELECT * FROM runs WHERE tenant_id = $1 AND id = $2")
            .bind(self.tenant.as_str())
            .bind(id.to_string())
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(failed("read a run"))?
            .as_ref()
            .map(parse)
            .transpose()
    }

    /// Runs admitted before `before` (all, if `None`), newest first, at most `limit`.
    pub async fn runs(&mut self, before: Option<&RunId>, limit: u32) -> Result<Vec<Record>, StoreError> {
        sqlx::query("SELECT * FROM runs WHERE tenant_id = $1 AND ($2 IS NULL OR id < $2) ORDER BY id DESC LIMIT $3")
            .bind(self.tenant.as_str())
            .bind(before.map(RunId::to_string))
            .bind(i64::from(limit))
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("list runs"))?
            .iter()
            .map(parse)
            .collect()
    }
}

impl TenantTx<Write> {
    /// Writes one run's record.
    pub async fn insert_run(&mut self, record: &Record) -> Result<(), StoreError> {
        insert(&mut self.tx, &[(&self.tenant, record)]).await
    }
}

pub(crate) static INSERT: Bulk = Bulk::new(
    "INSERT INTO runs (tenant_id, id, skill, package, version, digest, caller, started_us, reason, message, fuel, \
     memory_bytes, host_calls, duration_us, egress, secrets, policy_version, log, log_dropped, leaks) VALUES",
    20,
    "",
);

pub(crate) async fn insert(connection: &mut AnyConnection, records: &[(&TenantId, &Record)]) -> Result<(), StoreError> {
    for chunk in records.chunks(ROWS) {
        let mut query = INSERT.query(Kind::of(connection), chunk.len());
        for (tenant, record) in chunk {
            query = bind(query, tenant, record);
        }
        query.execute(&mut *connection).await.map_err(failed("write a run"))?;
    }
    Ok(())
}

/// Binds the columns of one row of [`INSERT`].
pub(crate) fn bind(query: Bound, tenant: &TenantId, record: &Record) -> Bound {
    query
        .bind(tenant.as_str())
        .bind(record.id.to_string())
        .bind(record.skill.as_str())
        .bind(record.package.as_str())
        .bind(record.version.as_str())
        .bind(record.digest.to_string())
        .bind(record.caller.as_str())
        .bind(record.started_us)
        .bind(record.reason.as_str())
        .bind(record.message.as_str())
        .bind(integer(record.usage.fuel))
        .bind(integer(record.usage.memory_bytes))
        .bind(i64::from(record.usage.host_calls))
        .bind(integer(record.usage.duration_us))
        .bind(json(&record.egress))
        .bind(json(&record.secrets))
        .bind(record.policy_version)
        .bind(json(&record.log))
        .bind(integer(record.log_dropped))
        .bind(json(&record.leaks))
}

fn parse(row: &AnyRow) -> Result<Record, StoreError> {
    let fields = Fields::of("runs", row);
    Ok(Record {
        id: fields.id("id")?,
        skill: fields.id("skill")?,
        package: fields.id("package")?,
        version: fields.text("version")?,
        digest: fields.id("digest")?,
        caller: fields.text("caller")?,
        started_us: fields.integer("started_us")?,
        reason: reason(&fields)?,
        message: fields.text("message")?,
        usage: Usage {
            fuel: fields.count("fuel")?,
            memory_bytes: fields.count("memory_bytes")?,
            host_calls: fields.count("host_calls")?,
            duration_us: fields.count("duration_us")?,
        },
        egress: fields.json("egress")?,
        secrets: fields.json("secrets")?,
        policy_version: fields.integer("policy_version")?,
        log: fields.json("log")?,
        log_dropped: fields.count("log_dropped")?,
        leaks: fields.json("leaks")?,
    })
}

fn reason(fields: &Fields<'_>) -> Result<Reason, StoreError> {
    let word = serde_json::Value::String(fields.text("reason")?);
    serde_json::from_value(word).map_err(|_| fields.corrupt("reason", "no reason for a run's end"))
}
