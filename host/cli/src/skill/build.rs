//! `clawhold skill build`: cargo, then a component, then the manifest inside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use clawhold_marketplace::{embed, read};
use clawhold_tenancy::manifest::Manifest;
use serde_json::{Value, json};
use wit_component::ComponentEncoder;

use crate::output::{Output, progress};
use crate::skill::create::SDK;

/// For pure skills; what it makes is a module, which becomes a component here.
const PURE: &str = "wasm32-unknown-unknown";
/// For skills on WASI; what it makes is a component.
const WASI: &str = "wasm32-wasip2";

/// Small and fast to start: every page of the guest that a run does not touch is time saved. Names are kept, so that
/// a trap's backtrace says where it was.
const PROFILE: [&str; 5] = [
    "profile.release.opt-level='s'",
    "profile.release.lto=true",
    "profile.release.codegen-units=1",
    "profile.release.panic='abort'",
    "profile.release.strip='debuginfo'",
];

/// A built package.
pub(crate) struct Built {
    pub(crate) wasm: Vec<u8>,
    pub(crate) path: PathBuf,
}

pub(crate) fn run(project: &Path, file: Option<&Path>, out: Output) -> anyhow::Result<()> {
    let built = build(project, file)?;
    let package = read(&built.wasm)?;
    let said = json!({
        "file": built.path, "package": package.manifest.package.name, "version": package.manifest.package.version,
        "digest": package.digest, "size": built.wasm.len(),
    });
    out.show(&said, |_| {
        let (name, version) = (&package.manifest.package.name, &package.manifest.package.version);
        println!("{name} {version}  {} KiB  {}", built.wasm.len().div_ceil(1024), package.digest);
        println!("{}", built.path.display());
    });
    Ok(())
}

/// Builds the project in this folder.
pub(crate) fn build(project: &Path, out: Option<&Path>) -> anyhow::Result<Built> {
    let manifest_path = project.join("skill.toml");
    let text = fs::read_to_string(&manifest_path).with_context(|| {
        format!(
            "cannot read {}; run this in a skill's folder, or make one with `clawhold skill new`",
            manifest_path.display()
        )
    })?;
    let manifest = Manifest::parse(&text).with_context(|| format!("{}", manifest_path.display()))?;
    progress(&format!("building {}", manifest.package.name));
    let on_wasi = manifest.wasi.is_some();
    let made = cargo(project, if on_wasi { WASI } else { PURE })?;
    let made = fs::read(&made).with_context(|| format!("cannot read {}", made.display()))?;
    let component = if on_wasi {
        made
    } else {
        ComponentEncoder::default()
            .module(&made)
            .and_then(|encoder| encoder.validate(true).encode())
            .context("the build is no skill; does the crate depend on clawhold_skill and have a #[skill] function?")?
    };
    let wasm = embed(&component, &text)?;
    let path = out.map_or_else(|| project.join(format!("{}.wasm", manifest.package.name.name())), Path::to_owned);
    fs::write(&path, &wasm).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Built { wasm, path })
}

/// Builds the crate and finds its module or component among what cargo says it made.
fn cargo(project: &Path, target: &str) -> anyhow::Result<PathBuf> {
    let manifest = project.join("Cargo.toml");
    let manifest = manifest.canonicalize().with_context(|| format!("cannot find {}", manifest.display()))?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--quiet", "--message-format=json-render-diagnostics", "--target", target]);
    cargo.arg("--manifest-path").arg(&manifest);
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags().join("\u{1f}"));
    let ran = cargo
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo; install Rust from https://rustup.rs")?;
    if !ran.status.success() {
        bail!("cargo could not build the skill; if it misses `core`, run: rustup target add {target}");
    }
    let said = String::from_utf8_lossy(&ran.stdout);
    let modules: Vec<PathBuf> = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact" && message["manifest_path"] == json!(manifest))
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|name| name.as_str().map(PathBuf::from))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    ensure!(
        modules.len() == 1,
        "the crate makes {} WebAssembly modules, one is expected; write `crate-type = [\"cdylib\"]` under [lib]",
        modules.len()
    );
    Ok(modules.into_iter().next().expect("there is exactly one"))
}

/// A stack of 64 KiB instead of 1 MiB, and no path of the author's machine in the file: it would tell who built it
/// and make the digest differ from machine to machine.
///
/// The same flags for every project, so that one build of the dependencies serves them all.
fn flags() -> Vec<String> {
    let home = |name: &str, usual: &str| {
        std::env::var(name).ok().or_else(|| std::env::var("HOME").ok().map(|home| format!("{home}/{usual}")))
    };
    let mut flags = vec!["-Clink-arg=-zstack-size=65536".to_owned()];
    let sdk = Path::new(SDK).canonicalize().ok().map(|folder| folder.display().to_string());
    for (from, to) in [
        (home("CARGO_HOME", ".cargo"), "/cargo"),
        (home("RUSTUP_HOME", ".rustup"), "/rustup"),
        (sdk, "/clawhold_skill"),
    ] {
        flags.extend(from.map(|from| format!("--remap-path-prefix={from}={to}")));
    }
    flags
}
