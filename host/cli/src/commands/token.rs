//! `clawhold token`

use clap::{Args, Subcommand, ValueEnum};
use clawhold_tenancy::{Publisher, SkillName, TenantId, TokenId};
use serde_json::{Value, json};

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell};

#[derive(Subcommand)]
pub(crate) enum Token {
    /// Make a token. It is shown once.
    #[command(
        after_help = "Examples:\n  clawhold token create --tenant acme-corp --role admin --name ada\n  clawhold token create --publisher northwind --role publisher --name ci\n  clawhold token create --tenant acme-corp --publisher acme-internal --role publisher --name ci"
    )]
    Create {
        #[command(flatten)]
        owner: Owner,
        /// What it may do.
        #[arg(long)]
        role: RoleName,
        /// What people will call it.
        #[arg(long)]
        name: String,
        /// Let it call this skill only; may be given more than once.
        #[arg(long, value_name = "SKILL")]
        skill: Vec<SkillName>,
        /// When it ends, such as 2030-01-31T12:00:00Z.
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// List tokens: never their secret half.
    #[command(after_help = "Example:\n  clawhold token list --tenant acme-corp")]
    List {
        #[command(flatten)]
        owner: Owner,
    },
    /// End a token at once.
    #[command(after_help = "Example:\n  clawhold token revoke --tenant acme-corp 0123456789abcdef0123456789abcdef")]
    Revoke {
        #[command(flatten)]
        owner: Owner,
        /// The token's id: the middle part of `clw_<id>_<secret>`.
        id: TokenId,
    },
}

/// Whose token it is: a tenant's, a publisher's, one's that a tenant owns (both), else the host's.
#[derive(Args)]
pub(crate) struct Owner {
    /// A tenant's.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantId>,
    /// A publisher's.
    #[arg(long, value_name = "PUBLISHER")]
    publisher: Option<Publisher>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum RoleName {
    Operator,
    Admin,
    Auditor,
    Caller,
    Publisher,
}

impl Token {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        match self {
            Self::Create { owner, role, name, skill, expires } => {
                let mut body = owner.body(&name, role)?;
                if !skill.is_empty() {
                    body["skills"] = json!(skill);
                }
                if let Some(expires) = expires {
                    body["expires"] = json!(expires);
                }
                let made = client.post(&owner.path(), &body)?;
                out.show(&made, |made| {
                    println!("{}", cell(&made["token"]));
                    eprintln!("Keep it: it is not shown again. Its id is {}.", cell(&made["id"]));
                });
            }
            Self::List { owner } => {
                let of_host = owner.publisher.as_ref().filter(|_| owner.tenant.is_none());
                let query = of_host.map(|p| format!("?publisher={p}")).unwrap_or_default();
                let tokens = client.get_all(&format!("{}{query}", owner.path()))?;
                let columns = [
                    ("TOKEN", "id"),
                    ("NAME", "name"),
                    ("ROLE", "role"),
                    ("SKILLS", "skills"),
                    ("CREATED", "created"),
                    ("EXPIRES", "expires"),
                    ("REVOKED", "revoked"),
                ];
                out.list(&tokens, &columns);
            }
            Self::Revoke { owner, id } => {
                client.delete(&format!("{}/{id}", owner.path()))?;
                out.show(&Value::Null, |_| println!("token {id} revoked"));
            }
        }
        Ok(())
    }
}

impl Owner {
    fn path(&self) -> String {
        match (&self.tenant, &self.publisher) {
            (None, _) => "tokens".to_owned(),
            (Some(tenant), None) => format!("tenants/{tenant}/tokens"),
            (Some(tenant), Some(publisher)) => format!("tenants/{tenant}/publishers/{publisher}/tokens"),
        }
    }

    /// What a new one is asked for with.
    fn body(&self, name: &str, role: RoleName) -> Result<Value, Failure> {
        let word = role.to_possible_value().map(|v| v.get_name().to_owned());
        match (&self.tenant, &self.publisher) {
            (Some(_), Some(_)) if !matches!(role, RoleName::Publisher) => {
                Err(Failure::Refused("a publisher's token has the role publisher; write --role publisher".to_owned()))
            }
            (Some(_), Some(_)) => Ok(json!({ "name": name })),
            (None, Some(publisher)) => Ok(json!({ "name": name, "role": word, "publisher": publisher })),
            (_, None) => Ok(json!({ "name": name, "role": word })),
        }
    }
}
