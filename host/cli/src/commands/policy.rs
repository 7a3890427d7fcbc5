//! `clawhold policy`

use clap::Subcommand;
use clawhold_tenancy::policy::Method;
use clawhold_tenancy::{PackageName, SecretName, TenantId};
use serde_json::Value;
use url::form_urlencoded;

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell};

#[derive(Subcommand)]
pub(crate) enum Policy {
    /// Say what would become of a request of an installed package, and who says no. Sends nothing.
    #[command(
        after_help = "Example:\n  clawhold policy explain acme-corp northwind/crm --url https://acme.my.salesforce.com/services/data/ --secret salesforce"
    )]
    Explain {
        /// The tenant.
        tenant: TenantId,
        /// `publisher/name`.
        package: PackageName,
        /// Where to.
        #[arg(long)]
        url: String,
        /// The method.
        #[arg(long, default_value = "GET", value_parser = method)]
        method: Method,
        /// A secret that would be put on it.
        #[arg(long, value_name = "NAME")]
        secret: Option<SecretName>,
    },
}

fn method(text: &str) -> Result<Method, String> {
    serde_json::from_value(Value::String(text.to_uppercase()))
        .map_err(|_| "use GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS".to_owned())
}

impl Policy {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        let Self::Explain { tenant, package, url, method, secret } = self;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("url", &url).append_pair("method", method.as_str());
        if let Some(secret) = &secret {
            query.append_pair("secret", secret.as_str());
        }
        let explained = client.get(&format!("tenants/{tenant}/installs/{package}/explain?{}", query.finish()))?;
        out.show(&explained, |explained| {
            let denied = &explained["denied"];
            match (denied.is_object(), explained["unreachable"].as_str()) {
                (true, _) => {
                    println!("refused by the {}: {}", cell(&denied["by"]), cell(&denied["why"]));
                    println!("what helps: {}", cell(&denied["remedy"]));
                }
                (false, Some(why)) => println!("allowed, and it would not get there: {why}"),
                (false, None) => println!("allowed"),
            }
        });
        Ok(())
    }
}
