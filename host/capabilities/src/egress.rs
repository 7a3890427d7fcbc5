//! The network: resolve, check the address, connect to that address, and to no other.
//!
//! One connection serves one request and is closed. Nothing is pooled, so nothing crosses tenants; no redirect is
//! followed; no proxy is read from the environment.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
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
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::{Host, Url};

use crate::address::AddressRule;
use crate::http::{Bounds, Incoming, Outgoing, Transport, TransportError};

/// Addresses of one name that are tried.
const ATTEMPTS: usize = 4;
/// Names that are looked up at a time, over all tenants.
const LOOKUPS: usize = 64;
/// One address that does not answer must not use up the time of the others.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Header fields of an answer, and bytes that are buffered of them. Peers have been seen to send 100,000.
const RESPONSE_HEADERS: usize = 128;
const RESPONSE_HEADER_BYTES: usize = 64 * 1024;

/// The real network.
pub struct Egress {
    rule: AddressRule,
    tls: TlsConnector,
    lookups: Arc<Semaphore>,
}

impl Egress {
    /// Reaches public addresses and what the operator opened. Trusts the roots that Mozilla trusts.
    pub fn new(rule: AddressRule) -> Self {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { rule, tls: TlsConnector::from(Arc::new(tls)), lookups: Arc::new(Semaphore::new(LOOKUPS)) }
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

    /// The system's resolver, which cannot be interrupted: a place is taken until it has answered, also when the run is
    /// over by then, so that unanswered names do not use up the threads that everybody needs.
    async fn resolve(&self, name: String, port: u16) -> Result<Vec<IpAddr>, TransportError> {
        let failed = |name: &str| fail(Rule::Dns, format!("{name} cannot be resolved"), false);
        let place = Arc::clone(&self.lookups).acquire_owned().await.map_err(|_| failed(&name))?;
        let asked = name.clone();
        let looked_up = tokio::task::spawn_blocking(move || {
            let _place = place;
            (asked.as_str(), port).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
        });
        looked_up.await.ok().and_then(Result::ok).ok_or_else(|| failed(&name))
    }

    /// A connection to an address that was checked, and that the name led to a moment ago.
    async fn connect(&self, url: &Url) -> Result<TcpStream, TransportError> {
        let port = url.port_or_known_default().unwrap_or(443);
        let found: Vec<IpAddr> = match url.host() {
            Some(Host::Ipv4(v4)) => vec![v4.into()],
            Some(Host::Ipv6(v6)) => vec![v6.into()],
            Some(Host::Domain(name)) => self.resolve(name.to_owned(), port).await?,
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use clawhold_tenancy::policy::Method;

    use super::*;

    async fn ask(rule: AddressRule, url: String) -> Result<Incoming, TransportError> {
        let request = Outgoing {
            method: Method::Get,
            url: url.parse().unwrap(),
            headers: http::HeaderMap::new(),
            body: Bytes::new(),
            credential: None,
        };
        let bounds = Bounds { deadline: Instant::now() + Duration::from_secs(20), response_bytes: 1024 };
        Egress::new(rule).send(request, bounds).await
    }

    #[tokio::test]
    async fn hostile_15_a_name_that_leads_into_the_hosts_network_is_refused_before_a_connection_is_made() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        for scheme in ["http", "https"] {
            let refused = ask(AddressRule::default(), format!("{scheme}://localhost:{port}/")).await.unwrap_err();
            assert_eq!((refused.rule, refused.sent), (Rule::Address, false), "{}", refused.message);
            assert!(refused.message.contains("loopback") && refused.message.contains("egress.open"));
        }
        let nobody = listener.accept().unwrap_err();
        assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock, "somebody connected");
    }

    #[tokio::test]
    async fn what_speaks_no_tls_gets_no_request() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = [0; 1];
            stream.read_exact(&mut first).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            first[0]
        });
        let open = AddressRule { open: vec!["127.0.0.1/32".parse().unwrap()] };
        let refused = ask(open, format!("https://127.0.0.1:{port}/")).await.unwrap_err();
        assert_eq!((refused.rule, refused.sent), (Rule::Tls, false), "{}", refused.message);
        // A TLS record, and not the G of a GET.
        assert_eq!(heard.await.unwrap(), 0x16);
    }
}
