//! The network: resolve, check the addresses, connect to one of them, and to no other.
//!
//! Connections serve several requests, of one tenant to one origin: each tenant has a client of its own, with its connections, its
//! names and its share. No redirect is followed here, and no proxy is read from the environment.

mod body;
mod connector;
mod names;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use bytes::Bytes;
use clawhold_sandbox::contract::clawhold::skill::http::Rule;
use clawhold_tenancy::TenantId;
use clawhold_tenancy::policy::{Denial, Method};
use hickory_resolver::TokioResolver;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Full;
use hyper::body::Body as _;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ipnet::IpNet;
use moka::sync::Cache;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Url;

use crate::address::AddressRule;
use crate::http::{Bounds, Incoming, Outgoing, Transport, TransportError};
use connector::Connector;
use names::Names;

/// How long a connection waits for its next request. Shorter than what common servers wait, so that few are closed under a request.
const IDLE: Duration = Duration::from_secs(30);
/// Connections to one origin that wait.
const IDLE_CONNECTIONS: usize = 4;
/// Tenants that have a client at a time, and how long one is kept that is not used.
const TENANTS: u64 = 10_000;
const UNUSED: Duration = Duration::from_mins(2);
/// Header fields of an answer, and bytes that are buffered of them. Peers have been seen to send 100,000.
const RESPONSE_HEADERS: usize = 128;
const RESPONSE_HEADER_BYTES: u32 = 64 * 1024;

/// Who certifies servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Roots {
    /// Whom the system trusts; where it names nobody, whom Mozilla trusts.
    #[default]
    Platform,
    /// Whom Mozilla trusts, as of this release.
    Bundled,
    /// The certificates in a PEM file, and nobody else.
    File(PathBuf),
}

/// What the operator says of the way out.
#[derive(Debug, Clone)]
pub struct EgressSettings {
    /// Which addresses skills may reach.
    pub rule: AddressRule,
    /// What is open to single tenants beside that.
    pub tenants: HashMap<TenantId, Vec<IpNet>>,
    /// DNS servers; the system's if there are none.
    pub dns: Vec<SocketAddr>,
    /// An HTTP proxy, `http://host:port`, which is asked for a tunnel to the address that was checked.
    pub proxy: Option<Uri>,
    /// Who certifies servers.
    pub roots: Roots,
    /// Requests of one tenant at a time.
    pub at_once: usize,
    /// How long the first byte of an answer may take.
    pub first_byte: Duration,
}

impl Default for EgressSettings {
    fn default() -> Self {
        Self {
            rule: AddressRule::default(),
            tenants: HashMap::new(),
            dns: Vec::new(),
            proxy: None,
            roots: Roots::default(),
            at_once: 64,
            first_byte: Duration::from_secs(30),
        }
    }
}

/// The real network.
pub struct Egress {
    settings: EgressSettings,
    resolver: Arc<TokioResolver>,
    tls: TlsConnector,
    tenants: Cache<TenantId, Arc<TenantClient>>,
}

/// One tenant's way out.
struct TenantClient {
    connector: Connector,
    client: Client<Connector, Full<Bytes>>,
    places: Semaphore,
}

/// Why there is no connection. Nothing was sent.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
struct Refusal {
    rule: Rule,
    message: String,
    denial: Option<Denial>,
}

fn refusal(rule: Rule, message: impl Into<String>) -> Refusal {
    Refusal { rule, message: message.into(), denial: None }
}

impl From<Refusal> for TransportError {
    fn from(Refusal { rule, message, denial }: Refusal) -> Self {
        Self { rule, message, sent: false, denial }
    }
}

impl Egress {
    /// A way out under these settings. On a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the system's DNS configuration or the roots cannot be read.
    pub fn new(settings: EgressSettings) -> anyhow::Result<Self> {
        let resolver = names::resolver(&settings.dns)
            .context("the system's DNS servers cannot be read; name some under `egress.dns`")?;
        let roots = roots(&settings.roots)?;
        let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tenants = Cache::builder().max_capacity(TENANTS).time_to_idle(UNUSED).build();
        Ok(Self { settings, resolver: Arc::new(resolver), tls: TlsConnector::from(Arc::new(tls)), tenants })
    }

    fn client(&self, tenant: &TenantId) -> Arc<TenantClient> {
        self.tenants.get_with_by_ref(tenant, || {
            let mut rule = self.settings.rule.clone();
            rule.open.extend(self.settings.tenants.get(tenant).into_iter().flatten());
            let names = Names::new(Arc::clone(&self.resolver));
            let connector = Connector::new(tenant.clone(), rule, names, self.tls.clone(), self.settings.proxy.clone());
            let client = Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(IDLE_CONNECTIONS)
                .timer(TokioTimer::new())
                .http1_max_headers(RESPONSE_HEADERS)
                .http1_max_buf_size(RESPONSE_HEADER_BYTES as usize)
                .http2_max_header_list_size(RESPONSE_HEADER_BYTES)
                .set_host(false)
                .build(connector.clone());
            Arc::new(TenantClient { connector, client, places: Semaphore::new(self.settings.at_once) })
        })
    }

