//! `cargo xtask bench`: what Clawhold costs, as ratios against a baseline that is measured in the same run, in turns,
//! so that a slow moment of the machine hits both.
//!
//! `--json` prints one object a line, `--only P1,P2` picks some.

mod audit;
mod cold;
mod egress;
mod invoke;
mod many;
mod market;
mod neighbour;
mod noise;
mod over_http;
mod quotas;
mod raw;
mod setup;
mod shares;

use std::io::IsTerminal;
use std::process::Command;

use anyhow::bail;
use serde_json::json;

/// One figure.
struct Figure {
    id: &'static str,
    name: &'static str,
    unit: &'static str,
    target: &'static str,
    /// One value of each round.
    rounds: Vec<f64>,
}

impl Figure {
    fn print(&self, as_json: bool) {
        let [min, median, max] = spread(&self.rounds);
        if as_json {
            let line = json!({
                "id": self.id, "name": self.name, "value": rounded(median), "unit": self.unit, "target": self.target,
                "min": rounded(min), "max": rounded(max),
            });
            println!("{line}");
        } else {
            let (id, name, unit, target) = (self.id, self.name, self.unit, self.target);
            println!("{id:10} {name:74} {median:9.3} {unit:6} ({min:.3} to {max:.3})  target {target}");
        }
    }
}

/// Least, median and most.
fn spread(rounds: &[f64]) -> [f64; 3] {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]]
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

type Benchmark = (&'static [&'static str], fn() -> anyhow::Result<Vec<Figure>>);

const BENCHMARKS: [Benchmark; 20] = [
    (&["P1", "P1raw", "P1kept", "P1rawkept", "P1inv"], invoke::measure),
    (&["P1b", "P1bc"], invoke::metering),
    (&["P2", "P2axum", "P2http", "P2axumcpu", "P2httpcpu"], over_http::measure),
    (&["P3", "P3alone", "P3beside", "P3s", "P3salone", "P3sbeside"], neighbour::measure),
    (&["P3n", "P3nloops", "P3nmemory", "P3nsleep", "P3nslow", "P3nflood", "P3nmachine"], noise::measure),
    (&["P3nspare"], noise::with_a_core_to_spare),
    (&["P3t", "P3tlight"], shares::measure),
    (&["P4", "P4b", "P4c"], many::measure),
    (&["P5", "P5cold", "P5warm", "P5size"], cold::measure),
    (&["P6", "P6sqlite", "P6postgres"], over_http::databases),
    (&["P6b", "P6bgroup", "P6bone"], audit::commits),
    (&["P7"], quotas::in_process),
    (&["P7r", "P7rincr", "P7rcheck"], quotas::through_redis),
    (&["P9", "P9flat", "P9db", "P9dbflat", "P9mem"], audit::verification),
    (&["P10", "P10axum", "P10http"], quotas::refusing),
    (&["P11", "P11skill", "P11new", "P11hyper"], egress::request),
    (&["P12", "P12build"], egress::leaks),
    (&["P13"], egress::secret),
    (&["P14"], market::revocation),
    (&["P15", "P15few", "P15flat"], market::listing),
];

fn main() -> anyhow::Result<()> {
    clawhold_cli::compiler_process();
    let (mut as_json, mut only) = (false, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => as_json = true,
            "--only" => only = arguments.next(),
            other => bail!("{other} is not known; use --json and --only P1,P2"),
        }
    }
    let only: Option<Vec<&str>> = only.as_deref().map(|ids| ids.split(',').map(str::trim).collect());
    let known: Vec<&str> = BENCHMARKS.iter().flat_map(|(ids, _)| ids.iter().copied()).collect();
    if let Some(unknown) = only.iter().flatten().find(|id| !known.contains(*id)) {
        bail!("there is no benchmark {unknown}; there are {}", known.join(", "));
    }
    let wanted = |id: &str| only.as_ref().is_none_or(|only| only.contains(&id));
    if cfg!(debug_assertions) {
        eprintln!("warning: this is not a release build; run `cargo xtask bench`");
    }
    let groups = || BENCHMARKS.into_iter().filter(|(ids, _)| ids.iter().any(|id| wanted(id)));
    if groups().count() > 1 {
        // Each in a process of its own: what one leaves in memory and caches must not be measured by the next.
        for (ids, _) in groups() {
            let ids: Vec<&str> = ids.iter().copied().filter(|id| wanted(id)).collect();
            let mut one = Command::new(std::env::current_exe()?);
            one.args(["--only", &ids.join(",")]).args(as_json.then_some("--json"));
            let status = one.status()?;
            if !status.success() {
                bail!("{} ended with {status}", ids[0]);
            }
        }
        return Ok(());
    }
    for (ids, measure) in groups() {
        if std::io::stderr().is_terminal() {
            eprintln!("measuring {} …", ids[0]);
        }
        for figure in measure()?.iter().filter(|figure| wanted(figure.id)) {
            figure.print(as_json);
        }
    }
    Ok(())
}
