//! `clawhold market`

mod import;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use clawhold_tenancy::PackageName;
use serde_json::{Value, json};

use super::install::Pinned;
use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell, plain};

#[derive(Subcommand)]
pub(crate) enum Market {
    /// List the packages that you may see.
    #[command(after_help = "Example:\n  clawhold market list")]
    List,
    /// List those of them that have all of these words in their name, their description or what they say of their skills.
    #[command(after_help = "Example:\n  clawhold market search crm account")]
    Search {
        /// The words.
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Show a version of a package: the latest, if none is given.
    #[command(after_help = "Example:\n  clawhold market show northwind/crm")]
    Show {
        /// `publisher/name`, or `publisher/name@version`.
        package: Pinned,
    },
    /// List the versions of a package, and what becomes of each.
    #[command(after_help = "Example:\n  clawhold market versions northwind/crm")]
    Versions {
        /// `publisher/name`.
        package: PackageName,
    },
    /// Let a tenant, or each tenant of a tier, see and install a package.
    #[command(
        after_help = "Examples:\n  clawhold market grant northwind/crm tenant:acme-corp\n  clawhold market grant northwind/crm tier:pro --range '^1.2'"
    )]
    Grant {
        /// `publisher/name`.
        package: PackageName,
        /// `tenant:` and a tenant's id, or `tier:` and a tier's name.
        to: String,
        /// Which versions; `*` is every release.
        #[arg(long, default_value = "*")]
        range: String,
    },
    /// Take a grant back: no new installs. What is installed goes on; to stop that, revoke the version.
    #[command(after_help = "Example:\n  clawhold market ungrant northwind/crm tenant:acme-corp --dry-run")]
    Ungrant {
        /// `publisher/name`.
        package: PackageName,
        /// `tenant:` and a tenant's id, or `tier:` and a tier's name.
        to: String,
        /// Only say what would be taken back.
        #[arg(long)]
        dry_run: bool,
    },
    /// List whom a package is granted to.
    #[command(after_help = "Example:\n  clawhold market grants northwind/crm")]
    Grants {
        /// `publisher/name`.
        package: PackageName,
    },
    /// No new installs of a version; where it is installed it goes on running.
    #[command(
        after_help = "Example:\n  clawhold market yank northwind/crm@1.4.0 --why 'it rounds prices the wrong way'"
    )]
    Yank(Why),
    /// No new installs and no new runs of a version, until somebody has looked into it. For operators.
    #[command(
        after_help = "Example:\n  clawhold market quarantine northwind/crm@1.4.0 --why 'it sends more than it should; being looked into'"
    )]
    Quarantine(Why),
    /// A version runs nowhere any more: on every node within a second, and runs that are under way end.
    #[command(
        after_help = "Example:\n  clawhold market revoke northwind/crm@1.4.0 --why 'it leaks account numbers; install 1.4.1'"
    )]
    Revoke(Why),
    /// Take a yank back; the operator also a quarantine or a revocation.
    #[command(after_help = "Example:\n  clawhold market restore northwind/crm@1.4.0")]
    Restore {
        /// `publisher/name@version`.
        package: Pinned,
    },
    /// Delete a package for good: each version is revoked, nobody finds it any more, and its name is never given again. For operators.
    #[command(
        after_help = "Example:\n  clawhold market delete northwind/crm --why 'its publisher has closed; install southwind/crm' --dry-run"
    )]
    Delete {
        /// `publisher/name`.
        package: PackageName,
        /// What those who have it installed should know and do.
        #[arg(long = "why", value_name = "TEXT")]
        advisory: String,
        /// Only say what would be deleted.
        #[arg(long)]
        dry_run: bool,
    },
    /// Pull a package from another OCI registry, check it, and publish it here. Needs a publisher's token.
    #[command(
        after_help = "Example:\n  clawhold market import oci://ghcr.io/northwind/crm:1.4.0\n  clawhold market import --dry-run oci://ghcr.io/northwind/crm:1.4.0"
    )]
    Import(import::Import),
}

