//! `clawhold install`

use std::fs;
use std::io::{BufRead, IsTerminal, Write};
use std::str::FromStr;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use clawhold_marketplace::upgrade::Channel;
use clawhold_tenancy::{PackageName, SecretName, TenantId};
use serde_json::{Value, json};

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell, plain};

#[derive(Subcommand)]
pub(crate) enum Install {
    /// Show what an install would allow, and change nothing.
    #[command(
        after_help = "Example:\n  clawhold install plan acme-corp northwind/crm --settings '{\"instance_url\": \"https://acme.my.salesforce.com\"}'"
    )]
    Plan(Wanted),
    /// Install a package, or change an install, after showing what it would allow.
    #[command(after_help = "Example:\n  clawhold install add acme-corp northwind/redact@1.0.0 --yes")]
    Add {
        #[command(flatten)]
        wanted: Wanted,
        /// Accept without being asked.
        #[arg(long)]
        yes: bool,
    },
    /// Take a newer version, or show what it would add and take away.
    #[command(
        after_help = "Examples:\n  clawhold install upgrade acme-corp northwind/crm --plan\n  clawhold install upgrade acme-corp northwind/crm@1.5.0"
    )]
    Upgrade {
        /// The tenant.
        tenant: TenantId,
        /// `publisher/name`, or `publisher/name@version`; without a version the latest.
        package: Pinned,
        /// Only show what would be other.
        #[arg(long)]
        plan: bool,
        /// Accept without being asked.
        #[arg(long)]
        yes: bool,
    },
    /// Go back to the version that was installed before, with the settings and the consent that it had.
    #[command(after_help = "Example:\n  clawhold install rollback acme-corp northwind/crm")]
    Rollback {
        /// The tenant.
        tenant: TenantId,
        /// `publisher/name`.
        package: PackageName,
    },
    /// List what is installed.
    #[command(after_help = "Example:\n  clawhold install list acme-corp")]
    List {
        /// The tenant.
        tenant: TenantId,
    },
    /// Remove an install.
    #[command(after_help = "Example:\n  clawhold install remove acme-corp northwind/crm --dry-run")]
    Remove {
        /// The tenant.
        tenant: TenantId,
        /// `publisher/name`.
        package: PackageName,
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Args)]
pub(crate) struct Wanted {
    /// The tenant.
    tenant: TenantId,
    /// `publisher/name`, or `publisher/name@version`; without a version the latest.
    package: Pinned,
    /// The install's settings: a JSON object, or `@FILE`.
    #[arg(long, default_value = "{}", value_name = "JSON")]
    settings: String,
    /// Let the package read the value of this secret; may be given more than once.
    #[arg(long, value_name = "SECRET")]
    reveal: Vec<SecretName>,
    /// Do not let it reach this host that it asks for; may be given more than once.
    #[arg(long, value_name = "HOST")]
    without_host: Vec<String>,
    /// Give it less of a limit than it asks for, such as `memory_mb=32`; may be given more than once.
    #[arg(long, value_name = "LIMIT=VALUE", value_parser = limit)]
    limit: Vec<(String, u64)>,
    /// Which newer versions are taken by themselves, as long as they ask for no more than was agreed to: `pinned` for none, `patch`, or
    /// `minor`.
    #[arg(long, default_value = "pinned")]
    channel: Channel,
}

fn limit(text: &str) -> Result<(String, u64), String> {
    let (name, value) = text.split_once('=').ok_or("write LIMIT=VALUE, such as memory_mb=32")?;
    Ok((name.to_owned(), value.parse().map_err(|_| format!("{value:?} is no number"))?))
}

#[derive(Clone)]
pub(crate) struct Pinned {
    pub(crate) name: PackageName,
    pub(crate) version: Option<semver::Version>,
}

impl FromStr for Pinned {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
        let version = version.map(str::parse).transpose().map_err(|e| format!("the version cannot be read: {e}"))?;
        Ok(Self { name: name.parse().map_err(|e| format!("{e}"))?, version })
    }
}

