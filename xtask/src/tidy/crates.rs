//! The rules on what cargo says of the workspace's crates.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Finding;
use super::rules::{APART, FREE, LAYERS, LIBRARIES, OF_TESTS, OF_XTASK, is_in};

/// A crate of the workspace: its folder, and what it depends on.
struct Crate {
    folder: String,
    dependencies: Vec<Dependency>,
}

/// Another crate of the workspace by its folder, or a library by its name.
enum Dependency {
    Own(String),
    Library(String),
}

/// Every rule that the workspace of this `cargo metadata --no-deps` breaks. Dependencies of tests and build scripts
/// count like others: a layer that needs a higher one in its tests is not below it.
pub(super) fn check(metadata: &Value) -> Result<Vec<Finding>> {
    let mut broken = Vec::new();
    for one in crates(metadata)? {
        if !has_rule(&one.folder) {
            broken.push(format!(
                "{} has no place in the layers; add it to LAYERS or APART in xtask/src/tidy/rules.rs",
                one.folder
            ));
        }
        for dependency in &one.dependencies {
            broken.extend(match dependency {
                Dependency::Own(folder) => against_own(&one.folder, folder),
                Dependency::Library(name) => against_library(&one.folder, name),
            });
        }
    }
    Ok(broken.into_iter().map(Finding::Broken).collect())
}

fn has_rule(folder: &str) -> bool {
    layer(folder).is_some()
        || APART.iter().any(|apart| is_in(folder, apart.folder))
        || FREE.iter().any(|free| is_in(folder, free))
}

fn against_own(from: &str, to: &str) -> Option<String> {
    let problem = |why: &str| Some(format!("{from} depends on {to}: {why}"));
    if let Some(apart) = APART.iter().find(|apart| is_in(from, apart.folder)) {
        return if apart.sees.iter().any(|seen| is_in(to, seen)) { None } else { problem(apart.why) };
    }
    let own = layer(from)?;
    match layer(to) {
        Some(other) if other < own => None,
        Some(other) if other == own => problem(
            "siblings of one layer never see each other; move what they share to a lower layer, \
             or put a trait between them that a higher layer fills in",
        ),
        Some(_) => problem("a layer sees lower layers only; turn the dependency round with a trait"),
        None => problem("the host sees the crates of its own layers only"),
    }
}

fn against_library(folder: &str, name: &str) -> Option<String> {
    if folder == "xtask" && !OF_XTASK.contains(&name) {
        return Some(format!(
            "xtask depends on {name}: it is built before anything else, so it stays small; do without, or add the \
             library to OF_XTASK in xtask/src/tidy/rules.rs with a reason"
        ));
    }
    let library = LIBRARIES.iter().find(|library| is_of_family(name, library.name))?;
    if library.folders.iter().any(|allowed| is_in(folder, allowed)) {
        return None;
    }
    Some(format!(
        "{folder} depends on {name}: {} ({}); go through the crate that has it",
        library.why,
        library.folders.join(", ")
    ))
}

fn is_of_family(name: &str, family: &str) -> bool {
    name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

fn layer(folder: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&folder))
}

fn crates(metadata: &Value) -> Result<Vec<Crate>> {
    let root = metadata["workspace_root"].as_str().context("cargo metadata names no workspace")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let inside = |path: &str| -> Result<String> {
        let folder =
            Path::new(path).strip_prefix(root).with_context(|| format!("{path} is outside of the workspace"))?;
        Ok(folder.to_str().context("a folder's name is not UTF-8")?.to_owned())
    };
    packages
        .iter()
        .map(|package| {
            let manifest = package["manifest_path"].as_str().context("a package without its manifest")?;
            let dependencies = package["dependencies"].as_array().context("a package without its dependencies")?;
            let folder = inside(manifest.trim_end_matches("/Cargo.toml"))?;
            let of_tests = |dependency: &Value| {
                let path = dependency["path"].as_str().and_then(|path| inside(path).ok());
                layer(&folder).is_some() && dependency["kind"] == "dev" && path.as_deref() == Some(OF_TESTS)
            };
            let dependencies = dependencies.iter().filter(|dependency| !of_tests(dependency)).map(|dependency| {
                Ok(match dependency["path"].as_str() {
                    Some(path) => Dependency::Own(inside(path)?),
                    None => {
                        Dependency::Library(dependency["name"].as_str().context("a nameless dependency")?.to_owned())
                    }
                })
            });
            let dependencies = dependencies.collect::<Result<_>>()?;
            Ok(Crate { folder, dependencies })
        })
        .collect()
}

#[cfg(test)]
mod tests;
