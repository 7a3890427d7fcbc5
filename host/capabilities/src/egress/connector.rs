//! A connection: resolve, check every address, connect to one that was checked, and to no other; then TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use clawhold_sandbox::contract::clawhold::skill::http::Rule;
use clawhold_tenancy::TenantId;
use clawhold_tenancy::policy::{By, Denial};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tower_service::Service;
use url::Url;

use super::names::Names;
use super::{Refusal, refusal};
use crate::address::AddressRule;

/// Addresses of one name that are tried.
const ATTEMPTS: usize = 4;
/// One address that does not answer must not use up the time of the others.
const CONNECT: Duration = Duration::from_secs(5);
/// A server that takes longer for a handshake is not going to answer either.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Makes one tenant's connections.
#[derive(Clone)]
pub(super) struct Connector(Arc<Parts>);

struct Parts {
    tenant: TenantId,
    rule: AddressRule,
    names: Names,
    tls: TlsConnector,
    proxy: Option<Uri>,
}

/// Where to, as the URL parser read it.
struct Destination<'a> {
    is_plain: bool,
    host: &'a str,
    port: u16,
}

impl Connector {
    pub(super) fn new(
        tenant: TenantId,
        rule: AddressRule,
        names: Names,
        tls: TlsConnector,
        proxy: Option<Uri>,
    ) -> Self {
        Self(Arc::new(Parts { tenant, rule, names, tls, proxy }))
    }

    /// Whether there is an address that a request to this URL could connect to.
    pub(super) async fn check(&self, url: &Url) -> Result<(), Refusal> {
        let is_plain = url.scheme() == "http";
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = url.port_or_known_default().unwrap_or(443);
        self.0.check(&Destination { is_plain, host, port }).await.map(drop)
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Refusal;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Refusal>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let parts = Arc::clone(&self.0);
        Box::pin(async move { parts.connect(&to).await })
    }
}

impl Parts {
    async fn connect(&self, to: &Uri) -> Result<Stream, Refusal> {
        let is_plain = to.scheme_str() == Some("http");
        let host = to.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = to.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
        let destination = Destination { is_plain, host, port };
        let (checked, is_open) = self.check(&destination).await?;
        let stream = self.reach(&destination, &checked, is_open).await?;
        if is_plain {
            return Ok(Stream::Plain(TokioIo::new(stream)));
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| refusal(Rule::InvalidRequest, "the host has no name that a certificate can carry"))?;
        match tokio::time::timeout(HANDSHAKE, self.tls.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Stream::Secure(Box::new(TokioIo::new(stream)))),
            Ok(Err(error)) => Err(refusal(Rule::Tls, format!("no TLS with {host}: {error}"))),
            Err(_) => Err(refusal(Rule::Tls, format!("no TLS with {host}: no answer"))),
        }
    }

    /// The addresses, if every one of them may be reached; and whether the operator opened them.
    ///
    /// Every one: a name that leads to a public address and to one of the host's own network is the beginning of an attack, or a
    /// mistake that would show at random.
    async fn check(&self, to: &Destination<'_>) -> Result<(Vec<IpAddr>, bool), Refusal> {
        let Destination { host, .. } = to;
        let found: Vec<IpAddr> = match host.parse() {
            Ok(literal) => vec![literal],
            Err(_) => self.names.addresses(host).await?.to_vec(),
        };
        if found.is_empty() {
            return Err(refusal(Rule::Dns, format!("{host} has no address")));
        }
        let mut is_open = true;
        for address in &found {
            match self.rule.check(*address) {
                Err(why) => return Err(self.denial(*address, host, &why.to_string(), why.can_be_opened)),
                Ok(opened) => is_open &= opened,
            }
        }
        if to.is_plain && !is_open {
            let why = "a public address, and plain http goes only to ranges that the operator opened";
            let remedy = "use https".to_owned();
            let denial = Denial { by: By::Address, why: format!("{host} is {why}"), remedy };
            return Err(Refusal { denial: Some(denial), ..refusal(Rule::Address, format!("{host} is {why}")) });
        }
        Ok((found, is_open))
    }

    fn denial(&self, address: IpAddr, host: &str, why: &str, can_be_opened: bool) -> Refusal {
        // To which address a name leads inside the operator's network is the operator's to know.
        tracing::info!(tenant_id = %self.tenant, %host, %address, "a skill's request was refused for its address");
        let remedy = if can_be_opened {
            format!("ask the operator to open its address under `egress.tenants.{}.open` in clawhold.yaml", self.tenant)
        } else {
            "nothing opens it".to_owned()
        };
        let is_literal = host.parse() == Ok(address);
        let why = if is_literal { format!("{host} is {why}") } else { format!("{host} leads to {why}") };
        let denial = Denial { by: By::Address, why: why.clone(), remedy };
        Refusal { denial: Some(denial), ..refusal(Rule::Address, why) }
    }

    /// A connection to one of the addresses. What the operator opened is in the host's own network, where no proxy is needed.
    async fn reach(&self, to: &Destination<'_>, checked: &[IpAddr], is_open: bool) -> Result<TcpStream, Refusal> {
        let mut failed = String::new();
        for ip in checked.iter().take(ATTEMPTS) {
            let address = SocketAddr::new(*ip, to.port);
            let connecting = async {
                match &self.proxy {
                    Some(proxy) if !is_open => through(proxy, address).await,
                    _ => TcpStream::connect(address).await,
                }
            };
            match tokio::time::timeout(CONNECT, connecting).await {
                Ok(Ok(stream)) => {
                    let _best_effort = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => failed = error.to_string(),
                Err(_) => "no answer".clone_into(&mut failed),
            }
        }
        Err(refusal(Rule::Connect, format!("no connection to {}: {failed}", to.host)))
    }
}

/// Through the operator's proxy, to the very address that was checked: the proxy resolves nothing.
async fn through(proxy: &Uri, address: SocketAddr) -> io::Result<TcpStream> {
    let to: Uri = format!("https://{address}").parse().map_err(io::Error::other)?;
    let mut tunnel = Tunnel::new(proxy.clone(), Direct);
    let stream = tunnel.call(to).await.map_err(|error| io::Error::other(format!("the proxy says: {error}")))?;
    Ok(stream.into_inner())
}

/// To the proxy.
#[derive(Clone)]
struct Direct;

impl Service<Uri> for Direct {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, proxy: Uri) -> Self::Future {
        Box::pin(async move {
            let host = proxy.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
            TcpStream::connect((host, proxy.port_u16().unwrap_or(3128))).await.map(TokioIo::new)
        })
    }
}

/// A connection that is ready for HTTP.
pub(super) enum Stream {
    /// To what the operator opened.
    Plain(TokioIo<TcpStream>),
    /// To everything else.
    Secure(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Secure(stream) if stream.inner().get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            _ => Connected::new(),
        }
    }
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, from),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, from),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
