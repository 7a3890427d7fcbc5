//! `cargo xtask test`: what the tests need, then all of them.

use std::time::Instant;

use anyhow::Result;

use crate::{setup, shell};

pub(crate) const HELP: &str = "\
Runs all tests of the workspace.

usage: cargo xtask test [ARGUMENTS]

PostgreSQL and Python are installed if they are not there and this runs as root on Debian; the
tests start servers of their own, and without Python those that need it say so. So do those of
the OCI registry without `oras` and `wkg`, which are compiled into the target folder, once.
Arguments are passed to `cargo test`. With a package named, only its tests run.

examples: cargo xtask test
          cargo xtask test -p clawhold-store
          cargo xtask test -- o_brien --nocapture
";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let began = Instant::now();
    setup::prepare()?;
    setup::prepare_tests()?;
    let mut test = shell::cargo();
    test.arg("test");
    // The same selection as the demo's build, so that one build of the dependencies serves both.
    if !names_packages(arguments) {
        test.arg("--workspace");
    }
    shell::run(test.arg("--locked").args(arguments))?;
    println!("All tests passed in {}.", shell::since(began));
    Ok(())
}

fn names_packages(arguments: &[String]) -> bool {
    arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "--package" || argument.starts_with("--package=") || argument.starts_with("-p"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_package_replaces_the_workspace() {
        for (arguments, names) in [
            (&["-p", "xtask"][..], true),
            (&["--package=xtask"], true),
            (&["-pxtask"], true),
            (&["--", "-p"], false),
            (&["--release"], false),
            (&[], false),
        ] {
            let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
            assert_eq!(names_packages(&arguments), names, "{arguments:?}");
        }
    }
}
