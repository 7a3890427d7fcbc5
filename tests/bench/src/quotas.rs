//! P7, P7r, P10: what it costs to ask for a quota, and to refuse.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clawhold_limiter::redis::Redis;
use clawhold_limiter::{Limiter, Shared};
use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::{Amounts, Quota, RATES};
use redis::AsyncCommands;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use crate::Figure;
use crate::over_http::{self, Expect};
use crate::setup::{SKILL, bench_with, component};

const ROUNDS: usize = 5;
const THREADS: usize = 8;
const CALLERS: usize = 64;
const TENANTS: usize = 1_000;
const ROUND: Duration = Duration::from_secs(2);

/// Something of every rate.
fn ask() -> Amounts {
    RATES.iter().fold(Amounts::default(), |ask, rate| ask.and(*rate, 1_000))
}

fn used() -> Amounts {
    RATES.iter().fold(Amounts::default(), |ask, rate| ask.and(*rate, 10))
}

/// A quota that is not used up.
fn quota() -> Arc<Quota> {
    Arc::new(RATES.iter().fold(Quota::default(), |quota, rate| quota.with(*rate, rate.row().most)))
}

fn tenants() -> anyhow::Result<Vec<TenantId>> {
    (0..TENANTS).map(|n| Ok(format!("tenant-{n}").parse()?)).collect()
}

/// The limiter of one host never waits.
fn now<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => anyhow::bail!("it waits"),
    }
}

pub(crate) fn in_process() -> anyhow::Result<Vec<Figure>> {
    let (limiter, quota, tenants) = (Arc::new(Limiter::default()), quota(), Arc::new(tenants()?));
    let mut rates = Vec::new();
    for round in 0..=ROUNDS {
        let began = Instant::now();
        let done: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (limiter, quota, tenants) = (&limiter, &quota, &tenants);
                    scope.spawn(move || {
                        let (mut done, mut at) = (0_u64, thread * 125);
                        while began.elapsed() < ROUND {
                            for _ in 0..1_000 {
                                at = (at + 1) % TENANTS;
                                let until = Some(began + Duration::from_mins(1));
                                let grant = now(limiter.reserve(&tenants[at], quota, ask(), until))?;
                                grant.ok().context("it is refused")?.settle(&used());
                                done += 1;
                            }
                        }
                        anyhow::Ok(done)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
                .sum::<anyhow::Result<u64>>()
        })?;
        if round > 0 {
            rates.push(float(done) / began.elapsed().as_secs_f64() / 1e6);
        }
    }
    Ok(vec![Figure {
        id: "P7",
        name: "reserve and settle of all rates, in process, 8 threads, 1,000 tenants",
        unit: "M/s",
        target: ">= 1",
        rounds: rates,
    }])
}

pub(crate) fn through_redis() -> anyhow::Result<Vec<Figure>> {
    let server = clawhold_test_support::redis::Redis::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (quota, tenants) = (quota(), Arc::new(tenants()?));
    let (mut plain, mut checked, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    runtime.block_on(async {
        let config = ConnectionManagerConfig::new();
        let client = redis::Client::open(server.url())?;
        let connection = ConnectionManager::new_with_config(client, config).await?;
        let place = Redis::one(&server.url(), "bench".to_owned())?;
        let limiter = Limiter::shared(Arc::new(place) as Arc<dyn Shared>, 1);
        for round in 0..=ROUNDS {
            let counting = connection.clone();
            let counts = callers(move |caller| {
                let (mut connection, key) = (counting.clone(), format!("bench:{caller}"));
                async move {
                    let _: u64 = connection.incr(&key, 1).await?;
                    anyhow::Ok(())
                }
            });
            let counts = counts.await?;
            let asking = (Arc::clone(&limiter), Arc::clone(&quota), Arc::clone(&tenants));
            let checks = callers(move |at| {
                let (limiter, quota, tenants) = asking.clone();
                async move {
                    let until = Some(Instant::now() + Duration::from_mins(1));
                    let grant = limiter.reserve(&tenants[at % TENANTS], &quota, ask(), until).await;
                    grant.ok().context("it is refused")?.settle(&used());
                    anyhow::Ok(())
                }
            });
            let checks = checks.await?;
            ensure!(limiter.hosts() == Some((1, false)), "Redis did not answer in time");
            if round > 0 {
                plain.push(counts / 1e3);
                checked.push(checks / 1e3);
                ratio.push(checks / counts);
            }
        }
        anyhow::Ok(())
    })?;
    let figure = |id, name, unit, target, rounds| Figure { id, name, unit, target, rounds };
    Ok(vec![
        figure("P7r", "reserve and settle of all rates through Redis, 64 callers ÷ INCR", "ratio", ">= 0.3", ratio),
        figure("P7rincr", "INCR with the same client, 64 callers", "k/s", "-", plain),
        figure("P7rcheck", "reserve and settle through Redis", "k/s", "-", checked),
    ])
}

/// What so many callers get done a second, each one after another.
async fn callers<F, W>(work: W) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
    W: Fn(usize) -> F + Clone + Send + 'static,
{
    let began = Instant::now();
    let tasks: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let work = work.clone();
            tokio::spawn(async move {
                let (mut done, mut at) = (0_u64, caller * (TENANTS / CALLERS));
                while began.elapsed() < ROUND {
                    work(at).await?;
                    at += 1;
                    done += 1;
                }
                anyhow::Ok(done)
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await??;
    }
    Ok(float(done) / began.elapsed().as_secs_f64())
}

pub(crate) fn refusing() -> anyhow::Result<Vec<Figure>> {
    let client = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let servers = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (echo, ours, caller): (SocketAddr, SocketAddr, String) = servers.block_on(async {
        let echo = over_http::echo().await?;
        // One call, and the next in a minute.
        let bench = bench_with(component()?, "  acme-corp:\n    max_skill_calls_per_minute: 1\n").await?;
        let (ours, caller) = over_http::served(bench).await?;
        anyhow::Ok((echo, ours, caller))
    })?;
    let path = format!("/v1/tenants/acme-corp/skills/{SKILL}/invoke");
    let (mut plain, mut refused, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let echo = client.block_on(over_http::load(echo, "/echo", &caller, Expect::Answer))?.rate();
        let ours = client.block_on(over_http::load(ours, &path, &caller, Expect::Refusal))?.rate();
        if round > 0 {
            plain.push(echo);
            refused.push(ours);
            ratio.push(ours / echo);
        }
    }
    let figure = |id, name, unit, target, rounds| Figure { id, name, unit, target, rounds };
    Ok(vec![
        figure("P10", "429s/s over HTTP ÷ plain axum JSON echo", "ratio", ">= 0.5", ratio),
        figure("P10axum", "plain axum JSON echo, requests/s", "1/s", "-", plain),
        figure("P10http", "refused calls over HTTP, 429s/s", "1/s", "-", refused),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "a rate is made of it")]
fn float(n: u64) -> f64 {
    n as f64
}
