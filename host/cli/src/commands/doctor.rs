//! `clawhold doctor`: what is wrong with a host, and how to mend it.

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use clawhold_secret_store::local::MasterKey;
use clawhold_store::Store;
use serde_json::{Value, json};

use crate::Failure;
use crate::client::Client;
use crate::config::{Config, SecretUrl};
use crate::output::{Output, plain, table};
use crate::serve;

/// How long a part may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Doctor {
    /// Look at this configuration and what it names, without starting anything.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the database, the keys and the artifacts, as `serve --data` has it.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What was found of one part.
struct Finding {
    part: &'static str,
    /// `ok`, `note` or `wrong`.
    verdict: &'static str,
    said: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, part: &'static str, said: impl Into<String>) {
        self.0.push(Finding { part, verdict: "ok", said: said.into() });
    }

    fn note(&mut self, part: &'static str, said: impl Into<String>) {
        self.0.push(Finding { part, verdict: "note", said: said.into() });
    }

    fn wrong(&mut self, part: &'static str, said: impl Into<String>) {
        self.0.push(Finding { part, verdict: "wrong", said: said.into() });
    }

    fn of<T>(&mut self, part: &'static str, found: anyhow::Result<T>, said: impl FnOnce(&T) -> String) {
        match found {
            Ok(found) => self.ok(part, said(&found)),
            Err(error) => self.wrong(part, format!("{error:#}")),
        }
    }
}

impl Doctor {
    pub(crate) fn run(self, client: impl FnOnce() -> Result<Client, Failure>, out: Output) -> Result<(), Failure> {
        let mut findings = Findings::default();
        let offline = self.config.is_some() || self.data.is_some();
        if offline {
            self.look(&mut findings)?;
        }
        let client = client()?;
        if client.has_token() {
            ask(&client, &mut findings);
        } else if !offline {
            let how = "give --config FILE to look at a host that does not run, or an operator's token (CLAWHOLD_TOKEN) to ask one that does";
            return Err(anyhow::anyhow!("there is nothing to look at; {how}").into());
        }
        let rows = findings.0.iter().map(|f| vec![f.part.to_owned(), f.verdict.to_owned(), plain(&f.said)]);
        let rows: Vec<Vec<String>> = rows.collect();
        let json = findings.0.iter().map(|f| json!({ "part": f.part, "verdict": f.verdict, "said": f.said }));
        out.show(&Value::Array(json.collect()), |_| table(&["PART", "VERDICT", "WHAT"], &rows));
        match findings.0.iter().filter(|f| f.verdict == "wrong").count() {
            0 => Ok(()),
            wrong => Err(anyhow::anyhow!("{wrong} of {} are wrong; what to do stands beside each", rows.len()).into()),
        }
    }

