//! P2: invocations over HTTP against a plain JSON echo, by the same closed-loop client in the same process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

use crate::Figure;
use crate::setup::{Bench, INPUT, SKILL, bench, bench_with, component};

const ROUNDS: usize = 7;
const CONNECTIONS: usize = 32;
const ROUND: Duration = Duration::from_secs(2);

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    // The client has a runtime of its own, so that servers do not wait for its tasks more than for its processor.
    let client = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let servers = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (echo, ours, caller) = servers.block_on(async {
        let echo = echo().await?;
        let (ours, caller) = served(bench(component()?).await?).await?;
        anyhow::Ok((echo, ours, caller))
    })?;
    let path = format!("/v1/tenants/acme-corp/skills/{SKILL}/invoke");
    let (mut plain, mut invoked, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    let (mut plain_work, mut invoked_work) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (echo_rate, echo_work) = measured(|| client.block_on(load(echo, "/echo", &caller, Expect::Answer)))?;
        let (our_rate, our_work) = measured(|| client.block_on(load(ours, &path, &caller, Expect::Answer)))?;
        if round > 0 {
            plain.push(echo_rate);
            invoked.push(our_rate);
            ratio.push(our_rate / echo_rate);
            plain_work.push(echo_work);
            invoked_work.push(our_work);
        }
    }
    Ok(vec![
        Figure {
            id: "P2",
            name: "requests/s over HTTP with a committed record ÷ plain axum JSON echo",
            unit: "ratio",
            target: ">= 0.25",
            rounds: ratio,
        },
        Figure { id: "P2axum", name: "plain axum JSON echo, requests/s", unit: "1/s", target: "-", rounds: plain },
        Figure { id: "P2http", name: "invoke over HTTP, requests/s", unit: "1/s", target: "-", rounds: invoked },
        Figure {
            id: "P2axumcpu",
            name: "plain axum JSON echo, processor time of a request with its client",
            unit: "us",
            target: "-",
            rounds: plain_work,
        },
        Figure {
            id: "P2httpcpu",
            name: "invoke over HTTP, processor time of a request with its client",
            unit: "us",
            target: "-",
            rounds: invoked_work,
        },
    ])
}

/// The plain JSON echo that the API is compared with.
pub(crate) async fn echo() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    let router = Router::new().route("/echo", post(|Json(body): Json<Value>| async { Json(body) }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(at)
}

/// Serves a host for the rest of the process; gives where, and its caller's token.
pub(crate) async fn served(bench: Bench) -> anyhow::Result<(SocketAddr, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    tokio::spawn(clawhold_api::serve(listener, Arc::clone(&bench.host), std::future::pending()));
    let caller = bench.caller.clone();
    // Kept for the process: the folder goes with it.
    std::mem::forget(bench);
    Ok((at, caller))
}

/// P6: the same invocations on PostgreSQL, which waits for its disk, and on SQLite, by turns.
pub(crate) fn databases() -> anyhow::Result<Vec<Figure>> {
    use clawhold_test_support::postgres;

    let client = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let servers = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    postgres::keep_what_is_committed();
    let database = postgres::Database::new(|owner| Ok(servers.block_on(clawhold_store::Store::migrate(owner))?))?;
    let hosts = [String::new(), format!("database_url: {}\n", database.app)]
        .map(|yaml| servers.block_on(async { served(bench_with(component()?, &yaml).await?).await }));
    let path = format!("/v1/tenants/acme-corp/skills/{SKILL}/invoke");
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (host, rates) in hosts.iter().zip(&mut rates) {
            let (at, caller) = host.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let (rate, _) = measured(|| client.block_on(load(*at, &path, caller, Expect::Answer)))?;
            if round > 0 {
                rates.push(rate);
            }
        }
    }
    let [sqlite, postgres] = rates;
    let ratio = sqlite.iter().zip(&postgres).map(|(sqlite, postgres)| postgres / sqlite).collect();
    let figure = |id, name, unit, target, rounds| Figure { id, name, unit, target, rounds };
    Ok(vec![
        figure("P6", "invoke over HTTP on PostgreSQL with row-level security ÷ on SQLite", "ratio", ">= 0.5", ratio),
        figure("P6sqlite", "invoke over HTTP on SQLite, requests/s", "1/s", "-", sqlite),
        figure("P6postgres", "invoke over HTTP on PostgreSQL, requests/s", "1/s", "-", postgres),
    ])
}

/// Requests a second, and microseconds of processor time for each: on a machine that others use too, the second says
/// more than the first.
fn measured(load: impl FnOnce() -> anyhow::Result<Load>) -> anyhow::Result<(f64, f64)> {
    let before = processor_seconds()?;
    let load = load()?;
    let work = processor_seconds()? - before;
    Ok((f64::from(load.answered) / load.seconds, work * 1e6 / f64::from(load.answered)))
}

/// What this process has used so far, in user and system mode. The kernel counts in hundredths of a second.
fn processor_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program comes before, in parentheses, and may hold anything.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<f64> = fields.skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

/// What all connections together got answered, and in what time.
pub(crate) struct Load {
    answered: u32,
    seconds: f64,
}

impl Load {
    /// Answers a second.
    pub(crate) fn rate(&self) -> f64 {
        f64::from(self.answered) / self.seconds
    }
}

/// What every answer must be. Of refusals, the first call may be none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    Answer,
    Refusal,
}

pub(crate) async fn load(server: SocketAddr, path: &str, token: &str, expect: Expect) -> anyhow::Result<Load> {
    let started = Instant::now();
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (path, token) = (path.to_owned(), format!("Bearer {token}"));
            tokio::spawn(async move {
                let stream = TcpStream::connect(server).await?;
                stream.set_nodelay(true)?;
                let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                let driver = tokio::spawn(connection);
                let mut answered = 0_u32;
                while started.elapsed() < ROUND {
                    let request = Request::post(&path)
                        .header("host", "bench")
                        .header("content-type", "application/json")
                        .header("authorization", &token)
                        .body(Full::new(Bytes::from_static(INPUT.as_bytes())))?;
                    let answer = sender.send_request(request).await?;
                    let status = answer.status().as_u16();
                    let refused = expect == Expect::Refusal && status == 429;
                    ensure!(refused || status == 200, "the server answered {status}");
                    answer.into_body().collect().await?;
                    answered += u32::from(refused || expect == Expect::Answer);
                }
                driver.abort();
                anyhow::Ok(answered)
            })
        })
        .collect();
    let mut answered = 0;
    for task in tasks {
        answered += task.await??;
    }
    Ok(Load { answered, seconds: started.elapsed().as_secs_f64() })
}
