//! Bodies and fields: decoded, and bounded while they are.

use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder, ZstdEncoder};

use super::*;

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
