//! `clawhold audit`

use clap::Subcommand;
use clawhold_tenancy::TenantId;
use serde_json::json;

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell};

#[derive(Subcommand)]
pub(crate) enum Audit {
    /// List entries, newest first.
    #[command(after_help = "Example:\n  clawhold audit list acme-corp --limit 20")]
    List {
        /// The tenant.
        tenant: TenantId,
        /// How many: 1 to 200.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Recompute the chain and name the first entry that was changed, if any was.
    #[command(after_help = "Example:\n  clawhold audit verify acme-corp")]
    Verify {
        /// The tenant.
        tenant: TenantId,
    },
}

impl Audit {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        match self {
            Self::List { tenant, limit } => {
                let columns = [
                    ("SEQ", "seq"),
                    ("AT", "at"),
                    ("ACTION", "action"),
                    ("RESOURCE", "resource"),
                    ("OUTCOME", "outcome"),
                    ("ACTOR", "actor"),
                ];
                out.list(&client.get(&format!("tenants/{tenant}/audit?limit={limit}"))?, &columns);
            }
            Self::Verify { tenant } => {
                let found = client.get(&format!("tenants/{tenant}/audit/verify"))?;
                if found["verified"] != json!(true) {
                    return Err(anyhow::anyhow!(
                        "the chain is broken at entry {}: {}",
                        found["seq"],
                        cell(&found["why"])
                    )
                    .into());
                }
                out.show(&found, |f| {
                    println!("{} entries, unbroken; the last has hash {}", f["entries"], cell(&f["head"]));
                });
            }
        }
        Ok(())
    }
}
