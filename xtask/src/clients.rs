//! Clients of others that tests ask our registry with: `oras`, in Go, and `wkg`, in Rust.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// A module of Go's and the program in it.
const ORAS: (&str, &str) = ("oras.land/oras/cmd/oras", "v1.3.6");

/// A crate and the program in it. It has no features that could be left out; without optimisation it takes some three
/// minutes of a processor, and with it several times as long.
const WKG: (&str, &str) = ("wkg", "0.16.1");

/// Installs those that are missing or of another version into `tools/oci` of the target folder.
pub(crate) fn prepare() -> Result<()> {
    let folder = shell::target_folder()?.join("tools/oci");
    // One that cannot be had does not keep the other away.
    let (oras, wkg) = (once(&folder, ORAS, oras), once(&folder, WKG, wkg));
    oras.and(wkg)
}

/// Installs a program unless this version of it is there.
fn once(folder: &Path, (what, version): (&str, &str), install: fn(&Path) -> Result<()>) -> Result<()> {
    let name = what.rsplit('/').next().unwrap_or(what);
    let stamp = folder.join(format!("{name}.version"));
    let there = std::fs::read_to_string(&stamp).is_ok_and(|text| text == version);
    if there && folder.join("bin").join(name).is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    println!("Compiling {name} {version} into {}", folder.display());
    install(folder).with_context(|| format!("install {name}"))?;
    std::fs::write(stamp, version)?;
    Ok(())
}

fn oras(folder: &Path) -> Result<()> {
    if shell::find("go").is_none() {
        bail!("go cannot be found; install it from https://go.dev/dl");
    }
    let mut install = shell::program("go");
    install.args(["install", "-trimpath", "-ldflags=-s -w", &format!("{}@{}", ORAS.0, ORAS.1)]);
    shell::run(install.env("GOBIN", folder.join("bin")).env("CGO_ENABLED", "0").env("GOFLAGS", ""))
}

fn wkg(folder: &Path) -> Result<()> {
    let mut install = shell::cargo();
    install.args(["install", WKG.0, "--locked", "--force", "--version", WKG.1, "--root"]).arg(folder);
    // In a folder of its own, which cargo removes: nothing else is built with these features and this profile.
    install.env_remove("CARGO_TARGET_DIR").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
    install.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    shell::run(&mut install)
}
