//! A package's way to a tenant, and back: published, granted, planned, agreed to; held where it asks for more; revoked.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Told, same};
use crate::demo::http::{self, Answer};
use crate::demo::page::Page;
use crate::demo::stage::{Stage, Tenant};

const PACKAGE: &str = "northwind/rates";
const SKILL: &str = "rates.version";
/// Why the version is revoked: what its tenants read.
const ADVISORY: &str = "it shows yesterday's rates; install 1.1.0";
/// How long it may take until a tenant's log has what the host tells all tenants: far less is usual.
const TOLD: Duration = Duration::from_secs(10);

pub(super) fn updates(stage: &Stage, page: &mut Page, told: &mut Told) -> Result<()> {
    let [acme, globex] = &stage.tenants;
    let [first, second] = &stage.updates;
    let installed = |told: &mut Told| told.call(stage, acme, SKILL, &json!({})).map(|(version, _)| version);

    page.line(&format!("northwind publishes {} {}, signed with its key", first.name, first.version));
    stage.publish(first)?;
    page.claim("until it is granted there is no such package for a tenant", not_there(stage, acme));
    stage.publisher(&["market", "grant", PACKAGE, &format!("tenant:{}", acme.name)])?;
    page.line(&format!("northwind grants it to {}, whose admin asks what it would be allowed:", acme.name));
    let plan = plan(stage, acme, &first.version)?;
    show(page, &plan);
    page.claim(
        "the plan names each right in words",
        same(&plan["adds"][0], &json!("GET https://rates.example.com/v1/*")),
    );
    page.claim("for another tenant there still is no such package", not_there(stage, globex));
    let pinned = format!("{PACKAGE}@{}", first.version);
    stage.command(acme, &["install", "add", acme.name, &pinned, "--channel", "minor", "--yes"])?;
    page.line(&format!("{} agrees, and lets minor versions follow that ask for no more", acme.name));
    page.claim("it answers", same(&installed(told)?, &json!(first.version)));

    stage.publish(second)?;
    page.line(&format!("northwind publishes {}; what would be other:", second.version));
    let diff = stage.command(acme, &["install", "upgrade", acme.name, PACKAGE, "--plan"])?;
    show(page, &diff);
    page.claim("it asks for one host more", same(&diff["adds"], &json!(["POST https://statistics.example.net/*"])));
    let held = put(stage, acme, &second.version, &plan["consent"])?;
    page.line(&format!("with the consent to {}: {} {}", first.version, held.status, held.problem()));
    page.claim("nobody has agreed to that, so it is held", {
        same(&json!([held.status, held.body["type"]]), &json!([409, "/problems/consent-required"]))
    });
    page.claim("the version before goes on", same(&installed(told)?, &json!(first.version)));
    stage.command(acme, &["install", "upgrade", acme.name, PACKAGE, "--yes"])?;
    page.line(&format!("{} agrees to the host", acme.name));
    page.claim("the new version answers", same(&installed(told)?, &json!(second.version)));
    stage.command(acme, &["install", "rollback", acme.name, PACKAGE])?;
    page.line(&format!("{} has second thoughts, and goes back with one command", acme.name));
    page.claim("the version before answers again", same(&installed(told)?, &json!(first.version)));

    page.line(&format!("northwind finds out that {} is bad, and revokes it", first.version));
    stage.publisher(&["market", "revoke", &pinned, "--why", ADVISORY])?;
    let refused = stage.invoke(acme, SKILL, &json!({}))?;
    page.line(&format!("{} calls {SKILL}: {} {}", acme.name, refused.status, refused.problem()));
    page.claim("it runs no more, and the caller reads why", is_revoked(&refused));
    page.claim(&format!("{}'s audit log says so, with what to do", acme.name), is_told(stage, acme));
    Ok(())
}

fn plan(stage: &Stage, tenant: &Tenant, version: &str) -> Result<Value> {
    stage.command(tenant, &["install", "plan", tenant.name, &format!("{PACKAGE}@{version}")])
}

fn show(page: &Page, plan: &Value) {
    for right in plan["adds"].as_array().into_iter().flatten() {
        page.aside(&format!("+ {}", right.as_str().unwrap_or_default()));
    }
}

/// Neither shown nor planned.
fn not_there(stage: &Stage, tenant: &Tenant) -> Result<()> {
    let market = format!("{}/v1/market/packages/{PACKAGE}", stage.url);
    let shown = http::get(&market, &tenant.admin)?;
    let planned = http::post(&format!("{}/plan", install(stage, tenant)), &tenant.admin, &json!({}))?;
    same(&json!([shown.status, planned.status]), &json!([404, 404]))
}

fn put(stage: &Stage, tenant: &Tenant, version: &str, consent: &Value) -> Result<Answer> {
    http::put(&install(stage, tenant), &tenant.admin, &json!({"version": version, "consent": consent}))
}

fn install(stage: &Stage, tenant: &Tenant) -> String {
    format!("{}/v1/tenants/{}/installs/{PACKAGE}", stage.url, tenant.name)
}

fn is_revoked(answer: &Answer) -> Result<()> {
    ensure!(answer.status == 403 && answer.problem().contains(ADVISORY), "{} {}", answer.status, answer.problem());
    Ok(())
}

/// All tenants that have it are told, one after the other, after it is done.
fn is_told(stage: &Stage, tenant: &Tenant) -> Result<()> {
    let deadline = Instant::now() + TOLD;
    loop {
        let log = stage.list(tenant, "audit").context("read the log")?;
        if let Some(entry) = log.iter().find(|entry| entry["action"] == "package.revoked") {
            return same(&entry["detail"]["advisory"], &json!(ADVISORY));
        }
        if Instant::now() > deadline {
            bail!("nothing in {TOLD:?}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}
