//! `clawhold skill new`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use clawhold_tenancy::{PackageName, Publisher};
use serde_json::json;

use crate::output::{Output, cell};

/// The SDK beside the sources that this command was built from: what a checkout has. A release names a version.
pub(crate) const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk-guest/rust");

/// What makes a skill one on WASI.
const WASI: &str = "\
# The skill runs on WASI: clocks, randomness, and what it prints in its log. Without this table it is pure.
[wasi]
# scratch_mb = 16       # MiB of files in /tmp that end with the run

";

#[derive(Args)]
pub(crate) struct New {
    /// The name: 2 to 63 of a-z, 0-9 and -. Also the folder's.
    name: String,
    /// The language.
    #[arg(long, default_value = "rust")]
    lang: Language,
    /// Who will publish it.
    #[arg(long, default_value = "my-company", value_name = "PUBLISHER")]
    publisher: Publisher,
    /// For a skill that needs WASI: clocks, randomness, printing, files that end with the run. Others are pure.
    #[arg(long)]
    wasi: bool,
    /// The folder of the SDK `clawhold_skill`, when it is not where this command was built.
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Language {
    Rust,
}

impl New {
    pub(crate) fn run(self, out: Output) -> anyhow::Result<()> {
        let Language::Rust = self.lang;
        let package: PackageName = format!("{}/{}", self.publisher, self.name).parse()?;
        let folder = Path::new(&self.name);
        ensure!(!folder.exists(), "{} exists already; choose another name or another folder", folder.display());
        let sdk = self.sdk.unwrap_or_else(|| SDK.into());
        let sdk = match sdk.canonicalize() {
            Ok(found) => json!({ "path": found }),
            Err(_) => json!(env!("CARGO_PKG_VERSION")),
        };
        let sdk = match &sdk["path"] {
            serde_json::Value::Null => sdk.to_string(),
            path => format!("{{ path = {path} }}"),
        };
        let fill = |template: &str| {
            template
                .replace("{{name}}", package.name())
                .replace("{{publisher}}", package.publisher().as_str())
                .replace("{{sdk}}", &sdk)
                .replace("{{wasi}}", if self.wasi { WASI } else { "" })
        };
        let files = [
            ("Cargo.toml", fill(include_str!("../../templates/rust/Cargo.toml.txt"))),
            ("skill.toml", fill(include_str!("../../templates/rust/skill.toml.txt"))),
            ("src/lib.rs", fill(include_str!("../../templates/rust/lib.rs.txt"))),
            ("tests/cases.toml", fill(include_str!("../../templates/rust/cases.toml.txt"))),
            (".gitignore", fill(include_str!("../../templates/rust/gitignore.txt"))),
        ];
        for (name, text) in &files {
            let path = folder.join(name);
            let parent = path.parent().context("each file has a folder")?;
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        out.show(&json!({ "folder": folder, "package": package }), |made| {
            println!("{} created in {}", cell(&made["package"]), cell(&made["folder"]));
            println!("next: clawhold skill build {0} && clawhold skill test {0}", self.name);
        });
        Ok(())
    }
}