    async fn exchange(&self, request: Outgoing, most: u64, sent: &mut bool) -> Result<Incoming, TransportError> {
        let tenant = self.client(&request.tenant);
        let Ok(_place) = tenant.places.try_acquire() else {
            let most = self.settings.at_once;
            let why = format!("the tenant has {most} requests under way, and may have no more; try again");
            return Err(fail(Rule::Budget, why, false));
        };
        let is_head = request.method == Method::Head;
        // Whoever says how it wants the body coded gets it as it comes.
        let decodes = !request.headers.contains_key(header::ACCEPT_ENCODING);
        let mut message = message(request)?;
        let connected = capture_connection(&mut message);
        let answering = tenant.client.request(message);
        let answer = match tokio::time::timeout(self.settings.first_byte, answering).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(unanswered(&error)),
            Err(_) => {
                *sent = connected.connection_metadata().is_some();
                let limit = self.settings.first_byte.as_secs();
                return Err(fail(Rule::Deadline, format!("there was no answer within {limit} s"), *sent));
            }
        };
        *sent = true;
        let (mut head, body) = answer.into_parts();
        let fields: u64 = head.headers.iter().map(|(n, v)| (n.as_str().len() + v.len()) as u64).sum();
        if head.headers.len() > RESPONSE_HEADERS || fields > most.min(RESPONSE_HEADER_BYTES.into()) {
            return Err(fail(Rule::Size, "the answer has more, or larger, header fields than are taken", true));
        }
        let (body, wire) = if is_head || body.is_end_stream() {
            (Bytes::new(), 0)
        } else {
            let decoded = body::read(&mut head.headers, body, most - fields, decodes).await?;
            (decoded.body, decoded.wire)
        };
        Ok(Incoming { status: head.status.as_u16(), headers: head.headers, body, wire_bytes: fields + wire })
    }
}

#[async_trait]
impl Transport for Egress {
    async fn send(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, TransportError> {
        let mut sent = false;
        let exchange = self.exchange(request, bounds.response_bytes, &mut sent);
        let ended = tokio::time::timeout_at(bounds.deadline.into(), exchange).await;
        // Whether the deadline found it before or behind the connection is not known: it may have been sent.
        ended.unwrap_or_else(|_| Err(fail(Rule::Deadline, "the time for the request is over", true)))
    }

    async fn check(&self, tenant: &TenantId, url: &Url) -> Result<(), TransportError> {
        Ok(self.client(tenant).connector.check(url).await?)
    }
}

/// The request as the client takes it. The URL was read once, by the parser that the policy saw it through: whoever reads it again here
/// must come to the same host and port.
fn message(request: Outgoing) -> Result<Request<Full<Bytes>>, TransportError> {
    let invalid = |what: &str| fail(Rule::InvalidRequest, format!("the {what} cannot be sent"), false);
    let Outgoing { method, url, headers, body, .. } = request;
    let host = url.host_str().ok_or_else(|| invalid("host"))?;
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let to = Uri::builder().scheme(url.scheme()).authority(authority.as_str()).path_and_query(target).build();
    let to = to.ok().filter(|to| is_the_same(to, &url)).ok_or_else(|| invalid("URL"))?;
    let mut message =
        Request::builder().method(method.as_str()).uri(to).body(Full::new(body)).map_err(|_| invalid("URL"))?;
    let fields = message.headers_mut();
    *fields = headers;
    fields.insert(header::HOST, HeaderValue::try_from(authority).map_err(|_| invalid("host"))?);
    fields.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static(body::ACCEPTED));
    Ok(message)
}

fn is_the_same(uri: &Uri, url: &Url) -> bool {
    uri.host() == url.host_str()
        && uri.port_u16() == url.port()
        && uri.path() == url.path()
        && uri.query() == url.query()
}

/// Why the client has no answer.
fn unanswered(error: &ClientError) -> TransportError {
    let mut at: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last = String::new();
    while let Some(error) = at {
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return refusal.clone().into();
        }
        if error.downcast_ref().is_some_and(hyper::Error::is_parse_too_large) {
            return fail(Rule::Size, "the answer has more, or larger, header fields than are taken", true);
        }
        last = error.to_string();
        at = error.source();
    }
    let sent = !error.is_connect();
    let rule = if sent { Rule::Protocol } else { Rule::Connect };
    fail(rule, format!("the exchange broke off: {last}"), sent)
}

fn fail(rule: Rule, message: impl Into<String>, sent: bool) -> TransportError {
    TransportError { rule, message: message.into(), sent, denial: None }
}

fn roots(which: &Roots) -> anyhow::Result<RootCertStore> {
    let bundled = || RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    match which {
        Roots::Bundled => Ok(bundled()),
        Roots::Platform => {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "a part of the system's root certificates cannot be read");
            }
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                tracing::warn!("the system names no root certificates; those that Mozilla trusts are used");
                return Ok(bundled());
            }
            Ok(roots)
        }
        Roots::File(path) => {
            let shown = path.display();
            let mut roots = RootCertStore::empty();
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .with_context(|| format!("egress.roots: {shown} cannot be read as PEM"))?;
            for certificate in certificates {
                roots.add(certificate).with_context(|| format!("egress.roots: {shown} has a certificate of no use"))?;
            }
            if roots.is_empty() {
                bail!("egress.roots: {shown} has no certificate");
            }
            Ok(roots)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
