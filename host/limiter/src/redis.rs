//! Quotas that hosts share through Redis, version 7 or newer, alone or as a cluster.
//!
//! A check is one script on one node, by the server's clock; checks that wait for one another's answer go along in one call of it. A
//! tenant's keys carry its id as their hash tag and expire when nothing is left in them. Amounts travel as packed doubles, which are
//! exact below 2⁵³.

mod order;

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use clawhold_tenancy::TenantId;
use clawhold_tenancy::quota::RATE_COUNT;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use order::{Again, Made, Order};
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, ErrorKind, Pipeline, RedisFuture, RedisResult, Script, ServerErrorKind, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use crate::shared::{Against, Answer, Check, Count, Shared, Unreachable, Verdict};

/// How long an answer may take. 250 ms: a call waits that long once, and then hosts go on apart.
const ANSWER: Duration = Duration::from_millis(250);
/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a host counts as living that has said nothing, in milliseconds.
const LIVES_MS: u64 = 5_000;
/// Checks in one call: at some 8 µs each they keep Redis from others for half a millisecond.
const IN_ONE: usize = 64;
/// Calls under way at a time, so that one is worked on while another travels.
const UNDER_WAY: usize = 3;
/// Bytes of an answer to one check.
const VERDICT: usize = 8 * (3 + RATE_COUNT);
/// What all keys begin with.
const PREFIX: &str = "clawhold:";

static CHECK: LazyLock<String> = LazyLock::new(|| written_out(include_str!("redis/check.lua")));
static CHECK_HASH: LazyLock<String> = LazyLock::new(|| Script::new(&CHECK).get_hash().to_owned());

/// The script for as many rates as there are; see there.
fn written_out(text: &str) -> String {
    let mut script = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("--")) {
        if let Some(line) = line.strip_suffix("--*") {
            (1..=RATE_COUNT).for_each(|rate| script += &(line.replace('#', &rate.to_string()) + "\n"));
        } else {
            let line = line.replace('@', &RATE_COUNT.to_string());
            script.extend(line.split('$').enumerate().map(listed));
            script.push('\n');
        }
    }
    script
}

/// What stands behind a `$`: a name, of which each rate has its own.
fn listed((at, text): (usize, &str)) -> String {
    if at == 0 {
        return text.to_owned();
    }
    let (name, rest) = text.split_at(text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let names: Vec<String> = (1..=RATE_COUNT).map(|rate| format!("{name}{rate}")).collect();
    names.join(", ") + rest
}

/// Says that a host lives and counts those that do.
static BEAT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME') \
         local now = time[1] * 1000 + math.floor(time[2] / 1000) \
         redis.call('ZADD', KEYS[1], now, ARGV[1]) \
         redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2]) \
         redis.call('PEXPIRE', KEYS[1], ARGV[2]) \
         return redis.call('ZCARD', KEYS[1])",
    )
});

/// Counts the hosts that live, with what needs version 7.
static HOSTS: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME') \
         redis.call('PEXPIRE', KEYS[1], ARGV[1], 'GT') \
         return redis.call('ZCOUNT', KEYS[1], time[1] * 1000 - ARGV[1], '+inf')",
    )
});

/// Says what a host uses and adds up what the others do. What a host said that has died is passed over, and removed.
static MEMORY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME') \
         local now, others = time[1] * 1000 + math.floor(time[2] / 1000), 0 \
         if ARGV[2] == '0' then redis.call('HDEL', KEYS[1], ARGV[1]) \
         else redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. now) \
         redis.call('PEXPIRE', KEYS[1], ARGV[3]) end \
         local all = redis.call('HGETALL', KEYS[1]) \
         for i = 1, #all, 2 do \
             local bytes, at = string.match(all[i + 1], '^(%d+) (%d+)$') \
             if not bytes or now - at > tonumber(ARGV[3]) then redis.call('HDEL', KEYS[1], all[i]) \
             elseif all[i] ~= ARGV[1] then others = others + bytes end \
         end \
         return others",
    )
});

/// A Redis, or a cluster of them.
pub struct Redis {
    connection: Connection,
    name: String,
    /// Checks that are to be carried there.
    checks: mpsc::UnboundedSender<Asked>,
}

/// A check, and whom to answer.
struct Asked {
    check: Check,
    answer: oneshot::Sender<Result<Verdict, Unreachable>>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("Redis").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Clone)]
