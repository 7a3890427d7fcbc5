//! One invocation, from admission to the committed record. Its steps are those of ARCHITECTURE.md.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clawhold_capabilities::{Authority, Journal, RunHost};
use clawhold_marketplace::{Mismatch, Schema, read_json};
use clawhold_sandbox::contract::exports::clawhold::skill::handler::{Context as GuestContext, Error as SkillError};
use clawhold_sandbox::{Budget, Call, Failure, Finished};
use clawhold_tenancy::audit::{Event, Outcome, now_us};
use clawhold_tenancy::permit::InvokeSkill;
use clawhold_tenancy::run::{Reason, Record, Usage};
use clawhold_tenancy::{CALL_DEPTH, Context, Digest, PackageName, Permit, RunId, RunLimits, SkillName, TenantId};
use serde_json::Value;
use serde_json::value::RawValue;
use tracing::Instrument;

use crate::admission::Ticket;
use crate::resolve::Ready;
use crate::{Host, Problem};

/// Comparisons of a schema check that the API's own threads may do: a millisecond or so.
const LITTLE_WORK: u64 = 1_000_000;
/// The most that any check may be: some ten seconds of one core. An input of 1 MiB reaches it under a schema of a
/// thousand parts.
const MOST_WORK: u64 = 1_000_000_000;

/// An answer, and what it took.
#[derive(Debug)]
pub struct Invoked {
    /// The run.
    pub run: RunId,
    /// The package that offers the skill.
    pub package: PackageName,
    /// Its version.
    pub version: String,
    /// The component that ran.
    pub digest: Digest,
    /// What the run used.
    pub usage: Usage,
    /// The output: JSON that fits the skill's schema.
    pub output: Box<RawValue>,
}

/// A run that was admitted, before it has a place.
struct Admitted {
    cx: Context,
    tenant: TenantId,
    ready: Arc<Ready>,
    skill: SkillName,
    limits: RunLimits,
    started: Instant,
    ticket: Ticket,
}

/// Why a run gave no answer.
enum NoAnswer {
    Skill(&'static str, String),
    Stopped(Reason, String),
}

impl Host {
    /// Calls a skill. Once admitted, the run goes on and is recorded even if the caller goes away.
    pub async fn invoke(
        self: &Arc<Self>,
        cx: &Context,
        permit: &Permit<InvokeSkill>,
        skill: &SkillName,
        input: String,
    ) -> Result<Invoked, Problem> {
        let started = Instant::now();
        let tenant = permit.tenant();
        if !cx.may_call(skill) {
            return Err(Problem::NotFound("skill"));
        }
        let quota = self.quotas.of(tenant);
        let ticket = self.admission.enter(tenant, &quota)?;
        let ready = self.resolve(tenant, skill).await?;
        let limits = ready.policy.limits.within(&quota.limits).within(&self.ceiling);
        if cx.depth >= CALL_DEPTH {
            let why =
                format!("{CALL_DEPTH} runs have called one another through the API, and no more may; is it a circle?");
            return self.not_begun(cx, tenant, &ready, skill, Reason::Denied, why).await;
        }
        if ready.policy.wasi
            && let Some(why) = self.refuses_wasi(tenant)
        {
            return self.not_begun(cx, tenant, &ready, skill, Reason::Denied, why).await;
        }
        let run =
            Admitted { cx: cx.clone(), tenant: tenant.clone(), ready, skill: skill.clone(), limits, started, ticket };
        let run = self.clone().run_to_the_end(run, input);
        tokio::spawn(run.in_current_span()).await.map_err(|e| Problem::internal("a run was lost", e))?
    }

