//! The network: resolve, check the address, connect to that address, and to no other.
//!
//! One connection serves one request and is closed. Nothing is pooled, so nothing crosses tenants; no redirect is
//! followed; no proxy is read from the environment.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use clawhold_sandbox::contract::clawhold::skill::http::Rule;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use crate::address::AddressRule;
use crate::http::{Bounds, Incoming, Outgoing, Transport, TransportError};

/// Addresses of one name that are tried.
const ATTEMPTS: usize = 4;
/// One address that does not answer must not use up the time of the others.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Header fields of an answer, and bytes that are buffered of them. Peers have been seen to send 100,000.
const RESPONSE_HEADERS: usize = 128;
const RESPONSE_HEADER_BYTES: usize = 64 * 1024;

/// The real network.
pub struct Egress {
    rule: AddressRule,
    tls: TlsConnector,
}

impl Egress {
    /// Reaches public addresses and what the operator opened. Trusts the roots that Mozilla trusts.
    pub fn new(rule: AddressRule) -> Self {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { rule, tls: TlsConnector::from(Arc::new(tls)) }
    }
}

#[async_trait]
impl Transport for Egress {
    async fn send(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, TransportError> {
        let mut sent = false;
        let exchange = self.exchange(request, bounds.response_bytes, &mut sent);
        let ended = tokio::time::timeout_at(bounds.deadline.into(), exchange).await;
        ended.unwrap_or_else(|_| Err(fail(Rule::Deadline, "the time for the request is over", sent)))
    }
}

impl Egress {
    async fn exchange(&self, request: Outgoing, most: u64, sent: &mut bool) -> Result<Incoming, TransportError> {
        let stream = self.connect(&request.url).await?;
        if request.url.scheme() == "http" {
            return converse(stream, request, most, sent).await;
        }
        let host = request.url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| fail(Rule::InvalidRequest, "the host has no name that a certificate can carry", false))?;
        let stream =
            self.tls.connect(name, stream).await.map_err(|e| fail(Rule::Tls, format!("no TLS: {e}"), false))?;
        converse(stream, request, most, sent).await
    }

    /// A connection to an address that was checked, and that the name led to a moment ago.
    async fn connect(&self, url: &Url) -> Result<TcpStream, TransportError> {
        let port = url.port_or_known_default().unwrap_or(443);
        let found: Vec<IpAddr> = match url.host() {
            Some(Host::Ipv4(v4)) => vec![v4.into()],
            Some(Host::Ipv6(v6)) => vec![v6.into()],
            Some(Host::Domain(name)) => {
                let resolved = lookup_host((name, port)).await;
                let resolved = resolved.map_err(|_| fail(Rule::Dns, format!("{name} cannot be resolved"), false))?;
                resolved.map(|address| address.ip()).collect()
            }
            None => Vec::new(),
        };
        let mut refused = None;
        let mut tried = None;
        for ip in found.into_iter().take(64) {
            match self.rule.check(ip) {
                Err(why) => refused = Some(why.to_string()),
                Ok(false) if url.scheme() == "http" => {
                    refused = Some(
                        "a public address, and plain http goes only to ranges that the operator opened; use https"
                            .to_owned(),
                    );
                }
                Ok(_) if tried.as_ref().is_some_and(|(count, _)| *count >= ATTEMPTS) => break,
                Ok(_) => {
                    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(SocketAddr::new(ip, port))).await {
                        Ok(Ok(stream)) => {
                            let _best_effort = stream.set_nodelay(true);
                            return Ok(stream);
                        }
                        Ok(Err(error)) => tried = Some((tried.map_or(1, |(n, _)| n + 1), error.to_string())),
                        Err(_) => tried = Some((tried.map_or(1, |(n, _)| n + 1), "no answer".to_owned())),
                    }
                }
            }
        }
        let host = url.host_str().unwrap_or_default();
        Err(match (tried, refused) {
            (Some((_, error)), _) => fail(Rule::Connect, format!("no connection to {host}: {error}"), false),
            (None, Some(why)) => fail(Rule::Address, format!("{host} is {why}"), false),
            (None, None) => fail(Rule::Dns, format!("{host} has no address"), false),
        })
    }
}

async fn converse<S>(stream: S, request: Outgoing, most: u64, sent: &mut bool) -> Result<Incoming, TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut client = http1::Builder::new();
    client.max_headers(RESPONSE_HEADERS).max_buf_size(RESPONSE_HEADER_BYTES);
    let (mut sender, connection) = client
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|e| fail(Rule::Protocol, format!("no HTTP: {e}"), false))?;
    // The connection ends with this exchange, also when the run is dropped in the middle of it.
    let _driver = EndsOnDrop(tokio::spawn(async move {
        let _closed = connection.await;
    }));
    let request = message(request)?;
    *sent = true;
    let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
    let (head, mut body) = answer.into_parts();
    let mut size: u64 = head.headers.iter().map(|(n, v)| (n.as_str().len() + v.len()) as u64).sum();
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| broken(&e))?;
        if let Ok(data) = frame.into_data() {
            size += data.len() as u64;
            if size > most {
                return Err(fail(Rule::Size, format!("the answer is larger than {most} bytes"), true));
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(Incoming { status: head.status.as_u16(), headers: head.headers, body: whole.into() })
}

fn message(request: Outgoing) -> Result<Request<Full<Bytes>>, TransportError> {
    let invalid = |what: &str| fail(Rule::InvalidRequest, format!("the {what} cannot be sent"), false);
    let url = &request.url;
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let authority = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err(invalid("host")),
    };
    let mut message = Request::builder()
        .method(request.method.as_str())
        .uri(target)
        .body(Full::new(request.body))
        .map_err(|_| invalid("URL"))?;
    let headers = message.headers_mut();
    *headers = request.headers;
    headers.insert(header::HOST, HeaderValue::try_from(authority).map_err(|_| invalid("host"))?);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.entry(header::ACCEPT_ENCODING).or_insert(HeaderValue::from_static("identity"));
    headers
        .entry(header::USER_AGENT)
        .or_insert(HeaderValue::from_static(concat!("clawhold/", env!("CARGO_PKG_VERSION"))));
    Ok(message)
}

fn broken(error: &hyper::Error) -> TransportError {
    let rule = if error.is_parse_too_large() { Rule::Size } else { Rule::Protocol };
    fail(rule, format!("the exchange broke off: {error}"), true)
}

fn fail(rule: Rule, message: impl Into<String>, sent: bool) -> TransportError {
    TransportError { rule, message: message.into(), sent }
}

struct EndsOnDrop(JoinHandle<()>);

impl Drop for EndsOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