impl Install {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        match self {
            Self::Plan(wanted) => {
                let (plan, _) = wanted.plan(client)?;
                out.show(&plan, print_plan);
            }
            Self::Add { wanted, yes } => {
                let (plan, settings) = wanted.plan(client)?;
                if !yes {
                    print_plan(&plan);
                    confirm()?;
                }
                let body = json!({
                    "version": plan["version"], "settings": settings, "reveal": wanted.reveal, "consent": plan["consent"],
                    "channel": wanted.channel, "narrowing": wanted.narrowing(),
                });
                let installed = client.put(&wanted.path(), &body)?;
                out.show(&installed, |i| {
                    println!("{} {} installed for {}", cell(&i["package"]), cell(&i["version"]), wanted.tenant);
                    for skill in plan["skills"].as_array().into_iter().flatten() {
                        println!("  {}", cell(&skill["name"]));
                    }
                });
            }
            Self::Upgrade { tenant, package, plan: only_plan, yes } => {
                let path = format!("tenants/{tenant}/installs/{}", package.name);
                let there = client.get(&path)?;
                let mut ask = json!({
                    "settings": there["settings"], "reveal": there["reveal"], "narrowing": there["narrowing"],
                });
                if let Some(version) = &package.version {
                    ask["version"] = json!(version);
                }
                let plan = client.post(&format!("{path}/plan"), &ask)?;
                if package.version.is_none() && number(&plan["version"]) < number(&there["version"]) {
                    return Err(Failure::Refused(format!(
                        "{0} {1} is installed, and the newest that may be installed is {2}; to go there all the same, say {0}@{2}",
                        package.name,
                        cell(&there["version"]),
                        cell(&plan["version"]),
                    )));
                }
                if only_plan {
                    out.show(&plan, print_plan);
                    return Ok(());
                }
                if plan["digest"] == there["digest"] {
                    out.show(&there, |i| println!("{} {} is installed already", package.name, cell(&i["version"])));
                    return Ok(());
                }
                if !yes {
                    print_plan(&plan);
                    confirm()?;
                }
                for member in ["version", "consent"] {
                    ask[member] = plan[member].clone();
                }
                ask["channel"] = there["channel"].clone();
                let installed = client.put(&path, &ask)?;
                out.show(&installed, |i| {
                    println!("{} {} follows {}", package.name, cell(&i["version"]), cell(&there["version"]));
                });
            }
            Self::Rollback { tenant, package } => {
                let back = client.post(&format!("tenants/{tenant}/installs/{package}/rollback"), &json!({}))?;
                out.show(&back, |i| println!("{package} {} is installed again, pinned", cell(&i["version"])));
            }
            Self::List { tenant } => {
                let columns = [
                    ("PACKAGE", "package"),
                    ("VERSION", "version"),
                    ("CHANNEL", "channel"),
                    ("HELD", "held"),
                    ("UPDATED", "updated"),
                ];
                out.list(&client.get_all(&format!("tenants/{tenant}/installs"))?, &columns);
            }
            Self::Remove { tenant, package, dry_run } => {
                if dry_run {
                    let held = client.get_all(&format!("tenants/{tenant}/installs"))?;
                    let items = held["items"].as_array().cloned().unwrap_or_default();
                    let found = items.into_iter().find(|install| install["package"] == json!(package));
                    let found =
                        found.ok_or_else(|| Failure::Refused("Not found: install does not exist".to_owned()))?;
                    out.show(&found, |i| println!("would remove {} {}", cell(&i["package"]), cell(&i["version"])));
                } else {
                    client.delete(&format!("tenants/{tenant}/installs/{package}"))?;
                    out.show(&Value::Null, |_| println!("{package} removed"));
                }
            }
        }
        Ok(())
    }
}

impl Wanted {
    fn path(&self) -> String {
        format!("tenants/{}/installs/{}", self.tenant, self.package.name)
    }

    fn narrowing(&self) -> Value {
        let limits: serde_json::Map<String, Value> =
            self.limit.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        json!({ "without_hosts": self.without_host, "limits": limits })
    }

    fn plan(&self, client: &Client) -> Result<(Value, Value), Failure> {
        let text = match self.settings.strip_prefix('@') {
            Some(file) => fs::read_to_string(file).with_context(|| format!("cannot read the settings from {file}"))?,
            None => self.settings.clone(),
        };
        let settings: Value = serde_json::from_str(&text).context("the settings are no JSON; write an object")?;
        let mut body = json!({ "settings": settings, "reveal": self.reveal, "narrowing": self.narrowing() });
        if let Some(version) = &self.package.version {
            body["version"] = json!(version);
        }
        Ok((client.post(&format!("{}/plan", self.path()), &body)?, settings))
    }
}

fn print_plan(plan: &Value) {
    println!("{} {}", cell(&plan["package"]), cell(&plan["version"]));
    println!("{}", cell(&plan["digest"]));
    match plan["installed"].as_str() {
        Some(installed) if plan["version"] == json!(installed) => println!("installed now: the same version"),
        Some(installed) => println!("installed now: {}", plain(installed)),
        None => {}
    }
    for secret in plan["secrets"].as_array().into_iter().flatten() {
        let reads = if secret["asks_to_read"] == json!(true) { " (asks to read its value)" } else { "" };
        println!("secret {}{reads}: {}", cell(&secret["name"]), cell(&secret["purpose"]));
    }
    match plan["adds"].as_array().map(Vec::as_slice) {
        None | Some([]) => println!("It would be allowed nothing new."),
        Some(adds) => {
            let new = if plan["installed"].is_string() { "What is new: it" } else { "It" };
            println!("{new} would be allowed to:");
            for right in adds {
                println!("  {}", cell(right));
            }
        }
    }
    if let Some(removes) = plan["removes"].as_array().filter(|removes| !removes.is_empty()) {
        println!("It would not be allowed any more to:");
        for right in removes {
            println!("  {}", cell(right));
        }
    }
    for lack in plan["lacks"].as_array().into_iter().flatten() {
        println!("To do: the secret {}: {}", cell(&lack["secret"]), cell(&lack["problem"]));
    }
    for forbidden in plan["forbidden"].as_array().into_iter().flatten() {
        println!("Will not work: {}", cell(forbidden));
    }
}

fn number(version: &Value) -> Option<semver::Version> {
    version.as_str()?.parse().ok()
}

fn confirm() -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(anyhow!("nobody is there to ask; read the plan and add --yes").into());
    }
    print!("Install? [y/N] ");
    std::io::stdout().flush().map_err(anyhow::Error::from)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(anyhow::Error::from)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::Refused("not installed".to_owned())) }
}
