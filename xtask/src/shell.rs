//! The repository's place, and running other programs in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// What `cargo run` tells the program that it runs.
///
/// It must not reach another cargo: some build scripts (that of `ring`, for one) ask to run again when one of these
/// changes, so builds from here and from the command line would undo each other.
const OF_THIS_RUN: [&str; 6] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE", "OUT_DIR"];

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    // At run time first: with a target folder that several clones share, the program may come from another clone.
    let of_crate = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&of_crate).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Cargo, in the repository.
pub(crate) fn cargo() -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A program, in the repository, without what is only for this one.
pub(crate) fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root());
    for (key, _) in std::env::vars_os() {
        if key.to_str().is_some_and(|key| OF_THIS_RUN.iter().any(|own| key.starts_with(own))) {
            command.env_remove(key);
        }
    }
    command
}

/// Runs a program whose output people should see, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status}); what it printed above says why");
    }
    Ok(())
}

/// What a program prints, which fails with what it says on standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("read what `{line}` prints"))
}

/// `cargo metadata` of the workspace itself.
pub(crate) fn metadata() -> Result<Value> {
    let text = output(cargo().args(["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    serde_json::from_str(&text).context("read cargo metadata")
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let metadata = metadata()?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    Ok(folder.into())
}

/// The program of this name on the search path.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

/// Times as people say them: `850 ms`, `12 s`, `3 min 20 s`.
pub(crate) fn spoken(time: Duration) -> String {
    match (time.as_millis(), time.as_secs()) {
        (ms @ ..1000, _) => format!("{ms} ms"),
        (_, s @ ..120) => format!("{s} s"),
        (_, s) => format!("{} min {} s", s / 60, s % 60),
    }
}

/// The time since `began`, as people say it.
pub(crate) fn since(began: Instant) -> String {
    spoken(began.elapsed())
}

/// As one would type it, without the folders of the program.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let mut words = vec![program.to_string_lossy()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_to_what_matters() {
        for (ms, expected) in
            [(0, "0 ms"), (999, "999 ms"), (1_900, "1 s"), (119_000, "119 s"), (200_000, "3 min 20 s")]
        {
            assert_eq!(spoken(Duration::from_millis(ms)), expected);
        }
    }

    #[test]
    fn a_failure_names_the_command() {
        let error = output(Command::new("sh").args(["-c", "echo what went wrong >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`sh -c") && text.contains("what went wrong") && text.contains('3'), "{text}");
        let error = run(&mut Command::new("/no/such/program")).unwrap_err();
        assert_eq!(error.to_string(), "start `program`");
    }
}
