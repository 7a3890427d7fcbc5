//! P3n: a neighbour that computes for a millisecond, beside five kinds of noise, each as much as a tenant's quota allows.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;

use clawhold_tenancy::TenantId;
use clawhold_test_support::guest::Guest;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::neighbour::{ask, calibrate, connect, latencies};
use crate::setup::{PLENTY, counting, host, in_memory, publish, tenant_with, tenant_with_origin};
use crate::{Figure, spread};

const ROUNDS: usize = 5;
/// The built-in `max_concurrent_runs`.
const RUNS: usize = 10;
/// Connections of the flood, and refused calls a second over all of them.
const FLOOD: usize = 16;
const FLOOD_RATE: u64 = 10_000;
/// How often a connection of the flood sends what is due.
const TICK: Duration = Duration::from_millis(8);

/// One kind of noise: its figure, its tenant and its skill.
const KINDS: [(&str, &str, &str, &str); 5] = [
    ("P3nloops", "loops", "loops", "p99 beside endless loops ÷ alone"),
    ("P3nmemory", "memory", "memory", "p99 beside allocations of 64 MiB ÷ alone"),
    ("P3nsleep", "sleep", "fetch", "p99 beside host calls that sleep ÷ alone"),
    ("P3nslow", "slow", "fetch", "p99 beside slow HTTP peers ÷ alone"),
    ("P3nflood", "flood", "small", "p99 beside 10,000 refused calls a second ÷ alone"),
];

/// With the defaults: the worst kind, each kind, and what the machine does by itself.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let Beside { kinds, machine } = beside("")?;
    let name = "p99 of a skill that computes for 1 ms, beside the worst of five kinds of noise ÷ alone";
    let mut figures = vec![Figure { id: "P3n", name, unit: "ratio", target: "<= 1.5", rounds: worst(&kinds) }];
    figures.extend(KINDS.into_iter().zip(kinds).map(|((id, _, _, name), rounds)| Figure {
        id,
        name,
        unit: "ratio",
        target: "-",
        rounds,
    }));
    let name = "p99 beside threads that know nothing of Clawhold and only count, as many as cores, where no other wants one ÷ alone";
    figures.push(Figure { id: "P3nmachine", name, unit: "ratio", target: "-", rounds: machine });
    Ok(figures)
}

/// The worst kind, where skills leave the host a core.
pub(crate) fn with_a_core_to_spare() -> anyhow::Result<Vec<Figure>> {
    ensure!(cores() > 1, "P3nspare leaves a core out, and there is one");
    let slots = cores() - 1;
    let rounds = worst(&beside(&format!("compute_slots: {slots}\n"))?.kinds);
    let name = "as P3n, with one slot to compute less than there are cores";
    Ok(vec![Figure { id: "P3nspare", name, unit: "ratio", target: "-", rounds }])
}

