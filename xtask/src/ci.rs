//! `cargo xtask ci`: everything that must pass before a merge, each step with its time.
//!
//! Cheap steps come first. Clippy and the documentation share one check-only build of the dependencies, the tests
//! have the other; build scripts and their C code run once for both.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{demo, setup, shell, test, tidy};

pub(crate) const HELP: &str = "\
Runs everything that must pass before a merge, and shows each step's time.

usage: cargo xtask ci

  format      cargo fmt --check
  tidy        cargo xtask tidy
  clippy      all targets, warnings are errors
  test        cargo xtask test
  demo        cargo xtask demo --once
  documents   cargo doc, warnings are errors
  licenses    cargo deny: bans, licenses, sources, and advisories where their database
              can be reached

A cargo-deny that is missing is compiled into the cache folder, which takes about four minutes on
two cores, once a machine.
";

/// Which cargo-deny is installed when there is none. `deny.toml` is written for it.
const CARGO_DENY: &str = "0.20.2";

/// Where cargo-deny fetches the RustSec advisories.
const ADVISORIES: &str = "github.com:443";

/// How long the advisories' host may take to answer before they are left out: a network without a way out drops
/// packets instead of refusing, and a fetch would hang for minutes.
const PATIENCE: Duration = Duration::from_secs(5);

/// A step's name and what it does.
type Step = (&'static str, fn() -> Result<()>);

const STEPS: [Step; 7] = [
    ("format", || shell::run(shell::cargo().args(["fmt", "--all", "--check"]))),
    ("tidy", || tidy::run(&[])),
    ("clippy", clippy),
    ("test", || test::run(&[])),
    ("demo", || demo::run(&["--once".to_owned()])),
    ("documents", documents),
    ("licenses", licenses),
];

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    crate::no_arguments("ci", arguments)?;
    setup::prepare()?;
    let began = Instant::now();
    let mut times = Vec::new();
    for (name, step) in STEPS {
        println!("\n== {name}");
        let began = Instant::now();
        step().with_context(|| format!("{name} failed after {}", shell::since(began)))?;
        times.push((name, shell::since(began)));
    }
    println!();
    for (name, time) in times {
        println!("{name:10} {time}");
    }
    println!("Everything passed in {}.", shell::since(began));
    Ok(())
}

fn clippy() -> Result<()> {
    let mut clippy = shell::cargo();
    shell::run(clippy.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"]))
}

fn documents() -> Result<()> {
    let mut doc = shell::cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "--deny warnings");
    shell::run(&mut doc)
}

fn licenses() -> Result<()> {
    let deny = cargo_deny()?;
    let check = |what: &[&str]| {
        let mut command = shell::program(&deny);
        // Duplicates are shown by name; the trees above them fill pages.
        shell::run(command.args(["check", "--hide-inclusion-graph"]).args(what))
    };
    check(&["bans", "licenses", "sources"])?;
    if reachable(ADVISORIES) {
        check(&["advisories"])
    } else {
        println!("NOTICE advisories were not checked: {ADVISORIES}, where RustSec keeps them, cannot be reached.");
        Ok(())
    }
}

fn reachable(place: &str) -> bool {
    let addresses = place.to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    addresses.iter().any(|address| TcpStream::connect_timeout(address, PATIENCE).is_ok())
}

/// The cargo-deny that is there, or one that is compiled now.
fn cargo_deny() -> Result<PathBuf> {
    if let Some(found) = shell::find("cargo-deny") {
        return Ok(found);
    }
    let tools = cache_folder()?.join(format!("tools/cargo-deny-{CARGO_DENY}"));
    let program = tools.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    println!("Compiling cargo-deny {CARGO_DENY} into {}", tools.display());
    let mut install = shell::cargo();
    install.args(["install", "cargo-deny", "--locked", "--version", CARGO_DENY, "--root"]).arg(&tools);
    // In a folder of its own, which cargo removes: nothing else is built with these features and this profile. It
    // reads one lock file, so it is compiled fast instead of being made fast.
    install.env_remove("CARGO_TARGET_DIR").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    install.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    shell::run(&mut install).context("install cargo-deny; put it on the search path if this machine cannot")?;
    Ok(program)
}

/// `~/.cache/clawhold`, which outlives a clone.
fn cache_folder() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    Ok(cache.or_else(home).context("neither XDG_CACHE_HOME nor HOME is set; set one of them")?.join("clawhold"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_the_steps_in_order() {
        let places: Vec<_> = STEPS.iter().map(|(name, _)| HELP.find(&format!("\n  {name} "))).collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
    }

    #[test]
    fn what_does_not_listen_is_not_reachable() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        assert!(reachable(&place));
        drop(listener);
        assert!(!reachable(&place));
    }
}
