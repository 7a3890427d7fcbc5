//! The CRM's data: each tenant gets its own, and the CRM itself says what that is.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{INJECTION, Told, same};
use crate::demo::http;
use crate::demo::page::{Page, thousands};
use crate::demo::stage::{Stage, Tenant};

/// Both customers of the CRM have an account of this name, with a quote in it.
const SHARED: &str = "O'Brien & Sons";

pub(super) fn own_accounts(stage: &Stage, page: &mut Page, told: &mut Told) -> Result<()> {
    let [acme, globex] = &stage.tenants;
    page.line(&format!("crm.lookup_account {}", json!({"name": SHARED})));
    let mut ids = Vec::new();
    for tenant in &stage.tenants {
        let (account, run) = told.call(stage, tenant, "crm.lookup_account", &json!({"name": SHARED}))?;
        let field = |key: &str| account[key].as_str().unwrap_or("–").to_owned();
        page.line(&format!("{:10} {}  {}  {}", tenant.name, field("id"), field("name"), field("industry")));
        page.aside(&format!(
            "{:10} {} fuel, {} host calls, {} KiB of memory, {:.1} ms",
            "",
            thousands(run["fuel"].as_u64().unwrap_or_default()),
            run["host_calls"],
            run["memory_bytes"].as_u64().unwrap_or_default() >> 10,
            run["duration_us"].as_f64().unwrap_or_default() / 1000.0,
        ));
        ids.push(field("id"));
    }
    let (of_acme, of_globex) = (in_crm(stage, acme)?, in_crm(stage, globex)?);
    page.claim(
        &format!("each got its own {SHARED}"),
        same(&json!(ids), &json!([of_acme.get(SHARED), of_globex.get(SHARED)])),
    );
    page.claim("each sees all of its own accounts and none of the other's", {
        sees(stage, told, acme, &of_acme, &of_globex).and_then(|()| sees(stage, told, globex, &of_globex, &of_acme))
    });
    page.claim("an account's cases open for its own tenant only", cases(stage, told, &ids));
    page.claim("the CRM saw two credentials, one of each tenant", credentials(stage, page));
    Ok(())
}

pub(super) fn injection(stage: &Stage, page: &mut Page, told: &mut Told) -> Result<()> {
    let [acme, _] = &stage.tenants;
    page.line(&format!("crm.lookup_account {}", json!({"name": INJECTION})));
    let (found, _) = told.call(stage, acme, "crm.lookup_account", &json!({"name": INJECTION}))?;
    let query = seen(stage)?
        .iter()
        .find(|customer| customer["customer"] == acme.name)
        .and_then(|customer| customer["last_query"].as_str().map(str::to_owned))
        .context("the CRM saw no query")?;
    let condition = query.split_once("WHERE ").map_or(query.as_str(), |(_, condition)| condition);
    page.aside(&format!("the CRM was asked for {condition}"));
    page.claim("it found nothing: the skill escapes what callers send", same(&found, &Value::Null));
    let pasted = ask(stage, acme, &format!("SELECT Id, Name FROM Account WHERE Name = '{INJECTION}'"))?;
    page.claim(&format!("pasted, the same text would have shown {} accounts", pasted.len()), {
        ensure_more(pasted.len(), 1)
    });
    Ok(())
}

/// Looks up every name that either has.
fn sees(
    stage: &Stage,
    told: &mut Told,
    tenant: &Tenant,
    own: &BTreeMap<String, String>,
    foreign: &BTreeMap<String, String>,
) -> Result<()> {
    for name in own.keys().chain(foreign.keys().filter(|name| !own.contains_key(*name))) {
        let (account, _) = told.call(stage, tenant, "crm.lookup_account", &json!({"name": name}))?;
        same(&account["id"], &json!(own.get(name))).with_context(|| format!("{} looks up {name}", tenant.name))?;
    }
    Ok(())
}

fn cases(stage: &Stage, told: &mut Told, accounts: &[String]) -> Result<()> {
    for (tenant, own) in stage.tenants.iter().zip(accounts) {
        for account in accounts {
            let (cases, _) = told.call(stage, tenant, "crm.open_cases", &json!({"account_id": account}))?;
            let count = cases.as_array().map_or(0, Vec::len);
            ensure!((account == own) == (count > 0), "{} sees {count} cases of {account}", tenant.name);
        }
    }
    Ok(())
}

fn credentials(stage: &Stage, page: &Page) -> Result<()> {
    let mut fingerprints = Vec::new();
    for customer in seen(stage)? {
        let own = customer["credentials"].as_array().context("the CRM names no credentials")?.clone();
        let name = customer["customer"].as_str().unwrap_or_default();
        let shown: Vec<&str> = own.iter().filter_map(Value::as_str).collect();
        page.aside(&format!("{name:10} {} requests with {}", customer["requests"], shown.join(", ")));
        ensure!(own.len() == 1, "{name} came with {} credentials", own.len());
        fingerprints.extend(own);
    }
    ensure!(fingerprints.len() == 2 && fingerprints[0] != fingerprints[1], "it saw {}", json!(fingerprints));
    Ok(())
}

/// What the CRM saw, by customer. Without the host: this is the other side's word.
fn seen(stage: &Stage) -> Result<Vec<Value>> {
    let seen = http::get(&format!("{}/__seen", stage.crm), "")?.ok()?;
    Ok(seen["customers"].as_array().context("the CRM names no customers")?.clone())
}

/// The names and ids of a tenant's accounts, from the CRM itself.
fn in_crm(stage: &Stage, tenant: &Tenant) -> Result<BTreeMap<String, String>> {
    let text = |record: &Value, key: &str| record[key].as_str().map(str::to_owned).context("a record without its name");
    ask(stage, tenant, "SELECT Id, Name FROM Account")?
        .iter()
        .map(|record| Ok((text(record, "Name")?, text(record, "Id")?)))
        .collect()
}

fn ask(stage: &Stage, tenant: &Tenant, soql: &str) -> Result<Vec<Value>> {
    let url = format!("{}/services/data/v59.0/query?q={}", stage.crm, escaped(soql));
    let page = http::get(&url, tenant.crm_token)?.ok().context("ask the CRM")?;
    Ok(page["records"].as_array().context("the CRM answers without records")?.clone())
}

fn ensure_more(count: usize, than: usize) -> Result<()> {
    ensure!(count > than, "it showed {count}");
    Ok(())
}

/// Percent-encoding (RFC 3986) of everything that has a meaning in a query.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_query_survives_its_url() {
        assert_eq!(super::escaped("Name = 'é%'"), "Name%20%3D%20%27%C3%A9%25%27");
    }
}
