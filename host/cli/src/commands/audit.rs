//! `clawhold audit`

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Subcommand;
use clawhold_tenancy::TenantId;
use clawhold_tenancy::audit::export::{Verifier, Whole};
use clawhold_tenancy::audit::{PublicKey, SignedHead};
use serde_json::json;

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell};

/// The longest line that an export has: an entry's detail is bounded by what a run may write, twice in a line.
const LINE_BYTES: u64 = 64 << 20;

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
    ///
    /// Of a tenant, the host does it, and compares with the heads that it keeps outside of the database. Of a file that
    /// `clawhold audit export` wrote, it is done here, and needs the host's public key and nothing else.
    #[command(after_help = "Examples:\n  clawhold audit verify acme-corp\n  \
                            clawhold audit verify --file acme-corp.ndjson --public-key audit.pub --heads heads.ndjson")]
    Verify {
        /// The tenant.
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        tenant: Option<TenantId>,
        /// An export, instead of asking the host.
        #[arg(long, value_name = "FILE", requires = "public_key")]
        file: Option<PathBuf>,
        /// The host's public key, as 64 hexadecimal digits or as a file that holds them.
        #[arg(long, value_name = "KEY", requires = "file")]
        public_key: Option<String>,
        /// Heads that were kept elsewhere, to find a tail that was cut or a chain that was rewritten.
        #[arg(long, value_name = "FILE", requires = "file")]
        heads: Option<PathBuf>,
    },
    /// Write the whole log as lines of JSON, from its beginning to its signed head.
    #[command(after_help = "Example:\n  clawhold audit export acme-corp --out acme-corp.ndjson")]
    Export {
        /// The tenant.
        tenant: TenantId,
        /// Where to write; standard output if it is not given.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print where the chain ends now, signed by the host. Keep it elsewhere.
    #[command(after_help = "Example:\n  clawhold audit head acme-corp >> heads.ndjson")]
    Head {
        /// The tenant.
        tenant: TenantId,
    },
}

impl Audit {
    pub(crate) fn run(self, client: impl FnOnce() -> Result<Client, Failure>, out: Output) -> Result<(), Failure> {
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
                out.list(&client()?.get(&format!("tenants/{tenant}/audit?limit={limit}"))?, &columns);
            }
            Self::Verify { tenant: Some(tenant), .. } => {
                let found = client()?.get(&format!("tenants/{tenant}/audit/verify"))?;
                if found["verified"] != json!(true) {
                    return Err(
                        anyhow!("the chain is broken at entry {}: {}", found["seq"], cell(&found["why"])).into()
                    );
                }
                out.show(&found, |f| {
                    println!("{} entries, unbroken; the last has hash {}", f["entries"], cell(&f["head"]));
                });
            }
            Self::Verify { tenant: None, file, public_key, heads } => {
                let (file, key) = (file.unwrap_or_default(), public_key.unwrap_or_default());
                let whole = verify_file(&file, &key, heads.as_deref())?;
                let told = json!({
                    "verified": true, "chain": whole.chain, "first": whole.first,
                    "entries": whole.head.seq + 1 - whole.first, "head": whole.head, "outside_heads": whole.outside,
                });
                out.show(&told, |told| {
                    println!(
                        "{}: {} entries from number {} on, unbroken; signed by {}",
                        cell(&told["chain"]),
                        told["entries"],
                        told["first"],
                        whole.head.key
                    );
                    if heads.is_some() {
                        println!("{} heads that were kept elsewhere are in it", whole.outside);
                    }
                });
            }
            Self::Export { tenant, out: path } => {
                let path_of = format!("tenants/{tenant}/audit/export");
                match path {
                    Some(path) => {
                        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
                        let mut to = BufWriter::new(file);
                        client()?.get_lines(&path_of, &mut to)?;
                        to.flush().with_context(|| format!("cannot write {}", path.display()))?;
                    }
                    None => client()?.get_lines(&path_of, &mut io::stdout().lock())?,
                }
            }
            // One line in either form: heads are kept as lines.
            Self::Head { tenant } => println!("{}", client()?.get(&format!("tenants/{tenant}/audit/head"))?),
        }
        Ok(())
    }
}

fn verify_file(path: &Path, key: &str, heads: Option<&Path>) -> anyhow::Result<Whole> {
    let key: PublicKey = match key.parse() {
        Ok(key) => key,
        Err(error) => {
            let text = std::fs::read_to_string(key)
                .with_context(|| format!("--public-key: {error}, or name a file that holds them ({key})"))?;
            text.parse().with_context(|| format!("--public-key {key}"))?
        }
    };
    let mut outside: Vec<SignedHead> = Vec::new();
    if let Some(path) = heads {
        each_line(path, |number, line| {
            // A file of heads is added to while it is copied: its last line may be half of one.
            match serde_json::from_str(line) {
                Ok(head) => outside.push(head),
                Err(error) => {
                    eprintln!("{}, line {number}: passed over, it is no signed head ({error})", path.display());
                }
            }
            Ok(())
        })?;
    }
    let mut verifier = Verifier::new(key, outside);
    each_line(path, |_, line| verifier.line(line).with_context(|| format!("{} is not verified", path.display())))?;
    verifier.finish().with_context(|| format!("{} is not verified", path.display()))
}

fn each_line(path: &Path, mut each: impl FnMut(u64, &str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = BufReader::with_capacity(1 << 20, file);
    let (mut line, mut number) = (String::new(), 0);
    loop {
        line.clear();
        number += 1;
        let read = lines.by_ref().take(LINE_BYTES).read_line(&mut line);
        match read.with_context(|| format!("cannot read {}, line {number}", path.display()))? {
            0 => return Ok(()),
            _ => each(number, line.trim_end_matches('\n'))?,
        }
    }
}
