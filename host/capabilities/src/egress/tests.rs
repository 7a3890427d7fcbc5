use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZstdEncoder};
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn open(ranges: &[&str]) -> EgressSettings {
    let open = ranges.iter().map(|range| range.parse().unwrap()).collect();
    EgressSettings { rule: AddressRule { open }, ..EgressSettings::default() }
}

fn request(tenant: &str, url: &str) -> Outgoing {
    Outgoing {
        tenant: tenant.parse().unwrap(),
        method: Method::Get,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        credential: None,
    }
}

fn bounds() -> Bounds {
    Bounds { deadline: Instant::now() + Duration::from_secs(20), response_bytes: 1 << 20 }
}

async fn ask(settings: EgressSettings, url: &str) -> Result<Incoming, TransportError> {
    Egress::new(settings).unwrap().send(request("acme-corp", url), bounds()).await
}

/// A server that answers each request on a connection alike, and keeps what it read. Requests have no body, or one of `body` bytes.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    read: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    async fn start(answer: Vec<u8>) -> Self {
        Self::at("127.0.0.1:0", answer).await
    }

    async fn at(address: &str, answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (connections, read): (Arc<AtomicUsize>, Arc<Mutex<Vec<u8>>>) = Default::default();
        let (counted, kept) = (Arc::clone(&connections), Arc::clone(&read));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, answer.clone(), Arc::clone(&kept)));
            }
        });
        Self { port, connections, read }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/x", self.port)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn read(&self) -> String {
        String::from_utf8_lossy(&self.read.lock().unwrap()).into_owned()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Vec<u8>, kept: Arc<Mutex<Vec<u8>>>) {
    let mut heads = 0;
    let mut part = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut part).await {
        let now = {
            let mut kept = kept.lock().unwrap();
            kept.extend_from_slice(&part[..n]);
            kept.windows(4).filter(|four| four == b"\r\n\r\n").count()
        };
        while heads < now {
            heads += 1;
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        if !answer.windows(15).any(|part| part == b"content-length:") {
            return;
        }
    }
}

