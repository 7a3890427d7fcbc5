//! The rules on files: their length, a test for each guest, a reason for each dependency.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Finding;
use super::rules::{LONG_FILE, LONGEST_FILE};

/// Where tests are of what is more than one crate's own business. Only these run guests.
const TESTS: &str = "tests";

/// Where the guests are that tests run, one folder or text file each.
const GUESTS: &str = "tests/guests";

/// Every rule that the files below `root` break.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut sources = Vec::new();
    collect(root, &mut sources)?;
    let mut findings = Vec::new();
    let mut texts = Vec::new();
    for path in sources {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
        findings.extend(length(&name, &text));
        texts.push((name, text));
    }
    let guests = guests(&root.join(GUESTS))?;
    findings.extend(guests.iter().filter_map(|guest| untested(guest, &texts)));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).context("read the workspace's Cargo.toml")?;
    findings.extend(without_reason(&manifest));
    Ok(findings)
}

/// Rust files, without what is built and what git keeps.
fn collect(folder: &Path, sources: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                collect(&path, sources)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
    Ok(())
}

fn length(name: &Path, text: &str) -> Option<Finding> {
    let lines = text.lines().count();
    let what = |limit: usize| format!("{} has {lines} lines, over {limit}; split it by noun", name.display());
    match lines {
        _ if lines > LONGEST_FILE => Some(Finding::Broken(what(LONGEST_FILE))),
        _ if lines > LONG_FILE => Some(Finding::Warning(what(LONG_FILE))),
        _ => None,
    }
}

/// The names of folders and `.wat` files.
fn guests(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if !folder.is_dir() {
        return Ok(names);
    }
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let is_guest =
            path.join("Cargo.toml").is_file() || path.extension().is_some_and(|extension| extension == "wat");
        names.extend(path.file_stem().filter(|_| is_guest).map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// A guest that nobody runs proves nothing, and looks as if it did.
fn untested(guest: &str, sources: &[(PathBuf, String)]) -> Option<Finding> {
    let quoted = format!("\"{guest}\"");
    let is_test = |name: &Path| name.starts_with(TESTS) && !name.starts_with(GUESTS);
    let tested = sources.iter().any(|(name, text)| is_test(name) && text.contains(&quoted));
    let what = || {
        format!("{GUESTS}/{guest} has no test: no Rust file in {TESTS}/ names {quoted}; write one, or remove the guest")
    };
    (!tested).then(|| Finding::Broken(what()))
}

/// Entries of `[workspace.dependencies]` that neither have a comment nor stand in a group below one.
fn without_reason(manifest: &str) -> Vec<Finding> {
    let mut inside = false;
    let mut reason = false;
    let mut depth = 0_usize;
    let mut findings = Vec::new();
    for line in manifest.lines().map(str::trim) {
        let continues = depth > 0;
        if inside && !line.starts_with('#') {
            // An entry may go on over several lines.
            depth = (depth + line.matches(['[', '{']).count()).saturating_sub(line.matches([']', '}']).count());
        }
        match line.chars().next() {
            _ if continues => {}
            None => reason = false,
            Some('[') => (inside, reason) = (line == "[workspace.dependencies]", false),
            Some('#') => reason = true,
            Some(_) if inside && !reason => {
                let name = line.split(['=', '.', ' ']).next().unwrap_or(line);
                findings.push(Finding::Broken(format!(
                    "Cargo.toml: {name} says not why it is here; write a comment above it, or put it in a group that has one"
                )));
            }
            Some(_) => {}
        }
    }
    findings
}

#[cfg(test)]
mod tests;
