//! `cargo xtask fuzz`: hostile input for as long as one likes.

use anyhow::Result;

use crate::{setup, shell};

pub(crate) const HELP: &str = "\
Makes hostile input from seeds and gives it to what reads it, and says what breaks.

usage: cargo xtask fuzz [--minutes N] [--target T] [--seed S] [--cases N]
       cargo xtask fuzz --target T --seed S
       cargo xtask fuzz --target T --input FILE

  --minutes N   how long, for each target; 1 when nothing else is said
  --target T    manifest, publish, lifting or schema; one after the other when not said
  --seed S      begins with this seed; without --minutes and --cases, runs its case alone
  --cases N     how many cases, instead of minutes
  --input FILE  runs this file alone, for example one that was found

Fails if something was found, and says how to see it again. The corpus in tests/fuzz/corpus runs
first. `cargo xtask test` runs the corpus and a few hundred seeds, the same each time.
";

/// Builds with the whole workspace, so that one build of the dependencies serves this and the tests, and passes
/// everything on to the program, which reads it.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    setup::prepare()?;
    shell::run(shell::cargo().args(["build", "--workspace", "--bins", "--locked"]))?;
    let program = shell::target_folder()?.join("debug/clawhold-fuzz");
    shell::run(shell::program(program).args(arguments))
}
