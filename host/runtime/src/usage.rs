//! What each tenant uses: counted in memory, written every few seconds, told when it comes near a limit.

mod slot;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use clawhold_limiter::Observed;
use clawhold_store::UsageRow;
use clawhold_tenancy::audit::{Chain, Event, Outcome, now_us};
use clawhold_tenancy::permit::ShowUsage;
use clawhold_tenancy::quota::{DIMENSIONS, Dimension, Kind, Row, TABLE};
use clawhold_tenancy::run::Reason;
use clawhold_tenancy::{Context, Permit, RequestId, Role, Scope, SkillName, TenantId};
use serde_json::json;
use tokio::task::JoinSet;

use self::slot::Slot;
use crate::sums::{LOOK, Sum, Sums};
use crate::{Host, Problem};

/// How long a slot is. 5 minutes: the peak of the last hour is right to within one.
const SLOT_US: i64 = 5 * 60 * 1_000_000;
const HOUR_US: i64 = 3600 * 1_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// How often what was counted is written: what a host that dies takes along.
const WRITE: Duration = Duration::from_secs(10);
/// How often it is looked which tenants run most, for the metrics.
const RANK: Duration = Duration::from_secs(30);
/// How often it is looked whether audit entries are older than their tenant's quota says.
const RETAIN: Duration = Duration::from_hours(6);
/// Slots of a tenant that wait to be written while the database cannot be reached. 12: an hour.
const UNWRITTEN: usize = 12;
/// Tenants that are told at the same time.
const TOLD_AT_ONCE: usize = 32;
/// How long what is left may take when the host ends.
const LAST: Duration = Duration::from_secs(2);

/// What this process counts.
pub(crate) struct Usage {
    tenants: papaya::HashMap<TenantId, Arc<Mutex<OfTenant>>>,
    process: String,
    told: Sums<TenantId, What, (u64, u64)>,
}

#[derive(Default)]
struct OfTenant {
    /// When the slot begins.
    slot_us: i64,
    slot: Slot,
    changed: bool,
    /// Runs since tenants were ranked last.
    ran: u64,
    /// Slots that have ended and are not written.
    ended: Vec<(i64, Slot)>,
}

/// What a tenant is told of its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Refused(Dimension),
    Reached(Dimension, u8),
}

/// What is due to be told; of what was reached, how much was used, and the limit.
type Due = Sum<TenantId, What, (u64, u64)>;

/// How much of a dimension a tenant uses and used.
#[derive(Debug, Clone)]
pub struct DimensionUse {
    /// Which, and in which unit.
    pub row: &'static Row,
    /// What it allows.
    pub limit: u64,
    /// What is used now; `None` where nothing is counted.
    pub used: Option<u64>,
    /// What of it is reserved by runs that have not ended.
    pub reserved: u64,
    /// Seconds until nothing of a rate is used if nothing more is.
    pub reset_s: u64,
    /// The most that was used at a time within the last hour and the last day.
    pub peak_hour: u64,
    /// Within the last day.
    pub peak_day: u64,
    /// How often somebody was refused within the last hour.
    pub refused_hour: u64,
    /// Within the last day.
    pub refused_day: u64,
}

/// How a skill was used within the last day.
#[derive(Debug, Clone)]
pub struct SkillUsage {
    /// The skill.
    pub skill: String,
    /// Runs.
    pub calls: u64,
    /// Those that gave an answer.
    pub succeeded: u64,
    /// Fuel of all of them.
    pub fuel: u64,
    /// Half of them took no longer than so many microseconds.
    pub p50_us: Option<u64>,
    /// All but one in a hundred.
    pub p99_us: Option<u64>,
}

/// What a tenant uses, and used within the last day.
#[derive(Debug, Clone)]
pub struct UsageView {
    /// The tenant.
    pub tenant: TenantId,
    /// By dimension, in the order of the table.
    pub dimensions: Vec<DimensionUse>,
    /// By skill; the most called first.
    pub skills: Vec<SkillUsage>,
}

