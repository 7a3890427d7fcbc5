//! What the host counts for those who watch a fleet: metrics in Prometheus's text format.
//!
//! Series of tenants are bounded. The tenants that run most, and those that the operator names, have series of their own; all others
//! are counted under `other`. Which series counts is decided when something is counted, so that no counter ever goes back: a tenant
//! that gets series of its own begins at zero there, and what `other` has of it stays.
//!
//! ```
//! use clawhold_telemetry::{Metrics, Shown};
//! use clawhold_tenancy::run::Reason;
//! let metrics = Metrics::new(Shown { most: 1, always: Vec::new() });
//! metrics.rank(&[("acme-corp", 5), ("globex", 3)]);
//! metrics.run_ended("globex", Reason::Ok, 700, 0.002);
//! assert!(metrics.text().contains(r#"clawhold_runs_total{reason="ok",tenant_id="other"} 1"#));
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use clawhold_tenancy::quota::Dimension;
use clawhold_tenancy::run::Reason;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// The label of tenants without series of their own.
const OTHER: &str = "other";
/// The label itself.
const TENANT: &str = "tenant_id";

/// Upper bounds of the buckets of times, in seconds: a small skill takes a millisecond, a run at most minutes.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// Which tenants have series of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// How many at a time, those that are always shown not counted.
    pub most: usize,
    /// Those that have them whatever they do.
    pub always: Vec<String>,
}

/// How a tenant stands when metrics are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Level {
    /// Runs under way, those that wait included.
    pub runs: u64,
    /// Runs that wait for a slot.
    pub queued: u64,
    /// Bytes of memory of its runs.
    pub memory_bytes: u64,
}

/// How the host stands when metrics are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostLevel {
    /// Run slots.
    pub slots: u64,
    /// Tenants that the limiter keeps books of.
    pub limiter_tenants: u64,
    /// Hosts that share their quotas, this one included; 1 without a shared limiter.
    pub limiter_hosts: u64,
    /// Whether quotas should be shared and cannot be: each host goes on with its part.
    pub limiter_apart: bool,
}

/// All metrics of a host.
pub struct Metrics {
    registry: Registry,
    shown: Shown,
    /// Tenants with series of their own.
    own: papaya::HashMap<String, Arc<Series>>,
    other: Arc<Series>,
    /// One change of [`Metrics::own`] at a time.
    ranking: Mutex<()>,
    runs: IntCounterVec,
    fuel: IntCounterVec,
    refusals: IntCounterVec,
    duration: HistogramVec,
    waited: HistogramVec,
    active: IntGaugeVec,
    queued: IntGaugeVec,
    memory: IntGaugeVec,
    slots: IntGauge,
    limiter_tenants: IntGauge,
    limiter_hosts: IntGauge,
    limiter_apart: IntGauge,
}

/// One tenant's series, found once and not at every run.
struct Series {
    tenant: String,
    ok: IntCounter,
    fuel: IntCounter,
    duration: Histogram,
    waited: Histogram,
}

