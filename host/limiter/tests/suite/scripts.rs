//! Redis that does not know the script of a check: it was started anew, or has forgotten it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clawhold_limiter::Limiter;
use clawhold_tenancy::quota::Dimension;
use clawhold_test_support::redis::Redis as Server;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::together::{becomes, limiter, runs, two, used};
use crate::{call, quota};

const LONG: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_has_forgotten_its_scripts_is_told_again_and_nothing_is_lost_or_counted_twice() {
    let server = Server::start().unwrap();
    let two = two(&server).await;
    let quota = quota(&[(Dimension::SkillCalls, 6_000), (Dimension::ConcurrentRuns, 1000)]);
    let (began, mut admitted) = (Instant::now(), 0);
    for _ in 0..20 {
        assert_eq!(server.ask(&["script", "flush", "sync"]).unwrap(), "OK");
        let grants = (0..40).map(|n| {
            let (limiter, quota) = (Arc::clone(&two[n % 2]), Arc::clone(&quota));
            tokio::spawn(async move { call(&limiter, &quota, LONG).await.unwrap() })
        });
        let mut held = Vec::new();
        for grant in grants.collect::<Vec<_>>() {
            held.push(grant.await.unwrap());
        }
        admitted += held.len() as u64;
        // Each host knows of all runs, its own and the other's.
        assert!(becomes(async || runs(&two[0], &quota).await == 40 && runs(&two[1], &quota).await == 40).await);
        drop(held);
        assert!(becomes(async || runs(&two[0], &quota).await == 0).await);
    }
    assert!(two.iter().all(|limiter| limiter.hosts() == Some((2, false))), "no check has failed");
    let used = used(&two[0], &quota).await;
    // A hundred a second run off.
    let run_off = u64::try_from(began.elapsed().as_millis()).unwrap() / 10 + 1;
    assert!(used <= admitted && used + run_off >= admitted, "{used} of {admitted}, of which {run_off} ran off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_check_of_a_host_alone_fails_while_redis_forgets_its_scripts_again_and_again() {
    let server = Server::start().unwrap();
    let alone = limiter(&server.url(), "one");
    assert!(becomes(async || alone.hosts() == Some((1, false))).await);
    let quota = quota(&[(Dimension::SkillCalls, 60_000), (Dimension::ConcurrentRuns, 1000)]);
    let began = Instant::now();
    let mut asking = JoinSet::new();
    for _ in 0..16 {
        let (limiter, quota) = (Arc::clone(&alone), Arc::clone(&quota));
        asking.spawn(async move {
            let mut admitted = 0;
            while admitted < 500 {
                drop(call(&limiter, &quota, LONG).await.unwrap());
                admitted += 1;
                assert_eq!(limiter.hosts(), Some((1, false)), "a check has failed");
            }
            admitted
        });
    }
    let mut forgot = 0;
    while forgot < 20 {
        assert_eq!(server.ask(&["script", "flush", "sync"]).unwrap(), "OK");
        forgot += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let admitted: u64 = asking.join_all().await.into_iter().sum();
    let used = used(&alone, &quota).await;
    assert_eq!(admitted, 8_000);
    // A thousand a second run off.
    let run_off = u64::try_from(began.elapsed().as_millis()).unwrap() + 1;
    assert!(used <= admitted && used + run_off >= admitted, "{used} of {admitted}, of which {run_off} ran off");
    // The text went along only where it was asked for: most calls carried the hash.
    let stats = server.ask(&["info", "commandstats"]).unwrap();
    let calls = |command: &str| -> u64 {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls="))).unwrap();
        line.split(',').next().unwrap().parse().unwrap()
    };
    assert!(calls("evalsha") > calls("eval"), "{stats}");
}

/// The way to a Redis, on which the next two checks are held until both are there; then the first goes on, and the second once
/// `brought` has happened.
struct Way {
    url: String,
    hold: Arc<Notify>,
    /// Both are there, and the first was refused.
    refused: oneshot::Receiver<()>,
    brought: Arc<Notify>,
}

impl Way {
    async fn to(server: &Server) -> Self {
        let to = server.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/", listener.local_addr().unwrap());
        let (hold, brought) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (is_refused, refused) = oneshot::channel();
        let (holding, bringing) = (Arc::clone(&hold), Arc::clone(&brought));
        tokio::spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let (mut asks, mut hears) = client.into_split();
            let (mut answers, mut goes) = TcpStream::connect(to).await.unwrap().into_split();
            let (unknown, counts) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
            let (seen, counted) = (Arc::clone(&unknown), Arc::clone(&counts));
            tokio::spawn(async move {
                let mut some = [0; 4096];
                while let Ok(count @ 1..) = answers.read(&mut some).await {
                    if String::from_utf8_lossy(&some[..count]).contains("-NOSCRIPT") && counted.load(Ordering::Relaxed)
                    {
                        seen.notify_one();
                    }
                    hears.write_all(&some[..count]).await.unwrap();
                }
            });
            let mut got = Vec::new();
            loop {
                tokio::select! {
                    biased;
                    () = holding.notified() => break,
                    command = command(&mut asks, &mut got) => goes.write_all(&command).await.unwrap(),
                }
            }
            let (mut held, mut checks) = (Vec::new(), 0);
            while checks < 2 {
                held.push(command(&mut asks, &mut got).await);
                checks += usize::from(is_check(held.last().unwrap()));
            }
            let second = held.pop().unwrap();
            // The first of all was refused as well, when nobody knew the script yet.
            counts.store(true, Ordering::Relaxed);
            goes.write_all(&held.concat()).await.unwrap();
            unknown.notified().await;
            is_refused.send(()).unwrap();
            bringing.notified().await;
            goes.write_all(&second).await.unwrap();
            loop {
                let next = command(&mut asks, &mut got).await;
                if next.is_empty() || goes.write_all(&next).await.is_err() {
                    return;
                }
            }
        });
        Self { url, hold, refused, brought }
    }
}