enum Connection {
    One(ConnectionManager),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(one) => one.req_packed_command(cmd),
            Self::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(cmd, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}

impl Redis {
    /// One server, `redis://` or `rediss://`, which need not answer yet. `name` is this host's own. On a tokio runtime.
    pub fn one(url: &str, name: String) -> Result<Self, Unreachable> {
        let client = Client::open(url).map_err(failed)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER))
            .set_number_of_retries(1);
        let one = ConnectionManager::new_lazy_with_config(client, config).map_err(failed)?;
        Self::over(Connection::One(one), name)
    }

    /// A cluster, by the addresses of some of its nodes. One of them must answer: it says where the others are.
    pub async fn cluster(nodes: &[String], name: String) -> Result<Self, Unreachable> {
        let client = ClusterClientBuilder::new(nodes.iter().map(String::as_str))
            .connection_timeout(CONNECT)
            .response_timeout(ANSWER)
            .retries(1)
            .build()
            .map_err(failed)?;
        let cluster = client.get_async_connection().await.map_err(failed)?;
        Self::over(Connection::Cluster(cluster), name)
    }

    fn over(connection: Connection, name: String) -> Result<Self, Unreachable> {
        let (checks, asked) = mpsc::unbounded_channel();
        // A number of this process, not of the host's name: what ran before a crash ends by expiry. Exact as a double.
        let host = getrandom::u64().map_err(|_| Unreachable("no random numbers".to_owned()))? >> 11;
        tokio::spawn(carry(connection.clone(), host, asked));
        Ok(Self { connection, name, checks })
    }

    /// Hosts that live, without saying that this is one. Fails where Redis is older than 7, or may not be asked.
    pub async fn hosts(&self) -> Result<u64, Unreachable> {
        let mut connection = self.connection.clone();
        let mut call = HOSTS.prepare_invoke();
        call.key(format!("{PREFIX}hosts")).arg(LIVES_MS);
        within(call.invoke_async(&mut connection)).await
    }
}

async fn within<T>(asked: impl Future<Output = RedisResult<T>>) -> Result<T, Unreachable> {
    // The connection's own limit does not count while it is being made.
    heard(tokio::time::timeout(ANSWER, asked).await)
}

fn heard<T>(answer: Result<RedisResult<T>, Elapsed>) -> Result<T, Unreachable> {
    match answer {
        Ok(answer) => answer.map_err(failed),
        Err(_late) => Err(Unreachable("no answer in time".to_owned())),
    }
}

/// Carries checks there and answers back, as long as there is somebody who asks. In the order in which they were asked: calls are begun
/// one after another, on one connection.
async fn carry(connection: Connection, host: u64, mut asked: mpsc::UnboundedReceiver<Asked>) {
    // Tenants of a cluster are on different nodes, each of which has scripts of its own.
    let (in_one, most, by_hash) = match connection {
        Connection::One(_) => (IN_ONE, UNDER_WAY, true),
        Connection::Cluster(_) => (1, IN_ONE * UNDER_WAY, false),
    };
    let (mut order, mut under_way) = (Order::new(), FuturesUnordered::new());
    let mut next = Vec::with_capacity(in_one);
    let mut is_open = true;
    while is_open || !under_way.is_empty() {
        tokio::select! {
            biased;
            Some((made, ended)) = under_way.next() => {
                match ended {
                    Ended::Answered => order.over(made, by_hash),
                    Ended::Lost => order.over(made, false),
                    Ended::Unknown(batch) => order.refuse(made, batch),
                }
                if under_way.is_empty() {
                    for Again { made, mut carried, is_late } in order.take_refused() {
                        if is_late {
                            carried.asked.iter_mut().for_each(Asked::comes_late);
                        }
                        under_way.push(call(connection.clone(), host, made, carried));
                    }
                }
            }
            got = asked.recv_many(&mut next, in_one), if is_open && order.is_clear() && under_way.len() < most => {
                is_open = got > 0;
                if is_open {
                    let asked = std::mem::replace(&mut next, Vec::with_capacity(in_one));
                    let batch = Batch { asked, until: Instant::now() + ANSWER };
                    under_way.push(call(connection.clone(), host, order.make(), batch));
                }
            }
        }
    }
}

/// Checks that go along in one call, and until when there must be an answer, also if it has to be made again.
struct Batch {
    asked: Vec<Asked>,
    until: Instant,
}

impl Asked {
    /// A later check may have been worked on before this one. What has changed is added up in whatever order; how many runs there were
    /// is not so any more.
    fn comes_late(&mut self) {
        if let Count::Are { runs: _, by } = self.check.runs.count {
            self.check.runs.count = Count::Change(by);
        }
    }
}

/// What became of a call.
enum Ended {
    Answered,
    /// Whether it was worked on nobody knows.
    Lost,
    /// The server does not know the script.
    Unknown(Batch),
}

