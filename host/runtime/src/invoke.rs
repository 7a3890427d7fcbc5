//! One invocation, from admission to the committed record. Its steps are those of ARCHITECTURE.md.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clawhold_capabilities::{Authority, Journal, RunHost};
use clawhold_marketplace::{Mismatch, Schema, read_json};
use clawhold_sandbox::contract::exports::clawhold::skill::handler::{Context as GuestContext, Error as SkillError};
use clawhold_sandbox::{Budget, Call, Failure, Finished};
use clawhold_store::StoreError;
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::limits::MIB;
use clawhold_tenancy::permit::InvokeSkill;
use clawhold_tenancy::run::{Reason, Record, Usage};
use clawhold_tenancy::{CALL_DEPTH, Context, Digest, PackageName, Permit, RunId, RunLimits, SkillName, TenantId};
use serde_json::Value;
use serde_json::value::RawValue;
use tracing::Instrument;

use crate::admission::Ticket;
use crate::details::SealError;
use crate::resolve::Ready;
use crate::{Host, Problem};

/// Comparisons of a schema check, and bytes of JSON, that the API's own threads may deal with: a millisecond or so.
const LITTLE_WORK: u64 = 1_000_000;
const LITTLE_JSON: usize = 64 << 10;
/// The most that any check may be: some two seconds of one core, four for the slowest patterns. An input of 1 MiB reaches it
/// under a schema of four hundred parts, of which a pattern counts for 250.
const MOST_WORK: u64 = 400_000_000;

/// Memory of a JSON value beside its text, for each comma or colon in it: a value, and its share of what a growing list or a
/// map keeps. A list counts for two of them and a map, which begins with room for eleven, for seven.
const JSON_VALUE_BYTES: u64 = 96;
const LIST_VALUES: u64 = 2;
const MAP_VALUES: u64 = 7;
/// JSON up to this size is not charged: it can take no more than a megabyte.
const SMALL_JSON: usize = 4 << 10;

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
    keep: Keep<Result<Invoked, Problem>>,
}