fn with_body(fields: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

/// A DNS server of a test's own: what it says to each question about an IPv4 address, one after another, and the last again and again.
pub(crate) async fn dns(answers: Vec<Vec<IpAddr>>) -> (SocketAddr, Arc<AtomicUsize>) {
    dns_for(0, answers).await
}

/// The same, with answers that are good for so many seconds.
async fn dns_for(seconds: u32, answers: Vec<Vec<IpAddr>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (at, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut packet = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut packet).await {
            let question = Message::from_vec(&packet[..length]).unwrap();
            let query = question.queries[0].clone();
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            answer.metadata.message_type = MessageType::Response;
            answer.metadata.recursion_available = true;
            answer.metadata.response_code = ResponseCode::NoError;
            answer.add_query(query.clone());
            if query.query_type() == RecordType::A {
                let n = counted.fetch_add(1, Ordering::SeqCst);
                for ip in answers.get(n).or(answers.last()).into_iter().flatten() {
                    let IpAddr::V4(v4) = ip else { continue };
                    answer.add_answer(Record::from_rdata(query.name().clone(), seconds, RData::A((*v4).into())));
                }
            }
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    (at, asked)
}

#[tokio::test]
async fn hostile_15_a_name_that_leads_into_the_hosts_network_is_refused_before_a_connection_is_made() {
    let server = Server::start(with_body("", b"hello")).await;
    for scheme in ["http", "https"] {
        let refused =
            ask(EgressSettings::default(), &format!("{scheme}://localhost:{}/", server.port)).await.unwrap_err();
        assert_eq!((refused.rule, refused.sent), (Rule::Address, false), "{}", refused.message);
        let denial = refused.denial.unwrap();
        assert!(
            denial.why.contains("loopback") && denial.remedy.contains("egress.tenants.acme-corp.open"),
            "{denial:?}"
        );
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_range_is_opened_for_one_tenant_and_no_other() {
    let server = Server::start(with_body("", b"hello")).await;
    let tenants = HashMap::from([("acme-corp".parse().unwrap(), vec!["127.0.0.0/8".parse().unwrap()])]);
    let egress = Egress::new(EgressSettings { tenants, ..EgressSettings::default() }).unwrap();
    egress.send(request("acme-corp", &server.url()), bounds()).await.unwrap();
    let refused = egress.send(request("globex", &server.url()), bounds()).await.unwrap_err();
    assert_eq!((refused.rule, server.connections()), (Rule::Address, 1));
}

#[tokio::test]
async fn hostile_17_a_name_that_leads_elsewhere_the_next_time_leads_nowhere() {
    let inside = Server::start(with_body("", b"the host's own")).await;
    let outside = Server::at(&format!("127.0.0.2:{}", inside.port), b"HTTP/1.1 200 OK\r\n\r\nouter".to_vec()).await;
    let (server, asked) = dns(vec![vec![OTHER], vec![[127, 0, 0, 1].into()]]).await;
    // 127.0.0.2 stands for a public address.
    let egress = Egress::new(EgressSettings { dns: vec![server], ..open(&["127.0.0.2/32"]) }).unwrap();
    let url = format!("http://rebind.example:{}/", inside.port);
    let first = egress.send(request("acme-corp", &url), bounds()).await.unwrap();
    assert_eq!(
        (&first.body[..], asked.load(Ordering::SeqCst)),
        (&b"outer"[..], 1),
        "it is asked once, and that is where it goes"
    );
    let second = egress.send(request("acme-corp", &url), bounds()).await.unwrap_err();
    assert_eq!((second.rule, second.sent), (Rule::Address, false), "{}", second.message);
    assert_eq!((outside.connections(), inside.connections()), (1, 0));
}

#[tokio::test]
async fn hostile_17_one_address_that_may_not_be_reached_refuses_the_whole_name() {
    let outside = Server::at("127.0.0.2:0", with_body("", b"outer")).await;
    for answer in [vec![OTHER, [10, 0, 0, 1].into()], vec![[169, 254, 169, 254].into(), OTHER], vec![]] {
        let (server, _) = dns(vec![answer.clone()]).await;
        let settings = EgressSettings { dns: vec![server], ..open(&["127.0.0.2/32"]) };
        let refused = ask(settings, &format!("http://mixed.example:{}/", outside.port)).await.unwrap_err();
        let expected = if answer.is_empty() { Rule::Dns } else { Rule::Address };
        assert_eq!((refused.rule, refused.sent), (expected, false), "{answer:?}: {}", refused.message);
    }
    assert_eq!(outside.connections(), 0);
}

#[tokio::test]
async fn names_are_remembered_as_long_as_they_say_for_a_tenant_and_for_no_other() {
    // Each answer ends its connection.
    let outside = Server::at("127.0.0.2:0", b"HTTP/1.1 200 OK\r\n\r\nouter".to_vec()).await;
    let (server, asked) = dns_for(1, vec![vec![OTHER]]).await;
    let egress = Egress::new(EgressSettings { dns: vec![server], ..open(&["127.0.0.2/32"]) }).unwrap();
    let url = format!("http://kept.example:{}/", outside.port);
    for (tenant, questions) in [("acme-corp", 1), ("acme-corp", 1), ("globex", 2), ("acme-corp", 2)] {
        egress.send(request(tenant, &url), bounds()).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), questions, "{tenant}");
    }
    assert_eq!(outside.connections(), 4);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    egress.send(request("acme-corp", &url), bounds()).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_dns_server_that_says_nothing_is_given_up() {
    let outside = Server::at("127.0.0.2:0", with_body("", b"outer")).await;
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let settings = EgressSettings { dns: vec![silent.local_addr().unwrap()], ..open(&["127.0.0.2/32"]) };
    let began = Instant::now();
    let refused = ask(settings, &format!("http://silent.example:{}/", outside.port)).await.unwrap_err();
    assert_eq!((refused.rule, refused.sent), (Rule::Dns, false), "{}", refused.message);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn connections_serve_one_tenant_and_one_origin_again_and_no_other() {
    let (server, other) = (Server::start(with_body("", b"hello")).await, Server::start(with_body("", b"hello")).await);
    let egress = Egress::new(open(&["127.0.0.0/8", "::1/128"])).unwrap();
    for (tenant, url, connections) in [
        ("acme-corp", server.url(), 1),
        ("acme-corp", server.url(), 1),
        ("acme-corp", other.url(), 1),
        ("acme-corp", server.url(), 1),
        ("globex", server.url(), 2),
        ("acme-corp", server.url().replace("127.0.0.1", "localhost"), 3),
    ] {
        egress.send(request(tenant, &url), bounds()).await.unwrap();
        // What is given back is there for the next a moment later.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(server.connections(), connections, "{tenant} {url}");
    }
}

#[tokio::test]
async fn hostile_18_one_request_is_on_the_wire_with_what_it_says_and_nothing_else() {
    let server = Server::start(with_body("", b"hello")).await;
    let mut asked = request("acme-corp", &format!("{}?a=b%0d%0aX:c", server.url()));
    (asked.method, asked.body) = (Method::Post, Bytes::from_static(b"GET /second HTTP/1.1"));
    Egress::new(open(&["127.0.0.1/32"])).unwrap().send(asked, bounds()).await.unwrap();
    let read = server.read();
    let (head, body) = read.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "GET /second HTTP/1.1");
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /x?a=b%0d%0aX:c HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: 127.0.0.1:{}", server.port);
    assert_eq!(lines, ["accept-encoding: gzip, br, zstd", "content-length: 20", &host]);
}

/// A body, coded as its name says.
async fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    match coding {
        "gzip" => GzipEncoder::new(body).read_to_end(&mut whole).await,
        "br" => BrotliEncoder::new(body).read_to_end(&mut whole).await,
        "zstd" => ZstdEncoder::new(body).read_to_end(&mut whole).await,
        _ => Ok(whole.write(body).await.unwrap()),
    }
    .unwrap();
    whole
}

#[tokio::test]
async fn bodies_are_decoded_unless_somebody_asks_for_them_as_they_are() {
    let text = "All work and no play. ".repeat(100).into_bytes();
    for coding in ["gzip", "br", "zstd", "identity"] {
        let body = coded(coding, &text).await;
        let server = Server::start(with_body(&format!("content-encoding: {coding}\r\n"), &body)).await;
        let answer = ask(open(&["127.0.0.1/32"]), &server.url()).await.unwrap();
        assert_eq!(answer.body, text, "{coding}");
        assert!(answer.wire_bytes > body.len() as u64 && answer.wire_bytes < body.len() as u64 + 200, "{coding}");
        assert_eq!(answer.headers.contains_key("content-encoding"), coding == "identity");
        let mut raw = request("acme-corp", &server.url());
        raw.headers.insert("accept-encoding", HeaderValue::from_static("gzip"));
        let answer = Egress::new(open(&["127.0.0.1/32"])).unwrap().send(raw, bounds()).await.unwrap();
        assert_eq!((&answer.body[..], answer.headers["content-encoding"].to_str().unwrap()), (&body[..], coding));
    }
    // What is unknown stays as it is; what is no gzip is an error.
    let server = Server::start(with_body("content-encoding: rot13\r\n", b"uryyb")).await;
    assert_eq!(&ask(open(&["127.0.0.1/32"]), &server.url()).await.unwrap().body[..], b"uryyb");
    let server = Server::start(with_body("content-encoding: gzip\r\n", b"uryyb")).await;
    let broken = ask(open(&["127.0.0.1/32"]), &server.url()).await.unwrap_err();
    assert_eq!((broken.rule, broken.sent), (Rule::Protocol, true), "{}", broken.message);
}

#[tokio::test]
async fn hostile_34_a_body_that_grows_without_measure_is_cut_off_while_it_is_decoded() {
    let nothing = vec![0; 64 << 20];
    for coding in ["gzip", "br", "zstd"] {
        let once = coded(coding, &nothing).await;
        let twice = coded(coding, &once).await;
        for (fields, body) in [
            (format!("content-encoding: {coding}\r\n"), &once),
            (format!("content-encoding: {coding}, {coding}\r\n"), &twice),
            (format!("content-encoding: {coding}\r\ncontent-encoding: {coding}\r\n"), &twice),
        ] {
            let server = Server::start(with_body(&fields, body)).await;
            let refused = ask(open(&["127.0.0.1/32"]), &server.url()).await.unwrap_err();
            assert_eq!((refused.rule, refused.sent), (Rule::Size, true), "{fields}: {}", refused.message);
        }
    }
    let server = Server::start(with_body("content-encoding: gzip, gzip, gzip\r\n", b"x")).await;
    assert_eq!(ask(open(&["127.0.0.1/32"]), &server.url()).await.unwrap_err().rule, Rule::Protocol);
}

/// An endless answer, the same part again and again until somebody hangs up; gives how much of it went out.
async fn endless(head: &'static str, first: Vec<u8>, part: Vec<u8>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, sent) = (format!("http://{}/", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _head = stream.read(&mut [0; 4096]).await;
        stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes()).await.unwrap();
        stream.write_all(&first).await.unwrap();
        while stream.write_all(&part).await.is_ok() {
            counted.fetch_add(part.len(), Ordering::SeqCst);
        }
    });
    (url, sent)
}

