//! P5: the first call of a skill whose native code is only on disk, as after a restart.

use std::sync::Arc;
use std::time::Instant;

use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::InvokeSkill;
use clawhold_tenancy::{Role, Scope, TenantId};

use crate::Figure;
use crate::setup::{context, host, new_skill, publish, tenant_with};

/// Packages, and so first calls.
const COMPONENTS: usize = 15;

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let wasm = new_skill()?;
    runtime.block_on(async {
        let first = host(folder.path(), "").await?;
        for n in 0..COMPONENTS {
            publish(&first, "northwind", renamed(&wasm, n)).await?;
            tenant_with(&first, &tenant(n)?, &[&package(n)]).await?;
        }
        first.stop(std::time::Duration::ZERO).await;
        anyhow::Ok(())
    })?;
    let sizes: Vec<u64> = std::fs::read_dir(folder.path().join("artifacts"))?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .collect::<anyhow::Result<_>>()?;
    #[expect(clippy::cast_precision_loss, reason = "some hundred thousand")]
    let native = sizes.iter().copied().max().unwrap_or_default() as f64 / 1024.0;
    runtime.block_on(async {
        let second = host(folder.path(), "").await?;
        let (mut cold, mut warm) = (Vec::new(), Vec::new());
        for n in 0..COMPONENTS {
            let tenant = tenant(n)?;
            let cx = context(Scope::Tenant(tenant.clone()), Role::Caller);
            let permit = cx.permit::<InvokeSkill>(&tenant)?;
            for times in [&mut cold, &mut warm] {
                let before = second.counts().0;
                let began = Instant::now();
                let answer = Arc::clone(&second)
                    .invoke(&cx, &permit, &"hello.greet".parse()?, r#"{"name":"Ada"}"#.to_owned(), Keep::nothing())
                    .await?;
                times.push(began.elapsed().as_secs_f64() * 1e3);
                anyhow::ensure!(answer.output.get().contains("Ada"), "a wrong answer");
                anyhow::ensure!(second.counts().0.compiled == before.compiled, "something was compiled");
            }
        }
        let load = cold.iter().zip(&warm).map(|(cold, warm)| (cold - warm).max(0.0)).collect();
        Ok(vec![
            Figure {
                id: "P5",
                name: "first call of a skill whose artifact is only on disk, beyond a warm call",
                unit: "ms",
                target: "<= 1",
                rounds: load,
            },
            Figure { id: "P5cold", name: "the first call, its commit included", unit: "ms", target: "-", rounds: cold },
            Figure {
                id: "P5warm",
                name: "the second call, its commit included",
                unit: "ms",
                target: "-",
                rounds: warm,
            },
            Figure { id: "P5size", name: "native code of the skill", unit: "KiB", target: "-", rounds: vec![native] },
        ])
    })
}

fn tenant(n: usize) -> anyhow::Result<TenantId> {
    Ok(format!("tenant-{n}").parse()?)
}

/// The same component under another name of the same length: another digest, another artifact.
fn renamed(wasm: &[u8], n: usize) -> Vec<u8> {
    const NAME: &[u8] = b"northwind/hello\"";
    let mut wasm = wasm.to_vec();
    let at = wasm.windows(NAME.len()).position(|bytes| bytes == NAME).expect("the manifest is in it");
    wasm[at..at + NAME.len() - 1].copy_from_slice(package(n).as_bytes());
    wasm
}

fn package(n: usize) -> String {
    format!("northwind/hell{}", char::from(b"abcdefghijklmno"[n]))
}
