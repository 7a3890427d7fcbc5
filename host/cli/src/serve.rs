//! `clawhold serve`: reads the configuration, chooses the drivers, and runs the host until it is told to stop.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use clawhold_capabilities::{Backends, Egress, OnLeak, ScratchRoot, Transport, add_to_linker, add_wasi_to_linker};
use clawhold_limiter::Limiter;
use clawhold_marketplace::key::SigningKey as IndexKey;
use clawhold_marketplace::upgrade::COOL_DOWN_US;
use clawhold_runtime::oci::RegistrySettings;
use clawhold_runtime::{
    Authentic, Details, HeadFile, HeadSink, Heads, Host, INDEX_LIFE, IndexKeeping, MarketRules, Parts, Signatures,
    StoreKeys, StoreRows,
};
use clawhold_sandbox::{Sandbox, Settings};
use clawhold_secret_store::CachedSecrets;
use clawhold_secret_store::keys::DataKeys;
use clawhold_secret_store::local::{LocalSecrets, MasterKey};
use clawhold_store::{DEFAULT_CONNECTIONS, Store};
use clawhold_telemetry::{Metrics, Shown};
use clawhold_tenancy::audit::SigningKey;
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::allocator::give_back_when_idle;
use crate::config::{Config, LeakPolicy, SignaturePolicy};

/// How old a version must be before an install follows it.
const COOL_DOWN: Duration = Duration::from_micros(COOL_DOWN_US.unsigned_abs());

const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// Seconds between the signed heads of a chain that goes on. 60: whoever cuts a tail can cut a minute of it unseen.
const DEFAULT_HEADS_INTERVAL_S: u64 = 60;

/// Tenants with series of their own among the metrics. 50: some three thousand series.
const SHOWN_TENANTS: usize = 50;

/// Where the first operator's token is written, for whoever may read the host's own folder.
const FIRST_TOKEN: &str = "operator.token";

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// For development: everything in one folder (`./.clawhold`), loopback only, and the first operator's token is
    /// printed.
    #[arg(long)]
    dev: bool,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the database, the keys and the artifacts.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the API listens; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Let skills reach this range of private addresses; may be given more than once.
    #[arg(long, value_name = "RANGE")]
    open: Vec<IpNet>,
}

/// Runs the host.
pub(crate) fn run(args: ServeArgs) -> anyhow::Result<()> {
    let mut config = Config::load(args.config.as_deref(), &std::env::vars().collect())?;
    config.data_dir = args.data.or(config.data_dir);
    config.listen = args.listen.or(config.listen);
    config.egress.open.extend(args.open);
    if args.dev {
        config.data_dir.get_or_insert_with(|| ".clawhold".into());
    }
    let Some(folder) = config.data_dir.clone() else {
        bail!("no folder to keep data in; set `data_dir` in clawhold.yaml, or give --data DIR, or try --dev");
    };
    let listen = config.listen.unwrap_or(DEFAULT_LISTEN.parse()?);
    if args.dev && !listen.ip().is_loopback() {
        bail!("--dev serves loopback only, and {listen} is not; leave out --dev to serve others");
    }
    log_to_stderr(args.dev);
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let host = host(&folder, &config, None).await?;
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot listen on {listen}; is another host running there? Choose another with --listen")
        })?;
        first_token(&host, &folder, args.dev).await?;
        let address = listener.local_addr()?;
        let operations = match config.operations_listen {
            Some(at) => Some(TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))?),
            None => None,
        };
        let (stop, stopped) = tokio::sync::watch::channel(());
        let until_stopped = |mut stopped: tokio::sync::watch::Receiver<()>| async move {
            let _either_way = stopped.changed().await;
        };
        if let Some(listener) = operations {
            let served = clawhold_api::serve_operations(listener, Arc::clone(&host), until_stopped(stopped.clone()));
            tokio::spawn(served);
        }
        tracing::info!(key = %host.audit_key(), "heads of audit chains are signed; whoever verifies them needs this public key");
        println!("Clawhold is listening on http://{address}");
        std::io::stdout().flush()?;
        let mut terminate = signal(SignalKind::terminate())?;
        let signalled = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            tracing::info!("stopping: no new runs; those that are under way may finish");
        };
        clawhold_api::serve(listener, host, signalled).await;
        drop(stop);
        Ok(())
    });
    // Everything that matters is committed; a thread that is still busy must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// How skills run, as the configuration has it.