impl Default for Usage {
    fn default() -> Self {
        Self { tenants: papaya::HashMap::new(), process: RequestId::now().to_string(), told: Sums::default() }
    }
}

impl OfTenant {
    /// The slot of now.
    fn now(&mut self, now_us: i64) -> &mut Slot {
        let slot_us = now_us - now_us.rem_euclid(SLOT_US);
        // A clock that goes back a little does not open a slot anew, which would overwrite it.
        if slot_us > self.slot_us {
            let ended = std::mem::take(&mut self.slot);
            if self.changed {
                self.ended.push((self.slot_us, ended));
                self.ended.drain(..self.ended.len().saturating_sub(UNWRITTEN));
            }
            self.slot_us = slot_us;
        }
        self.changed = true;
        &mut self.slot
    }
}

impl Usage {
    fn of(&self, tenant: &TenantId) -> Arc<Mutex<OfTenant>> {
        let tenants = self.tenants.pin();
        if let Some(known) = tenants.get(tenant) {
            return Arc::clone(known);
        }
        Arc::clone(tenants.get_or_insert_with(tenant.clone(), Arc::default))
    }

    /// A run has ended.
    pub(crate) fn run(&self, tenant: &TenantId, skill: &SkillName, reason: Reason, fuel: u64, us: u64) {
        let of_tenant = self.of(tenant);
        let mut of_tenant = lock(&of_tenant);
        of_tenant.ran += 1;
        of_tenant.now(now_us()).run(skill, reason == Reason::Ok, fuel, us);
    }

    fn observed(&self, tenant: &TenantId, observed: &Observed) {
        lock(&self.of(tenant)).now(now_us()).observed(observed);
        for (at, row) in TABLE.iter().enumerate().filter(|(at, _)| observed.refused[*at] > 0) {
            let key = What::Refused(row.dimension);
            let sum = Sum { scope: tenant.clone(), key, times: observed.refused[at], last: (0, 0) };
            self.told.note(sum, |_, _, key| key);
        }
        for warning in &observed.warnings {
            let key = What::Reached(warning.dimension, warning.percent);
            let sum = Sum { scope: tenant.clone(), key, times: 1, last: (warning.used, warning.limit) };
            self.told.note(sum, |_, _, key| key);
        }
    }

    /// What is to be written, and who of it: tenants of whom nothing was counted for a slot are forgotten.
    fn take_changed(&self) -> Vec<(TenantId, UsageRow)> {
        let (now, mut rows) = (now_us(), Vec::new());
        let tenants = self.tenants.pin();
        for (tenant, of_tenant) in &tenants {
            let mut of_tenant = lock(of_tenant);
            let mut due = std::mem::take(&mut of_tenant.ended);
            if std::mem::take(&mut of_tenant.changed) {
                due.push((of_tenant.slot_us, of_tenant.slot.clone()));
            }
            let row =
                |(slot_us, slot): (i64, Slot)| UsageRow { slot_us, process: self.process.clone(), data: slot.text() };
            rows.extend(due.into_iter().map(|slot| (tenant.clone(), row(slot))));
        }
        // Two hosts that write the same tenants' rows lock them in the same order.
        rows.sort_by(|(a, _), (b, _)| a.cmp(b));
        // Whoever holds one may be about to count in it, so that the map's must be the only one.
        tenants.retain(|_, of_tenant| {
            let old = |of: &OfTenant| !of.changed && of.ended.is_empty() && now - of.slot_us > 2 * SLOT_US;
            Arc::strong_count(of_tenant) > 1 || !old(&lock(of_tenant))
        });
        rows
    }

    /// What each tenant has run since this was asked last.
    fn take_ran(&self) -> Vec<(TenantId, u64)> {
        let tenants = self.tenants.pin();
        tenants.iter().map(|(tenant, of)| (tenant.clone(), std::mem::take(&mut lock(of).ran))).collect()
    }