    /// What can be seen without a host.
    fn look(self, findings: &mut Findings) -> Result<(), Failure> {
        let environment: HashMap<String, String> = std::env::vars().collect();
        let config = match Config::load(self.config.as_deref(), &environment) {
            Ok(config) => config,
            Err(error) => {
                findings.wrong("configuration", format!("{error:#}"));
                return Ok(());
            }
        };
        let quotas = config.quotas();
        findings.ok(
            "configuration",
            format!("it can be used; {} entries of quotas, tiers {}", quotas.entries.len(), quotas.tiers()),
        );
        match self.data.or_else(|| config.data_dir.clone()) {
            Some(folder) => folder_and_key(&folder, &config, findings),
            None => findings.wrong("data folder", "none is named; set `data_dir`, or give --data DIR"),
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("cannot start a runtime")?;
        if let Some(url) = &config.database_url {
            findings.of("database", runtime.block_on(database(url)), |()| {
                "it answers, and its tables are this program's".to_owned()
            });
        }
        let shared = runtime.block_on(async { tokio::time::timeout(PATIENCE, serve::shared_hosts(&config)).await });
        match shared.unwrap_or_else(|_late| Err(anyhow::anyhow!("Redis does not answer"))) {
            Ok(None) => findings.ok("limiter", "quotas are this host's alone"),
            Ok(Some(hosts)) => {
                findings.ok("limiter", format!("Redis answers; {hosts} hosts share their quotas through it"));
            }
            Err(error) => findings.wrong(
                "limiter",
                format!("{error:#}; until it answers, each host goes on with its part of every quota"),
            ),
        }
        for (part, at) in [("listen", config.listen), ("operations", config.operations_listen)] {
            if let Some(at) = at {
                match TcpListener::bind(at) {
                    Ok(_) => findings.ok(part, format!("{at} is free")),
                    Err(error) => findings.note(part, format!("{at}: {error}; right if the host runs already")),
                }
            }
        }
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        match files.maximum {
            Some(most) if most < 4096 => {
                findings.note(
                    "open files",
                    format!("{most} at most; raise it to 65536 (`ulimit -Hn`), or many callers at once are refused"),
                );
            }
            most => findings
                .ok("open files", most.map_or("as many as it takes".to_owned(), |most| format!("{most} at most"))),
        }
        Ok(())
    }
}

fn folder_and_key(folder: &Path, config: &Config, findings: &mut Findings) {
    let Ok(meta) = std::fs::metadata(folder) else {
        findings.note("data folder", format!("{} does not exist; the first start makes it", folder.display()));
        return;
    };
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        findings
            .wrong("data folder", format!("others can read it (mode {mode:03o}); run: chmod 700 {}", folder.display()));
    } else {
        let probe = tempfile::tempfile_in(folder).with_context(|| format!("{} cannot be written", folder.display()));
        findings.of("data folder", probe, |_| folder.display().to_string());
    }
    if folder.join("master.key").exists() {
        let key = MasterKey::open_or_create(folder).map_err(anyhow::Error::from);
        findings.of("master key", key, |_| "it can be read".to_owned());
    } else {
        let said = "there is none; the first start makes one. Keep a copy elsewhere: without it no secret opens";
        findings.note("master key", said);
    }
    if config.database_url.is_none() {
        let file = folder.join("clawhold.db");
        match std::fs::metadata(&file) {
            Ok(meta) => findings.ok("database", format!("{}, {} KiB", file.display(), meta.len() >> 10)),
            Err(_) => findings.note("database", format!("{} does not exist; the first start makes it", file.display())),
        }
    }
}

async fn database(url: &SecretUrl) -> anyhow::Result<()> {
    let store = tokio::time::timeout(PATIENCE, Store::open_with(url.expose(), 1)).await;
    let store = store.map_err(|_late| anyhow::anyhow!("the database does not answer"))??;
    store.close().await;
    Ok(())
}

/// What a host says of itself.
fn ask(client: &Client, findings: &mut Findings) {
    let status = match client.get("host") {
        Ok(status) => status,
        Err(failure) => return findings.wrong("host", failure.to_string()),
    };
    let number = |key: &str| status[key].as_u64().unwrap_or_default();
    if let Some(problem) = status["problem"].as_str() {
        findings.wrong("host", problem);
    } else {
        let (runs, slots) = (number("runs"), number("run_slots"));
        let version = status["version"].as_str().unwrap_or_default();
        findings.ok("host", format!("version {version}; {runs} runs under way, {slots} slots"));
    }
    let hosts = status["limiter_hosts"].as_u64();
    match (hosts, status["limiter_apart"].as_bool()) {
        (None, _) => findings.ok("its limiter", "quotas are this host's alone"),
        (Some(hosts), Some(true)) => findings.wrong(
            "its limiter",
            format!("Redis does not answer, and the host goes on with a part of every quota: one {hosts}th; look after Redis, the host comes back by itself"),
        ),
        (Some(hosts), _) => findings.ok("its limiter", format!("{hosts} hosts share their quotas")),
    }
}