#[derive(Args)]
pub(crate) struct Why {
    /// `publisher/name@version`.
    package: Pinned,
    /// What those who have it installed should know and do.
    #[arg(long = "why", value_name = "TEXT")]
    advisory: String,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

const COLUMNS: [(&str, &str); 5] =
    [("PACKAGE", "name"), ("VERSION", "version"), ("STATUS", "status"), ("ASKS", "asks"), ("INSTALLED", "installed")];

impl Market {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        match self {
            Self::List => list(out, client.get_all("market/packages")?),
            Self::Search { words } => {
                let words = words.join(" ");
                let text = percent_encoding::utf8_percent_encode(&words, percent_encoding::NON_ALPHANUMERIC);
                list(out, client.get_all(&format!("market/packages?search={text}"))?);
            }
            Self::Show { package } => {
                let version = package.version.map_or_else(String::new, |version| format!("?version={version}"));
                let shown = client.get(&format!("market/packages/{}{version}", package.name))?;
                out.show(&shown, print_version);
            }
            Self::Versions { package } => {
                let columns = [("VERSION", "version"), ("STATUS", "status"), ("SINCE", "changed")];
                out.list(&client.get(&format!("market/packages/{package}/versions"))?, &columns);
            }
            Self::Grant { package, to, range } => {
                let granted = client.put(&grant(&package, &to), &json!({ "range": range }))?;
                out.show(&granted, |g| println!("{package} {} is granted to {}", cell(&g["range"]), cell(&g["to"])));
            }
            Self::Ungrant { package, to, dry_run } => {
                if dry_run {
                    let all = client.get(&format!("market/packages/{package}/grants"))?;
                    let found = all["items"].as_array().into_iter().flatten().find(|one| one["to"] == json!(to));
                    let found = found.ok_or_else(|| Failure::Refused("Not found: grant does not exist".to_owned()))?;
                    out.show(found, |g| println!("would take {package} {} back from {to}", cell(&g["range"])));
                } else {
                    client.delete(&grant(&package, &to))?;
                    out.show(&Value::Null, |_| println!("{package} is not granted to {to} any more"));
                }
            }
            Self::Grants { package } => {
                let columns = [("TO", "to"), ("RANGE", "range"), ("SINCE", "created")];
                out.list(&client.get(&format!("market/packages/{package}/grants"))?, &columns);
            }
            Self::Yank(why) => set(client, out, "yanked", why)?,
            Self::Quarantine(why) => set(client, out, "quarantined", why)?,
            Self::Revoke(why) => set(client, out, "revoked", why)?,
            Self::Restore { package } => {
                let why = Why { package, advisory: String::new(), dry_run: false };
                set(client, out, "active", why)?;
            }
            Self::Delete { package, advisory, dry_run: true } => {
                let shown = client.get(&format!("market/packages/{package}/versions"))?;
                let count = shown["items"].as_array().map_or(0, Vec::len);
                out.show(&shown, |_| {
                    println!("would revoke {count} versions of {package} and delete it for good, saying: {advisory}");
                });
            }
            Self::Delete { package, advisory, dry_run: false } => {
                let body = json!({ "advisory": advisory });
                let done = client.post(&format!("market/packages/{package}/delete"), &body)?;
                let revoked = cell(&done["versions"]);
                out.show(&done, |_| println!("{package} is deleted; versions that are revoked: {revoked}"));
            }
            Self::Import(import) => import.run(client, out)?,
        }
        Ok(())
    }
}

/// Packages, what each asks for, and how many of the caller's skills are of it.
fn list(out: Output, mut found: Value) {
    if !out.json {
        for one in found["items"].as_array_mut().into_iter().flatten() {
            one["asks"] = json!(asks(one));
            // What is signed is the rule, and a line has 80 columns.
            if one["signed"] == json!(false) {
                one["status"] = json!(format!("{}, not signed", cell(&one["status"])));
            }
            if let (Some(version), Some(count)) = (one["installed"].as_str(), one["installed_skills"].as_u64()) {
                one["installed"] = json!(format!("{version} ({})", skills(count)));
            }
        }
    }
    out.list(&found, &COLUMNS);
}

