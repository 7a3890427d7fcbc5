//! P3: one tenant's latency over HTTP, alone and beside a tenant that runs as many endless loops as it may.
//!
//! Requests begin at fixed times, 200 a second, whether or not the one before was answered in time: a client that
//! waits for each answer would not notice how long it was kept waiting (coordinated omission, Tene).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use clawhold_tenancy::TenantId;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::Figure;
use crate::raw::Raw;
use crate::setup::{PLENTY, counting, host, in_memory, publish, smallest, tenant_with};

const ROUNDS: usize = 5;
const REQUESTS: u32 = 800;
const EVERY: Duration = Duration::from_millis(5);
/// The built-in `max_concurrent_runs`.
const LOOPS: usize = 10;

/// A tenant that is kept waiting must show it in its times and not in refusals.
fn quotas() -> String {
    let own = "    max_concurrent_runs: 10\n";
    format!("tenant_quotas:\n  default:\n{PLENTY}  acme-corp:\n{own}")
}

pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let client = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let servers = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let rounds = calibrate(&servers)?;
    let folder = in_memory()?;
    let (server, victim, noisy) = servers.block_on(async {
        let host = host(folder.path(), &quotas()).await?;
        publish(&host, "guests", smallest("small")?).await?;
        publish(&host, "guests", counting("counts", rounds)?).await?;
        publish(&host, "guests", counting("loops", u32::MAX)?).await?;
        let quiet: TenantId = "globex".parse()?;
        let victim = tenant_with(&host, &quiet, &["guests/small", "guests/counts"]).await?;
        let noisy = tenant_with(&host, &"acme-corp".parse()?, &["guests/loops"]).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = listener.local_addr()?;
        tokio::spawn(clawhold_api::serve(listener, Arc::clone(&host), std::future::pending()));
        anyhow::Ok((server, victim, noisy))
    })?;
    let mut figures = Vec::new();
    for (ids, skill, target) in
        [(["P3", "P3alone", "P3beside"], "counts", "<= 1.5"), (["P3s", "P3salone", "P3sbeside"], "small", "<= 3")]
    {
        let path = format!("/v1/tenants/globex/skills/guest.{skill}/invoke");
        let (mut alone, mut beside, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let quiet = client.block_on(latencies(server, &path, &victim))?;
            let noise = begin_noise(&client, server, &noisy)?;
            let loud = client.block_on(latencies(server, &path, &victim))?;
            for one in noise {
                one.abort();
            }
            client.block_on(silence(server, &noisy))?;
            if round > 0 {
                alone.push(quiet);
                beside.push(loud);
                ratio.push(loud / quiet);
            }
        }
        let name = if skill == "counts" {
            ["p99 of a skill that computes for 1 ms, beside endless loops ÷ alone", "p99 alone", "p99 beside them"]
        } else {
            ["p99 of the smallest skill, beside endless loops ÷ alone", "p99 alone", "p99 beside them"]
        };
        figures.push(Figure { id: ids[0], name: name[0], unit: "ratio", target, rounds: ratio });
        figures.push(Figure { id: ids[1], name: name[1], unit: "ms", target: "-", rounds: alone });
        figures.push(Figure { id: ids[2], name: name[2], unit: "ms", target: "-", rounds: beside });
    }
    Ok(figures)
}

/// How far the skill must count for a millisecond, by the fastest of some calls.
pub(crate) fn calibrate(runtime: &tokio::runtime::Runtime) -> anyhow::Result<u32> {
    const TRIED: u32 = 4_000_000;
    let raw = Raw::new(&counting("counts", TRIED)?, "guest.counts", true)?;
    let mut fastest = Duration::MAX;
    for _ in 0..20 {
        let began = Instant::now();
        runtime.block_on(raw.call())?;
        fastest = fastest.min(began.elapsed());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some hundred thousand")]
    Ok((f64::from(TRIED) * 0.001 / fastest.as_secs_f64()) as u32)
}

/// As many endless loops as the tenant may have, and again whenever one ends.
fn begin_noise(
    client: &tokio::runtime::Runtime,
    server: SocketAddr,
    token: &str,
) -> anyhow::Result<Vec<tokio::task::JoinHandle<()>>> {
    let noise = (0..LOOPS)
        .map(|_| {
            let token = token.to_owned();
            client.spawn(async move {
                let Ok(mut connection) = connect(server).await else { return };
                while ask(&mut connection, "/v1/tenants/acme-corp/skills/guest.loops/invoke", &token).await.is_ok() {}
            })
        })
        .collect();
    // Until they are all there: a tenant at its limit is refused before the skill's name is looked at.
    client.block_on(async {
        let mut connection = connect(server).await?;
        let patience = Instant::now() + Duration::from_secs(20);
        while ask(&mut connection, "/v1/tenants/acme-corp/skills/guest.none/invoke", token).await? != 429 {
            ensure!(Instant::now() < patience, "the loops did not begin");
        }
        anyhow::Ok(())
    })?;
    Ok(noise)
}

/// Waits until the loops have ended by themselves: nobody stops them but their limits.
async fn silence(server: SocketAddr, token: &str) -> anyhow::Result<()> {
    let mut connection = connect(server).await?;
    let patience = Instant::now() + Duration::from_mins(2);
    for _ in 0..LOOPS {
        while ask(&mut connection, "/v1/tenants/acme-corp/skills/guest.none/invoke", token).await? == 429 {
            ensure!(Instant::now() < patience, "the loops did not end");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    // One place is free; the loops began together and end together, in their turns.
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// The 99th percentile of the answers' times in milliseconds, from when each request was due.
pub(crate) async fn latencies(server: SocketAddr, path: &str, token: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut tasks = Vec::new();
    let mut idle: Vec<SendRequest<Full<Bytes>>> = Vec::new();
    let (back, mut returned) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..REQUESTS {
        let due = began + EVERY * n;
        tokio::time::sleep_until(due.into()).await;
        while let Ok(connection) = returned.try_recv() {
            idle.push(connection);
        }
        let mut connection = match idle.pop() {
            Some(connection) => connection,
            None => connect(server).await?,
        };
        let (path, token, back) = (path.to_owned(), token.to_owned(), back.clone());
        // The timer of this machine is a millisecond late at times; that is the client's and not the server's.
        let due = Instant::now();
        tasks.push(tokio::spawn(async move {
            let status = ask(&mut connection, &path, &token).await?;
            ensure!(status == 200, "the server answered {status}");
            let took = due.elapsed();
            let _kept = back.send(connection);
            anyhow::Ok(took)
        }));
    }
    let mut took = Vec::new();
    for task in tasks {
        took.push(task.await??.as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() * 99 / 100])
}

pub(crate) async fn connect(server: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

pub(crate) async fn ask(connection: &mut SendRequest<Full<Bytes>>, path: &str, token: &str) -> anyhow::Result<u16> {
    connection.ready().await?;
    let request = Request::post(path)
        .header("host", "bench")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(Full::new(Bytes::from_static(b"{}")))?;
    let answer = connection.send_request(request).await?;
    let status = answer.status().as_u16();
    answer.into_body().collect().await?;
    Ok(status)
}