fn sandbox_settings(config: &Config, artifacts: PathBuf, key: [u8; 32]) -> Settings {
    let mut settings = Settings::in_directory(artifacts, key);
    settings.slots = config.run_slots.unwrap_or(settings.slots);
    settings.permits = config.compute_slots.unwrap_or(settings.permits);
    settings
}

/// The composition: SQLite in the data folder or the PostgreSQL that is configured, a local key file, and the network, or a `transport` of the caller's.
pub async fn host(folder: &Path, config: &Config, transport: Option<Arc<dyn Transport>>) -> anyhow::Result<Arc<Host>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create the data folder {}", folder.display()))?;
    let key = Arc::new(MasterKey::open_or_create(folder)?);
    let store = match &config.database_url {
        Some(url) => {
            let connections = config.database_connections.unwrap_or(DEFAULT_CONNECTIONS);
            Store::open_with(url.expose(), connections).await?
        }
        None => Store::open(&format!("sqlite:{}", folder.join("clawhold.db").display())).await?,
    };
    let sandbox =
        Sandbox::new(sandbox_settings(config, folder.join("artifacts"), *key.derive("artifacts")), |linker| {
            add_to_linker(linker).map_err(Into::into)
        })?
        .with_wasi(|linker| add_wasi_to_linker(linker).map_err(Into::into))?;
    let scratch = folder.join("scratch");
    let scratch = ScratchRoot::open(&scratch)
        .with_context(|| format!("cannot set up the folder of scratch files {}", scratch.display()))?;
    let transport = match transport {
        Some(transport) => transport,
        None => Arc::new(Egress::new(config.egress.settings()?)?) as Arc<dyn Transport>,
    };
    let heads = heads(folder, config, &key);
    let keys = DataKeys::new(Arc::clone(&key) as _, Arc::new(StoreKeys(store.clone())));
    let details = Details::new(Arc::clone(&keys));
    let backends = Backends {
        secrets: Arc::new(CachedSecrets::new(LocalSecrets::new(
            keys,
            Arc::clone(&key),
            StoreRows::new(store.clone(), Arc::clone(&details)),
        ))),
        transport,
        ceiling: Arc::new(config.egress.ceiling()),
        on_leak: match config.secrets.on_leak {
            LeakPolicy::Redact => OnLeak::Redact,
            LeakPolicy::Refuse => OnLeak::Refuse,
        },
        scratch: Arc::new(scratch),
        tokens: Arc::default(),
    };
    let limiter = limiter(config).await?;
    let host = Host::new(Parts {
        store,
        details,
        heads,
        sandbox,
        backends,
        ceiling: config.ceiling(),
        quotas: config.quotas(),
        limiter,
        metrics: Metrics::new(Shown {
            most: config.metrics.tenants.unwrap_or(SHOWN_TENANTS),
            always: config.metrics.always.iter().map(ToString::to_string).collect(),
        }),
        require_pure: config.require_pure,
        market: MarketRules {
            signatures: match config.market.signatures {
                SignaturePolicy::Required => Signatures::Required,
                SignaturePolicy::Optional => Signatures::Optional,
            },
            cool_down: config.market.cool_down_h.map_or(COOL_DOWN, |hours| Duration::from_hours(hours.into())),
        },
        index: IndexKeeping {
            key: IndexKey::from_seed(&key.derive("market-index")),
            seen: Some(config.market.seen_file.clone().unwrap_or_else(|| folder.join("index-seen"))),
            life: config.market.index_life_s.map_or(INDEX_LIFE, |seconds| Duration::from_secs(seconds.into())),
        },
        authentic: Authentic::new(key.derive("market-rows")),
        registry: RegistrySettings { key: key.derive("registry-token"), public_url: config.public_url()? },
    });
    host.open_index().await;
    tokio::spawn(give_back_when_idle(Arc::downgrade(&host)));
    Ok(host)
}

