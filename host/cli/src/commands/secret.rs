//! `clawhold secret`

use std::io::{IsTerminal, Read};
use std::str::FromStr;

use anyhow::Context;
use clap::Subcommand;
use clawhold_tenancy::{SecretName, TenantId};
use serde_json::{Value, json};

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell};

#[derive(Subcommand)]
pub(crate) enum Secret {
    /// Store a value: a text, or a flat JSON object of named fields.
    #[command(
        after_help = "Examples:\n  clawhold secret put acme-corp/salesforce            # asks for the value\n  clawhold secret put acme-corp/salesforce - < token.txt\n  echo '{\"user\":\"u\",\"pass\":\"p\"}' | clawhold secret put acme-corp/mail -"
    )]
    Put {
        /// `TENANT/NAME`.
        place: Place,
        /// The value; `-` reads standard input, and without it a terminal asks.
        value: Option<String>,
    },
    /// List names, versions and dates: never values.
    #[command(after_help = "Example:\n  clawhold secret list acme-corp")]
    List {
        /// The tenant.
        tenant: TenantId,
    },
    /// List the versions of a secret that can be put back: never values.
    #[command(after_help = "Example:\n  clawhold secret versions acme-corp/salesforce")]
    Versions {
        /// `TENANT/NAME`.
        place: Place,
    },
    /// Put an older value back, as a new version.
    #[command(
        after_help = "Examples:\n  clawhold secret rollback acme-corp/salesforce          # the one before\n  clawhold secret rollback acme-corp/salesforce --to 3"
    )]
    Rollback {
        /// `TENANT/NAME`.
        place: Place,
        /// The version to put back; the one before the newest, if it is not given.
        #[arg(long, value_name = "VERSION")]
        to: Option<i64>,
    },
    /// Delete a secret with all its versions.
    #[command(after_help = "Example:\n  clawhold secret delete acme-corp/salesforce --dry-run")]
    Delete {
        /// `TENANT/NAME`.
        place: Place,
        /// Only say what would be deleted.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Clone)]
pub(crate) struct Place {
    tenant: TenantId,
    name: SecretName,
}

impl FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (tenant, name) = text.split_once('/').ok_or("write TENANT/NAME, such as acme-corp/salesforce")?;
        Ok(Self {
            tenant: tenant.parse().map_err(|e| format!("{e}"))?,
            name: name.parse().map_err(|e| format!("{e}"))?,
        })
    }
}

impl Place {
    fn path(&self) -> String {
        format!("tenants/{}/secrets/{}", self.tenant, self.name)
    }
}

impl Secret {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        match self {
            Self::Put { place, value } => {
                let value = read(value)?;
                // A flat object of texts is named fields; anything else is one text.
                let fields = serde_json::from_str::<std::collections::BTreeMap<String, String>>(&value);
                let value = fields.map_or_else(|_| json!(value), |fields| json!(fields));
                let stored = client.put(&place.path(), &json!({ "value": value }))?;
                out.show(&stored, |s| println!("secret {} stored, version {}", cell(&s["name"]), cell(&s["version"])));
            }
            Self::List { tenant } => {
                let columns = [("SECRET", "name"), ("VERSION", "version"), ("UPDATED", "updated"), ("BY", "by")];
                out.list(&client.get_all(&format!("tenants/{tenant}/secrets"))?, &columns);
            }
            Self::Versions { place } => {
                let columns = [("VERSION", "version"), ("UPDATED", "updated"), ("BY", "by")];
                out.list(&client.get(&format!("{}/versions", place.path()))?, &columns);
            }
            Self::Rollback { place, to } => {
                let stored = client.post(&format!("{}/rollback", place.path()), &json!({ "version": to }))?;
                out.show(&stored, |s| {
                    println!(
                        "secret {} has its older value again, as version {}",
                        cell(&s["name"]),
                        cell(&s["version"])
                    );
                });
            }
            Self::Delete { place, dry_run: true } => {
                let held = client.get_all(&format!("tenants/{}/secrets", place.tenant))?;
                let items = held["items"].as_array().cloned().unwrap_or_default();
                let found = items.into_iter().find(|secret| secret["name"] == json!(place.name));
                let found = found.ok_or_else(|| Failure::Refused("Not found: secret does not exist".to_owned()))?;
                out.show(&found, |s| {
                    println!("would delete secret {}, version {}", cell(&s["name"]), cell(&s["version"]));
                });
            }
            Self::Delete { place, dry_run: false } => {
                client.delete(&place.path())?;
                out.show(&Value::Null, |_| println!("secret {} deleted", place.name));
            }
        }
        Ok(())
    }
}

fn read(given: Option<String>) -> anyhow::Result<String> {
    match given.as_deref() {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read the value from standard input")?;
            // What `echo` and editors add is not part of it.
            let end = text.trim_end_matches(['\n', '\r']).len();
            text.truncate(end);
            Ok(text)
        }
        Some(value) => {
            eprintln!(
                "warning: the value stands in the command line, where other users and the shell's history see it; use `-`"
            );
            Ok(value.to_owned())
        }
        None if std::io::stdin().is_terminal() => {
            rpassword::prompt_password("Value: ").context("cannot read the value")
        }
        None => anyhow::bail!("no value; write `-` to read it from standard input"),
    }
}
