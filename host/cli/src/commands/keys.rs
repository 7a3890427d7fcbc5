//! `clawhold keys`

use clap::Subcommand;
use clawhold_tenancy::TenantId;
use serde_json::{Value, json};

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell};

#[derive(Subcommand)]
pub(crate) enum Keys {
    /// Make new data keys, and seal the secrets anew under them. Everything goes on meanwhile.
    #[command(
        after_help = "Without --tenant it is done for the host and for each tenant, which needs an operator's token. After an interruption, or if it failed for some, say it again with the --made-before that it printed: what is done is not done again.\n\nExamples:\n  clawhold keys rotate\n  clawhold keys rotate --tenant acme-corp\n  clawhold keys rotate --made-before 2026-11-26T10:00:00Z\n  clawhold keys rotate --add-master"
    )]
    Rotate {
        /// This tenant alone.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// Leave alone what has a key that was made after this time (RFC 3339). Now, if it is not given.
        #[arg(long, value_name = "TIME")]
        made_before: Option<String>,
        /// Add a key to the master key's file first; it wraps all data keys from then on. Where hosts have
        /// files of their own, copy this host's to the others then: before that they can read and make no new keys.
        #[arg(long, conflicts_with = "tenant")]
        add_master: bool,
    },
}

impl Keys {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        let Self::Rotate { tenant, made_before, add_master } = self;
        if let Some(tenant) = tenant {
            let done = client.post(&path(&tenant.to_string()), &json!({ "made_before": made_before }))?;
            out.show(&done, |done| println!("{}", told(tenant.as_str(), done)));
            return Ok(());
        }
        let ask = json!({ "made_before": made_before, "add_master": add_master });
        let host = client.post("host/keys/rotate", &ask)?;
        let made_before = host["made_before"].clone();
        if let Some(version) = host["master_version"].as_u64() {
            eprintln!("master key {version} was added; if other hosts have copies of the file, copy it to them now");
        }
        eprintln!("if this is interrupted, go on with: clawhold keys rotate --made-before {}", cell(&made_before));
        let tenants = client.get_all("tenants")?;
        let tenants = tenants["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let (mut done, mut failed) = (vec![json!({ "tenant": Value::Null, "rotated": host })], Vec::new());
        for (at, tenant) in tenants.iter().enumerate() {
            let id = cell(&tenant["id"]);
            match client.post(&path(&id), &json!({ "made_before": made_before })) {
                Ok(rotated) => {
                    eprintln!("{} of {}  {}", at + 1, tenants.len(), told(&id, &rotated));
                    done.push(json!({ "tenant": id, "rotated": rotated }));
                }
                Err(failure) => {
                    eprintln!("{} of {}  {id}: {failure}", at + 1, tenants.len());
                    failed.push(id);
                }
            }
        }
        let (count, of) = (tenants.len() - failed.len(), tenants.len());
        out.show(&json!({ "items": done, "failed": failed, "made_before": made_before }), |_| {
            println!("keys of the host and of {count} of {of} tenants are new");
        });
        if failed.is_empty() {
            return Ok(());
        }
        Err(Failure::Refused(format!(
            "{} of {of} tenants still have their old key; when what is said above is mended: clawhold keys rotate --made-before {}",
            failed.len(),
            cell(&made_before)
        )))
    }
}

fn path(tenant: &str) -> String {
    format!("tenants/{tenant}/keys/rotate")
}

fn told(whose: &str, done: &Value) -> String {
    let state = if done["is_new"] == json!(true) { "new" } else { "new already" };
    let unreadable = match done["unreadable"].as_u64() {
        None | Some(0) => String::new(),
        Some(count) => format!(", {count} do not open; put them anew"),
    };
    let (version, resealed) = (cell(&done["key_version"]), cell(&done["resealed"]));
    format!("{whose}: data key {version} ({state}), {resealed} secrets sealed anew{unreadable}")
}
