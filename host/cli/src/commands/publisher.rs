//! `clawhold publisher`

use std::path::PathBuf;

use clap::Subcommand;
use clawhold_marketplace::key::PublicKey;
use clawhold_marketplace::publisher::KeyRotation;
use clawhold_tenancy::audit::now_us;
use clawhold_tenancy::{Publisher as Name, TenantId};
use serde_json::{Value, json};

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell};
use crate::skill::keys::{KeyFrom, ask_passphrase_anew, read_key};

#[derive(Subcommand)]
pub(crate) enum Publisher {
    /// Register a publisher, best with its first key. A tenant's own is seen by that tenant alone.
    #[command(
        after_help = "Examples:\n  clawhold publisher add northwind --key 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29\n  clawhold publisher add acme-internal --tenant acme-corp"
    )]
    Add {
        /// What the names of its packages begin with.
        name: Name,
        /// Its first key: the 64 hexadecimal digits that `clawhold skill keygen` prints.
        #[arg(long)]
        key: Option<PublicKey>,
        /// The tenant whose own it is to be.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// List the publishers, or a tenant's own.
    #[command(after_help = "Examples:\n  clawhold publisher list\n  clawhold publisher list --tenant acme-corp")]
    List {
        /// The tenant whose own are listed.
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// Show a publisher and its keys.
    #[command(after_help = "Example:\n  clawhold publisher show northwind")]
    Show {
        /// The publisher.
        name: Name,
    },
    /// Give a publisher another key. For operators; a publisher does it with `rotate`.
    #[command(
        after_help = "Example:\n  clawhold publisher add-key northwind 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
    )]
    AddKey {
        /// The publisher.
        name: Name,
        /// The key: 64 hexadecimal digits.
        key: PublicKey,
        /// From when on it signs (RFC 3339); now if not given.
        #[arg(long, value_name = "TIME")]
        not_before: Option<String>,
        /// From when on it signs no longer.
        #[arg(long, value_name = "TIME")]
        not_after: Option<String>,
    },
    /// Have one of your keys vouch for a new one.
    #[command(after_help = "Example:\n  clawhold publisher rotate northwind --key old.pem --to new.pem")]
    Rotate {
        /// The publisher.
        name: Name,
        #[command(flatten)]
        key: KeyFrom,
        /// The file of the new key, as `clawhold skill keygen` made it.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Trust a key no longer. For operators.
    #[command(
        after_help = "Example:\n  clawhold publisher revoke-key northwind 4a5c… --at 2026-11-20T00:00:00Z --earlier-falls"
    )]
    RevokeKey {
        /// The publisher.
        name: Name,
        /// The key's id, as `clawhold publisher show` has it.
        key: String,
        /// Since when it was not safe (RFC 3339); now if not given.
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// What it signed before that is not good any more either.
        #[arg(long)]
        earlier_falls: bool,
    },
}

impl Publisher {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        match self {
            Self::Add { name, key, tenant } => {
                let body = json!({ "name": name, "key": key });
                let path =
                    tenant.map_or("market/publishers".to_owned(), |tenant| format!("tenants/{tenant}/publishers"));
                let added = client.post(&path, &body)?;
                out.show(&added, |p| {
                    println!("{} is a publisher", cell(&p["name"]));
                    if key.is_none() {
                        println!("It publishes nothing that is signed until an operator gives it a key:");
                        println!("  clawhold publisher add-key {} PUBLIC-HALF", cell(&p["name"]));
                    }
                });
            }
            Self::List { tenant } => {
                let columns = [("PUBLISHER", "name"), ("OWNER", "owner"), ("SINCE", "created")];
                let all = match tenant {
                    // They are few, and come at once.
                    Some(tenant) => client.get(&format!("tenants/{tenant}/publishers"))?,
                    None => client.get_all("market/publishers")?,
                };
                out.list(&all, &columns);
            }
            Self::Show { name } => out.show(&client.get(&format!("market/publishers/{name}"))?, print),
            Self::AddKey { name, key, not_before, not_after } => {
                let body = json!({ "key": key, "not_before": not_before, "not_after": not_after });
                out.show(&client.post(&format!("market/publishers/{name}/keys"), &body)?, print);
            }
            Self::Rotate { name, key, to } => {
                let old =
                    key.read()?.ok_or_else(|| Failure::Refused("say which key vouches, with --key FILE".to_owned()))?;
                let new = read_key(&to, ask_passphrase_anew)?;
                let rotation = KeyRotation {
                    publisher: name.clone(),
                    key: new.public(),
                    not_before_us: now_us(),
                    not_after_us: None,
                };
                let body = json!({ "rotation": rotation.sign(&old) });
                out.show(&client.post(&format!("market/publishers/{name}/keys"), &body)?, print);
            }
            Self::RevokeKey { name, key, at, earlier_falls } => {
                let body = json!({ "at": at, "earlier_falls": earlier_falls });
                out.show(&client.post(&format!("market/publishers/{name}/keys/{key}/revoke"), &body)?, print);
            }
        }
        Ok(())
    }
}

fn print(publisher: &Value) {
    println!("{}", cell(&publisher["name"]));
    if publisher["owner"].is_string() {
        println!("the own publisher of {}", cell(&publisher["owner"]));
    }
    for key in publisher["keys"].as_array().into_iter().flatten() {
        println!("  key {}", cell(&key["key"]));
        println!("    id {}", cell(&key["id"]));
        println!("    from {}", cell(&key["not_before"]));
        println!("    by {}", cell(&key["by"]));
        if key["not_after"].is_string() {
            println!("    until {}", cell(&key["not_after"]));
        }
        if key["revoked"].is_string() {
            let falls = if key["earlier_falls"] == json!(true) { ", and what it signed before" } else { "" };
            println!("    not trusted from {} on{falls}", cell(&key["revoked"]));
        }
    }
}