/// Why a text is no input or output.
enum Unfit {
    Json(serde_json::Error),
    Schema(Mismatch),
    /// The tenant has not so many bytes left.
    Memory(u64),
    Stopped(Reason),
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
        keep: Keep<Result<Invoked, Problem>>,
    ) -> Result<Invoked, Problem> {
        let started = Instant::now();
        let tenant = permit.tenant();
        if !cx.may_call(skill) {
            self.note_refusal(cx, permit.action(), format!("skill:{skill}")).await;
            return Err(Problem::NotFound("skill"));
        }
        // A run that could not be recorded does not begin.
        if self.writer.is_down() {
            let why = "the audit log cannot be written now, and nothing runs unrecorded; call again in a moment";
            return Err(Problem::Unavailable(why.to_owned()));
        }
        let quota = self.quotas.of(tenant);
        let ticket = self.admission.enter(tenant, &quota)?;
        let latest = started + quota.limits.within(&self.ceiling).wall();
        let (ticket, ready) = self.resolve_in_time(ticket, tenant, skill, latest).await?;
        let limits = ready.policy.limits.within(&quota.limits).within(&self.ceiling);
        if cx.depth >= CALL_DEPTH {
            let why =
                format!("{CALL_DEPTH} runs have called one another through the API, and no more may; is it a circle?");
            return self.not_begun(cx, tenant, &ready, skill, Reason::Denied, why, keep).await;
        }
        if ready.policy.wasi
            && let Some(why) = self.refuses_wasi(tenant)
        {
            return self.not_begun(cx, tenant, &ready, skill, Reason::Denied, why, keep).await;
        }
        let run = Admitted {
            cx: cx.clone(),
            tenant: tenant.clone(),
            ready,
            skill: skill.clone(),
            limits,
            started,
            ticket,
            keep,
        };
        let run = self.clone().run_to_the_end(run, input);
        tokio::spawn(run.in_current_span()).await.map_err(|e| Problem::internal("a run was lost", e))?
    }

    /// Records a run that did not begin.
    #[expect(clippy::too_many_arguments, reason = "each is a field of the record")]
    async fn not_begun(
        &self,
        cx: &Context,
        tenant: &TenantId,
        ready: &Ready,
        skill: &SkillName,
        reason: Reason,
        message: String,
        keep: Keep<Result<Invoked, Problem>>,
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
        let answer = Err(Problem::Run { run, reason, message });
        self.record(tenant, record, events, keep, &answer).await?;
        answer
    }

    /// Puts a run into its tenant's chain, with the answer if that is to be kept, and waits until it is there.
    async fn record(
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

    async fn run_to_the_end(self: Arc<Self>, admitted: Admitted, input: String) -> Result<Invoked, Problem> {
        let Admitted { cx, tenant, ready, skill, limits, started, ticket, keep } = admitted;
        let deadline = started + limits.wall();
        let input = match self.fit(&ready, Ready::input, input, Ok, &ticket, deadline).await {
            Ok(input) => input,
            Err(Unfit::Stopped(reason)) => {
                let why = format!("{}, before the input was checked; send less, or call again", reason.what());
                return self.not_begun(&cx, &tenant, &ready, &skill, reason, why, keep).await;
            }
            Err(unfit) => return Err(no_input(unfit, &ticket)),
        };
        let Some(slot) = self.sandbox.slot(ticket.payer.clone(), deadline).await else {
            let why = format!("{}: no run slot came free; call again", Reason::Deadline.what());
            return self.not_begun(&cx, &tenant, &ready, &skill, Reason::Deadline, why, keep).await;
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
        let most_requests = limits.http_requests;
        let budget = Budget { limits, started, deadline, payer, memory };
        let finished = self.sandbox.invoke(slot, Arc::clone(&ready.component), call, budget, host).await;

        let mut journal = std::mem::take(&mut *lock(&journal));
        if journal.requests_not_listed > 0 {
            let (more, most) = (journal.requests_not_listed, most_requests);
            journal
                .log
                .push(format!("warn {more} more requests were refused and are not listed: a run may make {most}"));
        }
        let mut usage = finished.usage.clone();
        usage.host_calls = journal.host_calls.saturating_add(journal.wasi_calls);
        let answer = self.judge(finished, &ready, &mut journal, &ticket, deadline).await;
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
        let answer = match answer {
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
        };
        let committed = self.record(&tenant, record, events, keep, &answer).await;
        drop(ticket);
        committed?;
        answer
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

impl Host {
    /// What the caller gets: an output that was checked, or the reason why there is none.
    async fn judge(
        &self,
        finished: Finished<RunHost, Result<String, SkillError>>,
        ready: &Arc<Ready>,
        journal: &mut Journal,
        ticket: &Ticket,
        deadline: Instant,
    ) -> Result<Box<RawValue>, NoAnswer> {
        let output = answered(finished, journal)?;
        let fit = self.fit(ready, Ready::output, output, RawValue::from_string, ticket, deadline).await;
        fit.map_err(|unfit| {
            let (reason, what) = match unfit {
                Unfit::Json(error) => (Reason::OutputInvalid, format!("the skill's output is not JSON ({error})")),
                Unfit::Schema(mismatch) => {
                    (Reason::OutputInvalid, format!("the skill's output does not fit its schema: {mismatch}"))
                }
                Unfit::Memory(bytes) => {
                    let what = format!(
                        "to check the skill's output takes {} MiB, more than the tenant's other runs leave of its \
                         max_memory_mb; let it answer with less, or ask the operator for more",
                        bytes.div_ceil(MIB)
                    );
                    return NoAnswer::Stopped(Reason::Memory, what);
                }
                Unfit::Stopped(reason) => (reason, format!("{}, before the output was checked", reason.what())),
            };
            NoAnswer::Stopped(reason, format!("{what}; {}", reason.remedy()))
        })
    }

    /// Reads a text as JSON and checks it against a schema: here when that is little work, else in the tenant's turn, until the
    /// run's deadline. What it takes of memory is the tenant's.
    async fn fit<R: Send + 'static>(
        &self,
        ready: &Arc<Ready>,
        schema: fn(&Ready) -> &Schema,
        text: String,
        keep: fn(String) -> Result<R, serde_json::Error>,
        ticket: &Ticket,
        deadline: Instant,
    ) -> Result<R, Unfit> {
        let work = schema(ready).work(text.len());
        if work > MOST_WORK {
            let problem = "it is too large for a schema of this size; send less, or make the schema simpler".to_owned();
            return Err(Unfit::Schema(Mismatch { place: "(the whole value)".to_owned(), problem }));
        }
        let little = work <= LITTLE_WORK && text.len() <= LITTLE_JSON;
        let (ready, memory) = (Arc::clone(ready), Arc::clone(&ticket.memory));
        // Drawn when its turn has come: what waits takes none.
        let check = move || {
            let bytes = json_bytes(&text);
            let _held = memory.take(bytes).ok_or(Unfit::Memory(bytes))?;
            let value = read_json(&text).map_err(Unfit::Json)?;
            schema(&ready).check(&value).map_err(Unfit::Schema)?;
            keep(text).map_err(Unfit::Json)
        };
        if little {
            return check();
        }
        self.sandbox.on_behalf(ticket.payer.clone(), deadline, check).await.map_err(Unfit::Stopped)?
    }
}

/// At most how much memory a text takes once it is read.
fn json_bytes(text: &str) -> u64 {
    if text.len() <= SMALL_JSON {
        return 0;
    }
    let (mut parts, mut quoted, mut escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b',' | b':' if !quoted => parts += 1,
            b'[' if !quoted => parts += LIST_VALUES,
            b'{' if !quoted => parts += MAP_VALUES,
            _ => {}
        }
    }
    text.len() as u64 + JSON_VALUE_BYTES * parts
}

fn no_input(unfit: Unfit, ticket: &Ticket) -> Problem {
    match unfit {
        Unfit::Json(error) => {
            Problem::invalid("input", format!("it is not JSON: {error}; send the skill's input as the body"))
        }
        Unfit::Schema(mismatch) => {
            let detail = format!("{}; see the skill's input schema", mismatch.problem);
            Problem::invalid(format!("input{}", at(&mismatch.place)), detail)
        }
        Unfit::Memory(bytes) if bytes > ticket.memory.most() => {
            let (takes, most) = (bytes.div_ceil(MIB), ticket.memory.most() / MIB);
            let detail =
                format!("it takes {takes} MiB to read, and the tenant's max_memory_mb is {most}; send less at a time");
            Problem::invalid("input", detail)
        }
        Unfit::Memory(_) => Problem::Quota {
            dimension: "max_memory_mb",
            limit: ticket.memory.most() / MIB,
            used: ticket.memory.used().div_ceil(MIB),
        },
        Unfit::Stopped(reason) => Problem::internal("an input could not be checked", reason),
    }
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
        "audit_entries_refused": journal.notes_refused, "requests_not_listed": journal.requests_not_listed,
    });
    events.push(of_run("skill.invoke", format!("skill:{}", record.skill), outcome, detail.to_string().into_bytes()));
    events
}

