//! `clawhold tenant`

use clap::{Arg, ArgGroup, ArgMatches, Args, Command, FromArgMatches, Subcommand};
use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::{Dimension, Row, TABLE};
use serde_json::{Map, Value, json};

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell, grouped, table};

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
    /// Put a tenant into another tier. Needs an operator's token.
    #[command(after_help = "Example:\n  clawhold tenant set-tier acme-corp enterprise")]
    SetTier {
        /// The id.
        tenant: TenantId,
        /// The tier.
        tier: String,
    },
    /// Say something else of a tenant's quota. Needs an operator's token.
    #[command(
        after_help = "What is set holds before the tier's and the default, on every node within a second. `inherit` takes back what was set.\n\nExamples:\n  clawhold tenant set-quota acme-corp --max-runs 10 --max-skill-calls-per-minute 5000\n  clawhold tenant set-quota acme-corp --max-runs inherit"
    )]
    SetQuota(SetQuota),
    /// Show what a tenant may use.
    #[command(subcommand)]
    Quota(Quota),
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

#[derive(Subcommand)]
pub(crate) enum Quota {
    /// Show each value of a tenant's quota, and where it comes from.
    #[command(after_help = "Example:\n  clawhold tenant quota show acme-corp")]
    Show {
        /// The id.
        tenant: TenantId,
    },
}

/// The flags are made from the table of dimensions.
pub(crate) struct SetQuota {
    tenant: TenantId,
    changes: Map<String, Value>,
}

impl Args for SetQuota {
    fn augment_args(command: Command) -> Command {
        let tenant = Arg::new("tenant").required(true).value_parser(clap::value_parser!(TenantId)).help("The id");
        let flag = |row: &'static Row| {
            let help = format!("{} {} to {} {}", row.protects, row.least, row.most, row.unit);
            let arg = Arg::new(row.key).long(row.key.replace('_', "-")).value_name(row.unit.to_uppercase()).help(help);
            let arg = arg.value_parser(move |text: &str| number(row, text));
            // The name that the article and most people use.
            if row.dimension == Dimension::ConcurrentRuns { arg.visible_alias("max-runs") } else { arg }
        };
        let any = TABLE.iter().map(|row| row.key);
        command
            .arg(tenant)
            .args(TABLE.iter().map(flag))
            .group(ArgGroup::new("changes").args(any).multiple(true).required(true))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SetQuota {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let tenant = matches.get_one::<TenantId>("tenant").cloned();
        let tenant = tenant.ok_or_else(|| clap::Error::new(clap::error::ErrorKind::MissingRequiredArgument))?;
        let said = |row: &Row| Some((row.key.to_owned(), json!(matches.get_one::<Option<u64>>(row.key)?)));
        Ok(Self { tenant, changes: TABLE.iter().filter_map(said).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A value of a dimension, or `inherit`.
fn number(row: &Row, text: &str) -> Result<Option<u64>, String> {
    if text == "inherit" {
        return Ok(None);
    }
    let range = format!("write a whole number from {} to {} ({}), or `inherit`", row.least, row.most, row.unit);
    let number = text.replace('_', "").parse().map_err(|_| range.clone())?;
    row.mistake(number).map_or(Ok(Some(number)), |_| Err(range))
}

fn show_quota(quota: &Value, out: Output) {
    out.show(quota, |quota| {
        println!("{}  tier {}", cell(&quota["tenant"]), cell(&quota["tier"]));
        let rows = quota["dimensions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let rows = rows.iter().map(|row| {
            let from = match row["asked"].as_u64() {
                Some(asked) => format!("{} ({} was asked for)", cell(&row["source"]), grouped(asked)),
                None => cell(&row["source"]),
            };
            let value = row["value"].as_u64().map(grouped).unwrap_or_default();
            vec![cell(&row["dimension"]), value, cell(&row["unit"]), from]
        });
        table(&["DIMENSION", "VALUE", "UNIT", "FROM"], &rows.collect::<Vec<_>>());
    });
}

impl Tenant {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        match self {
            Self::Create { tenant, tier } => {
                let made = client.post("tenants", &json!({ "id": tenant, "tier": tier }))?;
                out.show(&made, |made| println!("tenant {} created", cell(&made["id"])));
            }
            Self::SetTier { tenant, tier } => {
                let changed = client.patch(&format!("tenants/{tenant}"), &json!({ "tier": tier }))?;
                out.show(&changed, |t| println!("tenant {} is in tier {}", cell(&t["id"]), cell(&t["tier"])));
            }
            Self::SetQuota(SetQuota { tenant, changes }) => {
                let changed = client.patch(&format!("tenants/{tenant}/quota"), &Value::Object(changes))?;
                show_quota(&changed, out);
            }
            Self::Quota(Quota::Show { tenant }) => {
                show_quota(&client.get(&format!("tenants/{tenant}/quota"))?, out);
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