/// The rounds of the kind whose median is worst. A round's own worst would be the luck of five draws: the 99th percentile of one
/// and the same thing differs by a third from one round to the next.
fn worst(kinds: &[Vec<f64>]) -> Vec<f64> {
    let by_median = |a: &&Vec<f64>, b: &&Vec<f64>| spread(a)[1].total_cmp(&spread(b)[1]);
    kinds.iter().max_by(by_median).cloned().unwrap_or_default()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// Ratios to what it is alone, by round.
struct Beside {
    kinds: Vec<Vec<f64>>,
    machine: Vec<f64>,
}

fn beside(settings: &str) -> anyhow::Result<Beside> {
    let client = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    // What the noise's client computes is no use of the host: whoever makes noise has a machine of its own. It gets what is left.
    let noisy = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .on_thread_start(yield_to_all)
        .enable_all()
        .build()?;
    let servers = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let rounds = calibrate(&servers)?;
    let folder = in_memory()?;
    let (silent, slow) = (peer(false)?, peer(true)?);
    let yaml = format!(
        "{settings}egress:\n  open: [127.0.0.1/32]\ntenant_quotas:\n  default:\n{PLENTY}    max_memory_mb: 1024\n  flood:\n    max_skill_calls_per_minute: 1\n{}",
        ["loops", "memory", "sleep", "slow"].map(|id| format!("  {id}:\n    max_concurrent_runs: {RUNS}\n")).concat()
    );
    let (server, victim, tokens) = servers.block_on(async {
        let host = host(folder.path(), &yaml).await?;
        publish(&host, "guests", counting("counts", rounds)?).await?;
        publish(&host, "guests", counting("loops", u32::MAX)?).await?;
        publish(&host, "guests", crate::setup::smallest("small")?).await?;
        publish(&host, "guests", allocating()?).await?;
        let victim = tenant_with(&host, &"globex".parse()?, &["guests/counts"]).await?;
        let mut tokens = Vec::new();
        for (_, id, skill, _) in KINDS {
            let tenant: TenantId = id.parse()?;
            let (package, origin) = match id {
                "sleep" => (format!("guests/fetch{}", silent.port()), silent),
                _ => (
                    if skill == "fetch" { format!("guests/fetch{}", slow.port()) } else { format!("guests/{skill}") },
                    slow,
                ),
            };
            if skill == "fetch" {
                publish(&host, "guests", fetching(origin)?).await?;
            }
            tokens.push(tenant_with_origin(&host, &tenant, &[&package], &format!("http://{origin}")).await?);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = listener.local_addr()?;
        tokio::spawn(clawhold_api::serve(listener, Arc::clone(&host), std::future::pending()));
        anyhow::Ok((server, victim, tokens))
    })?;
    let path = "/v1/tenants/globex/skills/guest.counts/invoke";
    let mut ratios: Vec<Vec<f64>> = vec![Vec::new(); KINDS.len()];
    let mut machine = Vec::new();
    for round in 0..=ROUNDS {
        let mut of_round: Vec<f64> = Vec::new();
        for ((_, id, skill, _), token) in KINDS.iter().zip(&tokens) {
            let quiet = client.block_on(latencies(server, path, &victim))?;
            let skill = match *id {
                "sleep" => format!("fetch{}", silent.port()),
                "slow" => format!("fetch{}", slow.port()),
                _ => (*skill).to_owned(),
            };
            let at = format!("/v1/tenants/{id}/skills/guest.{skill}/invoke");
            let noise = Noise::begin(&noisy, server, &at, token, *id == "flood");
            std::thread::sleep(Duration::from_millis(300));
            let loud = client.block_on(latencies(server, path, &victim))?;
            let answers = noise.counts();
            noise.stop();
            // A noise that is refused, or that does not reach its rate, is none.
            match *id {
                "flood" => ensure!(
                    answers.other <= 1 + answers.seconds / 60
                        && 10 * answers.refused >= 8 * FLOOD_RATE * answers.seconds,
                    "{answers:?} is not a flood"
                ),
                _ => ensure!(answers.refused == 0, "{id}: {answers:?}"),
            }
            // Whoever hangs up takes only what waits along; what runs has a few seconds at most.
            std::thread::sleep(Duration::from_secs(if *id == "flood" { 1 } else { 4 }));
            of_round.push(loud / quiet);
        }
        let quiet = client.block_on(latencies(server, path, &victim))?;
        let counting = Counting::begin();
        let loud = client.block_on(latencies(server, path, &victim))?;
        drop(counting);
        if round > 0 {
            machine.push(loud / quiet);
            ratios.iter_mut().zip(of_round).for_each(|(ratios, ratio)| ratios.push(ratio));
        }
    }
    Ok(Beside { kinds: ratios, machine })
}

/// Threads that count, one for each core, as long as this lives: what this machine itself costs a neighbour once no core is idle.
struct Counting(Arc<AtomicBool>, Vec<std::thread::JoinHandle<()>>);

impl Counting {
    fn begin() -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let count = || {
            let goes_on = Arc::clone(&goes_on);
            std::thread::spawn(move || {
                yield_to_all();
                let mut count = 0_u64;
                while goes_on.load(Ordering::Relaxed) {
                    count = std::hint::black_box(count.wrapping_add(1));
                }
            })
        };
        let threads = (0..cores()).map(|_| count()).collect();
        Self(goes_on, threads)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
        for thread in self.1.drain(..) {
            let _ended = thread.join();
        }
    }
}

/// What a noise was answered.
#[derive(Debug)]
struct Answers {
    refused: u64,
    other: u64,
    seconds: u64,
}

/// Callers that go on until they are stopped.
struct Noise {
    callers: Vec<JoinHandle<()>>,
    refused: Arc<AtomicU64>,
    other: Arc<AtomicU64>,
    began: Instant,
}

impl Noise {
    /// As many calls at a time as the tenant may have, and again whenever one ends; or, for a flood, refused calls at a fixed rate.
    fn begin(client: &tokio::runtime::Runtime, server: SocketAddr, path: &str, token: &str, is_flood: bool) -> Self {
        let (refused, other): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let caller = |_| {
            let (path, token) = (path.to_owned(), token.to_owned());
            let (refused, other) = (Arc::clone(&refused), Arc::clone(&other));
            client.spawn(async move {
                let Ok(mut connection) = connect(server).await else { return };
                let (mut tick, mut due) = (tokio::time::interval(TICK), 0);
                loop {
                    if is_flood {
                        tick.tick().await;
                        due += FLOOD_RATE * 8;
                    } else {
                        due += 1_000 * FLOOD as u64;
                    }
                    while due >= 1_000 * FLOOD as u64 {
                        due -= 1_000 * FLOOD as u64;
                        let Ok(status) = ask(&mut connection, &path, &token).await else { return };
                        if status == 429 { &refused } else { &other }.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        let callers = (0..if is_flood { FLOOD } else { RUNS }).map(caller).collect();
        Self { callers, refused, other, began: Instant::now() }
    }

    fn counts(&self) -> Answers {
        Answers {
            refused: self.refused.load(Ordering::Relaxed),
            other: self.other.load(Ordering::Relaxed),
            seconds: self.began.elapsed().as_secs(),
        }
    }

    fn stop(self) {
        self.callers.iter().for_each(JoinHandle::abort);
    }
}

/// Has this thread run only where no other wants the core.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn yield_to_all() {
    let idle = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the structure and changes how this thread is scheduled.
    let _as_it_was = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const idle) };
}

#[cfg(not(target_os = "linux"))]
fn yield_to_all() {}

/// A peer that says nothing, or a byte of an answer now and then. Ends with the process.
fn peer(speaks: bool) -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut answer = b"HTTP/1.1 200 OK\r\nx-slow: ".iter().copied().chain(std::iter::repeat(b'x'));
                let mut heard = [0; 1024];
                let _said = stream.read(&mut heard);
                while speaks && stream.write_all(&[answer.next().unwrap_or(b'x')]).is_ok() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                // Until the other side has had enough.
                while matches!(stream.read(&mut heard), Ok(1..)) {}
            });
        }
    });
    Ok(at)
}

