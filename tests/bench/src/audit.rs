//! The audit chain: what a commit shared by many costs (P6b), and how fast a chain is verified (P9).

use std::io::{BufRead as _, BufReader, Write as _};
use std::time::Instant;

use base64::Engine as _;
use clawhold_store::audit::Verification;
use clawhold_store::{RunWriter, Store};
use clawhold_tenancy::audit::export::{Begin, End, FORMAT, Line, Verifier};
use clawhold_tenancy::audit::{Event, Head, Outcome, Sealed, SealedEvent, SigningKey};
use clawhold_tenancy::{TenantId, TraceId};

use crate::Figure;

const ROUNDS: usize = 5;
const CALLERS: u32 = 32;
/// Entries of a round of P6b, of each kind.
const COMMITS: u32 = 400;
/// Entries of the chains of P9.
const SHORT: u32 = 10_000;
const LONG: u32 = 1_000_000;

fn event(n: i64) -> SealedEvent {
    Event {
        at_us: 1_700_000_000_000_000 + n,
        actor: "token:ci#0123456789abcdef0123456789abcdef".to_owned(),
        action: "skill.invoke".to_owned(),
        resource: "skill:crm.lookup_account".to_owned(),
        outcome: Outcome::Success,
        run: None,
        trace: TraceId::random(),
        // What the detail of a run takes, sealed.
        detail: Sealed::from_ciphertext(vec![7; 450]),
    }
}

async fn store(folder: &std::path::Path, tenant: &TenantId) -> anyhow::Result<Store> {
    let store = Store::open(&format!("sqlite:{}", folder.join("bench.db").display())).await?;
    let mut tx = store.system_write("bench").await?;
    tx.create_tenant(tenant, "standard", 1).await?;
    tx.commit(event(0)).await?;
    Ok(store)
}

/// P6b: entries a second of one writer with 32 callers, and one commit for each entry, on the same database.
pub(crate) fn commits() -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    let tenant: TenantId = "acme-corp".parse()?;
    runtime.block_on(async {
        let store = store(folder.path(), &tenant).await?;
        let (mut grouped, mut single, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let began = Instant::now();
            for n in 0..COMMITS {
                store.tenant_write(&tenant).await?.commit(event(n.into())).await?;
            }
            let alone = f64::from(COMMITS) / began.elapsed().as_secs_f64();
            let writer = RunWriter::start(store.clone());
            let began = Instant::now();
            let mut callers = tokio::task::JoinSet::new();
            for _ in 0..CALLERS {
                let (writer, tenant) = (writer.clone(), tenant.clone());
                callers.spawn(async move {
                    for n in 0..COMMITS {
                        writer.append(tenant.clone(), None, vec![event(n.into())], None).await?;
                    }
                    anyhow::Ok(())
                });
            }
            while let Some(done) = callers.join_next().await {
                done??;
            }
            let shared = f64::from(CALLERS * COMMITS) / began.elapsed().as_secs_f64();
            writer.close().await;
            grouped.push(shared);
            single.push(alone);
            ratio.push(shared / alone);
        }
        let figure = |id, name, unit, target, rounds| Figure { id, name, unit, target, rounds };
        Ok(vec![
            figure("P6b", "audit entries of one writer with 32 callers ÷ one commit an entry", "ratio", ">= 5", ratio),
            figure("P6bgroup", "audit entries of one writer with 32 callers, entries/s", "1/s", "-", grouped),
            figure("P6bone", "one commit for each audit entry, entries/s", "1/s", "-", single),
        ])
    })
}

