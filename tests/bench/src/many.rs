//! P4: ten thousand tenants on one host: memory, and whether the last is as fast as the first.

use std::sync::Arc;
use std::time::Instant;

use clawhold_runtime::Host;
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::InvokeSkill;
use clawhold_tenancy::{Role, Scope, TenantId};

use crate::Figure;
use crate::setup::{context, host, in_memory, publish, smallest, tenant_with};

const PACKAGES: usize = 50;
const FIRST: usize = 10;
const TENANTS: usize = 10_000;
const ROUNDS: usize = 7;
const CALLS: usize = 2000;

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = in_memory()?;
        let host = host(folder.path(), "").await?;
        for package in 0..PACKAGES {
            publish(&host, "guests", smallest(&format!("p{package}"))?).await?;
        }
        add(&host, 0..FIRST).await?;
        let few = warm(&host).await?;
        add(&host, FIRST..TENANTS / 2).await?;
        let half = resident()?;
        add(&host, TENANTS / 2..TENANTS).await?;
        let all = resident()?;
        let many = warm(&host).await?;
        let ratio = few.iter().zip(&many).map(|(few, many)| many / few).collect();
        #[expect(clippy::cast_precision_loss, reason = "ten thousand")]
        let further = (all - half) / (TENANTS / 2) as f64;
        Ok(vec![
            Figure {
                id: "P4",
                name: "resident memory with 10,000 tenants of 50 packages, each called once",
                unit: "MiB",
                target: "<= 1024",
                rounds: vec![all / 1024.0],
            },
            Figure {
                id: "P4b",
                name: "memory of a further idle tenant",
                unit: "KiB",
                target: "<= 4",
                rounds: vec![further],
            },
            Figure {
                id: "P4c",
                name: "warm invoke in process, at 10,000 tenants ÷ at 10",
                unit: "ratio",
                target: "<= 1.1",
                rounds: ratio,
            },
        ])
    })
}

/// Makes tenants with one install each, and calls each once.
async fn add(host: &Arc<Host>, tenants: std::ops::Range<usize>) -> anyhow::Result<()> {
    for n in tenants {
        let tenant: TenantId = format!("tenant-{n}").parse()?;
        let package = n % PACKAGES;
        tenant_with(host, &tenant, &[&format!("guests/p{package}")]).await?;
        call(host, &tenant, package).await?;
    }
    Ok(())
}

async fn call(host: &Arc<Host>, tenant: &TenantId, package: usize) -> anyhow::Result<()> {
    let cx = context(Scope::Tenant(tenant.clone()), Role::Caller);
    let permit = cx.permit::<InvokeSkill>(tenant)?;
    host.invoke(&cx, &permit, &format!("guest.p{package}").parse()?, "{}".to_owned(), Keep::nothing()).await?;
    Ok(())
}

/// Microseconds of a call of one of the first tenants, a round each.
async fn warm(host: &Arc<Host>) -> anyhow::Result<Vec<f64>> {
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let began = Instant::now();
        for n in 0..CALLS {
            let n = n % FIRST;
            call(host, &format!("tenant-{n}").parse()?, n).await?;
        }
        #[expect(clippy::cast_precision_loss, reason = "two thousand")]
        let each = began.elapsed().as_secs_f64() * 1e6 / CALLS as f64;
        if round > 0 {
            rounds.push(each);
        }
    }
    Ok(rounds)
}

/// KiB of this process that are in memory.
fn resident() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
