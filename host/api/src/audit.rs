//! `/v1/tenants/{tenant}/audit`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use clawhold_runtime::{Entry, Host, Verification};
use clawhold_tenancy::permit::ReadAudit;
use serde::Serialize;
use serde_json::{Value, json};

use crate::body::{Answer, Asked};
use crate::gate::Allowed;
use crate::page::{Page, PageQuery, rfc3339};

#[derive(Serialize)]
pub(crate) struct EntryView {
    seq: i64,
    at: String,
    actor: String,
    action: String,
    resource: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    trace: String,
    #[serde(skip_serializing_if = "Value::is_null")]
    detail: Value,
    hash: String,
}

pub(crate) async fn list(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ReadAudit>,
    Asked(page): Asked<PageQuery>,
) -> Answer<Page<EntryView>> {
    let limit = page.limit()?;
    let entries = host.audit(&allowed.permit, page.after()?, limit).await?;
    Ok(Json(Page::of(&entries, limit, |entry| entry.seq.to_string(), view)))
}

pub(crate) async fn head(State(host): State<Arc<Host>>, allowed: Allowed<ReadAudit>) -> Answer<Value> {
    let head = host.audit_head(&allowed.permit).await?;
    Ok(Json(json!({ "seq": head.seq, "hash": hex(&head.hash) })))
}

pub(crate) async fn verify(State(host): State<Arc<Host>>, allowed: Allowed<ReadAudit>) -> Answer<Value> {
    Ok(Json(match host.audit_verify(&allowed.permit).await? {
        Verification::Verified { entries, head } => {
            json!({ "verified": true, "entries": entries, "head": hex(&head.hash) })
        }
        Verification::Broken { seq, why } => json!({ "verified": false, "seq": seq, "why": why }),
    }))
}

fn view(entry: &Entry) -> EntryView {
    let event = &entry.event;
    EntryView {
        seq: entry.seq,
        at: rfc3339(event.at_us),
        actor: event.actor.clone(),
        action: event.action.clone(),
        resource: event.resource.clone(),
        outcome: event.outcome.as_str(),
        run: event.run.map(|run| run.to_string()),
        trace: event.trace.to_string(),
        detail: serde_json::from_slice(&event.detail).unwrap_or_default(),
        hash: hex(&entry.hash),
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
