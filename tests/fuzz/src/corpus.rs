//! The inputs that are kept: what was once found, and what others are made of.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clawhold_test_support::guest::Guest;

use crate::Target;

/// Where a target's files are.
pub fn folder(target: &Target) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// A target's files with their names, in order. A guest in text becomes its package.
///
/// # Errors
///
/// When a file cannot be read, or is no guest.
pub fn files(target: &Target) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = folder(target);
    let list = || format!("list {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).with_context(list)? {
        paths.push(entry.with_context(list)?.path());
    }
    paths.sort();
    paths.into_iter().map(|path| read(&path).map(|input| (path, input))).collect()
}

/// One input.
pub(crate) fn read(path: &std::path::Path) -> Result<Vec<u8>> {
    let input = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if path.extension().is_none_or(|extension| extension != "wat") {
        return Ok(input);
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let guest = Guest::of(&name, &String::from_utf8(input)?).with_context(|| path.display().to_string())?;
    Ok(guest.wasm)
}