fn is_check(command: &[u8]) -> bool {
    String::from_utf8_lossy(command).contains(":state")
}

/// The next whole command: an array of strings, each with its length before it. Nothing at the end. What was read of it stays in
/// `got` if nobody waits for it any more.
async fn command(from: &mut OwnedReadHalf, got: &mut Vec<u8>) -> Vec<u8> {
    loop {
        if let Some(length) = whole(got) {
            return got.drain(..length).collect();
        }
        if from.read_buf(got).await.unwrap_or(0) == 0 {
            return Vec::new();
        }
    }
}

fn whole(got: &[u8]) -> Option<usize> {
    let number = |at: usize| -> Option<(usize, usize)> {
        let end = at + got.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
        Some((std::str::from_utf8(&got[at + 1..end]).ok()?.parse().ok()?, end + 2))
    };
    let (strings, mut at) = number(0)?;
    for _ in 0..strings {
        let (length, begin) = number(at)?;
        at = begin + length + 2;
    }
    (at <= got.len()).then_some(at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_behind_which_another_host_brought_the_script_counts_once_and_takes_nothing_back() {
    let server = Server::start().unwrap();
    let mut way = Way::to(&server).await;
    let (one, other) = (limiter(&way.url, "one"), limiter(&server.url(), "other"));
    assert!(becomes(async || [&one, &other].iter().all(|of| of.hosts() == Some((2, false)))).await);
    let quota = quota(&[(Dimension::SkillCalls, 6_000), (Dimension::ConcurrentRuns, 1000)]);
    let began = Instant::now();
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(call(&one, &quota, LONG).await.unwrap());
    }
    assert_eq!(runs(&other, &quota).await, 3);
    assert_eq!(server.ask(&["script", "flush", "sync"]).unwrap(), "OK");
    way.hold.notify_one();
    // The first says that there are two runs and one more, the second one more than before.
    drop(held.pop());
    let ask = |limiter: &Arc<Limiter>| {
        let (limiter, quota) = (Arc::clone(limiter), Arc::clone(&quota));
        tokio::spawn(async move { call(&limiter, &quota, LONG).await.unwrap() })
    };
    let first = ask(&one);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = ask(&one);
    (&mut way.refused).await.unwrap();
    assert_eq!(runs(&other, &quota).await, 3, "that brings the script");
    way.brought.notify_one();
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(runs(&other, &quota).await, 4);
    let used = used(&other, &quota).await;
    // A hundred a second run off.
    let run_off = u64::try_from(began.elapsed().as_millis()).unwrap() / 10 + 1;
    assert!(used <= 5 && used + run_off >= 5, "{used} of 5");
    assert!([&one, &other].iter().all(|of| of.hosts() == Some((2, false))), "no check has failed");
    drop((first, second, held));
    assert!(becomes(async || runs(&other, &quota).await == 0).await);
}