/// P9: entries a second that are verified, in the database and in an exported file, and how much memory that takes.
pub(crate) fn verification() -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    let tenant: TenantId = "acme-corp".parse()?;
    let mut rates = Vec::new();
    let mut memory = Vec::new();
    for entries in [SHORT, LONG] {
        let folder = folder.path().join(entries.to_string());
        std::fs::create_dir(&folder)?;
        let store = runtime.block_on(async {
            let store = store(&folder, &tenant).await?;
            for from in (0..entries).step_by(10_000) {
                let more: Vec<_> = (from..(from + 10_000).min(entries)).map(|n| event(n.into())).collect();
                store.tenant_write(&tenant).await?.commit_all(&more[0], &more[1..]).await?;
            }
            anyhow::Ok(store)
        })?;
        let mut found = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let whole = runtime.block_on(async { store.tenant(&tenant).await?.audit_verify().await })?;
            anyhow::ensure!(
                matches!(whole, Verification::Verified { entries: n, .. } if n == i64::from(entries)),
                "{whole:?}"
            );
            found.push(f64::from(entries) / began.elapsed().as_secs_f64());
        }
        rates.push(found);
        let file = folder.join("export.ndjson");
        let key = write(&file, entries)?;
        let mut found = Vec::new();
        for _ in 0..ROUNDS {
            forget_peak()?;
            let began = Instant::now();
            let mut verifier = Verifier::new(key.public(), Vec::new());
            let mut lines = BufReader::with_capacity(1 << 20, std::fs::File::open(&file)?);
            let mut line = String::new();
            while lines.read_line(&mut line)? > 0 {
                verifier.line(line.trim_end_matches('\n'))?;
                line.clear();
            }
            verifier.finish()?;
            found.push(f64::from(entries) / began.elapsed().as_secs_f64());
            memory.push(peak()?);
        }
        rates.push(found);
    }
    let long = memory.split_off(ROUNDS);
    let [short_db, short_file, long_db, long_file] =
        <[Vec<f64>; 4]>::try_from(rates).map_err(|_| anyhow::anyhow!("four"))?;
    let flat = |short: &[f64], long: &[f64]| short.iter().zip(long).map(|(short, long)| long / short).collect();
    let figure = |id, name, unit, target, rounds| Figure { id, name, unit, target, rounds };
    Ok(vec![
        figure("P9flat", "verify a file: entries/s of 1 M ÷ of 10 k", "ratio", "-", flat(&short_file, &long_file)),
        figure("P9dbflat", "verify in SQLite: entries/s of 1 M ÷ of 10 k", "ratio", "-", flat(&short_db, &long_db)),
        figure("P9", "verify an exported chain of 1 M entries, entries/s", "1/s", ">= 200000", long_file),
        figure("P9db", "verify a chain of 1 M entries in SQLite, entries/s", "1/s", "-", long_db),
        figure(
            "P9mem",
            "peak of memory while a file of 1 M is verified ÷ of 10 k",
            "ratio",
            "0.9 to 1.1",
            flat(&memory, &long),
        ),
    ])
}

fn write(path: &std::path::Path, entries: u32) -> anyhow::Result<SigningKey> {
    let key = SigningKey::from_seed(&[7; 32]);
    let mut to = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut at = Head::EMPTY;
    let begin = Begin { clawhold_audit: FORMAT, chain: "acme-corp".to_owned(), after: at.into() };
    writeln!(to, "{}", serde_json::to_string(&begin)?)?;
    for n in 0..entries {
        let event = event(n.into());
        let next = at.after("acme-corp", &event);
        let sealed = base64::prelude::BASE64_STANDARD.encode(event.detail.bytes());
        let line = Line::of((next.seq, at.hash, next.hash), &event, None, &sealed, None);
        writeln!(to, "{}", serde_json::to_string(&line)?)?;
        at = next;
    }
    writeln!(to, "{}", serde_json::to_string(&End { head: key.sign("acme-corp", at, 1) })?)?;
    to.flush()?;
    Ok(key)
}

/// Lets the kernel count the peak of memory anew.
fn forget_peak() -> anyhow::Result<()> {
    Ok(std::fs::write("/proc/self/clear_refs", "5")?)
}

/// The most memory that this process had since then, in MiB.
fn peak() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|text| text.trim().parse::<f64>().ok());
    Ok(kib.ok_or_else(|| anyhow::anyhow!("no VmHWM"))? / 1024.0)
}
