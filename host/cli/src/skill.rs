//! `clawhold skill`: what authors use. Only `publish` needs a host.

mod bench;
mod build;
mod cases;
mod create;
mod inspect;
pub(crate) mod keys;
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
    /// Make a publisher's key, which signs packages.
    #[command(after_help = "Example:\n  clawhold skill keygen northwind.pem")]
    Keygen {
        /// The file to make. Nobody else can read it.
        file: PathBuf,
        /// Do not ask for a passphrase: whoever has the file can sign.
        #[arg(long)]
        without_passphrase: bool,
    },
    /// Sign a package's file; the signature goes into a file beside it.
    #[command(after_help = "Example:\n  clawhold skill sign hello/hello.wasm --key northwind.pem")]
    Sign {
        /// The .wasm file.
        package: PathBuf,
        #[command(flatten)]
        key: keys::KeyFrom,
    },
    /// Publish a package. Needs a publisher's token, and a signature: of the file beside it, or made here with `--key`.
    #[command(
        after_help = "Examples:\n  clawhold skill publish hello --key northwind.pem\n  clawhold skill publish hello --key northwind.pem --check"
    )]
    Publish {
        /// A .wasm file, or a project's folder, which is built first.
        #[arg(default_value = ".")]
        package: PathBuf,
        #[command(flatten)]
        key: keys::KeyFrom,
        /// Only say what is wrong with it, all at once. Nothing is published.
        #[arg(long)]
        check: bool,
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
            Self::Keygen { file, without_passphrase } => keys::keygen(&file, without_passphrase, out)?,
            Self::Sign { package: path, key } => keys::sign_file(&path, &package(&path)?, &key, out)?,
            Self::Publish { package, key, check } => publish(&package, &key, check, &client()?, out)?,
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

fn publish(path: &Path, key: &keys::KeyFrom, check: bool, client: &Client, out: Output) -> Result<(), Failure> {
    let wasm = package(path)?;
    let beside = keys::signature_file(path);
    let signature = match key.read()? {
        Some(key) => Some(keys::signature(&wasm, &key)?),
        None if beside.is_file() => {
            Some(std::fs::read_to_string(&beside).with_context(|| format!("cannot read {}", beside.display()))?)
        }
        // The host says what it wants.
        None => None,
    };
    let published = send(&wasm, signature.as_deref(), check, client)?;
    say(&published, check, out);
    Ok(())
}

/// Publishes a package's bytes, or has them checked, and gives what the host says.
pub(crate) fn send(wasm: &[u8], signature: Option<&str>, check: bool, client: &Client) -> Result<Value, Failure> {
    let signature = signature.map(|text| ("clawhold-signature", text.trim()));
    let mut line = Line::default();
    let path = if check { "market/packages?check=true" } else { "market/packages" };
    let published = client.post_watching(path, "application/wasm", signature, wasm, |told| {
        line.show(&format!("publishing: {}, {} s", cell(&told["stage"]), cell(&told["seconds"])));
    });
    line.end();
    published
}

/// Prints what was published, or could be.
pub(crate) fn say(published: &Value, check: bool, out: Output) {
    out.show(published, |p| {
        let how = match p["new"] == serde_json::json!(true) {
            true => "published",
            false if check => "can be published",
            false => "was published before, the very same",
        };
        println!("{} {} {how}  {}", cell(&p["name"]), cell(&p["version"]), cell(&p["digest"]));
        for skill in p["skills"].as_array().into_iter().flatten() {
            println!("  {}", cell(&skill["name"]));
        }
    });
}
