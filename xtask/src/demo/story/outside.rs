//! What a skill reaches, with which credential, and who says no to the rest.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Told, same};
use crate::demo::page::Page;
use crate::demo::stage::{Stage, Tenant};

pub(super) fn credential(stage: &Stage, page: &mut Page, told: &mut Told) -> Result<()> {
    let [acme, _] = &stage.tenants;
    let (account, run) = told.call(stage, acme, "crm.lookup_account", &json!({"name": "O'Brien & Sons"}))?;
    let shown = stage.command(acme, &["run", "show", acme.name, run["id"].as_str().unwrap_or_default()])?;
    for request in shown["egress"].as_array().into_iter().flatten() {
        let of = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
        page.line(&format!(
            "{} {} with the secret {}: {}",
            of("method"),
            of("origin"),
            of("credential"),
            request["status"]
        ));
    }
    let everything = format!("{account} {shown}");
    page.claim("the host put the credential on the request, and the record says which", {
        same(&shown["egress"][0]["credential"], &json!("salesforce"))
    });
    page.claim("its value is in neither the answer nor the record nor the log", {
        (!everything.contains(acme.crm_token)).then_some(()).context("the value is there")
    });
    Ok(())
}

pub(super) fn denial(stage: &Stage, page: &mut Page, _: &mut Told) -> Result<()> {
    let [acme, _] = &stage.tenants;
    let inside = format!("{}/services/data/v59.0/query", stage.crm);
    for (url, by) in [
        ("https://evil.example.com/collect", Some("manifest")),
        ("http://169.254.169.254/latest/meta-data/", Some("manifest")),
        (inside.as_str(), None),
    ] {
        let explained = explain(stage, acme, url)?;
        let denied = &explained["denied"];
        page.line(&format!("GET {url}"));
        match denied["why"].as_str() {
            Some(why) => page.aside(&format!("refused by the {}: {why}", denied["by"].as_str().unwrap_or_default())),
            None => page.aside("allowed"),
        }
        page.claim(&format!("the answer for {url} is as the policy has it"), {
            same(&denied["by"], &json!(by)).and_then(|()| {
                ensure!(by.is_none() || denied["remedy"].is_string(), "it does not say what would help");
                Ok(())
            })
        });
    }
    Ok(())
}

/// What the command line says would become of a request with acme's credential.
fn explain(stage: &Stage, tenant: &Tenant, url: &str) -> Result<Value> {
    stage.command(tenant, &["policy", "explain", tenant.name, "northwind/crm", "--url", url, "--secret", "salesforce"])
}
