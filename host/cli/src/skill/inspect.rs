//! `clawhold skill inspect`

use std::path::Path;

use clawhold_marketplace::read;
use clawhold_sandbox::prescan;
use clawhold_tenancy::manifest::SECTION;
use serde_json::{Value, json};

use crate::config::Config;
use crate::output::{Output, cell, progress};
use crate::skill::bench::Bench;

pub(crate) fn run(path: &Path, out: Output) -> anyhow::Result<()> {
    let wasm = super::package(path)?;
    let package = read(&wasm)?;
    let imports = prescan(&wasm, SECTION)?.imports;
    let size = wasm.len();
    progress("compiling, to ask what it offers");
    let bench = Bench::with(wasm, Config::default(), None)?;
    let skills: Vec<Value> = bench
        .skills
        .iter()
        .map(|skill| {
            let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
            json!({
                "name": skill.name, "description": skill.description,
                "input_schema": json(&skill.input_schema), "output_schema": json(&skill.output_schema),
            })
        })
        .collect();
    let said = json!({
        "package": package.manifest.package.name, "version": package.manifest.package.version,
        "digest": package.digest, "size": size, "imports": imports, "manifest": package.manifest, "skills": skills,
    });
    out.show(&said, |said| {
        println!(
            "{} {}  {} KiB  {}",
            cell(&said["package"]),
            cell(&said["version"]),
            size.div_ceil(1024),
            package.digest
        );
        println!("imports  {}", cell(&said["imports"]));
        for secret in &package.manifest.secrets {
            let reads = if secret.reveal { " (asks to read its value)" } else { "" };
            println!("secret   {}{reads}: {}", secret.name, secret.purpose);
        }
        for http in &package.manifest.http {
            let host = http.host.clone().unwrap_or_else(|| {
                format!("the origin in the setting `{}`", http.host_setting.as_deref().unwrap_or_default())
            });
            let methods: Vec<_> = http.methods.iter().map(|method| method.as_str()).collect();
            println!("http     {} {host} {}", methods.join("|"), http.paths.join(" "));
        }
        for action in &package.manifest.audit.actions {
            println!("records  {action}");
        }
        if let Some(wasi) = &package.manifest.wasi {
            let files = wasi.scratch_mb.map_or("no files".to_owned(), |mb| format!("{mb} MiB of scratch files"));
            println!("wasi     clocks, randomness, {files}");
        }
        for skill in &bench.skills {
            println!("skill    {}  {}", skill.name, cell(&json!(skill.description)));
        }
    });
    Ok(())
}
