mod bodies;
mod names;
mod tls;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

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
async fn a_range_is_opened_for_one_tenant_and_no_other() {
    let server = Server::start(with_body("", b"hello")).await;
    let tenants = HashMap::from([("acme-corp".parse().unwrap(), vec!["127.0.0.0/8".parse().unwrap()])]);
    let egress = Egress::new(EgressSettings { tenants, ..EgressSettings::default() }).unwrap();
    egress.send(request("acme-corp", &server.url()), bounds()).await.unwrap();
    let refused = egress.send(request("globex", &server.url()), bounds()).await.unwrap_err();
    assert_eq!((refused.rule, server.connections()), (Rule::Address, 1));
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
