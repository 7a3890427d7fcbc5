//! `clawhold skill`: what authors use. Only `publish` needs a host.

mod bench;
mod build;
mod cases;
mod create;
mod inspect;
mod script;
mod trial;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use clawhold_tenancy::limits::COMPONENT_BYTES;
use serde_json::Value;

use crate::Failure;
use crate::client::Client;
use crate::output::{Line, Output, cell};

#[derive(Subcommand)]
pub(crate) enum Skill {
    /// Create a project with one skill in it.
    #[command(after_help = "Example:\n  clawhold skill new hello --lang rust")]
    New(create::New),
    /// Build a project into one .wasm file that holds code and manifest.
    #[command(after_help = "Example:\n  clawhold skill build hello")]
    Build {
        /// The project's folder.
        #[arg(default_value = ".")]
        project: PathBuf,
        /// The file to write; the project's `NAME.wasm` when not given.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Build, and run the cases of `tests/*.toml` in the real sandbox with scripted HTTP and secrets.
    #[command(after_help = "Example:\n  clawhold skill test hello")]
    Test {
        /// The project's folder.
        #[arg(default_value = ".")]
        project: PathBuf,
    },
    /// Call a skill once, here, and show what it used.
    #[command(after_help = "Example:\n  clawhold skill run hello hello.greet '{\"name\": \"Ada\"}'")]
    Run(trial::Trial),
    /// Show what a package offers and asks for.
    #[command(after_help = "Example:\n  clawhold skill inspect hello")]
    Inspect {
        /// A .wasm file, or a project's folder, which is built first.
        #[arg(default_value = ".")]
        package: PathBuf,
    },
    /// Publish a package. Needs a publisher's token.
    #[command(after_help = "Example:\n  clawhold skill publish hello")]
    Publish {
        /// A .wasm file, or a project's folder, which is built first.
        #[arg(default_value = ".")]
        package: PathBuf,
    },
}

impl Skill {
    pub(crate) fn run(self, client: impl FnOnce() -> Result<Client, Failure>, out: Output) -> Result<(), Failure> {
        match self {
            Self::New(new) => new.run(out)?,
            Self::Build { project, out: file } => build::run(&project, file.as_deref(), out)?,
            Self::Test { project } => cases::run(&project)?,
            Self::Run(trial) => trial.run(out)?,
            Self::Inspect { package } => inspect::run(&package, out)?,
            Self::Publish { package } => publish(&package, &client()?, out)?,
        }
        Ok(())
    }
}

/// A package's bytes, from its file, or built from its project.
fn package(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.is_dir() {
        return Ok(build::build(path, None)?.wasm);
    }
    // A file that is too large is not read to be told so by the host.
    let size = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    anyhow::ensure!(
        size <= COMPONENT_BYTES,
        "{} has {size} bytes, {COMPONENT_BYTES} are allowed; build it with `clawhold skill build`, which strips and optimises",
        path.display()
    );
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Builds a project into the file `out`.
pub(crate) fn build_package(project: &Path, out: &Path) -> anyhow::Result<Vec<u8>> {
    Ok(build::build(project, Some(out))?.wasm)
}

fn publish(path: &Path, client: &Client, out: Output) -> Result<(), Failure> {
    let published = send(&package(path)?, client)?;
    say(&published, out);
    Ok(())
}

/// Publishes a package's bytes, and gives what the host says.
pub(crate) fn send(wasm: &[u8], client: &Client) -> Result<Value, Failure> {
    let mut line = Line::default();
    let published = client.post_watching("market/packages", "application/wasm", wasm, |told| {
        line.show(&format!("publishing: {}, {} s", cell(&told["stage"]), cell(&told["seconds"])));
    });
    line.end();
    published
}

/// Prints what was published.
pub(crate) fn say(published: &Value, out: Output) {
    out.show(published, |p| {
        let how = if p["new"] == serde_json::json!(true) { "published" } else { "was published before, the very same" };
        println!("{} {} {how}  {}", cell(&p["name"]), cell(&p["version"]), cell(&p["digest"]));
        for skill in p["skills"].as_array().into_iter().flatten() {
            println!("  {}", cell(&skill["name"]));
        }
    });
}