#[tokio::test]
async fn hostile_34_bytes_that_decode_to_nothing_are_bounded_too() {
    // A gzip header, and stored blocks of no bytes. A frame of zstd that is to be skipped, of 4 GiB. The same within gzip.
    let gzip_head = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let empty_blocks = [0, 0, 0, 255, 255].repeat(2_000);
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 255, 255, 255, 255][..], &[0; 64]].concat();
    for (head, first, part) in [
        ("content-encoding: gzip\r\n", gzip_head, empty_blocks),
        ("content-encoding: zstd\r\n", skipped.clone(), vec![0; 10_000]),
    ] {
        let (url, sent) = endless(head, first, part).await;
        let refused = ask(open(&["127.0.0.1/32"]), &url).await.unwrap_err();
        assert_eq!((refused.rule, refused.sent), (Rule::Size, true), "{head}: {}", refused.message);
        // A megabyte may come, and what is on its way.
        assert!(sent.load(Ordering::SeqCst) < 20 << 20, "{head}: {sent:?}");
    }
    let inner = [skipped, vec![0; 200 << 20]].concat();
    let server = Server::start(with_body("content-encoding: zstd, gzip\r\n", &coded("gzip", &inner).await)).await;
    let began = Instant::now();
    let refused = ask(open(&["127.0.0.1/32"]), &server.url()).await.unwrap_err();
    assert_eq!((refused.rule, refused.sent), (Rule::Size, true), "{}", refused.message);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn hostile_34_fields_without_number_or_end_are_cut_off() {
    let many = "x-field: y\r\n".repeat(100_000);
    let long = format!("x: {}\r\n", "y".repeat(1 << 20));
    for fields in [many, long] {
        let server = Server::start(with_body(&fields, b"hello")).await;
        let refused = ask(open(&["127.0.0.1/32"]), &server.url()).await.unwrap_err();
        assert!(matches!(refused.rule, Rule::Size | Rule::Protocol) && refused.sent, "{}", refused.message);
    }
}

