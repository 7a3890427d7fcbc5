//! One invocation, from admission to the committed record. Its steps are those of ARCHITECTURE.md.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clawhold_capabilities::{Authority, Journal, RunHost};
use clawhold_sandbox::contract::exports::clawhold::skill::handler::{Context as GuestContext, Error as SkillError};
use clawhold_sandbox::{Budget, Call, Failure, Finished, Place, Slot};
use clawhold_tenancy::audit::now_us;
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::limits::MIB;
use clawhold_tenancy::permit::InvokeSkill;
use clawhold_tenancy::run::{Reason, Record, Usage};
use clawhold_tenancy::{CALL_DEPTH, Context, Digest, PackageName, Permit, RunId, RunLimits, SkillName, TenantId};
use serde_json::value::RawValue;
use tracing::Instrument;

use crate::admission::{Calls, Ticket};
use crate::fit::{Unfit, no_input};
use crate::leaks::{LARGE, guard};
use crate::recording::events;
use crate::resolve::Ready;
use crate::{Host, Problem};

/// How long after its deadline a run counts as under way if nothing is heard of it: its host has died. 30 s, for its record may take
/// as long as the database does.
const LOST: Duration = Duration::from_secs(30);

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
    /// How the tenant's calls stood when this one was admitted.
    pub calls: Calls,
}

/// A run that was admitted.
pub(crate) struct Admitted {
    pub(crate) cx: Context,
    pub(crate) tenant: TenantId,
    pub(crate) ready: Arc<Ready>,
    pub(crate) skill: SkillName,
    pub(crate) limits: RunLimits,
    pub(crate) started: Instant,
    pub(crate) ticket: Ticket,
}

/// Why a run gave no answer.
pub(crate) enum NoAnswer {
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
        self.require_fresh_index()?;
        let quota = self.quota_of(tenant).await?;
        let latest = started + quota.limits.within(&self.ceiling).wall();
        let limits_of = |ready: &Ready| ready.policy.limits.within(&quota.limits).within(&self.ceiling);
        // What is known already is reserved in one go.
        let known = self.resolved.known(tenant, skill).await;
        let fuel = known.as_ref().map(|ready| limits_of(ready).fuel);
        let ticket = self.admission.enter(tenant, &quota, fuel, latest + LOST).await?;
        let (mut ticket, ready) = match known {
            Some(ready) => (ticket, ready),
            None => self.resolve_in_time(ticket, tenant, skill, latest).await?,
        };
        let limits = limits_of(&ready);
        if fuel.is_none() {
            ticket.reserve_fuel(limits.fuel).await?;
        }
        let (cx, tenant, skill) = (cx.clone(), tenant.clone(), skill.clone());
        let run = Admitted { cx, tenant, ready, skill, limits, started, ticket };
        if run.cx.depth >= CALL_DEPTH {
            let why =
                format!("{CALL_DEPTH} runs have called one another through the API, and no more may; is it a circle?");
            return self.not_begun(run, Reason::Denied, why, keep).await;
        }
        if run.ready.policy.wasi
            && let Some(why) = self.refuses_wasi(&run.tenant, &quota)
        {
            return self.not_begun(run, Reason::Denied, why, keep).await;
        }
        let deadline = started + run.limits.wall();
        let input = match self.fit(&run.ready, Ready::input, input, Ok, &run.ticket, deadline).await {
            Ok(input) => input,
            Err(Unfit::Stopped(reason)) => {
                let why = format!("{}, before the input was checked; send less, or call again", reason.what());
                return self.not_begun(run, reason, why, keep).await;
            }
            Err(unfit) => return Err(no_input(unfit, &run.ticket)),
        };
        let Some(slot) = self.slot(&run).await? else {
            let why = "no run slot came free in time for the run to end before its deadline; call again".to_owned();
            return self.not_begun(run, Reason::Deadline, why, keep).await;
        };
        let run = self.clone().run_to_the_end(run, slot, input, keep);
        tokio::spawn(run.in_current_span()).await.map_err(|e| Problem::internal("a run was lost", e))?
    }

    /// Waits for a slot, in the caller's own time: whoever goes away has left the queue. `None` when the run could not end before its
    /// deadline any more, going by the quickest one of the skill so far.
    async fn slot(&self, run: &Admitted) -> Result<Option<Slot>, Problem> {
        // Asked first when all slots are in use: a call that the queue has no place for costs the others nothing.
        let mut queued = if self.sandbox.is_full() { Some(run.ticket.meter().queue()?) } else { None };
        let place = self.sandbox.place(&run.ticket.payer);
        if matches!(place, Place::Queue(_)) && queued.is_none() {
            queued = Some(run.ticket.meter().queue()?);
        }
        let takes = self.quickest.of(&run.tenant, &run.skill, run.ready.digest);
        let deadline = run.started + run.limits.wall();
        let began = Instant::now();
        let slot = place.until(deadline.checked_sub(takes).unwrap_or(run.started)).await;
        drop(queued);
        self.metrics.run_waited(run.tenant.as_str(), began.elapsed().as_secs_f64());
        Ok(slot)
    }

    async fn run_to_the_end(
        self: Arc<Self>,
        admitted: Admitted,
        slot: Slot,
        input: String,
        keep: Keep<Result<Invoked, Problem>>,
    ) -> Result<Invoked, Problem> {
        let Admitted { cx, tenant, ready, skill, limits, started, ticket } = admitted;
        let deadline = started + limits.wall();
        let run = RunId::now();
        let began_us = now_us();
        let authority = Authority {
            tenant: tenant.clone(),
            policy: Arc::clone(&ready.policy),
            deadline,
            depth: cx.depth,
            agent: ready.agent.clone(),
            meter: ticket.meter().clone(),
            backends: self.backends.clone(),
            run,
            trace: cx.trace.clone(),
        };
        let host = RunHost::new(authority, limits.clone());
        let journal = host.journal();
        let call = Call { context: guest_context(&cx, &tenant, run, &skill, &ready, limits.wall_ms), input };
        let (payer, memory) = (ticket.payer.clone(), Arc::clone(ticket.memory()));
        let most_requests = limits.http_requests;
        let budget = Budget { limits, started, deadline, payer, memory };
        let began = Instant::now();
        let finished = self.sandbox.invoke(slot, Arc::clone(&ready.component), call, budget, host).await;

        if finished.outcome.is_ok() {
            self.quickest.note(&tenant, &skill, ready.digest, began.elapsed());
        }
        let mut journal = std::mem::take(&mut *lock(&journal));
        if journal.requests_not_listed > 0 {
            let (more, most) = (journal.requests_not_listed, most_requests);
            journal
                .log
                .push(format!("warn {more} more requests were refused and are not listed: a run may make {most}"));
        }
        let mut usage = finished.usage.clone();
        let fuel = usage.fuel;
        usage.host_calls = journal.host_calls.saturating_add(journal.wasi_calls);
        let answer = self.judge(finished, &ready, &mut journal, &ticket, deadline).await;
        let answer = answer.map_err(|no_answer| self.withdrawn(no_answer, &ready));
        let (answer, mut journal) = self.guarded(answer, journal, &ready).await;
        let (reason, message) = match &answer {
            Ok(_) => (Reason::Ok, String::new()),
            Err(NoAnswer::Skill(kind, message)) => (Reason::SkillError, format!("{kind}: {message}")),
            Err(NoAnswer::Stopped(reason, message)) => (*reason, message.clone()),
        };
        self.usage.run(&tenant, &skill, reason, fuel, usage.duration_us);
        self.metrics.run_ended(tenant.as_str(), reason, fuel, started.elapsed().as_secs_f64());
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
            leaks: journal.leaks.iter().map(ToString::to_string).collect(),
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
                calls: ticket.calls(),
            }),
            Err(NoAnswer::Skill(kind, message)) => Err(Problem::Skill { run, kind, message }),
            Err(NoAnswer::Stopped(reason, message)) => Err(Problem::Run { run, reason, message }),
        };
        let committed = self.record(&tenant, record, events, keep, &answer).await;
        ticket.settle(fuel);
        committed?;
        answer
    }
}

