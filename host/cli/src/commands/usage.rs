//! `clawhold usage`

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use clap::Args;
use clawhold_tenancy::TenantId;
use serde_json::Value;

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell, grouped, lines};

/// Cells of a bar.
const BAR: u64 = 20;

#[derive(Args)]
pub(crate) struct Usage {
    /// The tenant.
    tenant: TenantId,
    /// Show it anew all the time, until you press Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

impl Usage {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        let path = format!("tenants/{}/usage", self.tenant);
        loop {
            let usage = client.get(&path)?;
            if self.watch && !out.json && std::io::stdout().is_terminal() {
                // What was there is erased, from the top.
                print!("\x1b[H\x1b[2J");
            }
            out.show(&usage, |usage| print!("{}", screen(usage)));
            if !self.watch {
                return Ok(());
            }
            std::io::stdout().flush().map_err(anyhow::Error::from)?;
            std::thread::sleep(Duration::from_secs(self.every));
        }
    }
}

fn screen(usage: &Value) -> String {
    let mut screen = format!("{}\n\n", cell(&usage["tenant"]));
    let number = |of: &Value| of.as_u64().unwrap_or_default();
    let rows = usage["dimensions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = rows.iter().filter(|row| row["used"].is_u64()).map(|row| {
        let (used, limit) = (number(&row["used"]), number(&row["limit"]));
        vec![
            cell(&row["dimension"]),
            bar(used, limit),
            format!("{} of {} {}", grouped(used), grouped(limit), cell(&row["unit"])),
            grouped(number(&row["peak_hour"])),
            grouped(number(&row["peak_day"])),
            grouped(number(&row["refused_day"])),
        ]
    });
    let headings = ["DIMENSION", "", "USED", "PEAK HOUR", "PEAK DAY", "REFUSED DAY"];
    screen.push_str(&lines(&headings, &rows.collect::<Vec<_>>()));
    let skills = usage["skills"].as_array().map(Vec::as_slice).unwrap_or_default();
    if skills.is_empty() {
        screen.push_str("\nNo skill was called within the last day.\n");
        return screen;
    }
    let rows = skills.iter().map(|skill| {
        let (calls, succeeded) = (number(&skill["calls"]), number(&skill["succeeded"]));
        // Rounded down: 100 % is when all did.
        let percent = succeeded.saturating_mul(100).checked_div(calls).unwrap_or_default();
        vec![
            cell(&skill["skill"]),
            grouped(calls),
            format!("{percent} %"),
            grouped(number(&skill["fuel"])),
            time(&skill["p50_us"]),
            time(&skill["p99_us"]),
        ]
    });
    let headings = ["SKILL (LAST DAY)", "CALLS", "OK", "FUEL", "P50", "P99"];
    let _ = write!(screen, "\n{}", lines(&headings, &rows.collect::<Vec<_>>()));
    screen
}

/// How full something is: a cell that is begun is shown, and one is left until all is used.
fn bar(used: u64, limit: u64) -> String {
    let full = match limit {
        0 => 0,
        _ if used >= limit => BAR,
        _ => (used.saturating_mul(BAR).div_ceil(limit)).min(BAR - 1),
    };
    let cells = |n: u64, cell: &str| cell.repeat(usize::try_from(n).unwrap_or(0));
    format!("[{}{}]", cells(full, "#"), cells(BAR - full, "."))
}

fn time(us: &Value) -> String {
    match us.as_u64() {
        None => "-".to_owned(),
        Some(us) if us < 10_000 => format!("{us} µs"),
        Some(us) if us < 10_000_000 => format!("{} ms", us / 1_000),
        Some(us) => format!("{} s", us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_full_when_all_is_used_and_not_before() {
        let full = |used, limit| bar(used, limit).matches('#').count();
        assert_eq!((full(0, 10), full(1, 1000), full(500, 1000), full(999, 1000)), (0, 1, 10, 19));
        assert_eq!((full(10, 10), full(u64::MAX, 10), full(0, 0)), (20, 20, 0));
    }
}