/// A skill that asks a peer and waits for its answer.
fn fetching(peer: SocketAddr) -> anyhow::Result<Vec<u8>> {
    let url = format!("http://{peer}/x");
    let text = format!(
        ";;! [[http]]\n;;! host_setting = \"origin\"\n;;! methods = [\"GET\"]\n;;! paths = [\"/*\"]\n\
         ;;! [limits]\n;;! timeout_ms = 3000\n\
         (import \"clawhold:skill/http@0.1.0\" \"send\" (func $send (param i32 i32)))\n\
         (data (i32.const 3072) \"{url}\")\n\
         (data (i32.const 2052) \"\\00\\0c\\00\\00\\{:02x}\\00\\00\\00\")\n\
         (func $run (result i32) (call $send (i32.const 2048) (i32.const 600)) (call $yes))",
        url.len()
    );
    Ok(Guest::of(&format!("fetch{}", peer.port()), &text)?.wasm)
}

/// A skill that takes 63 MiB and touches each page of it.
fn allocating() -> anyhow::Result<Vec<u8>> {
    let text = ";;! [limits]\n;;! memory_mb = 64\n\
         (func $run (result i32) (local $at i32)\n\
         (if (i32.eq (memory.grow (i32.const 990)) (i32.const -1)) (then (unreachable)))\n\
         (local.set $at (i32.const 1048576))\n\
         (loop $again\n\
           (i32.store (local.get $at) (i32.const 1))\n\
           (local.set $at (i32.add (local.get $at) (i32.const 4096)))\n\
           (br_if $again (i32.lt_u (local.get $at) (i32.const 64880640))))\n\
         (call $yes))";
    Ok(Guest::of("memory", text)?.wasm)
}