    /// What could not be written is due again.
    fn put_back(&self, rows: Vec<(TenantId, UsageRow)>) {
        for (tenant, row) in rows {
            let of_tenant = self.of(&tenant);
            let mut of_tenant = lock(&of_tenant);
            if row.slot_us == of_tenant.slot_us {
                of_tenant.changed = true;
            } else if of_tenant.ended.len() < UNWRITTEN
                && let Ok(slot) = Slot::read(&row.data)
            {
                of_tenant.ended.push((row.slot_us, slot));
            }
        }
    }

    /// What this process knows of a tenant and has perhaps not written.
    fn unwritten(&self, tenant: &TenantId) -> Vec<(i64, Slot)> {
        let tenants = self.tenants.pin();
        let Some(of_tenant) = tenants.get(tenant) else { return Vec::new() };
        let of_tenant = lock(of_tenant);
        let now = (of_tenant.slot_us, of_tenant.slot.clone());
        of_tenant.ended.iter().cloned().chain([now]).collect()
    }
}

fn lock(of_tenant: &Mutex<OfTenant>) -> MutexGuard<'_, OfTenant> {
    // Counts are whole whatever panicked.
    of_tenant.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks, tells and writes as long as there is a host.
pub(crate) async fn keep(host: Weak<Host>) {
    let (mut write, mut rank) = (Instant::now() + WRITE, Instant::now() + RANK);
    let mut retain = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(host) = host.upgrade() else { return };
        host.look_at_use();
        host.tell_of_quotas(false).await;
        if Instant::now() >= write {
            write = Instant::now() + WRITE;
            host.write_usage().await;
            host.admission.limiter().forget_idle();
        }
        if Instant::now() >= retain {
            retain = Instant::now() + RETAIN;
            let host = Arc::clone(&host);
            tokio::spawn(async move { host.retain().await });
        }
        if Instant::now() >= rank {
            rank = Instant::now() + RANK;
            host.rank();
        }
    }
}

impl Host {
    /// Removes entries that are older than their tenant's `audit_retention_days`, where the database is this host's own. On PostgreSQL no
    /// host may: `clawhold db maintain` does it, as whoever owns the tables.
    async fn retain(&self) {
        if self.store.is_shared() {
            return;
        }
        let retained = async {
            let mut after = None;
            loop {
                let page = self.store.system("look for old audit entries").await?.tenants(after.as_ref(), 100).await?;
                for tenant in &page {
                    let quota = self.quotas.rules().of(&tenant.id, &tenant.tier, &tenant.quota);
                    let before = retained_since(quota.get(Dimension::AuditRetention));
                    let removed = self.store.retain_audit(&tenant.id, before).await?;
                    if removed > 0 {
                        tracing::info!(tenant = %tenant.id, removed, "audit entries older than the tenant's quota says were removed");
                    }
                }
                match page.last() {
                    Some(last) if page.len() == 100 => after = Some(last.id.clone()),
                    _ => return Ok::<_, Problem>(()),
                }
            }
        };
        if let Err(problem) = retained.await {
            tracing::warn!(%problem, "old audit entries could not be removed yet");
        }
    }

    fn rank(&self) {
        let ran = self.usage.take_ran();
        let ran: Vec<(&str, u64)> = ran.iter().map(|(tenant, runs)| (tenant.as_str(), *runs)).collect();
        self.metrics.rank(&ran);
    }

    fn look_at_use(&self) {
        for (tenant, observed) in self.admission.limiter().take_observed() {
            self.observed(&tenant, &observed);
        }
    }

    fn observed(&self, tenant: &TenantId, observed: &Observed) {
        for row in TABLE.iter().filter(|row| observed.refused[row.dimension as usize] > 0) {
            self.metrics.refused(tenant.as_str(), row.dimension, observed.refused[row.dimension as usize]);
        }
        self.usage.observed(tenant, observed);
    }

