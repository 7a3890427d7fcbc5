//! `clawhold tenant`

use clap::Subcommand;
use clawhold_tenancy::TenantId;
use serde_json::json;

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell};

#[derive(Subcommand)]
pub(crate) enum Tenant {
    /// Create a tenant. Needs an operator's token.
    #[command(after_help = "Example:\n  clawhold tenant create acme-corp --tier pro")]
    Create {
        /// The id: 2 to 63 of a-z, 0-9 and -.
        tenant: TenantId,
        /// The tier.
        #[arg(long, default_value = "standard")]
        tier: String,
    },
    /// List tenants.
    #[command(after_help = "Example:\n  clawhold tenant list")]
    List,
    /// Show one tenant.
    #[command(after_help = "Example:\n  clawhold tenant show acme-corp")]
    Show {
        /// The id.
        tenant: TenantId,
    },
}

impl Tenant {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        match self {
            Self::Create { tenant, tier } => {
                let made = client.post("tenants", &json!({ "id": tenant, "tier": tier }))?;
                out.show(&made, |made| println!("tenant {} created", cell(&made["id"])));
            }
            Self::List => {
                let columns = [("TENANT", "id"), ("TIER", "tier"), ("STATE", "state"), ("CREATED", "created")];
                out.list(&client.get_all("tenants")?, &columns);
            }
            Self::Show { tenant } => {
                let shown = client.get(&format!("tenants/{tenant}"))?;
                out.show(&shown, |t| {
                    println!(
                        "{}  tier {}  {}  since {}",
                        cell(&t["id"]),
                        cell(&t["tier"]),
                        cell(&t["state"]),
                        cell(&t["created"])
                    );
                });
            }
        }
        Ok(())
    }
}
