//! `/v1/tenants/{tenant}/audit`

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clawhold_runtime::{Detail, Entry, Host, Problem, Verification};
use clawhold_tenancy::audit::SignedHead;
use clawhold_tenancy::audit::export::{Begin, End, FORMAT, Line};
use clawhold_tenancy::permit::ReadAudit;
use http::header::CONTENT_TYPE;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tracing::Instrument;

use crate::body::{Answer, Asked};
use crate::gate::Allowed;
use crate::lines::{Gone, LINES, Lines, Writer};
use crate::page::{Page, PageQuery, rfc3339};
use crate::problem::Failed;

/// Bytes of an export that are sent at a time.
const CHUNK: usize = 64 << 10;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditEntry")]
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
    /// Why there is none, if the entry had one: `shredded` or `damaged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail_lost: Option<&'static str>,
    hash: String,
}

/// Whether a chain is whole.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Verdict")]
pub(crate) enum Verdict {
    /// It is.
    Whole {
        /// `true`.
        verified: bool,
        /// Number of the first entry that is still kept.
        first: i64,
        /// How many there are.
        entries: i64,
        /// Hash of the last one.
        head: String,
    },
    /// It is not.
    Broken {
        /// `false`.
        verified: bool,
        /// Number of the first entry that does not fit.
        seq: i64,
        /// What is wrong with it.
        why: String,
    },
}

pub(crate) async fn list(
    State(host): State<Arc<Host>>,
    allowed: Allowed<ReadAudit>,
    Asked(page): Asked<PageQuery>,
) -> Answer<Page<EntryView>> {
    let limit = page.limit()?;
    let entries = host.audit(&allowed.permit, page.after()?, limit).await?;
    Ok(Json(Page::of(&entries, limit, |(entry, _)| entry.seq.to_string(), view)))
}

pub(crate) async fn head(State(host): State<Arc<Host>>, allowed: Allowed<ReadAudit>) -> Answer<SignedHead> {
    Ok(Json(host.audit_head(&allowed.permit).await?))
}

pub(crate) async fn verify(State(host): State<Arc<Host>>, allowed: Allowed<ReadAudit>) -> Answer<Verdict> {
    Ok(Json(match host.audit_verify(&allowed.permit).await? {
        Verification::Verified { start, entries, head } => {
            Verdict::Whole { verified: true, first: start.seq + 1, entries, head: hex(&head.hash) }
        }
        Verification::Broken { seq, why } => Verdict::Broken { verified: false, seq, why },
    }))
}

/// The whole log as lines of JSON, while it is read: the format of `docs/audit.md`.
pub(crate) async fn export(State(host): State<Arc<Host>>, allowed: Allowed<ReadAudit>) -> Result<Response, Failed> {
    // What can go wrong at once is answered as such.
    drop(host.export_audit(&allowed.permit).await?);
    let (lines, body) = Lines::channel();
    let work = async move {
        if let Err(problem) = write_export(&host, &allowed, &lines).await {
            // Without the head at its end, the export is seen to be incomplete.
            let _heard = lines.send(&json!({ "problem": Failed(problem).document() })).await;
        }
    };
    tokio::spawn(work.in_current_span());
    Ok(([(CONTENT_TYPE, LINES)], Body::new(body)).into_response())
}

async fn write_export(host: &Host, allowed: &Allowed<ReadAudit>, lines: &Writer) -> Result<(), Problem> {
    let mut export = host.export_audit(&allowed.permit).await?;
    let chain = allowed.permit.tenant().to_string();
    let mut text = line(&Begin { clawhold_audit: FORMAT, chain, after: export.start.into() });
    loop {
        let entries = export.next().await?;
        if entries.is_empty() {
            break;
        }
        for (entry, detail) in &entries {
            let run = entry.event.run.map(|run| run.to_string());
            let sealed = BASE64_STANDARD.encode(entry.event.detail.bytes());
            let detail = match detail {
                Detail::Text(text) => RawValue::from_string(text.clone()).ok(),
                _ => None,
            };
            let place = (entry.seq, entry.prev_hash, entry.hash);
            text += &line(&Line::of(place, &entry.event, run.as_deref(), &sealed, detail.as_deref()));
            if text.len() >= CHUNK && heard(lines, &mut text).await.is_err() {
                return Ok(());
            }
        }
    }
    text += &line(&End { head: export.head.clone() });
    let _either_way = heard(lines, &mut text).await;
    Ok(())
}

/// Sends what there is.
async fn heard(lines: &Writer, text: &mut String) -> Result<(), Gone> {
    lines.send_text(std::mem::take(text)).await
}

fn line(value: &impl Serialize) -> String {
    // Maps with text for keys always have a form in JSON.
    serde_json::to_string(value).unwrap_or_default() + "\n"
}

fn view((entry, detail): &(Entry, Detail)) -> EntryView {
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
        detail: match detail {
            Detail::Text(text) => serde_json::from_str(text).unwrap_or_default(),
            _ => Value::Null,
        },
        detail_lost: match detail {
            Detail::Shredded => Some("shredded"),
            Detail::Damaged => Some("damaged"),
            Detail::None | Detail::Text(_) => None,
        },
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
