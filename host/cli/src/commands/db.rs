//! `clawhold db`: a PostgreSQL database, before a host works on it. Not through the API: there is no host yet.

use clap::{Args, Subcommand};
use clawhold_store::Store;

use crate::Failure;
use crate::config::DatabaseUrl;

#[derive(Subcommand)]
pub(crate) enum Db {
    /// Make the tables and the roles clawhold_app and clawhold_purge, or bring them up to date.
    ///
    /// As the role that is to own the tables, which no host works as. It needs CREATEROLE the first time.
    #[command(after_help = "Example:\n  clawhold db migrate --database-url postgres://owner@db.example.com/clawhold")]
    Migrate(At),
    /// Check that a host may work with this address: its role, its tables and their version.
    #[command(after_help = "Example:\n  clawhold db check --database-url postgres://clawhold@db.example.com/clawhold")]
    Check(At),
}

#[derive(Args)]
pub(crate) struct At {
    /// The database. Prefer the environment variable for an address with a password: arguments can be seen by other users.
    #[arg(long, env = "CLAWHOLD_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: DatabaseUrl,
}

impl Db {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
        runtime.block_on(async {
            match self {
                Self::Migrate(at) => {
                    Store::migrate(at.database_url.expose()).await.map_err(anyhow::Error::from)?;
                    println!("The tables are up to date. A host works as a role of its own, for example:");
                    println!("  CREATE ROLE clawhold LOGIN PASSWORD '…' IN ROLE clawhold_app;");
                }
                Self::Check(at) => {
                    let store = Store::open(at.database_url.expose()).await.map_err(anyhow::Error::from)?;
                    store.close().await;
                    println!("A host may work with it.");
                }
            }
            Ok(())
        })
    }
}
