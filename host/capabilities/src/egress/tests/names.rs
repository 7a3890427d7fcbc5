//! Names: what they lead to, for how long, and what may be reached of it.

use super::*;

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
