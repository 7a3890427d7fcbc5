//! What becomes of a run in its tenant's chain.

use clawhold_capabilities::Journal;
use clawhold_store::StoreError;
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::run::{Reason, Record, Usage};
use clawhold_tenancy::{Context, RunId, TenantId};
use serde_json::Value;

use crate::details::SealError;
use crate::invoke::{Admitted, Invoked};
use crate::{Host, Problem};

impl Host {
    /// Records a run that did not begin.
    pub(crate) async fn not_begun(
        &self,
        run: Admitted,
        reason: Reason,
        message: String,
        keep: Keep<Result<Invoked, Problem>>,
    ) -> Result<Invoked, Problem> {
        let id = RunId::now();
        let record = Record {
            id,
            skill: run.skill.clone(),
            package: run.ready.package.clone(),
            version: run.ready.version.clone(),
            digest: run.ready.digest,
            caller: run.cx.actor.to_string(),
            started_us: now_us(),
            reason,
            message: message.clone(),
            usage: Usage::default(),
            egress: Vec::new(),
            secrets: Vec::new(),
            policy_version: run.ready.policy_version,
            log: Vec::new(),
            log_dropped: 0,
            leaks: Vec::new(),
        };
        let events = events(&run.cx, &record, Journal::default());
        let answer = Err(Problem::Run { run: id, reason, message });
        let recorded = self.record(&run.tenant, record, events, keep, &answer).await;
        self.usage.run(&run.tenant, &run.skill, reason, 0, 0);
        self.metrics.run_ended(run.tenant.as_str(), reason, 0, run.started.elapsed().as_secs_f64());
        run.ticket.settle(0);
        recorded?;
        answer
    }

    /// Puts a run into its tenant's chain, with the answer if that is to be kept, and waits until it is there.
    pub(crate) async fn record(
        &self,
        tenant: &TenantId,
        record: Record,
        events: Vec<Event>,
        keep: Keep<Result<Invoked, Problem>>,
        answer: &Result<Invoked, Problem>,
    ) -> Result<(), Problem> {
        let run = record.id;
        // Until it is committed: a repeat before that would run the guest again.
        let _under_way = keep.under_way();
        let of = Chain::Tenant(tenant);
        let recorded = async {
            let events = self.details.seal_all(of, events).await?;
            let kept = match keep.of(answer) {
                Some(kept) => Some(self.details.seal_answer(of, kept).await?),
                None => None,
            };
            self.writer.append(tenant.clone(), Some(record), events, kept).await?;
            Ok(())
        };
        recorded.await.map_err(|error: SealError| match error {
            SealError::Store(StoreError::Conflict(conflict)) => Problem::Conflict(conflict.to_string()),
            error => {
                // The guest has run, and what it did outside is done.
                tracing::error!(%run, error = %Problem::from(error), "a run could not be recorded");
                Problem::Unrecorded { run }
            }
        })
    }
}

/// The run's entries for the tenant's chain: what the skill recorded, then the run itself.
pub(crate) fn events(cx: &Context, record: &Record, journal: Journal) -> Vec<Event> {
    let of_run = |action: &str, resource: String, outcome, detail: Vec<u8>| Event {
        run: Some(record.id),
        detail,
        ..Event::by(cx, action, resource, outcome)
    };
    let mut events: Vec<Event> = journal
        .notes
        .into_iter()
        .map(|note| {
            // The skill's own words are under a key of their own, beside whose words they are.
            let said: Value = serde_json::from_str(&note.detail).unwrap_or_default();
            let detail = serde_json::json!({ "package": record.package, "skill": record.skill, "detail": said });
            of_run(&note.action, note.resource, note.outcome, detail.to_string().into_bytes())
        })
        .collect();
    events.extend(journal.leaks.iter().map(|leak| {
        let detail = serde_json::json!({
            "package": record.package, "skill": record.skill, "place": leak.place, "form": leak.form.as_str(),
        });
        of_run("secret.leak", format!("secret:{}", leak.secret), Outcome::Denied, detail.to_string().into_bytes())
    }));
    let outcome = match record.reason {
        Reason::Ok => Outcome::Success,
        Reason::Denied => Outcome::Denied,
        _ => Outcome::Failure,
    };
    let detail = serde_json::json!({
        "package": record.package, "version": record.version, "digest": record.digest,
        "policy_version": record.policy_version, "secrets": record.secrets, "egress": record.egress,
        "reason": record.reason, "fuel": record.usage.fuel, "memory_bytes": record.usage.memory_bytes,
        "host_calls": record.usage.host_calls, "duration_us": record.usage.duration_us,
        "audit_entries_refused": journal.notes_refused, "requests_not_listed": journal.requests_not_listed,
    });
    events.push(of_run("skill.invoke", format!("skill:{}", record.skill), outcome, detail.to_string().into_bytes()));
    events
}