fn at(place: &str) -> &str {
    if place.starts_with('/') { place } else { "" }
}

/// Messages of skills go to callers and into the run's record: 2,000 characters say enough. PostgreSQL's text has no NUL.
fn shortened(message: String) -> String {
    let message = if message.contains('\0') { message.replace('\0', "\u{fffd}") } else { message };
    if message.chars().count() <= 2000 { message } else { message.chars().take(2000).chain("…".chars()).collect() }
}

fn lock(journal: &Mutex<Journal>) -> std::sync::MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_charged_for_its_values_and_not_for_what_stands_in_strings() {
        let list = |item: &str| format!("[{}]", vec![item; 2000].join(","));
        assert_eq!(json_bytes("[1,2,3]"), 0);
        assert_eq!(json_bytes(&list("17")), 6001 + 2001 * JSON_VALUE_BYTES);
        let text = format!("\"{}\"", r#",:[{\"\\,"#.repeat(1000));
        assert_eq!(json_bytes(&text), text.len() as u64);
        let objects = list(r#"{"a":"\\"}"#);
        assert_eq!(json_bytes(&objects), objects.len() as u64 + (2001 + 2000 * (1 + MAP_VALUES)) * JSON_VALUE_BYTES);
        // What a map really takes, by the library's own layout: a leaf with eleven keys and values.
        let leaf = 11 * (size_of::<String>() + size_of::<Value>());
        assert!(MAP_VALUES * JSON_VALUE_BYTES + 2 * JSON_VALUE_BYTES > leaf as u64, "{leaf}");
    }
}
