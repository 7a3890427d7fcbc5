//! Who is believed to be whom.

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

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
