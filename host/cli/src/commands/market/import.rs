//! `clawhold market import`

use clap::Args;
use clawhold_marketplace::dsse::Envelope;
use clawhold_marketplace::read;
use clawhold_tenancy::Digest;
use serde_json::{Value, json};

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell, grouped, progress};
use crate::registry::{Login, Pulled, Reference, Source, pull};
use crate::skill::{self, keys::KeyFrom};

#[derive(Args)]
pub(crate) struct Import {
    /// `oci://HOST/REPOSITORY:TAG`, or `@sha256:…` for the very manifest.
    source: Source,
    /// Ask the registry without TLS. Whoever is in between reads and changes what goes there.
    #[arg(long)]
    plain_http: bool,
    /// Pull and check, and publish nothing.
    #[arg(long)]
    dry_run: bool,
    /// A user of the registry; the password is in CLAWHOLD_REGISTRY_PASSWORD. Both go to the registry's own address alone.
    #[arg(long, value_name = "NAME", env = "CLAWHOLD_REGISTRY_USER", hide_env_values = true)]
    user: Option<String>,
    /// What it is signed with for this host: the signature that it came with is of somebody else's key.
    #[command(flatten)]
    key: KeyFrom,
}

impl Import {
    pub(super) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        progress(&format!("pulling {}", self.source));
        let pulled = pull(&self.source, self.plain_http, self.login().as_ref())?;
        let mut checked = self.check(&pulled)?;
        if !out.json {
            let size = grouped(pulled.component.len() as u64);
            println!("{} {}", cell(&checked["name"]), cell(&checked["version"]));
            println!("  from       {}", self.source);
            println!("  manifest   {}  {}", pulled.manifest, self.how());
            println!("  component  {}  {size} bytes, as the manifest says", cell(&checked["digest"]));
            println!("  signature  {}", checked["signature"].as_str().unwrap_or("none"));
        }
        if !self.dry_run {
            let signature = match self.key.read()? {
                Some(key) => Some(skill::keys::signature(&pulled.component, &key)?),
                None => None,
            };
            checked["published"] = skill::send(&pulled.component, signature.as_deref(), false, client)?;
        }
        match checked.get("published") {
            Some(published) if !out.json => skill::say(published, false, out),
            _ => out.show(&checked, |_| {}),
        }
        Ok(())
    }

    /// What the package is, and that it is what it was asked for as.
    fn check(&self, pulled: &Pulled) -> Result<Value, Failure> {
        let package = read(&pulled.component).map_err(|error| Failure::Refused(error.to_string()))?.manifest.package;
        // Tags move. One that is a version and not this one's has.
        if let Reference::Tag(tag) = &self.source.reference
            && tag.parse::<semver::Version>().is_ok_and(|version| version != package.version)
        {
            return Err(Failure::Refused(format!(
                "the tag {tag} has the version {} of {}; ask for that tag, or for the manifest's digest",
                package.version, package.name
            )));
        }
        // Whoever signed it is nobody to this host. What its own publisher signs when it is published is another signature.
        let signature = pulled.signature.as_ref().map(|text| match Envelope::parse(text) {
            Ok(envelope) => format!("by the key {}, which counts at its source alone", envelope.key_id()),
            Err(_) => "of a form that is not known here".to_owned(),
        });
        Ok(json!({
            "name": package.name,
            "version": package.version,
            "source": self.source.to_string(),
            "manifest": pulled.manifest,
            "digest": Digest::of(&pulled.component),
            "size": pulled.component.len(),
            "signature": signature,
        }))
    }

    fn how(&self) -> &'static str {
        match self.source.reference {
            Reference::Digest(_) => "the one that was asked for",
            Reference::Tag(_) => "what the tag names now",
        }
    }

    fn login(&self) -> Option<Login> {
        let user = self.user.clone()?;
        Some(Login { user, password: std::env::var("CLAWHOLD_REGISTRY_PASSWORD").unwrap_or_default() })
    }
}