/// This host's own, or the one that it shares with others.
#[cfg(feature = "redis")]
async fn limiter(config: &Config) -> anyhow::Result<Arc<Limiter>> {
    // A process of its own among the others, also when it was started anew a moment ago.
    let name = clawhold_tenancy::RequestId::now().to_string();
    Ok(redis(config, name)
        .await?
        .map_or_else(Arc::default, |redis| Limiter::shared(Arc::new(redis), config.limiter.hosts.unwrap_or(1))))
}

/// Hosts that share their quotas as this configuration says, if it says so.
#[cfg(feature = "redis")]
pub(crate) async fn shared_hosts(config: &Config) -> anyhow::Result<Option<u64>> {
    let Some(redis) = redis(config, String::new()).await? else { return Ok(None) };
    Ok(Some(redis.hosts().await.context("Redis, 7 or newer, is needed")?))
}

#[cfg(feature = "redis")]
async fn redis(config: &Config, name: String) -> anyhow::Result<Option<clawhold_limiter::redis::Redis>> {
    use clawhold_limiter::redis::Redis;
    let limiter = &config.limiter;
    let redis = match &limiter.redis_url {
        Some(url) => Redis::one(url.expose(), name),
        None if limiter.redis_cluster.is_empty() => return Ok(None),
        None => {
            let nodes: Vec<String> = limiter.redis_cluster.iter().map(|url| url.expose().to_owned()).collect();
            Redis::cluster(&nodes, name).await
        }
    };
    Ok(Some(redis.context("limiter: Redis cannot be used; is the address right?")?))
}

#[cfg(not(feature = "redis"))]
pub(crate) async fn shared_hosts(config: &Config) -> anyhow::Result<Option<u64>> {
    limiter(config).await.map(|_| None)
}

/// The same where Redis was left out.
#[cfg(not(feature = "redis"))]
#[expect(clippy::unused_async, reason = "as above")]
async fn limiter(config: &Config) -> anyhow::Result<Arc<Limiter>> {
    if config.limiter.redis_url.is_some() || !config.limiter.redis_cluster.is_empty() {
        bail!("limiter: this program was built without Redis; build it with `--features redis`");
    }
    Ok(Arc::default())
}

/// Signs with a key that follows from the master key, which all hosts on one database share.
fn heads(folder: &Path, config: &Config, key: &MasterKey) -> Heads {
    let signing = SigningKey::from_seed(&key.derive("audit-head"));
    let file = config.audit.heads_file.clone().unwrap_or_else(|| folder.join("audit-heads.ndjson"));
    let every = Duration::from_secs(config.audit.heads_interval_s.unwrap_or(DEFAULT_HEADS_INTERVAL_S));
    let sink: Arc<dyn HeadSink> = Arc::new(HeadFile(file));
    Heads::new(signing, Some(sink), every)
}

/// On the first start somebody must be able to begin.
async fn first_token(host: &Host, folder: &Path, show: bool) -> anyhow::Result<()> {
    let path = folder.join(FIRST_TOKEN);
    let keep = |token: &SecretString| {
        // Made anew: a file that was there before would keep its owner and mode.
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error.into());
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        writeln!(file, "{}", token.expose_secret())?;
        file.sync_all().with_context(|| format!("cannot write {}", path.display()))
    };
    let Some(made) = host.first_operator_token(keep).await? else { return Ok(()) };
    if show {
        println!("operator token: {}", made.token.expose_secret());
    }
    println!("The operator's token is in {}; read it, keep it safe and delete the file.", path.display());
    Ok(())
}

/// Takes as many file descriptors as the system gives. A run on WASI may hold 17 of them, and with all slots in use the
/// usual 1,024 would not leave enough for connections and the database.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
}

fn log_to_stderr(for_people: bool) {
    let filter = EnvFilter::try_from_env("CLAWHOLD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if for_people {
        log.with_ansi(std::io::stderr().is_terminal()).init();
    } else {
        log.json().flatten_event(true).init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_as_configured_or_as_the_machine_has_cores() {
        let of = |config: Config| {
            let settings = sandbox_settings(&config, "artifacts".into(), [0; 32]);
            (settings.slots, settings.permits)
        };
        let cores = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
        assert_eq!(of(Config::default()), (64, cores));
        assert_eq!(of(Config { run_slots: Some(9), compute_slots: Some(3), ..Config::default() }), (9, 3));
    }
}
