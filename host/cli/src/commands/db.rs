//! `clawhold db`: a PostgreSQL database, before a host works on it. Not through the API: there is no host yet.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clawhold_runtime::{Tenant, retained_since};
use clawhold_store::{NewDatabase, Store};
use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::Dimension;

use crate::Failure;
use crate::config::{Config, SecretUrl};

#[derive(Subcommand)]
pub(crate) enum Db {
    /// Make a database and its two roles: one that owns the tables, one that a host works as.
    ///
    /// As a superuser. Passwords are made and printed once; what is there already is left as it is.
    #[command(after_help = "Example:\n  clawhold db init --database-url postgres://postgres@127.0.0.1/postgres")]
    Init {
        #[command(flatten)]
        at: At,
        /// The new database.
        #[arg(long, default_value = "clawhold")]
        database: String,
        /// The role that owns the tables.
        #[arg(long, default_value = "clawhold_owner")]
        owner: String,
        /// The role that a host works as.
        #[arg(long, default_value = "clawhold")]
        host_role: String,
    },
    /// Make the tables and the roles clawhold_app and clawhold_purge, or bring them up to date.
    ///
    /// As the role that is to own the tables, which no host works as. It needs CREATEROLE the first time.
    #[command(after_help = "Example:\n  clawhold db migrate --database-url postgres://owner@db.example.com/clawhold")]
    Migrate(At),
    /// Make the audit log's partitions for the months to come, and remove old ones. For once a month.
    ///
    /// As the role that owns the tables. A chain whose oldest entries are removed begins behind them from then on and says so
    /// with an entry; it verifies as before. Export what is to be kept.
    #[command(
        after_help = "Example:\n  clawhold db maintain --keep-months 24 --database-url postgres://owner@db.example.com/clawhold"
    )]
    Maintain {
        #[command(flatten)]
        at: At,
        /// Remove what is older than so many full months; without it nothing is removed.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1200))]
        keep_months: Option<u32>,
        /// The host's configuration: also remove what is older than each tenant's `audit_retention_days`.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Pin a host's login to one tenant: the database shows it no other tenant's rows, whatever the host asks for.
    ///
    /// As a superuser, once the tables are there. Such a host serves its tenant's tokens alone, writes nothing to the host's own chain
    /// and publishes nothing.
    #[command(
        after_help = "Example:\n  clawhold db init --host-role clawhold_acme --database-url postgres://postgres@127.0.0.1/postgres\n  clawhold db pin clawhold_acme acme-corp --database-url postgres://postgres@127.0.0.1/clawhold"
    )]
    Pin {
        /// The role that the host works as.
        login: String,
        /// The tenant.
        tenant: TenantId,
        #[command(flatten)]
        at: At,
    },
    /// Undo a pin. As a superuser.
    #[command(
        after_help = "Example:\n  clawhold db unpin clawhold_acme --database-url postgres://postgres@127.0.0.1/clawhold"
    )]
    Unpin {
        /// The role that the host works as.
        login: String,
        #[command(flatten)]
        at: At,
    },
    /// Check that a host may work with this address: its role, its tables and their version.
    #[command(after_help = "Example:\n  clawhold db check --database-url postgres://clawhold@db.example.com/clawhold")]
    Check(At),
}

#[derive(Args)]
pub(crate) struct At {
    /// The database. Prefer the environment variable for an address with a password: arguments can be seen by other users.
    #[arg(long, env = "CLAWHOLD_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: SecretUrl,
}

impl Db {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
        Ok(runtime.block_on(self.work())?)
    }

    async fn work(self) -> anyhow::Result<()> {
        match self {
            Self::Init { at, database, owner, host_role } => {
                let (owner_password, host_password) = (password()?, password()?);
                let new = NewDatabase { database, owner, owner_password, host: host_role, host_password };
                let found = Store::init(at.database_url.expose(), &new).await?;
                let told = |role: &str, password: &str, was_there: bool| {
                    let password = if was_there { "ITS-PASSWORD" } else { password };
                    format!("postgres://{role}:{password}@SERVER/{}", new.database)
                };
                println!("The database is there. Its passwords are shown this once; write the server for SERVER.");
                println!("For `clawhold db migrate`:\n  {}", told(&new.owner, &new.owner_password, found.owner));
                println!("For a host:\n  {}", told(&new.host, &new.host_password, found.host));
            }
            Self::Migrate(at) => {
                Store::migrate(at.database_url.expose()).await?;
                println!("The tables are up to date. A host works as a role of its own, that of `clawhold db init` or");
                println!("  CREATE ROLE clawhold LOGIN PASSWORD '…' IN ROLE clawhold_app;");
            }
            Self::Maintain { at, keep_months, config } => {
                let kept = Store::keep_partitions(at.database_url.expose(), keep_months).await?;
                println!("{} partitions made, {} removed", kept.made, kept.removed.len());
                for partition in kept.removed {
                    println!("  {partition}");
                }
                if let Some(file) = config {
                    retain(&at, &file).await?;
                }
            }
            Self::Pin { login, tenant, at } => {
                Store::pin(at.database_url.expose(), &login, &tenant).await?;
                println!("{login} serves {tenant} alone.");
            }
            Self::Unpin { login, at } => {
                anyhow::ensure!(Store::unpin(at.database_url.expose(), &login).await?, "{login} is not pinned");
                println!("{login} serves every tenant.");
            }
            Self::Check(at) => {
                let store = Store::open(at.database_url.expose()).await?;
                let pinned = store.pinned().await?;
                store.close().await;
                match pinned {
                    Some(tenant) => println!("A host may work with it, for {tenant} alone."),
                    None => println!("A host may work with it."),
                }
            }
        }
        Ok(())
    }
}

/// 160 bits, as letters and digits: they need no quoting anywhere.
fn password() -> anyhow::Result<String> {
    let mut random = [0_u8; 20];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness for a password: {error}"))?;
    Ok(hex::encode(random))
}

/// Removes what is older than the tenants' quotas say.
async fn retain(at: &At, file: &Path) -> anyhow::Result<()> {
    let quotas = Config::load(Some(file), &std::env::vars().collect())?.quotas();
    let before = |tenant: &Tenant| {
        let quota = quotas.of(&tenant.id, &tenant.tier, &tenant.quota);
        retained_since(quota.get(Dimension::AuditRetention))
    };
    for (tenant, count) in Store::retain_all(at.database_url.expose(), before).await? {
        println!("{count} entries of {tenant} removed");
    }
    Ok(())
}