    /// Records a run that did not begin.
    async fn not_begun(
        &self,
        cx: &Context,
        tenant: &TenantId,
        ready: &Ready,
        skill: &SkillName,
        reason: Reason,
        message: String,
    ) -> Result<Invoked, Problem> {
        let run = RunId::now();
        let record = Record {
            id: run,
            skill: skill.clone(),
            package: ready.package.clone(),
            version: ready.version.clone(),
            digest: ready.digest,
            caller: cx.actor.to_string(),
            started_us: now_us(),
            reason,
            message: message.clone(),
            usage: Usage::default(),
            egress: Vec::new(),
            secrets: Vec::new(),
            policy_version: ready.policy_version,
            log: Vec::new(),
            log_dropped: 0,
        };
        let events = events(cx, &record, Journal::default());
        self.writer.append(tenant.clone(), Some(record), events).await?;
        Err(Problem::Run { run, reason, message })
    }

    async fn run_to_the_end(self: Arc<Self>, admitted: Admitted, input: String) -> Result<Invoked, Problem> {
        let Admitted { cx, tenant, ready, skill, limits, started, ticket } = admitted;
        let value = read_json(&input).map_err(|e| {
            Problem::invalid("input", format!("it is not JSON: {e}; send the skill's input as the body"))
        })?;
        let work = ready.input().work(input.len());
        checked(&ready, Ready::input, value, work).await?.map_err(|mismatch| {
            let detail = format!("{}; see the skill's input schema", mismatch.problem);
            Problem::invalid(format!("input{}", at(&mismatch.place)), detail)
        })?;
        let deadline = started + limits.wall();
        let Some(slot) = self.sandbox.slot(ticket.payer.clone(), deadline).await else {
            let why = format!("{}: no run slot came free; call again", Reason::Deadline.what());
            return self.not_begun(&cx, &tenant, &ready, &skill, Reason::Deadline, why).await;
        };
        let run = RunId::now();
        let began_us = now_us();
        let authority = Authority {
            tenant: tenant.clone(),
            policy: Arc::clone(&ready.policy),
            deadline,
            depth: cx.depth,
            backends: self.backends.clone(),
        };
        let host = RunHost::new(authority, limits.clone());
        let journal = host.journal();
        let call = Call { context: guest_context(&cx, &tenant, run, &skill, &ready, limits.wall_ms), input };
        let (payer, memory) = (ticket.payer.clone(), Arc::clone(&ticket.memory));
        let budget = Budget { limits, started, deadline, payer, memory };
        let finished = self.sandbox.invoke(slot, Arc::clone(&ready.component), call, budget, host).await;

        let mut journal = std::mem::take(&mut *lock(&journal));
        let mut usage = finished.usage.clone();
        usage.host_calls = journal.host_calls.saturating_add(journal.wasi_calls);
        let answer = judge(finished, &ready, &mut journal).await?;
        let (reason, message) = match &answer {
            Ok(_) => (Reason::Ok, String::new()),
            Err(NoAnswer::Skill(kind, message)) => (Reason::SkillError, format!("{kind}: {message}")),
            Err(NoAnswer::Stopped(reason, message)) => (*reason, message.clone()),
        };
        let record = Record {
            id: run,
            skill,
            package: ready.package.clone(),
            version: ready.version.clone(),
            digest: ready.digest,
            caller: cx.actor.to_string(),
            started_us: began_us,
            reason,
            message,
            usage: usage.clone(),
            egress: std::mem::take(&mut journal.egress),
            secrets: std::mem::take(&mut journal.secrets).into_iter().collect(),
            policy_version: ready.policy_version,
            log: std::mem::take(&mut journal.log),
            log_dropped: journal.log_dropped,
        };
        let events = events(&cx, &record, journal);
        let committed = self.writer.append(tenant, Some(record), events).await;
        drop(ticket);
        committed?;
        match answer {
            Ok(output) => Ok(Invoked {
                run,
                package: ready.package.clone(),
                version: ready.version.clone(),
                digest: ready.digest,
                usage,
                output,
            }),
            Err(NoAnswer::Skill(kind, message)) => Err(Problem::Skill { run, kind, message }),
            Err(NoAnswer::Stopped(reason, message)) => Err(Problem::Run { run, reason, message }),
        }
    }
}

fn guest_context(
    cx: &Context,
    tenant: &TenantId,
    run: RunId,
    skill: &SkillName,
    ready: &Ready,
    wall_ms: u64,
) -> GuestContext {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    GuestContext {
        tenant_id: tenant.to_string(),
        run_id: run.to_string(),
        trace_id: cx.trace.to_string(),
        caller: cx.actor.to_string(),
        skill: skill.to_string(),
        now_ms,
        deadline_ms: now_ms.saturating_add(wall_ms),
        settings: ready.settings.clone(),
    }
}

/// What the caller gets: an output that was checked, or the reason why there is none.
async fn judge(
    finished: Finished<RunHost, Result<String, SkillError>>,
    ready: &Arc<Ready>,
    journal: &mut Journal,
) -> Result<Result<Box<RawValue>, NoAnswer>, Problem> {
    let output = match answered(finished, journal) {
        Ok(output) => output,
        Err(why) => return Ok(Err(why)),
    };
    let invalid = |what: String| {
        let reason = Reason::OutputInvalid;
        NoAnswer::Stopped(reason, format!("the skill's output {what}; {}", reason.remedy()))
    };
    let value = match read_json(&output) {
        Ok(value) => value,
        Err(error) => return Ok(Err(invalid(format!("is not JSON ({error})")))),
    };
    let work = ready.output().work(output.len());
    if let Err(mismatch) = checked(ready, Ready::output, value, work).await? {
        return Ok(Err(invalid(format!("does not fit its schema: {mismatch}"))));
    }
    Ok(RawValue::from_string(output).map_err(|e| invalid(format!("is not JSON ({e})"))))
}

/// Checks a value against a schema: here when it is little work, else on a thread where nobody waits for a turn.
async fn checked(
    ready: &Arc<Ready>,
    schema: fn(&Ready) -> &Schema,
    value: Value,
    work: u64,
) -> Result<Result<(), Mismatch>, Problem> {
    if work > MOST_WORK {
        let problem = "it is too large for a schema of this size; send less, or make the schema simpler".to_owned();
        return Ok(Err(Mismatch { place: "(the whole value)".to_owned(), problem }));
    }
    if work <= LITTLE_WORK {
        return Ok(schema(ready).check(&value));
    }
    let ready = Arc::clone(ready);
    let check = tokio::task::spawn_blocking(move || schema(&ready).check(&value));
    check.await.map_err(|e| Problem::internal("a schema could not be checked", e))
}

/// What the guest gave, or why it gave nothing.
fn answered(
    finished: Finished<RunHost, Result<String, SkillError>>,
    journal: &mut Journal,
) -> Result<String, NoAnswer> {
    match finished.outcome {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(error)) => {
            let (kind, message) = match error {
                SkillError::InvalidInput(message) => ("invalid-input", message),
                SkillError::Denied(message) => ("denied", message),
                SkillError::Unavailable(message) => ("unavailable", message),
                SkillError::Failed(message) => ("failed", message),
            };
            Err(NoAnswer::Skill(kind, shortened(message)))
        }
        Err(Failure { reason, message, backtrace }) => {
            let trace = backtrace.unwrap_or_default();
            journal.log.extend(trace.lines().take(32).map(|line| format!("error {}", line.trim_end())));
            let message = match (reason, journal.fatal.take()) {
                (Reason::Trap, Some(fatal)) => fatal,
                _ => message,
            };
            Err(NoAnswer::Stopped(reason, shortened(message)))
        }
    }
}

/// The run's entries for the tenant's chain: what the skill recorded, then the run itself.
fn events(cx: &Context, record: &Record, journal: Journal) -> Vec<Event> {
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
        "audit_entries_refused": journal.notes_refused,
    });
    events.push(of_run("skill.invoke", format!("skill:{}", record.skill), outcome, detail.to_string().into_bytes()));
    events
}

fn at(place: &str) -> &str {
    if place.starts_with('/') { place } else { "" }
}

/// Messages of skills go to callers and into the run's record: 2,000 characters say enough.
fn shortened(message: String) -> String {
    if message.chars().count() <= 2000 { message } else { message.chars().take(2000).chain("…".chars()).collect() }
}

fn lock(journal: &Mutex<Journal>) -> std::sync::MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}