fn skills(count: u64) -> String {
    counted(count, "skill")
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// How much a package asks for; `market show` says what.
fn asks(package: &Value) -> String {
    // A host stands there once for each `[[http]]`.
    let of = |member: &str| {
        let all = package[member].as_array().into_iter().flatten().map(cell);
        all.collect::<BTreeSet<_>>().len() as u64
    };
    let hosts = Some(of("hosts")).filter(|count| *count > 0).map(|count| counted(count, "host"));
    let secrets = Some(of("secrets")).filter(|count| *count > 0).map(|count| counted(count, "secret"));
    let wasi = (package["wasi"] == json!(true)).then(|| "WASI".to_owned());
    let all: Vec<String> = [hosts, secrets, wasi].into_iter().flatten().collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

fn grant(package: &PackageName, to: &str) -> String {
    format!(
        "market/packages/{package}/grants/{}",
        percent_encoding::utf8_percent_encode(to, percent_encoding::NON_ALPHANUMERIC)
    )
}

fn set(client: &Client, out: Output, status: &str, ask: Why) -> Result<(), Failure> {
    let Pinned { name, version } = &ask.package;
    let version =
        version.as_ref().ok_or_else(|| Failure::Refused(format!("say which version, such as {name}@1.4.0")))?;
    if ask.dry_run {
        let shown = client.get(&format!("market/packages/{name}?version={version}"))?;
        out.show(&shown, |v| println!("{name} {version} is {} and would be {status}", cell(&v["status"])));
        return Ok(());
    }
    let body = json!({ "status": status, "advisory": ask.advisory });
    let done = client.put(&format!("market/packages/{name}/versions/{version}/status"), &body)?;
    out.show(&done, |v| println!("{name} {version} is {}", cell(&v["status"])));
    Ok(())
}

fn print_version(p: &Value) {
    let signed = if p["signed"] == json!(true) { "signed by its publisher" } else { "not signed" };
    println!("{} {}  {}", cell(&p["name"]), cell(&p["version"]), cell(&p["status"]));
    println!("{}", cell(&p["digest"]));
    println!("{signed}");
    println!("published {}", cell(&p["published"]));
    println!("by {}", cell(&p["by"]));
    if let (Some(version), Some(count)) = (p["installed"].as_str(), p["installed_skills"].as_u64()) {
        println!("{} installed, of {}", skills(count), plain(version));
    }
    if p["advisory"].is_string() {
        println!("{}", cell(&p["advisory"]));
    }
    println!("{}", cell(&p["manifest"]["package"]["description"]));
    for skill in p["skills"].as_array().into_iter().flatten() {
        println!("  {}  {}", cell(&skill["name"]), cell(&skill["description"]));
    }
    let schema = &p["manifest"]["settings"];
    if let Some(properties) = schema["properties"].as_object() {
        println!("settings (`required` must be there; --json has the whole schema)");
        for (name, property) in properties {
            let is_required = schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
            let required = if is_required { "required" } else { "" };
            println!("  {}  {}  {required}", plain(name), cell(&property["description"]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_asked_for_twice_counts_once() {
        let asked = |hosts: Value, secrets: Value, wasi: bool| {
            asks(&json!({ "hosts": hosts, "secrets": secrets, "wasi": wasi }))
        };
        assert_eq!(asked(json!([]), json!([]), false), "nothing");
        assert_eq!(asked(json!(["a.example", "a.example"]), json!([]), false), "1 host");
        assert_eq!(asked(json!(["a.example", "b.example"]), json!(["token"]), true), "2 hosts, 1 secret, WASI");
        assert_eq!(asked(json!([]), json!(["a", "b"]), false), "2 secrets");
    }
}