/// A metric that is registered.
fn registered<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let metric = made.expect("the name is well-formed");
    registry.register(Box::new(metric.clone())).expect("the name is new");
    metric
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new(shown: Shown) -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let histogram = |name: &str, help: &str| {
            let opts = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            registered(&registry, HistogramVec::new(opts, &[TENANT]))
        };
        let gauge = |name: &str, help: &str| registered(&registry, IntGaugeVec::new(Opts::new(name, help), &[TENANT]));
        let one = |name: &str, help: &str| registered(&registry, IntGauge::new(name, help));
        let runs = counter("clawhold_runs_total", "Runs that have ended, by how.", &[TENANT, "reason"]);
        let fuel = counter("clawhold_fuel_consumed_total", "Fuel that runs have used: instructions.", &[TENANT]);
        let duration =
            histogram("clawhold_run_duration_seconds", "How long runs took, the time in the queue included.");
        let waited = histogram("clawhold_queue_wait_seconds", "How long runs waited for a slot.");
        let build = registered(
            &registry,
            IntGaugeVec::new(Opts::new("clawhold_build_info", "Always 1; the version is a label."), &["version"]),
        );
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let process = prometheus::process_collector::ProcessCollector::for_self();
        registry.register(Box::new(process)).expect("the names are new");
        let other = Arc::new(Series::new(OTHER, &runs, &fuel, &duration, &waited));
        let metrics = Self {
            refusals: counter(
                "clawhold_quota_refusals_total",
                "Times that a quota stood against something, by dimension.",
                &[TENANT, "dimension"],
            ),
            active: gauge("clawhold_runs_active", "Runs under way, those that wait for a slot included."),
            queued: gauge("clawhold_queue_depth", "Runs that wait for a slot."),
            memory: gauge("clawhold_run_memory_bytes", "Memory of runs under way."),
            slots: one("clawhold_run_slots", "Runs that can go on at the same time."),
            limiter_tenants: one("clawhold_limiter_tenants", "Tenants that the limiter keeps books of."),
            limiter_hosts: one("clawhold_limiter_hosts", "Hosts that share their quotas, this one included."),
            limiter_apart: one(
                "clawhold_limiter_apart",
                "1 while quotas should be shared and cannot be: each host goes on with its part.",
            ),
            registry,
            shown,
            own: papaya::HashMap::new(),
            other,
            ranking: Mutex::new(()),
            runs,
            fuel,
            duration,
            waited,
        };
        metrics.rank(&[]);
        metrics
    }

    fn series(&self, tenant: &str) -> Arc<Series> {
        let own = self.own.pin();
        Arc::clone(own.get(tenant).unwrap_or(&self.other))
    }

    /// A run has ended.
    pub fn run_ended(&self, tenant: &str, reason: Reason, fuel: u64, seconds: f64) {
        let series = self.series(tenant);
        if reason == Reason::Ok {
            series.ok.inc();
        } else {
            self.runs.with_label_values(&[&series.tenant, reason.as_str()]).inc();
        }
        series.fuel.inc_by(fuel);
        series.duration.observe(seconds);
    }

    /// A run has a slot.
    pub fn run_waited(&self, tenant: &str, seconds: f64) {
        self.series(tenant).waited.observe(seconds);
    }

    /// A quota stood against something so many times.
    pub fn refused(&self, tenant: &str, dimension: Dimension, times: u64) {
        let series = self.series(tenant);
        self.refusals.with_label_values(&[series.tenant.as_str(), dimension.key()]).inc_by(times);
    }

    /// Gives those their own series that have run most lately. To be called now and then with what each tenant has run since.
    pub fn rank(&self, ran: &[(&str, u64)]) {
        let _one = self.ranking.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.own.pin();
        let mut most: Vec<&(&str, u64)> = ran.iter().filter(|(_, runs)| *runs > 0).collect();
        // Who has series keeps them before one that has run as much, so that they do not come and go.
        most.sort_by_key(|(tenant, runs)| (std::cmp::Reverse(*runs), !own.contains_key(*tenant), *tenant));
        let always = self.shown.always.iter().map(String::as_str);
        let ranked =
            most.iter().map(|(tenant, _)| *tenant).filter(|tenant| !self.shown.always.iter().any(|a| a == tenant));
        let mut wanted: Vec<&str> = ranked.take(self.shown.most).collect();
        // Places that nobody wants stay with who has them.
        let mut kept: Vec<String> = Vec::new();
        for (tenant, _) in &own {
            let is_wanted = wanted.contains(&tenant.as_str()) || self.shown.always.contains(tenant);
            if !is_wanted && wanted.len() + kept.len() < self.shown.most {
                kept.push(tenant.clone());
            }
        }
        wanted.extend(always);
        for tenant in &wanted {
            if !own.contains_key(*tenant) {
                let series = Series::new(tenant, &self.runs, &self.fuel, &self.duration, &self.waited);
                own.insert((*tenant).to_owned(), Arc::new(series));
            }
        }
        let gone: Vec<String> = own
            .iter()
            .map(|(tenant, _)| tenant.clone())
            .filter(|tenant| !wanted.contains(&tenant.as_str()) && !kept.contains(tenant))
            .collect();
        for tenant in gone {
            own.remove(&tenant);
            self.forget(&tenant);
        }
    }

    /// A tenant's series end. What is counted meanwhile by who has them in hand is lost, and would have ended here anyway.
    fn forget(&self, tenant: &str) {
        let mut labels = HashMap::from([(TENANT, tenant)]);
        for of in [&self.active, &self.queued, &self.memory] {
            let _was_there = of.remove(&labels);
        }
        let _was_there = (self.fuel.remove(&labels), self.duration.remove(&labels), self.waited.remove(&labels));
        for reason in Reason::ALL {
            labels.insert("reason", reason.as_str());
            let _was_there = self.runs.remove(&labels);
        }
        labels.remove("reason");
        for row in clawhold_tenancy::quota::TABLE {
            labels.insert("dimension", row.key);
            let _was_there = self.refusals.remove(&labels);
        }
    }

    /// Sets how the host and its tenants stand now.
    pub fn set_levels<'a>(&self, host: &HostLevel, tenants: impl Iterator<Item = (&'a str, Level)>) {
        let mut by_label: HashMap<String, Level> = HashMap::from([(OTHER.to_owned(), Level::default())]);
        for (tenant, _) in &self.own.pin() {
            by_label.insert(tenant.clone(), Level::default());
        }
        for (tenant, level) in tenants {
            let label = if by_label.contains_key(tenant) { tenant } else { OTHER };
            if let Some(sum) = by_label.get_mut(label) {
                sum.runs += level.runs;
                sum.queued += level.queued;
                sum.memory_bytes += level.memory_bytes;
            }
        }
        for (label, level) in &by_label {
            for (gauge, value) in
                [(&self.active, level.runs), (&self.queued, level.queued), (&self.memory, level.memory_bytes)]
            {
                gauge.with_label_values(&[label]).set(whole(value));
            }
        }
        self.slots.set(whole(host.slots));
        self.limiter_tenants.set(whole(host.limiter_tenants));
        self.limiter_hosts.set(whole(host.limiter_hosts));
        self.limiter_apart.set(i64::from(host.limiter_apart));
    }

    /// All of them, in Prometheus's text format, version 0.0.4.
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

