//! The CRM, the host and the tenants, set up through the command line as people would.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::build::{Package, Packages, Programs};
use super::http::{self, Answer};
use super::page::Page;
use super::process::Scene;
use crate::shell;

/// Everything the story is told on.
pub(super) struct Stage {
    /// The host's address.
    pub(super) url: String,
    /// The CRM's address.
    pub(super) crm: String,
    /// The two that have installed the packages.
    pub(super) tenants: [Tenant; 2],
    /// The one that has not.
    pub(super) newcomer: Tenant,
    /// Two versions of a package, of which nobody has published one yet.
    pub(super) updates: [Package; 2],
    /// The publisher's token, and the file of its key.
    publisher: (String, PathBuf),
    clawhold: PathBuf,
}

/// A tenant and who acts for it.
pub(super) struct Tenant {
    pub(super) name: &'static str,
    pub(super) admin: String,
    pub(super) caller: String,
    /// Its credential at the CRM; the story asks the CRM itself what is true.
    pub(super) crm_token: &'static str,
}

/// Name, tier, and the credential at the CRM. The CRM is made up, and so are these.
const TENANTS: [(&str, &str, &str); 2] =
    [("acme-corp", "pro", "acme-s-own-crm-token"), ("globex", "standard", "a-token-of-globex")];
const NEWCOMER: (&str, &str) = ("initech", "standard");
/// Opens the publisher's key, which is gone with the demo's folder.
const PASSPHRASE: &str = "of the demo alone";

impl Stage {
    pub(super) fn set(scene: &mut Scene, programs: &Programs, packages: Packages) -> Result<Self> {
        let Packages { usual, updates } = packages;
        let crm = start_crm(scene, programs)?;
        let (url, operator) = start_host(scene, programs)?;
        let command = |token: &str| Clawhold { program: &programs.clawhold, url: &url, token: token.to_owned() };
        let operator = command(&operator);

        // A publisher makes a key and keeps it; the operator registers its public half.
        let key = scene.folder().join("northwind.pem");
        let made = operator.run(&["skill", "keygen", utf8(&key)?], None)?;
        let public = made["key"].as_str().context("`skill keygen` printed no key")?;
        operator.run(&["publisher", "add", "northwind", "--key", public], None)?;
        let publisher = operator.token(&["--publisher", "northwind", "--role", "publisher", "--name", "ci"])?;
        for package in &usual {
            command(&publisher).run(&["skill", "publish", utf8(&package.file)?, "--key", utf8(&key)?], None)?;
        }
        let mut tenants = Vec::new();
        for (name, tier, crm_token) in TENANTS {
            let tenant = operator.tenant(name, tier, crm_token)?;
            let admin = command(&tenant.admin);
            admin.run(&["secret", "put", &format!("{name}/salesforce"), "-"], Some(crm_token))?;
            for package in &usual {
                // Without this there is no such package for the tenant.
                operator.run(&["market", "grant", &package.name, &format!("tenant:{name}")], None)?;
                let pinned = format!("{}@{}", package.name, package.version);
                let settings = settings(&package.name, name, &crm).to_string();
                admin.run(&["install", "add", name, &pinned, "--settings", &settings, "--yes"], None)?;
            }
            tenants.push(tenant);
        }
        let newcomer = operator.tenant(NEWCOMER.0, NEWCOMER.1, "")?;
        let Ok(tenants) = <[Tenant; 2]>::try_from(tenants) else { bail!("the demo has two tenants") };
        let publisher = (publisher, key);
        Ok(Self { url, crm, tenants, newcomer, updates, publisher, clawhold: programs.clawhold.clone() })
    }

    /// Calls a skill as a program of the tenant would.
    pub(super) fn invoke(&self, tenant: &Tenant, skill: &str, input: &Value) -> Result<Answer> {
        self.invoke_as(&tenant.caller, tenant.name, skill, input)
    }

    /// The same, with any token.
    pub(super) fn invoke_as(&self, token: &str, tenant: &str, skill: &str, input: &Value) -> Result<Answer> {
        http::post(&format!("{}/v1/tenants/{tenant}/skills/{skill}/invoke", self.url), token, input)
    }

    /// All of one of a tenant's lists, page by page.
    pub(super) fn list(&self, tenant: &Tenant, list: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut after = String::new();
        loop {
            let url = format!("{}/v1/tenants/{}/{list}?limit=200{after}", self.url, tenant.name);
            let page = http::get(&url, &tenant.admin)?.ok().with_context(|| format!("list the {list}"))?;
            items.extend(page["items"].as_array().context("a list without items")?.iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return Ok(items),
            }
        }
    }

    /// What the command line says as a tenant's admin.
    pub(super) fn command(&self, tenant: &Tenant, arguments: &[&str]) -> Result<Value> {
        self.command_as(&tenant.admin, arguments)
    }

    /// What the command line says as the publisher.
    pub(super) fn publisher(&self, arguments: &[&str]) -> Result<Value> {
        self.command_as(&self.publisher.0, arguments)
    }

    /// Publishes a package, signed.
    pub(super) fn publish(&self, package: &Package) -> Result<Value> {
        self.publisher(&["skill", "publish", utf8(&package.file)?, "--key", utf8(&self.publisher.1)?])
    }

    fn command_as(&self, token: &str, arguments: &[&str]) -> Result<Value> {
        Clawhold { program: &self.clawhold, url: &self.url, token: token.to_owned() }.run(arguments, None)
    }

    pub(super) fn describe(&self, page: &Page) {
        for tenant in &self.tenants {
            page.line(&format!("{:10} four packages granted and installed, a CRM credential of its own", tenant.name));
        }
        page.line(&format!("{:10} nothing granted, nothing installed", self.newcomer.name));
        page.aside(&format!("host {}   CRM {}", self.url, self.crm));
    }

