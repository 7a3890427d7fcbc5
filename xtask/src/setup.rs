//! `cargo xtask setup`: what the build needs, added only where it is missing, so that it works offline when nothing is.

use anyhow::{Context as _, Result, bail};

use crate::{clients, shell};

pub(crate) const HELP: &str = "\
Adds what the build needs to this machine: WebAssembly targets and a C compiler.

usage: cargo xtask setup

Targets come through rustup. Debian packages are installed when this runs as root, and named
otherwise. What is there already is left alone, and nothing is downloaded then. `demo` and `test`
do this by themselves.
";

/// What skills are compiled to; `rust-toolchain.toml` names the same.
const TARGETS: [&str; 2] = ["wasm32-unknown-unknown", "wasm32-wasip2"];

/// A program, and the Debian packages that have it.
#[derive(Debug)]
pub(crate) struct Requirement {
    program: String,
    packages: &'static str,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    crate::no_arguments("setup", arguments)?;
    prepare()?;
    println!("Ready. `cargo xtask demo` comes next.");
    Ok(())
}

/// Adds what is missing. Prints nothing if nothing is.
pub(crate) fn prepare() -> Result<()> {
    // SQLite and ring are C; whoever names another compiler has it.
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    require_packages(&[Requirement { program: compiler, packages: "gcc libc6-dev" }])?;
    require_targets()
}

/// Adds what only the tests need: PostgreSQL and Redis, which they start and stop themselves, what checks metrics, an environment of
/// Python's, and clients of OCI registries.
pub(crate) fn prepare_tests() -> Result<()> {
    require_postgres()?;
    require_packages(&[
        Requirement { program: "redis-server".to_owned(), packages: "redis-server" },
        Requirement { program: "promtool".to_owned(), packages: "prometheus" },
    ])?;
    if let Err(error) = prepare_python() {
        // Whoever has no Python still has all other tests; under CI those that need it fail.
        println!("Tests in Python are left out: {error:#}");
    }
    if let Err(error) = clients::prepare() {
        println!("Tests with other registries' clients are left out: {error:#}");
    }
    Ok(())
}

/// The packages of `tests/python/requirements.txt` in an environment of the project's own, beside what is built.
fn prepare_python() -> Result<()> {
    let wanted = shell::root().join("tests/python/requirements.txt");
    let wanted_text = std::fs::read_to_string(&wanted)?;
    let folder = shell::target_folder()?.join("python");
    let stamp = folder.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|there| there == wanted_text) {
        return Ok(());
    }
    let can_make_one = || shell::output(shell::program("python3").args(["-c", "import ensurepip, venv"])).is_ok();
    if !can_make_one() {
        // A name that is on no search path: Debian's Python may be there without what makes environments.
        let program = "python3 with its module venv".to_owned();
        require_packages(&[Requirement { program, packages: "python3 python3-venv" }])?;
    }
    println!("Setting up {}", folder.display());
    shell::run(shell::program("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    shell::run(shell::program(folder.join("bin/pip")).args(["install", "--quiet", "-r"]).arg(&wanted))?;
    std::fs::write(stamp, wanted_text)?;
    Ok(())
}

fn require_postgres() -> Result<()> {
    // Debian keeps its programs out of the search path, one folder for each version.
    let there = std::fs::read_dir("/usr/lib/postgresql").ok().into_iter().flatten().flatten();
    if there.into_iter().any(|version| version.path().join("bin/initdb").exists()) {
        return Ok(());
    }
    require_packages(&[Requirement { program: "initdb".to_owned(), packages: "postgresql" }])
}

/// Installs the Debian packages of the programs that are missing, or says how to.
pub(crate) fn require_packages(requirements: &[Requirement]) -> Result<()> {
    let missing: Vec<&Requirement> = requirements
        .iter()
        .filter(|requirement| {
            // `CC` may hold a path, and flags behind it.
            let program = requirement.program.split_whitespace().next().unwrap_or_default();
            // What is there without all that is wanted of it is named with what it lacks.
            let lacks = requirement.program.contains(" with its ");
            lacks || !std::path::Path::new(program).is_absolute() && shell::find(program).is_none()
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !(rustix::process::geteuid().is_root() && shell::find("apt-get").is_some()) {
        bail!("{}", how_to_install(&missing));
    }
    let packages = packages(&missing);
    println!("Installing {}", packages.join(" "));
    shell::run(shell::program("apt-get").arg("update").arg("--quiet"))?;
    let mut install = shell::program("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]).args(packages);
    shell::run(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

fn packages(missing: &[&Requirement]) -> Vec<&'static str> {
    missing.iter().flat_map(|requirement| requirement.packages.split(' ')).collect()
}

fn how_to_install(missing: &[&Requirement]) -> String {
    let programs: Vec<&str> = missing.iter().map(|requirement| requirement.program.as_str()).collect();
    format!(
        "{} cannot be found; install it first, on Debian with `sudo apt-get install {}`",
        programs.join(", "),
        packages(missing).join(" ")
    )
}

fn require_targets() -> Result<()> {
    let sysroot = shell::output(shell::program("rustc").args(["--print", "sysroot"]))
        .context("ask rustc for its folder; if it is missing, install rustup from https://rustup.rs")?;
    let libraries = std::path::Path::new(sysroot.trim()).join("lib/rustlib");
    let missing: Vec<&str> =
        TARGETS.into_iter().filter(|target| !libraries.join(target).join("lib").is_dir()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let targets = missing.join(" ");
    if shell::find("rustup").is_none() {
        bail!(
            "the Rust toolchain in {} lacks {targets}, and there is no rustup to add it; \
             install rustup from https://rustup.rs, or your system's package for it",
            sysroot.trim()
        );
    }
    println!("Adding {targets} to the Rust toolchain");
    shell::run(shell::program("rustup").args(["target", "add"]).args(missing))
        .with_context(|| format!("add {targets}; this downloads from static.rust-lang.org"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_are_those_of_the_toolchain_file() {
        let text = std::fs::read_to_string(shell::root().join("rust-toolchain.toml")).unwrap();
        for target in TARGETS {
            assert!(text.contains(&format!("\"{target}\"")), "{target}");
        }
    }

    #[test]
    fn what_cannot_be_installed_is_named_with_its_packages() {
        let compiler = Requirement { program: "cc".into(), packages: "gcc libc6-dev" };
        let linker = Requirement { program: "lld".into(), packages: "lld" };
        assert_eq!(
            how_to_install(&[&compiler, &linker]),
            "cc, lld cannot be found; install it first, on Debian with `sudo apt-get install gcc libc6-dev lld`"
        );
    }

    #[test]
    fn what_is_there_is_not_installed() {
        let here = |program: &str| Requirement { program: program.into(), packages: "no-such-package" };
        require_packages(&[here("sh"), here("sh -e"), here("/opt/my/compiler -O2")]).unwrap();
    }
}