/// One call of the script.
async fn call(mut connection: Connection, host: u64, made: Made, batch: Batch) -> (Made, Ended) {
    let (command, script) = if made.in_full { ("EVAL", &*CHECK) } else { ("EVALSHA", &*CHECK_HASH) };
    let asked = &batch.asked;
    let mut call = redis::cmd(command);
    call.arg(script).arg(asked.len());
    for Asked { check, .. } in asked {
        call.arg(key(&check.tenant, "state"));
    }
    for Asked { check, .. } in asked {
        call.arg(packed(host, check));
    }
    let heard_of = tokio::time::timeout_at(batch.until, call.query_async(&mut connection)).await;
    if let Ok(Err(error)) = &heard_of
        && !made.in_full
        && error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
    {
        return (made, Ended::Unknown(batch));
    }
    let answers: Result<Vec<u8>, Unreachable> = heard(heard_of);
    answer(batch.asked, &answers);
    (made, if answers.is_ok() { Ended::Answered } else { Ended::Lost })
}

fn answer(asked: Vec<Asked>, answers: &Result<Vec<u8>, Unreachable>) {
    let of = |at: usize| {
        let all = answers.as_ref().map_err(Clone::clone)?;
        let one = all.get(at * VERDICT..(at + 1) * VERDICT).and_then(read);
        one.ok_or_else(|| Unreachable("an answer of another form".to_owned()))
    };
    for (at, Asked { answer, .. }) in asked.into_iter().enumerate() {
        // Whoever asked may have gone.
        let _gone = answer.send(of(at));
    }
}

fn failed(error: redis::RedisError) -> Unreachable {
    // Its detail may name an address, and with that a password.
    Unreachable(format!("{:?}{}", error.kind(), error.code().map(|code| format!(" {code}")).unwrap_or_default()))
}

fn key(tenant: &TenantId, what: &str) -> String {
    format!("{PREFIX}{{{tenant}}}:{what}")
}

/// A check as the script reads it.
fn packed(host: u64, check: &Check) -> Vec<u8> {
    let Check { tenant: _, limits, ask, changes, runs } = check;
    let (is_all, count) = match runs.count {
        Count::Are { runs, by: _ } => (1.0, double(runs)),
        Count::Change(by) => (0.0, signed(by)),
    };
    let last = u64::try_from(runs.last.as_micros()).unwrap_or(u64::MAX);
    let of_runs = [double(host), is_all, count, double(runs.wants.into()), double(runs.most), double(last)];
    let rates = limits.iter().copied().chain(ask.all()).map(double).chain(changes.iter().copied().map(signed));
    rates.chain(of_runs).flat_map(f64::to_le_bytes).collect()
}

#[expect(clippy::cast_precision_loss, reason = "the table of dimensions stays below 2^53, where this is exact")]
fn double(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "as above")]
fn signed(number: i64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut at both ends by `as`")]
fn whole(number: f64) -> u64 {
    number.ceil() as u64
}

fn read(answer: &[u8]) -> Option<Verdict> {
    let numbers: Vec<f64> =
        answer.chunks_exact(8).map(|eight| f64::from_le_bytes(eight.try_into().unwrap_or_default())).collect();
    let [against, wait, runs, used @ ..] = numbers.as_slice() else { return None };
    let used: [u64; RATE_COUNT] = used.iter().map(|used| whole(*used)).collect::<Vec<_>>().try_into().ok()?;
    let against = match usize::try_from(whole(*against)).ok()? {
        0 => None,
        rate if rate <= RATE_COUNT => Some(Against::Rate(rate - 1, (*wait >= 0.0).then(|| whole(*wait).max(1)))),
        _ => Some(Against::Runs),
    };
    Some(Verdict { used, runs: whole(*runs), against })
}

#[async_trait]
impl Shared for Redis {
    fn check(&self, check: Check) -> Answer {
        let (answer, heard) = oneshot::channel();
        // If nobody carries it any more, the answer says so.
        let _at_the_end = self.checks.send(Asked { check, answer });
        Box::pin(async move { heard.await.unwrap_or_else(|_| Err(Unreachable("the runtime ends".to_owned()))) })
    }

    async fn beat(&self) -> Result<u64, Unreachable> {
        let mut connection = self.connection.clone();
        let mut call = BEAT.prepare_invoke();
        call.key(format!("{PREFIX}hosts")).arg(&self.name).arg(LIVES_MS);
        within(call.invoke_async(&mut connection)).await
    }

    async fn memory(&self, tenant: &TenantId, own: u64) -> Result<u64, Unreachable> {
        let mut connection = self.connection.clone();
        let mut call = MEMORY.prepare_invoke();
        call.key(key(tenant, "memory")).arg(&self.name).arg(own).arg(LIVES_MS);
        within(call.invoke_async(&mut connection)).await
    }

    fn name(&self) -> &str {
        &self.name
    }
}