    /// Commands to paste.
    pub(super) fn invite(&self, page: &Page) {
        page.chapter("Now you. In another terminal:");
        let [acme, globex] = &self.tenants;
        let call = |tenant: &Tenant, skill: &str, input: &str| {
            println!(
                "\ncurl -s {}/v1/tenants/{}/skills/{skill}/invoke \\\n  -H 'Authorization: Bearer {}' \\\n  -d '{input}'",
                self.url, tenant.name, tenant.caller
            );
        };
        // A quote within the shell's quotes is written as the shell wants it.
        let obrien = r#"{"name": "O'\''Brien & Sons"}"#;
        call(acme, "crm.lookup_account", obrien);
        call(globex, "crm.lookup_account", obrien);
        call(acme, "redact.text", r#"{"text": "Write to ada@example.com or call +44 20 7946 0018"}"#);
        call(globex, "runaway.count", "{}");
        println!(
            "\ncurl -s '{}/v1/tenants/{}/audit?limit=5' \\\n  -H 'Authorization: Bearer {}'",
            self.url, acme.name, acme.admin
        );
        println!("\nexport CLAWHOLD_URL={} CLAWHOLD_TOKEN={}", self.url, acme.admin);
        println!("{} audit list {}", self.clawhold.display(), acme.name);
        println!("\nCtrl-C ends the demo and removes all that it made.");
    }
}

fn utf8(path: &Path) -> Result<&str> {
    path.to_str().context("the temporary folder's path is not UTF-8; set TMPDIR")
}

fn start_crm(scene: &mut Scene, programs: &Programs) -> Result<String> {
    let mut crm = shell::program(&programs.crm);
    for (name, _, token) in TENANTS {
        crm.args(["--customer", &format!("{name}={token}")]);
    }
    scene.start("CRM", &mut crm, "CRM is listening on ")
}

/// The host's address and the first operator's token.
fn start_host(scene: &mut Scene, programs: &Programs) -> Result<(String, String)> {
    let data = scene.folder().join("host");
    let mut serve = shell::program(&programs.clawhold);
    serve.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--open", "127.0.0.1/32", "--data"]).arg(&data);
    let url = scene.start("host", &mut serve, "Clawhold is listening on ")?;
    let token = fs::read_to_string(data.join("operator.token")).context("read the first operator's token")?;
    Ok((url, token.trim().to_owned()))
}

/// What a tenant's admin would set for a package.
fn settings(package: &str, tenant: &str, crm: &str) -> Value {
    match package {
        "northwind/crm" => json!({"instance_url": crm}),
        "northwind/quote" => price_list(tenant),
        _ => json!({}),
    }
}

fn price_list(tenant: &str) -> Value {
    if tenant == "acme-corp" {
        json!({
            "currency": "EUR", "rounding": "half-up", "round_per": "line",
            "prices": [
                {"sku": "ROPE-10", "price": "19.90", "category": "standard",
                 "tiers": [{"from": 100, "discount_percent": "12.5"}]},
                {"sku": "MANUAL", "price": "24.00", "category": "books"},
            ],
            "taxes": [
                {"region": "DE", "category": "standard", "percent": "19"},
                {"region": "DE", "category": "books", "percent": "7"},
            ],
        })
    } else {
        json!({
            "currency": "GBP", "rounding": "half-even", "round_per": "total",
            "prices": [
                {"sku": "ROPE-10", "price": "18.25", "category": "standard", "tiers": [{"from": 50, "price": "17.05"}]},
                {"sku": "MANUAL", "price": "21.00", "category": "books"},
            ],
            "taxes": [
                {"region": "DE", "category": "standard", "percent": "20"},
                {"region": "DE", "category": "books", "percent": "0"},
            ],
        })
    }
}

/// The command line, for one token.
struct Clawhold<'a> {
    program: &'a Path,
    url: &'a str,
    token: String,
}

impl Clawhold<'_> {
    /// Runs a command and gives what it prints for programs.
    fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<Value> {
        // Two words say which it is; behind them are tokens and settings.
        let title = format!("`clawhold {}`", arguments[..arguments.len().min(3)].join(" "));
        let mut command = shell::program(self.program);
        command.args(arguments).arg("--json").env("CLAWHOLD_URL", self.url).env("CLAWHOLD_TOKEN", &self.token);
        command.env("CLAWHOLD_KEY_PASSPHRASE", PASSPHRASE);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {title}"))?;
        // Dropped at once, so that the command sees the end of its input.
        let mut stdin = child.stdin.take().context("a program without its input")?;
        stdin.write_all(input.unwrap_or_default().as_bytes()).with_context(|| format!("write to {title}"))?;
        drop(stdin);
        let output = child.wait_with_output().with_context(|| format!("wait for {title}"))?;
        if !output.status.success() {
            bail!("{title} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        if output.stdout.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("{title} --json printed something else"))
    }

    fn token(&self, arguments: &[&str]) -> Result<String> {
        let made = self.run(&[&["token", "create"], arguments].concat(), None)?;
        Ok(made["token"].as_str().context("`token create` printed no token")?.to_owned())
    }

    fn tenant(&self, name: &'static str, tier: &str, crm_token: &'static str) -> Result<Tenant> {
        self.run(&["tenant", "create", name, "--tier", tier], None)?;
        let admin = self.token(&["--tenant", name, "--role", "admin", "--name", "admin"])?;
        let caller = self.token(&["--tenant", name, "--role", "caller", "--name", "agent"])?;
        Ok(Tenant { name, admin, caller, crm_token })
    }
}
