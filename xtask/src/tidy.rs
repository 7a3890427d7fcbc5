//! `cargo xtask tidy`: the rules between crates, proved from `cargo metadata` and the files.
//!
//! [`rules`] holds them as tables, [`crates`] applies those to what cargo says, [`files`] looks at the text.

mod crates;
mod files;
mod rules;

use anyhow::{Result, bail};

use crate::shell;

pub(crate) const HELP: &str = "\
Checks the rules between crates that ARCHITECTURE.md states.

usage: cargo xtask tidy

  layers      a crate depends on lower layers only, and siblings never on each other
  libraries   wasmtime, sqlx, axum and clap stay in the crates that are for them
  guests      SDKs and skills know nothing of the host; each hostile guest has a test
  files       no Rust file is longer than 600 lines; over 400 is a warning
  reasons     each dependency of the workspace says why it is here
";

/// Something that breaks a rule, or soon will.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Finding {
    /// Breaks one.
    Broken(String),
    /// Does not yet.
    Warning(String),
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    crate::no_arguments("tidy", arguments)?;
    let root = shell::root();
    let mut findings = crates::check(&shell::metadata()?)?;
    findings.extend(files::check(&root)?);
    findings.sort();
    let mut broken = 0;
    for finding in &findings {
        match finding {
            Finding::Broken(what) => {
                broken += 1;
                eprintln!("error: {what}");
            }
            Finding::Warning(what) => eprintln!("warning: {what}"),
        }
    }
    if broken > 0 {
        bail!("{broken} rules are broken; ARCHITECTURE.md says why they are there, xtask/src/tidy/rules.rs has them");
    }
    println!("The tree is tidy.");
    Ok(())
}
