//! `clawhold skill run`

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use clawhold_tenancy::{SecretName, SkillName};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::config::{Config, EgressConfig};
use crate::output::{Output, plain, progress};
use crate::skill::bench::Bench;

#[derive(Args)]
pub(crate) struct Trial {
    /// A .wasm file, or a project's folder, which is built first.
    package: PathBuf,
    /// The skill.
    skill: SkillName,
    /// The input: JSON.
    #[arg(default_value = "{}")]
    input: String,
    /// The install's settings: a JSON object.
    #[arg(long, default_value = "{}", value_name = "JSON")]
    settings: String,
    /// A secret, `NAME=VALUE` or `NAME=@FILE`; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE")]
    secret: Vec<String>,
    /// Let the skill reach this range of private addresses; may be given more than once.
    #[arg(long, value_name = "RANGE")]
    open: Vec<IpNet>,
}

impl Trial {
    pub(crate) fn run(self, out: Output) -> anyhow::Result<()> {
        let input: Value = serde_json::from_str(&self.input).context("the input is no JSON")?;
        let settings: Value = serde_json::from_str(&self.settings).context("the settings are no JSON")?;
        let secrets = self.secret.iter().map(|text| secret(text)).collect::<anyhow::Result<Vec<_>>>()?;
        let wasm = super::package(&self.package)?;
        progress("compiling for this machine");
        let config =
            Config { egress: EgressConfig { open: self.open, ..EgressConfig::default() }, ..Config::default() };
        let bench = Bench::with(wasm, config, None)?;
        bench.secrets(&secrets)?;
        bench.install(settings)?;
        let answer = bench.invoke(&self.skill, &input);
        if let Some(run) = bench.newest_run(None)? {
            for line in &run.log {
                eprintln!("log: {}", plain(line));
            }
            eprintln!(
                "{}: {} fuel, {} KiB memory, {} host calls, {} HTTP requests, {} µs",
                run.reason,
                run.usage.fuel,
                run.usage.memory_bytes >> 10,
                run.usage.host_calls,
                run.egress.len(),
                run.usage.duration_us
            );
        }
        match answer {
            Ok(answer) => {
                let output: Value = serde_json::from_str(answer.output.get())?;
                out.show(&json!({ "output": output }), |said| println!("{:#}", said["output"]));
                Ok(())
            }
            Err(problem) => bail!("{problem}"),
        }
    }
}

fn secret(text: &str) -> anyhow::Result<(SecretName, String)> {
    let (name, value) = text.split_once('=').context("write a secret as NAME=VALUE or NAME=@FILE")?;
    let value = match value.strip_prefix('@') {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?.trim_end().to_owned()
        }
        None => value.to_owned(),
    };
    Ok((name.parse()?, value))
}
