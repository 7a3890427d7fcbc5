//! What the demo shows, chapter by chapter. Each claim is checked against what another party saw: the CRM, the run
//! records, the audit log.

mod accounts;
mod outside;
mod records;
mod updates;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::http::Answer;
use super::page::{Page, thousands};
use super::stage::{Stage, Tenant};

/// A name that would end a literal which is pasted instead of escaped, and ask for everything.
const INJECTION: &str = "x' OR Name LIKE '%";

/// Tells all of it. A chapter that cannot go on is a claim that did not hold, and the next one is told.
pub(super) fn tell(stage: &Stage, page: &mut Page) {
    type Chapter = fn(&Stage, &mut Page, &mut Told) -> Result<()>;
    let chapters: [(&str, Chapter); 9] = [
        ("The same call, two tenants", accounts::own_accounts),
        ("A name that tries to be a query", accounts::injection),
        ("A credential that the skill never sees", outside::credential),
        ("Where it may not go, and who says so", outside::denial),
        ("Skills that need no network", offline_skills),
        ("What is not yours does not exist", not_found),
        ("A skill that never ends", runaway),
        ("A new version that asks for more", updates::updates),
        ("What the audit log says", records::audit),
    ];
    let mut told = Told::default();
    for (title, chapter) in chapters {
        page.chapter(title);
        if let Err(error) = chapter(stage, page, &mut told) {
            page.claim(&format!("“{title}” can be told to its end"), Err(error));
        }
    }
}

/// The runs that were made, by tenant and with why they ended, to be found again in the records.
#[derive(Default)]
struct Told(Vec<(&'static str, String, &'static str)>);

impl Told {
    /// Calls a skill that should answer, and gives its output and what it took.
    fn call(&mut self, stage: &Stage, tenant: &Tenant, skill: &str, input: &Value) -> Result<(Value, Value)> {
        let answer =
            stage.invoke(tenant, skill, input)?.ok().with_context(|| format!("{} calls {skill}", tenant.name))?;
        let run = answer["run"]["id"].as_str().context("the answer names no run")?;
        self.0.push((tenant.name, run.to_owned(), "ok"));
        Ok((answer["output"].clone(), answer["run"].clone()))
    }
}

fn offline_skills(stage: &Stage, page: &mut Page, told: &mut Told) -> Result<()> {
    let [acme, globex] = &stage.tenants;
    let text = "Ada (ada@example.com) paid with 4111 1111 1111 1111.";
    let (redacted, _) = told.call(stage, acme, "redact.text", &json!({"text": text}))?;
    page.line(text);
    page.line(redacted["text"].as_str().unwrap_or_default());
    page.claim(
        "redact.text masked the address and the card number",
        same(&redacted["text"], &json!("Ada ([email]) paid with [card].")),
    );

    let order = json!({"order": {"region": "DE", "lines": [
        {"sku": "ROPE-10", "quantity": 120}, {"sku": "MANUAL", "quantity": 3},
    ]}});
    page.line("120 × ROPE-10 and 3 × MANUAL to DE:");
    // 120 × 19.90 × 0.875 = 2089.50, and 3 × 24.00 = 72.00; tax 397.005 → 397.01 (half up, by line) and 5.04.
    // 120 × 17.05 = 2046.00, and 3 × 21.00 = 63.00; tax 409.20 and 0.
    for (tenant, currency, net, gross) in [(acme, "EUR", "2161.50", "2563.55"), (globex, "GBP", "2109.00", "2518.20")] {
        let (quote, _) = told.call(stage, tenant, "quote.price", &order)?;
        let field = |key: &str| quote[key].as_str().unwrap_or_default();
        let (seen_net, seen_gross, seen_currency) = (field("net"), field("gross"), field("currency"));
        page.line(&format!("{:10} {seen_net} net, {seen_gross} {seen_currency} gross", tenant.name));
        let expected = json!({"currency": currency, "net": net, "gross": gross});
        let seen = json!({"currency": quote["currency"], "net": quote["net"], "gross": quote["gross"]});
        page.claim(
            &format!("quote.price used {}'s price list, exact to the cent", tenant.name),
            same(&seen, &expected),
        );
    }
    Ok(())
}

fn not_found(stage: &Stage, page: &mut Page, _: &mut Told) -> Result<()> {
    let input = json!({"name": "O'Brien & Sons"});
    let [acme, globex] = &stage.tenants;
    let newcomer = &stage.newcomer;
    let skill = "crm.lookup_account";

    let not_installed = stage.invoke(newcomer, skill, &input)?;
    let no_such_skill = stage.invoke(newcomer, "crm.no_such_skill", &input)?;
    page.line(&format!("{} calls {skill}: {} {}", newcomer.name, not_installed.status, not_installed.problem()));
    page.claim("without the install the skill is not found", is_not_found(&not_installed));
    page.claim("the answer is that for a skill which does not exist", alike(&not_installed, &no_such_skill));

    let shown = stage.command(newcomer, &["market", "list"])?;
    page.claim("what was not granted is not in its marketplace", same(&shown["items"], &json!([])));

    let elsewhere = stage.invoke_as(&acme.caller, globex.name, skill, &input)?;
    let nowhere = stage.invoke_as(&acme.caller, "no-such-tenant", skill, &input)?;
    page.line(&format!("{}'s token on {}: {} {}", acme.name, globex.name, elsewhere.status, elsewhere.problem()));
    page.claim("another tenant is not found", is_not_found(&elsewhere));
    page.claim("the answer is that for a tenant which does not exist", alike(&elsewhere, &nowhere));
    Ok(())
}

fn runaway(stage: &Stage, page: &mut Page, told: &mut Told) -> Result<()> {
    let [acme, globex] = &stage.tenants;
    let answer = stage.invoke(acme, "runaway.count", &json!({}))?;
    page.line(&format!("{} calls runaway.count: {} {}", acme.name, answer.status, answer.problem()));
    if let Some(run) = answer.body["run"].as_str() {
        told.0.push((acme.name, run.to_owned(), "out_of_fuel"));
        let shown = stage.command(acme, &["run", "show", acme.name, run])?;
        let fuel = thousands(shown["fuel"].as_u64().unwrap_or_default());
        page.aside(&format!(
            "it burned {fuel} fuel in {} ms",
            shown["duration_us"].as_u64().unwrap_or_default() / 1000
        ));
    }
    let expected = json!({"status": 422, "type": "/problems/run-limit", "reason": "out_of_fuel"});
    let seen = json!({"status": answer.status, "type": answer.body["type"], "reason": answer.body["reason"]});
    page.claim("the host stopped it, and says why", same(&seen, &expected));
    let after = told.call(stage, globex, "redact.text", &json!({"text": "still here"}));
    page.claim("the host serves the next call as before", after.map(|_| ()));
    Ok(())
}

fn is_not_found(answer: &Answer) -> Result<()> {
    let seen = json!({"status": answer.status, "type": answer.body["type"]});
    same(&seen, &json!({"status": 404, "type": "/problems/not-found"}))
}

/// Status, kind and every byte of meaning.
fn alike(one: &Answer, other: &Answer) -> Result<()> {
    ensure!(one == other, "one says {} {}, the other {} {}", one.status, one.body, other.status, other.body);
    Ok(())
}

fn same(seen: &Value, expected: &Value) -> Result<()> {
    if seen == expected { Ok(()) } else { bail!("saw {seen}, expected {expected}") }
}
