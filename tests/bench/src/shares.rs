//! P3t: two hundred tenants of equal weight that want different amounts, and what each gets of the processor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::InvokeSkill;
use clawhold_tenancy::{Role, Scope, TenantId};
use tokio::task::JoinSet;

use crate::Figure;
use crate::neighbour::calibrate;
use crate::setup::{PLENTY, context, counting_within, host, in_memory, publish, tenant_with};

const ROUNDS: usize = 3;
const TENANTS: usize = 200;
/// One in five wants less than its share: a call of a millisecond twice a second.
const LIGHT: usize = 5;
const WARM: Duration = Duration::from_secs(3);
const ROUND: Duration = Duration::from_secs(20);
/// Milliseconds of the three skills, and calls at a time: every tenant has one of each.
const LASTS: [u32; 3] = [1, 5, 20];
const CALLERS: [usize; 4] = [1, 2, 4, 8];

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let rounds = calibrate(&runtime)?;
    let folder = in_memory()?;
    let fuel: Vec<Arc<AtomicU64>> = (0..TENANTS).map(|_| Arc::default()).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let (mut index, mut lights) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        let host =
            host(folder.path(), &format!("limits:\n  timeout_ms: 60000\ntenant_quotas:\n  default:\n{PLENTY}")).await?;
        for ms in LASTS {
            publish(&host, "guests", counting_within(&format!("takes{ms}"), rounds * ms, 60_000)?).await?;
        }
        let mut callers = JoinSet::new();
        for (n, fuel) in fuel.iter().enumerate() {
            let tenant: TenantId = format!("tenant-{n}").parse()?;
            let is_light = n % LIGHT == 0;
            let ms = if is_light { 1 } else { LASTS[n % LASTS.len()] };
            tenant_with(&host, &tenant, &[&format!("guests/takes{ms}")]).await?;
            let skill = format!("guest.takes{ms}").parse()?;
            let cx = Arc::new(context(Scope::Tenant(tenant.clone()), Role::Caller));
            let callers_of = if is_light { 1 } else { CALLERS[n % CALLERS.len()] };
            for _ in 0..callers_of {
                let (host, cx, stop, fuel) = (Arc::clone(&host), Arc::clone(&cx), Arc::clone(&stop), Arc::clone(fuel));
                let (tenant, skill): (TenantId, clawhold_tenancy::SkillName) = (tenant.clone(), Clone::clone(&skill));
                callers.spawn(async move {
                    let permit = cx.permit::<InvokeSkill>(&tenant).map_err(|e| anyhow::anyhow!("{e}"))?;
                    while !stop.load(Ordering::Relaxed) {
                        let done = host.invoke(&cx, &permit, &skill, "{}".to_owned(), Keep::nothing()).await?;
                        fuel.fetch_add(done.usage.fuel, Ordering::Relaxed);
                        if is_light {
                            tokio::time::sleep(Duration::from_millis(500)).await;
                        }
                    }
                    anyhow::Ok(())
                });
            }
        }
        tokio::time::sleep(WARM).await;
        for _ in 0..ROUNDS {
            for fuel in &fuel {
                fuel.store(0, Ordering::Relaxed);
            }
            tokio::time::sleep(ROUND).await;
            let got: Vec<f64> = fuel.iter().map(|fuel| float(fuel.load(Ordering::Relaxed))).collect();
            let of = |light: bool| {
                got.iter().enumerate().filter(move |(n, _)| (n % LIGHT == 0) == light).map(|(_, got)| *got)
            };
            index.push(jain(of(false)));
            // What the light ones got of what they asked for: 2 ms of work a second, in fuel of the shortest skill.
            let mean = |values: &mut dyn Iterator<Item = f64>| {
                let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
                sum / count
            };
            lights.push(mean(&mut of(true)) / mean(&mut of(false)));
        }
        stop.store(true, Ordering::Relaxed);
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    })?;
    Ok(vec![
        Figure {
            id: "P3t",
            name: "Jain's index of the processor of tenants that want more, 200 tenants",
            unit: "index",
            target: ">= 0.95",
            rounds: index,
        },
        Figure {
            id: "P3tlight",
            name: "what a tenant that wants little gets ÷ one that wants more",
            unit: "ratio",
            target: "-",
            rounds: lights,
        },
    ])
}

/// 1 if all have the same, 1/n if one has all.
fn jain(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, squares, n) = values.fold((0.0, 0.0, 0.0), |(sum, squares, n), x| (sum + x, squares + x * x, n + 1.0));
    sum * sum / (n * squares)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio is made of it")]
fn float(n: u64) -> f64 {
    n as f64
}
