//! What the demo runs: the host's programs, the example packages, a package that never ends, and one that comes to ask for more.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::shell;

/// The example packages, in `skills/`.
const EXAMPLES: [&str; 3] = ["northwind/crm", "northwind/redact", "northwind/quote"];

/// The package that burns all the fuel it gets. It is none of the examples: nobody should start from it.
const RUNAWAY: Made = Made {
    folder: "runaway",
    version: "1.0.0",
    source: "\
//! Never ends.

use clawhold_skill::skill;

/// Counts to infinity.
#[skill(name = \"runaway.count\")]
fn count() -> u64 {
    let mut number: u64 = 0;
    loop {
        number = std::hint::black_box(number.wrapping_add(1));
    }
}
",
    // A tenth of the usual fuel: enough to see it burn, and over before anybody waits.
    manifest: "\
[package]
name = \"northwind/runaway\"
version = \"1.0.0\"
description = \"Counts to infinity\"
license = \"Apache-2.0\"

[limits]
fuel = 100000000
timeout_ms = 10000
",
};

/// The package whose second version asks for one host more. What it answers says which version that was.
const UPDATES: [Made; 2] = [
    Made {
        folder: "rates-1.0.0",
        version: "1.0.0",
        source: RATES_SOURCE,
        manifest: "\
[package]
name = \"northwind/rates\"
version = \"1.0.0\"
description = \"Exchange rates of the day\"
license = \"Apache-2.0\"

[[http]]
host = \"rates.example.com\"
methods = [\"GET\"]
paths = [\"/v1/*\"]
",
    },
    Made {
        folder: "rates-1.1.0",
        version: "1.1.0",
        source: RATES_SOURCE,
        manifest: "\
[package]
name = \"northwind/rates\"
version = \"1.1.0\"
description = \"Exchange rates of the day\"
license = \"Apache-2.0\"

[[http]]
host = \"rates.example.com\"
methods = [\"GET\"]
paths = [\"/v1/*\"]

[[http]]
host = \"statistics.example.net\"
methods = [\"POST\"]
paths = [\"/*\"]
",
    },
];
const RATES_SOURCE: &str = "\
//! Says which version it is.

use clawhold_skill::skill;

/// Says which version of the package answers.
#[skill(name = \"rates.version\")]
fn version() -> String {
    env!(\"CARGO_PKG_VERSION\").to_owned()
}
";

/// A package that the demo writes itself.
struct Made {
    /// Its project's folder.
    folder: &'static str,
    version: &'static str,
    source: &'static str,
    manifest: &'static str,
}

/// Where the programs are.
pub(super) struct Programs {
    pub(super) clawhold: PathBuf,
    pub(super) crm: PathBuf,
}

/// A built package.
pub(super) struct Package {
    /// `publisher/name`.
    pub(super) name: String,
    pub(super) version: String,
    pub(super) file: PathBuf,
    pub(super) kib: u64,
    /// How long the build took.
    pub(super) time: Duration,
}

/// All packages.
pub(super) struct Packages {
    /// Those that both tenants install.
    pub(super) usual: Vec<Package>,
    /// Two versions of one; the second asks for more.
    pub(super) updates: [Package; 2],
}

/// Builds the whole workspace, as the tests do, so that one build of the dependencies serves both.
pub(super) fn programs() -> Result<Programs> {
    let mut build = shell::cargo();
    // Its progress goes to standard error, where people see it; standard output says where the programs are.
    build.args(["build", "--workspace", "--locked", "--message-format", "json-render-diagnostics"]);
    let mut child = build.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start cargo build")?;
    let stdout = child.stdout.take().context("cargo without its output")?;
    let mut built = Vec::new();
    for line in BufReader::new(stdout).lines() {
        built.extend(program(&line.context("read what cargo says")?));
    }
    let status = child.wait().context("wait for cargo build")?;
    ensure!(status.success(), "the build failed; what cargo printed above says why");
    let find = |name: &str| {
        let found = built.iter().find(|(own, _)| own == name).map(|(_, file)| file.clone());
        found.with_context(|| format!("the workspace builds no program called {name}"))
    };
    Ok(Programs { clawhold: find("clawhold")?, crm: find("demo-crm")? })
}

/// The program that a line of cargo's tells of.
fn program(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let file = message["executable"].as_str()?;
    Some((message["target"]["name"].as_str()?.to_owned(), file.into()))
}

/// Builds the packages into `folder`, as an author would, and tells of each when it is there.
pub(super) fn packages(programs: &Programs, folder: &Path, tell: impl Fn(&Package)) -> Result<Packages> {
    let build = |source: &Path| package(programs, source, folder).inspect(&tell);
    let skills = shell::root().join("skills");
    let mut usual = EXAMPLES.iter().map(|name| build(&skills.join(name))).collect::<Result<Vec<_>>>()?;
    usual.push(build(&RUNAWAY.write(folder)?)?);
    let [first, second] = &UPDATES;
    let updates = [build(&first.write(folder)?)?, build(&second.write(folder)?)?];
    Ok(Packages { usual, updates })
}

fn package(programs: &Programs, source: &Path, folder: &Path) -> Result<Package> {
    let text = fs::read_to_string(source.join("skill.toml"))
        .with_context(|| format!("read {}", source.join("skill.toml").display()))?;
    let name = value_of(&text, "name")?;
    let version = value_of(&text, "version")?;
    let began = Instant::now();
    let file = folder.join(format!("{}-{version}.wasm", name.replace('/', "-")));
    let mut build = shell::program(&programs.clawhold);
    build.args(["skill", "build"]).arg(source).arg("--out").arg(&file);
    // One folder for all of them: the SDK is compiled once.
    build.env("CARGO_TARGET_DIR", shell::target_folder()?);
    shell::output(&mut build)?;
    let bytes = fs::metadata(&file).with_context(|| format!("`skill build` left no {}", file.display()))?.len();
    Ok(Package { name, version, file, kib: bytes >> 10, time: began.elapsed() })
}

/// The value of the first `key = "…"`, which the manifest's format puts under `[package]`.
fn value_of(manifest: &str, key: &str) -> Result<String> {
    let value = manifest.lines().find_map(|line| {
        let (own, value) = line.split_once('=')?;
        (own.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
    });
    match value {
        Some(value) if !value.is_empty() => Ok(value),
        _ => bail!("the manifest has no {key}"),
    }
}

impl Made {
    /// Writes its project below `folder`, as `clawhold skill new` would begin it, outside of the workspace.
    fn write(&self, folder: &Path) -> Result<PathBuf> {
        let project = folder.join(self.folder);
        let sdk = shell::root().join("sdk-guest/rust");
        let sdk = sdk.to_str().context("the repository's path is not UTF-8; move it to one that is")?;
        let name = value_of(self.manifest, "name")?;
        let name = name.rsplit('/').next().unwrap_or_default();
        let cargo = format!(
            "[package]\nname = \"{name}\"\nversion = \"{}\"\nedition = \"2024\"\n\n[lib]\ncrate-type = [\"cdylib\"]\n\n\
             [dependencies]\nclawhold_skill = {{ path = {} }}\n\n[workspace]\n",
            self.version,
            Value::from(sdk)
        );
        fs::create_dir_all(project.join("src")).with_context(|| format!("make {}", project.display()))?;
        for (file, text) in [("Cargo.toml", cargo.as_str()), ("skill.toml", self.manifest), ("src/lib.rs", self.source)]
        {
            fs::write(project.join(file), text).with_context(|| format!("write {file} of the skill {name}"))?;
        }
        // The workspace's versions, which are here already: a lock file of its own would ask the registry for others.
        fs::copy(shell::root().join("Cargo.lock"), project.join("Cargo.lock")).context("copy Cargo.lock")?;
        Ok(project)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_a_program_is() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"clawhold"},"executable":"/t/debug/clawhold"}"#;
        assert_eq!(program(line), Some(("clawhold".to_owned(), PathBuf::from("/t/debug/clawhold"))));
        for other in [r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}"#, "", "Compiling"]
        {
            assert_eq!(program(other), None);
        }
    }

    #[test]
    fn a_manifests_name_and_version_are_read() {
        assert_eq!(value_of(RUNAWAY.manifest, "name").unwrap(), "northwind/runaway");
        for made in [&RUNAWAY].into_iter().chain(&UPDATES) {
            assert_eq!(value_of(made.manifest, "version").unwrap(), made.version);
        }
        assert!(value_of("[package]\nname = \"\"\n", "name").is_err());
    }

    #[test]
    fn the_examples_are_where_they_should_be() {
        for name in EXAMPLES {
            let text = fs::read_to_string(shell::root().join("skills").join(name).join("skill.toml")).unwrap();
            assert_eq!(value_of(&text, "name").unwrap(), name);
        }
    }
}