impl Series {
    fn new(
        tenant: &str,
        runs: &IntCounterVec,
        fuel: &IntCounterVec,
        duration: &HistogramVec,
        waited: &HistogramVec,
    ) -> Self {
        Self {
            tenant: tenant.to_owned(),
            ok: runs.with_label_values(&[tenant, Reason::Ok.as_str()]),
            fuel: fuel.with_label_values(&[tenant]),
            duration: duration.with_label_values(&[tenant]),
            waited: waited.with_label_values(&[tenant]),
        }
    }
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(most: usize, always: &[&str]) -> Metrics {
        Metrics::new(Shown { most, always: always.iter().map(|name| (*name).to_owned()).collect() })
    }

    fn run(metrics: &Metrics, tenant: &str) {
        metrics.run_ended(tenant, Reason::Ok, 10, 0.001);
        metrics.refused(tenant, Dimension::SkillCalls, 2);
        metrics.run_waited(tenant, 0.0);
    }

    fn tenants(metrics: &Metrics) -> Vec<String> {
        let text = metrics.text();
        let of = |line: &str| {
            line.strip_prefix("clawhold_fuel_consumed_total{tenant_id=\"")?.split('"').next().map(str::to_owned)
        };
        text.lines().filter_map(of).collect()
    }

    #[test]
    fn series_of_tenants_are_bounded_and_the_rest_is_one() {
        let metrics = metrics(2, &["globex"]);
        let names: Vec<String> = (0..1000).map(|n| format!("tenant-{n}")).collect();
        let ran: Vec<(&str, u64)> = names.iter().map(String::as_str).zip(1..).collect();
        metrics.rank(&ran);
        for name in &names {
            run(&metrics, name);
        }
        assert_eq!(tenants(&metrics), ["globex", "other", "tenant-998", "tenant-999"]);
        assert!(metrics.text().contains("clawhold_fuel_consumed_total{tenant_id=\"other\"} 9980"));
    }

    #[test]
    fn a_tenant_that_runs_more_takes_the_place_of_one_that_runs_less_and_nothing_goes_back() {
        let metrics = metrics(1, &[]);
        metrics.rank(&[("a", 5), ("b", 1)]);
        run(&metrics, "a");
        run(&metrics, "b");
        metrics.rank(&[("a", 5), ("b", 5)]);
        assert_eq!(tenants(&metrics), ["a", "other"], "as much is not more");
        metrics.rank(&[]);
        assert_eq!(tenants(&metrics), ["a", "other"], "nobody wants the place");
        metrics.rank(&[("a", 5), ("b", 6)]);
        run(&metrics, "b");
        let text = metrics.text();
        assert!(text.contains("clawhold_fuel_consumed_total{tenant_id=\"b\"} 10"), "{text}");
        assert!(text.contains("clawhold_fuel_consumed_total{tenant_id=\"other\"} 10"), "{text}");
        assert!(!text.contains("tenant_id=\"a\""), "{text}");
    }

    #[test]
    fn levels_of_those_without_series_are_added_up() {
        let metrics = metrics(1, &[]);
        metrics.rank(&[("a", 5)]);
        let level = Level { runs: 2, queued: 1, memory_bytes: 100 };
        metrics.set_levels(&HostLevel::default(), ["a", "b", "c"].into_iter().map(|tenant| (tenant, level)));
        let text = metrics.text();
        assert!(text.contains("clawhold_runs_active{tenant_id=\"a\"} 2"), "{text}");
        assert!(text.contains("clawhold_run_memory_bytes{tenant_id=\"other\"} 200"), "{text}");
        metrics.set_levels(&HostLevel::default(), std::iter::empty());
        assert!(metrics.text().contains("clawhold_runs_active{tenant_id=\"a\"} 0"));
    }
}
