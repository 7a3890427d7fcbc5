//! P1: an invocation in process against a bare fresh instance and the same call.
//!
//! The invocation is the whole of `Host::invoke`: permit, admission, policy, schema of input and output, limits, and
//! the committed record. The commit is shared by whoever calls at the same time, so several callers are measured, as
//! a server has them; the baseline has as many.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit::InvokeSkill;
use clawhold_tenancy::{Role, Scope, SkillName};

use crate::Figure;
use crate::raw::Raw;
use crate::setup::{INPUT, SKILL, bench, component, context, counting};

const ROUNDS: usize = 7;
const CALLS: usize = 4000;
const CALLERS: usize = 64;

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let wasm = component()?;
        let raw = Arc::new(Raw::new(&wasm, SKILL, false)?);
        let keeping = Arc::new(Raw::keeping(&wasm, SKILL)?);
        let bench = bench(wasm).await?;
        let cx = context(Scope::Tenant(bench.tenant.clone()), Role::Caller);
        let permit = cx.permit::<InvokeSkill>(&bench.tenant)?;
        let skill: SkillName = SKILL.parse()?;
        let shared = Arc::new((bench, cx, permit, skill));
        let (mut alone, mut invoked, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
        let (mut kept, mut kept_ratio) = (Vec::new(), Vec::new());
        // The first round warms caches and pools, and is not counted.
        for round in 0..=ROUNDS {
            let bare = |raw: &Arc<Raw>| {
                let baseline = Arc::clone(raw);
                callers(move || {
                    let raw = Arc::clone(&baseline);
                    async move { raw.call().await.map(|_| ()) }
                })
            };
            let raw_us = bare(&raw).await?;
            let kept_us = bare(&keeping).await?;
            let host = Arc::clone(&shared);
            let invoke_us = callers(move || {
                let shared = Arc::clone(&host);
                async move {
                    let (bench, cx, permit, skill) = &*shared;
                    bench.host.invoke(cx, permit, skill, INPUT.to_owned(), Keep::nothing()).await?;
                    Ok(())
                }
            })
            .await?;
            if round > 0 {
                alone.push(raw_us);
                invoked.push(invoke_us);
                ratio.push(invoke_us / raw_us);
                kept.push(kept_us);
                kept_ratio.push(invoke_us / kept_us);
            }
        }
        Ok(vec![
            Figure {
                id: "P1",
                name: "invoke in process with its committed record ÷ bare fresh instance + call",
                unit: "ratio",
                target: "<= 1.3",
                rounds: ratio,
            },
            Figure {
                id: "P1raw",
                name: "bare fresh instance + call, wall time a call",
                unit: "us",
                target: "-",
                rounds: alone,
            },
            Figure {
                id: "P1kept",
                name: "the same ÷ a bare instance whose slot keeps its pages, as the sandbox's do",
                unit: "ratio",
                target: "-",
                rounds: kept_ratio,
            },
            Figure {
                id: "P1rawkept",
                name: "bare instance whose slot keeps its pages + call, wall time a call",
                unit: "us",
                target: "-",
                rounds: kept,
            },
            Figure {
                id: "P1inv",
                name: "invoke in process, wall time a call",
                unit: "us",
                target: "-",
                rounds: invoked,
            },
        ])
    })
}

/// P1b: what fuel, epochs and the limiter cost, on the bare engine: the small call, and one that computes.
pub(crate) fn metering() -> anyhow::Result<Vec<Figure>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut figures = Vec::new();
        for (id, name, wasm, skill) in [
            ("P1b", "fuel, epochs and limiter on ÷ off: a small call", component()?, SKILL),
            (
                "P1bc",
                "fuel, epochs and limiter on ÷ off: counting for a millisecond",
                counting("counts", 1_000_000)?,
                "guest.counts",
            ),
        ] {
            let (off, on) = (Arc::new(Raw::new(&wasm, skill, false)?), Arc::new(Raw::new(&wasm, skill, true)?));
            let ticking = on.engine();
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let ticker = std::thread::spawn(move || {
                while stopped.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
                    ticking.increment_epoch();
                }
            });
            let mut ratio = Vec::new();
            for round in 0..=ROUNDS {
                let mut took = [0.0; 2];
                for (raw, took) in [&off, &on].into_iter().zip(&mut took) {
                    let raw = Arc::clone(raw);
                    let call = move || {
                        let raw = Arc::clone(&raw);
                        async move { raw.call().await.map(|_| ()) }
                    };
                    *took = callers(call).await?;
                }
                if round > 0 {
                    ratio.push(took[1] / took[0]);
                }
            }
            drop(stop);
            let _joined = ticker.join();
            figures.push(Figure { id, name, unit: "ratio", target: "<= 1.1", rounds: ratio });
        }
        Ok(figures)
    })
}

/// Microseconds of wall time a call, with all callers at it.
async fn callers<F, R>(call: F) -> anyhow::Result<f64>
where
    F: Fn() -> R + Clone + Send + 'static,
    R: Future<Output = anyhow::Result<()>> + Send,
{
    let started = Instant::now();
    let tasks: Vec<_> = (0..CALLERS)
        .map(|_| {
            let call = call.clone();
            tokio::spawn(async move {
                for _ in 0..CALLS / CALLERS {
                    call().await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand calls")]
    let calls = (CALLS / CALLERS * CALLERS) as f64;
    Ok(started.elapsed().as_secs_f64() * 1e6 / calls)
}