    /// Tells and writes what is left, unless the database takes too long.
    pub(crate) async fn write_usage_at_the_end(self: &Arc<Self>) {
        let last = async {
            self.look_at_use();
            self.tell_of_quotas(true).await;
            self.write_usage().await;
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            tracing::warn!("what tenants used in the last seconds could not be written");
        }
    }

    async fn write_usage(&self) {
        let rows = self.usage.take_changed();
        if rows.is_empty() {
            return;
        }
        if let Err(error) = self.store.put_usage(&rows, now_us() - DAY_US - HOUR_US).await {
            tracing::warn!(%error, "what tenants used could not be written yet");
            self.usage.put_back(rows);
        }
    }

    /// Puts into tenants' chains what is due.
    async fn tell_of_quotas(self: &Arc<Self>, all: bool) {
        let mut by_tenant: Vec<Vec<Due>> = Vec::new();
        for sum in self.usage.told.take(Instant::now(), all) {
            match by_tenant.last_mut() {
                // All of a tenant's come together.
                Some(last) if last[0].scope == sum.scope => last.push(sum),
                _ => by_tenant.push(vec![sum]),
            }
        }
        let mut telling = JoinSet::new();
        for sums in by_tenant {
            if telling.len() >= TOLD_AT_ONCE {
                telling.join_next().await;
            }
            let host = Arc::clone(self);
            telling.spawn(async move { host.tell_one(sums).await });
        }
        while telling.join_next().await.is_some() {}
    }

    async fn tell_one(&self, sums: Vec<Due>) {
        let tenant = sums[0].scope.clone();
        let cx = Context::of_host("limiter", Scope::Tenant(tenant.clone()), Role::Auditor);
        let events = sums.iter().map(|sum| event(&cx, sum)).collect();
        let told = async {
            let events = self.details.seal_all(Chain::Tenant(&tenant), events).await?;
            Ok::<_, Problem>(self.writer.append(tenant.clone(), None, events, None).await?)
        };
        if let Err(error) = told.await {
            tracing::warn!(%tenant, %error, "what a tenant is to be told of its quota could not be noted yet");
            for sum in sums {
                self.usage.told.put_back(sum);
            }
        }
    }

    /// What a tenant uses now, and used within the last day.
    pub async fn show_usage(&self, permit: &Permit<ShowUsage>) -> Result<UsageView, Problem> {
        let tenant = permit.tenant();
        let quota = self.quota_of(tenant).await?;
        self.admission.limiter().refresh(tenant, &quota).await;
        if let Some(observed) = self.admission.limiter().take_observed_of(tenant) {
            self.observed(tenant, &observed);
        }
        let now = now_us();
        let mut tx = self.store.tenant(tenant).await?;
        let rows = tx.usage(now - DAY_US).await?;
        let stored = [(Dimension::Installs, tx.count_installs().await?)];
        drop(tx);
        let secrets = self.backends.secrets.count(tenant).await?;
        let (mut hour, mut day) = (Slot::default(), Slot::default());
        let mut add = |slot_us: i64, slot: &Slot| {
            if slot_us + SLOT_US > now - HOUR_US {
                hour.add(slot);
            }
            day.add(slot);
        };
        let unwritten = self.usage.unwritten(tenant);
        let known_better = |row: &UsageRow| {
            row.process == self.usage.process && unwritten.iter().any(|(slot, _)| *slot == row.slot_us)
        };
        for row in rows.iter().filter(|row| !known_better(row)) {
            let slot = Slot::read(&row.data).map_err(|e| Problem::internal("a row of usage is damaged", e))?;
            add(row.slot_us, &slot);
        }
        unwritten.iter().filter(|(slot_us, _)| *slot_us > now - DAY_US).for_each(|(slot_us, slot)| add(*slot_us, slot));
        let of_dimension = |row: &'static Row| {
            let at = row.dimension as usize;
            let standing = self.admission.limiter().standing(tenant, &quota, row.dimension);
            let used = match row.kind {
                Kind::Setting => None,
                Kind::Stored if row.dimension == Dimension::Secrets => Some(secrets),
                Kind::Stored => stored.iter().find(|(of, _)| *of == row.dimension).map(|(_, count)| *count),
                Kind::Rate | Kind::Held => Some(standing.used),
            };
            let in_unit = |amount: u64| amount.div_ceil(row.scale);
            DimensionUse {
                row,
                limit: quota.get(row.dimension),
                used: used.map(in_unit),
                reserved: in_unit(standing.reserved),
                reset_s: standing.empty_in_us.div_ceil(1_000_000),
                peak_hour: in_unit(hour.peaks[at]),
                peak_day: in_unit(day.peaks[at]),
                refused_hour: hour.refused[at],
                refused_day: day.refused[at],
            }
        };
        let dimensions = TABLE.iter().map(of_dimension).collect::<Vec<_>>();
        debug_assert_eq!(dimensions.len(), DIMENSIONS);
        let mut skills: Vec<SkillUsage> = day.skills.into_iter().map(of_skill).collect();
        skills.sort_by(|a, b| b.calls.cmp(&a.calls).then_with(|| a.skill.cmp(&b.skill)));
        Ok(UsageView { tenant: tenant.clone(), dimensions, skills })
    }
}