impl Host {
    /// Says of a run that was cut because its version was revoked, that it was.
    fn withdrawn(&self, no_answer: NoAnswer, ready: &Ready) -> NoAnswer {
        let revoked = || self.index.state()?.by_digest(&ready.digest).map(|entry| entry.status.cancels());
        match no_answer {
            NoAnswer::Stopped(Reason::Cancelled, _) if revoked() == Some(true) => {
                let (package, version) = (&ready.package, &ready.version);
                let message = format!("{package} {version} was revoked before the run ended; install another version");
                NoAnswer::Stopped(Reason::Cancelled, message)
            }
            other => other,
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
}

impl Host {
    /// The answer and the journal without the values of secrets, and messages no longer than they are kept. A large text is searched
    /// where it keeps nobody waiting.
    async fn guarded(
        &self,
        answer: Result<Box<RawValue>, NoAnswer>,
        journal: Journal,
        ready: &Ready,
    ) -> (Result<Box<RawValue>, NoAnswer>, Journal) {
        let (on_leak, limits) = (self.backends.on_leak, ready.policy.limits.clone());
        let output = answer.as_ref().map_or(0, |output| output.get().len());
        let is_large = output + journal.log.iter().map(String::len).sum::<usize>() > LARGE;
        let (mut answer, journal) = if journal.exposed.is_empty() || !is_large {
            guard(answer, journal, on_leak, &limits)
        } else {
            let searched = tokio::task::spawn_blocking(move || guard(answer, journal, on_leak, &limits)).await;
            searched.unwrap_or_else(|error| {
                tracing::error!(%error, "the leak guard failed; the answer was kept back, and what the run logged with it");
                let message = "the host failed while it looked for secrets in the output".to_owned();
                (Err(NoAnswer::Stopped(Reason::Cancelled, message)), Journal::default())
            })
        };
        if let Err(NoAnswer::Skill(_, message) | NoAnswer::Stopped(_, message)) = &mut answer {
            *message = shortened(std::mem::take(message));
        }
        (answer, journal)
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
            Err(NoAnswer::Skill(kind, message))
        }
        Err(Failure { reason, message, backtrace }) => {
            let trace = backtrace.unwrap_or_default();
            journal.log.extend(trace.lines().take(32).map(|line| format!("error {}", line.trim_end())));
            let message = match (reason, journal.fatal.take()) {
                (Reason::Trap, Some(fatal)) => fatal,
                _ => message,
            };
            Err(NoAnswer::Stopped(reason, message))
        }
    }
}

/// Messages of skills go to callers and into the run's record: 2,000 characters say enough. PostgreSQL's text has no NUL.
fn shortened(message: String) -> String {
    let message = if message.contains('\0') { message.replace('\0', "\u{fffd}") } else { message };
    if message.chars().count() <= 2000 { message } else { message.chars().take(2000).chain("…".chars()).collect() }
}

fn lock(journal: &Mutex<Journal>) -> std::sync::MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}