#[tokio::test]
async fn hostile_34_a_peer_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let settings = EgressSettings { first_byte: Duration::from_millis(200), ..open(&["127.0.0.1/32"]) };
    let began = Instant::now();
    let refused = ask(settings, &url).await.unwrap_err();
    assert_eq!((refused.rule, refused.sent), (Rule::Deadline, true), "{}", refused.message);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn hostile_34_a_peer_that_says_a_byte_now_and_then_is_given_up_in_the_time_that_there_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        // In the head, and behind it.
        for head in ["HTTP/1.1 200 OK\r\nx: ", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _head = stream.read(&mut [0; 4096]).await;
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(b"y").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    let egress = Egress::new(open(&["127.0.0.1/32"])).unwrap();
    for _ in 0..2 {
        let began = Instant::now();
        let some = Bounds { deadline: began + Duration::from_millis(300), ..bounds() };
        let refused = egress.send(request("acme-corp", &url), some).await.unwrap_err();
        assert_eq!((refused.rule, refused.sent), (Rule::Deadline, true), "{}", refused.message);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_tenant_has_so_many_requests_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let egress = Arc::new(Egress::new(EgressSettings { at_once: 1, ..open(&["127.0.0.1/32"]) }).unwrap());
    let (first, at) = (Arc::clone(&egress), url.clone());
    let waiting = tokio::spawn(async move { first.send(request("acme-corp", &at), bounds()).await });
    let _held = listener.accept().await.unwrap();
    let refused = egress.send(request("acme-corp", &url), bounds()).await.unwrap_err();
    assert_eq!((refused.rule, refused.sent), (Rule::Budget, false), "{}", refused.message);
    // Whoever goes away gives its place back.
    waiting.abort();
    let _ended = waiting.await;
    let quick = Bounds { deadline: Instant::now() + Duration::from_millis(100), ..bounds() };
    assert_eq!(egress.send(request("acme-corp", &url), quick).await.unwrap_err().rule, Rule::Deadline);
}

#[tokio::test]
async fn what_speaks_no_tls_gets_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        first[0]
    });
    let refused = ask(open(&["127.0.0.1/32"]), &format!("https://127.0.0.1:{port}/")).await.unwrap_err();
    assert_eq!((refused.rule, refused.sent), (Rule::Tls, false), "{}", refused.message);
    // A TLS record, and not the G of a GET.
    assert_eq!(heard.await.unwrap(), 0x16);
}

