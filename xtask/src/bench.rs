//! `cargo xtask bench`: all measurements in one command.

use anyhow::Result;

use crate::{setup, shell};

pub(crate) const HELP: &str = "\
Measures, in release, and shows each figure beside its target.

usage: cargo xtask bench [--json] [--only IDS]

  --json        one JSON object a line, for programs
  --only IDS    some of the measurements, for example P1,P2

Figures are ratios where they can be, so they mean the same on another machine. Close other
programs first.
";

/// Passes everything on to the benchmark's own program, which reads it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    setup::prepare()?;
    let mut bench = shell::cargo();
    shell::run(bench.args(["run", "--release", "--package", "clawhold-bench", "--"]).args(arguments))
}
