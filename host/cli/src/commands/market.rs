//! `clawhold market`

mod import;

use clap::Subcommand;
use clawhold_tenancy::PackageName;

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell};

#[derive(Subcommand)]
pub(crate) enum Market {
    /// List published packages.
    #[command(after_help = "Example:\n  clawhold market list")]
    List,
    /// Show the latest version of a package.
    #[command(after_help = "Example:\n  clawhold market show northwind/crm")]
    Show {
        /// `publisher/name`.
        package: PackageName,
    },
    /// Pull a package from another OCI registry, check it, and publish it here. Needs a publisher's token.
    #[command(
        after_help = "Example:\n  clawhold market import oci://ghcr.io/northwind/crm:1.4.0\n  clawhold market import --dry-run oci://ghcr.io/northwind/crm:1.4.0"
    )]
    Import(import::Import),
}

impl Market {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        match self {
            Self::List => {
                out.list(&client.get_all("market/packages")?, &[("PACKAGE", "name"), ("SINCE", "created")]);
            }
            Self::Show { package } => {
                let shown = client.get(&format!("market/packages/{package}"))?;
                out.show(&shown, |p| {
                    println!("{} {}  {}", cell(&p["name"]), cell(&p["version"]), cell(&p["digest"]));
                    println!("{}", cell(&p["manifest"]["package"]["description"]));
                    for skill in p["skills"].as_array().into_iter().flatten() {
                        println!("  {}  {}", cell(&skill["name"]), cell(&skill["description"]));
                    }
                });
            }
            Self::Import(import) => import.run(client, out)?,
        }
        Ok(())
    }
}