/// A server behind TLS, certified by nobody but a file, that speaks these protocols.
async fn secure(folder: &std::path::Path, protocols: &[&str]) -> u16 {
    let made = rcgen::generate_simple_self_signed(["peer.example".to_owned()]).unwrap();
    std::fs::write(folder.join("roots.pem"), made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                    let said = format!("{:?} {}", request.version(), request.uri().path());
                    Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(Bytes::from(said))))
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _closed = server.serve_connection(io, service).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_server_is_believed_that_the_operators_roots_certify_in_the_newest_http_that_it_speaks() {
    for (protocols, version) in [(&["h2", "http/1.1"][..], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")]
    {
        let folder = tempfile::tempdir().unwrap();
        let port = secure(folder.path(), protocols).await;
        let (server, _) = dns(vec![vec![[127, 0, 0, 1].into()]]).await;
        let settings = EgressSettings { dns: vec![server], ..open(&["127.0.0.1/32"]) };
        let ours = EgressSettings { roots: Roots::File(folder.path().join("roots.pem")), ..settings.clone() };
        let answer = ask(ours.clone(), &format!("https://peer.example:{port}/x")).await.unwrap();
        assert_eq!(answer.body, format!("{version} /x"));
        for (settings, name) in [
            (ours, "other.example"),
            (EgressSettings { roots: Roots::Bundled, ..settings.clone() }, "peer.example"),
            (EgressSettings { roots: Roots::Platform, ..settings }, "peer.example"),
        ] {
            let refused = ask(settings, &format!("https://{name}:{port}/x")).await.unwrap_err();
            assert_eq!((refused.rule, refused.sent), (Rule::Tls, false), "{name}: {}", refused.message);
        }
    }
}

#[tokio::test]
async fn the_operators_proxy_is_asked_for_the_address_that_was_checked_and_for_nothing_that_is_refused() {
    let proxy = Server::start(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let (server, _) = dns(vec![vec![[1, 1, 1, 1].into()], vec![[10, 0, 0, 1].into()]]).await;
    let settings = EgressSettings {
        dns: vec![server],
        proxy: Some(format!("http://127.0.0.1:{}", proxy.port).parse().unwrap()),
        ..EgressSettings::default()
    };
    let egress = Egress::new(settings).unwrap();
    let refused = egress.send(request("acme-corp", "https://public.example/x"), bounds()).await.unwrap_err();
    assert_eq!((refused.rule, refused.sent), (Rule::Connect, false), "{}", refused.message);
    assert!(proxy.read().starts_with("CONNECT 1.1.1.1:443 HTTP/1.1\r\n"), "{}", proxy.read());
    assert!(!proxy.read().contains("public.example"));
    let refused = egress.send(request("acme-corp", "https://inner.example/x"), bounds()).await.unwrap_err();
    assert_eq!((refused.rule, proxy.connections()), (Rule::Address, 1), "{}", refused.message);
}

#[test]
fn roots_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roots.pem");
    assert!(roots(&Roots::File(file.clone())).unwrap_err().to_string().contains("roots.pem"));
    for content in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&file, content).unwrap();
        assert!(format!("{:#}", roots(&Roots::File(file.clone())).unwrap_err()).contains("egress.roots"));
    }
}