/// The time that audit entries are kept from, when they are kept for so many days.
pub fn retained_since(days: u64) -> i64 {
    now_us().saturating_sub(i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY_US))
}

fn of_skill((skill, used): (String, slot::SkillUse)) -> SkillUsage {
    SkillUsage {
        skill,
        calls: used.calls,
        succeeded: used.succeeded,
        fuel: used.fuel,
        p50_us: used.times.quantile(500),
        p99_us: used.times.quantile(990),
    }
}

fn event(cx: &Context, sum: &Due) -> Event {
    let (action, dimension, outcome, detail) = match sum.key {
        What::Refused(dimension) => ("quota.refuse", dimension, Outcome::Denied, json!({ "times": sum.times })),
        What::Reached(dimension, percent) => {
            let (used, limit) = sum.last;
            let (row, scale) = (dimension.row(), dimension.row().scale);
            let detail = json!({
                "percent": percent, "used": used.div_ceil(scale), "limit": limit / scale, "unit": row.unit,
            });
            ("quota.warn", dimension, Outcome::Success, detail)
        }
    };
    Event::by(cx, action, format!("quota:{dimension}"), outcome).with(&detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_written_is_written_later_and_counted_once() {
        let (usage, tenant) = (Usage::default(), "acme-corp".parse().unwrap());
        let run = || usage.run(&tenant, &"echo".parse().unwrap(), Reason::Ok, 7, 1000);
        run();
        let rows = usage.take_changed();
        assert_eq!((rows.len(), usage.take_changed().len()), (1, 0));
        run();
        usage.put_back(rows);
        let rows = usage.take_changed();
        // The slot as a whole, with both.
        assert_eq!(Slot::read(&rows[0].1.data).unwrap().skills["echo"].calls, 2);
        // The next slot begins: what had not been written of the last one is kept apart.
        let of_tenant = usage.of(&tenant);
        lock(&of_tenant).slot_us -= SLOT_US;
        usage.put_back(rows);
        run();
        let mut rows = usage.take_changed();
        rows.sort_by_key(|(_, row)| row.slot_us);
        let calls = rows.iter().map(|(_, row)| Slot::read(&row.data).unwrap().skills["echo"].calls);
        assert_eq!(calls.collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn hostile_08_tenants_of_whom_nothing_was_counted_lately_take_no_room() {
        let usage = Usage::default();
        for n in 0..10_000 {
            let tenant = format!("tenant-{n}").parse().unwrap();
            usage.run(&tenant, &"echo".parse().unwrap(), Reason::Ok, 1, 1);
            lock(&usage.of(&tenant)).slot_us -= 3 * SLOT_US;
        }
        assert_eq!(usage.take_changed().len(), 10_000);
        assert_eq!(usage.tenants.len(), 0);
    }
}
