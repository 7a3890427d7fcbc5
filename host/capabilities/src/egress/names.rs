//! Names to addresses: bounded in time and in what is remembered, for each tenant apart, so that none learns from the time of an answer
//! what another asked.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawhold_sandbox::contract::clawhold::skill::http::Rule;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use moka::Expiry;
use moka::future::Cache;

use super::{Refusal, refusal};

/// How long one question may take, and how often it is asked.
const ANSWER: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// The longest that an answer is remembered, whatever it says itself.
const REMEMBERED: Duration = Duration::from_mins(1);
/// Names of a tenant that are remembered.
const NAMES: u64 = 256;
/// Addresses of a name. More than that are no service.
const ADDRESSES: usize = 64;

/// Asks the servers of the system, or those that the operator named.
pub(super) fn resolver(servers: &[SocketAddr]) -> anyhow::Result<TokioResolver> {
    let provider = TokioRuntimeProvider::default();
    let mut builder = if servers.is_empty() {
        TokioResolver::builder(provider)?
    } else {
        let servers = servers.iter().map(|server| {
            let with_port = |mut connection: ConnectionConfig| {
                connection.port = server.port();
                connection
            };
            let connections = vec![with_port(ConnectionConfig::udp()), with_port(ConnectionConfig::tcp())];
            NameServerConfig::new(server.ip(), true, connections)
        });
        TokioResolver::builder_with_config(ResolverConfig::from_parts(None, Vec::new(), servers.collect()), provider)
    };
    let options = builder.options_mut();
    (options.timeout, options.attempts) = (ANSWER, ATTEMPTS);
    // What is remembered is remembered for a tenant.
    options.cache_size = 0;
    Ok(builder.build()?)
}

/// One tenant's names.
pub(super) struct Names {
    resolver: Arc<TokioResolver>,
    known: Cache<String, Known>,
}

#[derive(Clone)]
struct Known {
    addresses: Arc<[IpAddr]>,
    until: Instant,
}

struct AsLongAsSaid;

impl Expiry<String, Known> for AsLongAsSaid {
    fn expire_after_create(&self, _: &String, known: &Known, now: Instant) -> Option<Duration> {
        Some(known.until.saturating_duration_since(now).min(REMEMBERED))
    }
}

impl Names {
    pub(super) fn new(resolver: Arc<TokioResolver>) -> Self {
        Self { resolver, known: Cache::builder().max_capacity(NAMES).expire_after(AsLongAsSaid).build() }
    }

    /// All addresses of a name. Whoever asks meanwhile waits for the same answer.
    pub(super) async fn addresses(&self, name: &str) -> Result<Arc<[IpAddr]>, Refusal> {
        let ask = async {
            // To the root: no search list of the system makes another name of it.
            let whole = format!("{}.", name.trim_end_matches('.'));
            let found = self.resolver.lookup_ip(whole).await.map_err(|error| {
                tracing::debug!(%error, name, "a name was not resolved");
                refusal(Rule::Dns, format!("{name} cannot be resolved"))
            })?;
            let addresses: Arc<[IpAddr]> = found.iter().take(ADDRESSES + 1).collect();
            if addresses.len() > ADDRESSES {
                return Err(refusal(Rule::Dns, format!("{name} has more than {ADDRESSES} addresses")));
            }
            Ok(Known { addresses, until: found.valid_until() })
        };
        match self.known.try_get_with(name.to_owned(), ask).await {
            Ok(known) => Ok(known.addresses),
            Err(refused) => Err(Refusal::clone(&refused)),
        }
    }
}
