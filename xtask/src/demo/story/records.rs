//! Runs and audit entries: what was done is there, once, and in its own tenant's log only.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::Told;
use crate::demo::page::Page;
use crate::demo::stage::{Stage, Tenant};

/// What the tenants of the demo did, and what must therefore be in each one's log.
const DONE: [(&str, &str); 8] = [
    ("tenant.create", "success"),
    ("token.create", "success"),
    ("secret.put", "success"),
    ("install.put", "success"),
    ("crm.account.read", "success"),
    ("crm.case.list", "success"),
    ("redact.done", "success"),
    ("skill.invoke", "success"),
];
/// How many of the newest entries are shown.
const SHOWN: usize = 6;

pub(super) fn audit(stage: &Stage, page: &mut Page, told: &mut Told) -> Result<()> {
    let [acme, _] = &stage.tenants;
    let log = stage.list(acme, "audit")?;
    page.line(&format!("{}, the newest of {} entries:", acme.name, log.len()));
    for entry in log.iter().take(SHOWN) {
        let field = |key: &str| entry[key].as_str().unwrap_or_default();
        let line = format!("{:>4}  {:17} {:8} {}", entry["seq"], field("action"), field("outcome"), field("resource"));
        page.aside(line.trim_end());
    }
    for tenant in &stage.tenants {
        let log = stage.list(tenant, "audit")?;
        let runs = stage.list(tenant, "runs")?;
        page.claim(&format!("{}'s log has all that was done for it", tenant.name), has_all(&log));
        page.claim(&format!("{}'s runs are in its own log and records only", tenant.name), {
            own_runs(told, tenant, &runs, &log)
        });
    }
    page.claim("the stopped run is there with its reason", has_stopped(&log));
    page.claim("the attempt on the other tenant is in the log of who made it", has_attempt(&log));
    for tenant in stage.tenants.iter().chain([&stage.newcomer]) {
        page.claim(&format!("{}'s chain verifies, entry by entry", tenant.name), verified(stage, tenant));
    }
    Ok(())
}

fn has_all(log: &[Value]) -> Result<()> {
    let missing: Vec<&str> = DONE
        .iter()
        .filter(|(action, outcome)| !log.iter().any(|entry| entry["action"] == *action && entry["outcome"] == *outcome))
        .map(|(action, _)| *action)
        .collect();
    ensure!(missing.is_empty(), "{} is missing", missing.join(", "));
    Ok(())
}

/// Every run of the story, and no other, with its entry.
fn own_runs(told: &Told, tenant: &Tenant, runs: &[Value], log: &[Value]) -> Result<()> {
    let own: Vec<_> = told.0.iter().filter(|(name, _, _)| *name == tenant.name).collect();
    for (_, id, reason) in &own {
        let Some(run) = runs.iter().find(|run| run["id"] == id.as_str()) else { bail!("run {id} has no record") };
        ensure!(run["reason"] == *reason, "run {id} ended with {}, not {reason}", run["reason"]);
        let entries = log.iter().filter(|entry| entry["run"] == id.as_str() && entry["action"] == "skill.invoke");
        ensure!(entries.count() == 1, "run {id} has no entry in the log");
    }
    ensure!(runs.len() == own.len(), "there are {} records of {} runs", runs.len(), own.len());
    Ok(())
}

fn has_stopped(log: &[Value]) -> Result<()> {
    let stopped = log.iter().any(|entry| {
        entry["action"] == "skill.invoke" && entry["outcome"] == "failure" && entry["detail"]["reason"] == "out_of_fuel"
    });
    ensure!(stopped, "no entry has the reason out_of_fuel");
    Ok(())
}

fn has_attempt(log: &[Value]) -> Result<()> {
    let attempt = log.iter().any(|entry| entry["action"] == "skill.invoke" && entry["outcome"] == "denied");
    ensure!(attempt, "no entry has the outcome denied");
    Ok(())
}

fn verified(stage: &Stage, tenant: &Tenant) -> Result<()> {
    let verdict = stage.command(tenant, &["audit", "verify", tenant.name])?;
    ensure!(verdict["verified"] == json!(true), "{verdict}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_from_a_log_is_named() {
        let entry = |(action, outcome): (&str, &str)| json!({"action": action, "outcome": outcome});
        let mut log: Vec<Value> = DONE.into_iter().map(entry).collect();
        has_all(&log).unwrap();
        log.remove(2);
        assert_eq!(has_all(&log).unwrap_err().to_string(), "secret.put is missing");
        assert!(has_attempt(&log).is_err() && has_stopped(&log).is_err());
    }
}
