//! `clawhold skill test`

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clawhold_runtime::Problem;
use clawhold_tenancy::{SecretName, SkillName};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::Config;
use crate::skill::bench::Bench;
use crate::skill::build::build;
use crate::skill::script::{Exchange, Script};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    skill: SkillName,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    settings: Option<Value>,
    #[serde(default)]
    secrets: BTreeMap<SecretName, Value>,
    #[serde(default)]
    http: Vec<Exchange>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    output: Option<Value>,
    /// The skill's kind of error, or the reason why the host ended the run.
    error: Option<String>,
    /// A part of the error's message.
    message: Option<String>,
    /// The actions that are recorded, in order.
    audit: Option<Vec<String>>,
}

pub(crate) fn run(project: &Path) -> anyhow::Result<()> {
    let files = case_files(&project.join("tests"))?;
    let built = build(project, None)?;
    let script = Arc::new(Script::default());
    let bench = Bench::with(built.wasm, Config::default(), Some(script.clone()))?;
    let (mut passed, mut failed) = (0, 0);
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: File = toml::from_str(&text).with_context(|| format!("{}", path.display()))?;
        for case in file.case {
            match check(&bench, &script, &case) {
                Ok(()) => {
                    passed += 1;
                    println!("ok      {}", case.name);
                }
                Err(why) => {
                    failed += 1;
                    println!("FAILED  {}\n        {why:#}", case.name);
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    ensure!(failed == 0, "{failed} of {} cases failed", passed + failed);
    ensure!(passed > 0, "the project has no case; add one to tests/cases.toml");
    Ok(())
}

fn case_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let listed = fs::read_dir(folder).with_context(|| format!("cannot read {}; put cases there", folder.display()))?;
    let mut files: Vec<PathBuf> = listed
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    Ok(files)
}

fn check(bench: &Bench, script: &Script, case: &Case) -> anyhow::Result<()> {
    let secrets: Vec<(SecretName, String)> = case
        .secrets
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    bench.secrets(&secrets)?;
    bench.install(case.settings.clone().unwrap_or_else(|| json!({})))?;
    script.begin(case.http.clone());
    let before = bench.newest_run(None)?.map(|run| run.id);
    let input = if case.input.is_null() { json!({}) } else { case.input.clone() };
    let answer = bench.invoke(&case.skill, &input);
    let mistakes = script.end();
    ensure!(mistakes.is_empty(), "{}", mistakes.join("; "));

    match (answer, &case.expect.error) {
        (Ok(answer), None) => {
            let output: Value = serde_json::from_str(answer.output.get())?;
            if let Some(expected) = &case.expect.output {
                ensure!(output == *expected, "expected {expected}, got {output}");
            }
        }
        (Ok(answer), Some(expected)) => bail!("expected the error {expected}, got {}", answer.output),
        (Err(problem), expected) => {
            let kind = match &problem {
                Problem::Skill { kind, .. } => *kind,
                Problem::Run { reason, .. } => reason.as_str(),
                Problem::Invalid { .. } => "invalid-input",
                Problem::NotFound(_) => "not-found",
                _ => "failed",
            };
            ensure!(expected.as_deref() == Some(kind), "it ended with {kind}: {problem}");
            let part = case.expect.message.as_deref().unwrap_or_default();
            ensure!(problem.to_string().contains(part), "expected a message with {part:?}, got {problem}");
        }
    }
    if let Some(expected) = &case.expect.audit {
        let recorded = match bench.newest_run(before)? {
            Some(run) => bench.recorded(run.id)?,
            None => Vec::new(),
        };
        ensure!(recorded == *expected, "expected the audit actions {expected:?}, got {recorded:?}");
    }
    Ok(())
}
