//! Several limiters on one real Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clawhold_limiter::redis::Redis;
use clawhold_limiter::{Limiter, Shared};
use clawhold_tenancy::quota::{Amounts, Dimension, Over};
use clawhold_test_support::redis::Redis as Server;
use tokio::task::JoinSet;

use crate::{call, quota, tenant};

const LONG: Duration = Duration::from_mins(1);

pub(crate) fn limiter(url: &str, name: &str) -> Arc<Limiter> {
    Limiter::shared(Arc::new(Redis::one(url, name.to_owned()).unwrap()) as Arc<dyn Shared>, 1)
}

pub(crate) async fn two(server: &Server) -> [Arc<Limiter>; 2] {
    let two = [limiter(&server.url(), "one"), limiter(&server.url(), "two")];
    assert!(becomes(async || two.iter().all(|of| of.hosts() == Some((2, false)))).await);
    two
}

/// Waits until it is so, ten seconds at most.
pub(crate) async fn becomes(so: impl AsyncFn() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        if so().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_never_admit_more_calls_than_one_may() {
    let server = Server::start().unwrap();
    let two = two(&server).await;
    let quota = quota(&[(Dimension::SkillCalls, 300), (Dimension::ConcurrentRuns, 1000)]);
    let began = Instant::now();
    let mut asking = JoinSet::new();
    for n in 0..16 {
        let (limiter, quota) = (Arc::clone(&two[n % 2]), Arc::clone(&quota));
        asking.spawn(async move {
            let mut admitted = 0;
            while began.elapsed() < Duration::from_secs(2) {
                match call(&limiter, &quota, LONG).await {
                    Ok(_grant) => admitted += 1,
                    Err(over) => {
                        assert_eq!((over.dimension, over.limit), (Dimension::SkillCalls, 300));
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
            }
            admitted
        });
    }
    let admitted: u64 = asking.join_all().await.into_iter().sum();
    // 300 at once, and 5 a second.
    let most = 300 + 5 * (began.elapsed().as_secs() + 1);
    assert!((300..=most).contains(&admitted), "{admitted}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_never_have_more_runs_than_one_may_and_none_is_lost() {
    let server = Server::start().unwrap();
    let two = two(&server).await;
    let quota = quota(&[(Dimension::SkillCalls, 1_000_000), (Dimension::ConcurrentRuns, 5)]);
    let running = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let mut asking = JoinSet::new();
    for n in 0..16 {
        let (limiter, quota, running) = (Arc::clone(&two[n % 2]), Arc::clone(&quota), Arc::clone(&running));
        asking.spawn(async move {
            let mut most = 0;
            for _ in 0..100 {
                if let Ok(grant) = call(&limiter, &quota, LONG).await {
                    most = most.max(running.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    drop(grant);
                }
            }
            most
        });
    }
    let most = asking.join_all().await.into_iter().max().unwrap();
    assert!((1..=5).contains(&most), "{most}");
    // All have come back: five may run, and a sixth may not.
    assert!(becomes(async || call(&two[0], &quota, LONG).await.is_ok()).await);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut grants = Vec::new();
    for n in 0..5 {
        grants.push(call(&two[n % 2], &quota, LONG).await.unwrap());
    }
    for limiter in &two {
        assert_eq!(call(limiter, &quota, LONG).await.unwrap_err().dimension, Dimension::ConcurrentRuns);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_settled_on_one_host_is_known_on_the_other_and_debt_too() {
    let server = Server::start().unwrap();
    let [one, other] = two(&server).await;
    let quota = quota(&[(Dimension::Fuel, 100_000_000)]);
    let ask = |fuel| Amounts::of(Dimension::Fuel, fuel);
    let acme = tenant("acme-corp");
    let grant = one.reserve(&acme, &quota, ask(100_000_000), None).await.unwrap();
    let over: Over = other.reserve(&acme, &quota, ask(50_000_000), None).await.unwrap_err();
    assert_eq!((over.dimension, over.limit), (Dimension::Fuel, 100_000_000));
    assert!((29_000_000..=30_000_000).contains(&over.wait_us.unwrap()), "{over:?}");
    grant.settle(&ask(1_000));
    assert!(becomes(async || other.reserve(&acme, &quota, ask(50_000_000), None).await.is_ok()).await);
    // Twice the quota, which nobody had reserved.
    let grant = one.reserve(&acme, &quota, ask(1_000_000), None).await.unwrap();
    grant.settle(&ask(200_000_000));
    let owes = async || {
        let over = other.reserve(&acme, &quota, ask(1_000_000), None).await.err();
        over.and_then(|over| over.wait_us).is_some_and(|wait| wait > 55_000_000)
    };
    assert!(becomes(owes).await);
    let never = other.reserve(&acme, &quota, ask(200_000_000), None).await.unwrap_err();
    assert_eq!(never.wait_us, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_died_with_is_free_when_its_time_is_over() {
    let server = Server::start().unwrap();
    let [one, other] = two(&server).await;
    let quota = quota(&[(Dimension::ConcurrentRuns, 1)]);
    // Nobody gives it back.
    std::mem::forget(call(&one, &quota, Duration::from_secs(1)).await.unwrap());
    assert_eq!(call(&other, &quota, LONG).await.unwrap_err().dimension, Dimension::ConcurrentRuns);
    let began = Instant::now();
    assert!(becomes(async || call(&other, &quota, LONG).await.is_ok()).await);
    assert!(began.elapsed() > Duration::from_millis(700), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_while_it_asks_leaves_nothing_reserved() {
    let server = Server::start().unwrap();
    let [one, other] = two(&server).await;
    let quota = quota(&[(Dimension::SkillCalls, 100_000), (Dimension::ConcurrentRuns, 3)]);
    for _ in 0..200 {
        // Polled once: the question is on its way.
        let asking = call(&one, &quota, LONG);
        let _gave_up = tokio::time::timeout(Duration::ZERO, asking).await;
    }
    let free = async || {
        let mut grants = Vec::new();
        for _ in 0..3 {
            grants.extend(call(&other, &quota, LONG).await);
        }
        grants.len() == 3
    };
    assert!(becomes(free).await);
}

/// The calls that a limiter admits at once.
async fn burst(limiter: &Arc<Limiter>, quota: &Arc<clawhold_tenancy::quota::Quota>) -> u64 {
    let mut admitted = 0;
    while call(limiter, quota, LONG).await.is_ok() {
        admitted += 1;
    }
    admitted
}

/// What is used of the calls, as the shared place has it.
pub(crate) async fn used(limiter: &Arc<Limiter>, quota: &Arc<clawhold_tenancy::quota::Quota>) -> u64 {
    limiter.refresh(&tenant("acme-corp"), quota).await;
    limiter.standing(&tenant("acme-corp"), quota, Dimension::SkillCalls).used
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_and_goes_counts_nothing_twice_and_loses_no_run() {
    let mut server = Server::start().unwrap();
    let two = two(&server).await;
    let quota = quota(&[(Dimension::SkillCalls, 600), (Dimension::ConcurrentRuns, 2)]);
    let run = call(&two[0], &quota, LONG).await.unwrap();
    for _ in 0..399 {
        // What has ended is told a moment later, and two may run.
        while call(&two[1], &quota, LONG).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let before = used(&two[1], &quota).await;
    let began = Instant::now();
    for _ in 0..3 {
        server.tell("hang").unwrap();
        // Each asks and finds out; its run may have begun there all the same.
        for limiter in &two {
            let _either_way = call(limiter, &quota, LONG).await;
        }
        server.tell("go").unwrap();
        assert!(becomes(async || two.iter().all(|limiter| limiter.hosts() == Some((2, false)))).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // Ten a second run off, and each of the six may have been counted there and here.
    let (now, gone) = (used(&two[1], &quota).await, began.elapsed().as_millis() / 100);
    let expected = before.saturating_sub(u64::try_from(gone).unwrap());
    assert!((expected.saturating_sub(15)..=expected + 15).contains(&now), "{now} and not {expected}");
    // The run is still one of two, and it alone.
    let second = call(&two[1], &quota, LONG).await.unwrap();
    assert_eq!(call(&two[0], &quota, LONG).await.unwrap_err().dimension, Dimension::ConcurrentRuns);
    drop((run, second));
    assert!(becomes(async || runs(&two[1], &quota).await == 0).await);
}

/// The runs under way, as the shared place has them.
pub(crate) async fn runs(limiter: &Arc<Limiter>, quota: &Arc<clawhold_tenancy::quota::Quota>) -> u64 {
    limiter.refresh(&tenant("acme-corp"), quota).await;
    limiter.standing(&tenant("acme-corp"), quota, Dimension::ConcurrentRuns).used
}

async fn apart_and_together_again(leave: &str, come_back: &str) {
    let mut server = Server::start().unwrap();
    let two = two(&server).await;
    let quota = quota(&[(Dimension::SkillCalls, 60), (Dimension::ConcurrentRuns, 1000)]);
    // A third of it is used while hosts are together.
    for n in 0..20 {
        call(&two[n % 2], &quota, LONG).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.tell(leave).unwrap();
    let mut admitted = 20;
    for limiter in &two {
        let part = burst(limiter, &quota).await;
        assert!(
            (15..=24).contains(&part),
            "{part}: half of 60, less half of what was used, and what runs off meanwhile"
        );
        assert_eq!(limiter.hosts(), Some((2, true)));
        admitted += part;
    }
    // One of each thing stays with every host.
    let one = crate::quota(&[(Dimension::SkillCalls, 1)]);
    let globex = tenant("globex");
    for limiter in &two {
        limiter.reserve(&globex, &one, Amounts::of(Dimension::SkillCalls, 1), None).await.unwrap();
    }
    server.tell(come_back).unwrap();
    assert!(becomes(async || two.iter().all(|limiter| limiter.hosts() == Some((2, false)))).await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // What was used counts for all, and once: one a second runs off. A Redis that was started anew has lost the first third.
    let lost = if leave == "stop" { 20 } else { 0 };
    let more = burst(&two[0], &quota).await + burst(&two[1], &quota).await;
    assert!(admitted + more <= 60 + 15 + lost, "{admitted} before and {more} together");
    let used = used(&two[0], &quota).await;
    assert!((55..=62).contains(&used), "{used} of 60: nothing counts twice");
    let over = call(&two[1], &quota, LONG).await.unwrap_err();
    assert_eq!((over.dimension, over.limit), (Dimension::SkillCalls, 60), "the whole quota again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_host_goes_on_with_its_part_and_comes_back() {
    apart_and_together_again("stop", "start").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_is_as_one_that_is_gone() {
    apart_and_together_again("hang", "go").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_starts_without_redis_and_joins_later() {
    let mut server = Server::start().unwrap();
    server.tell("stop").unwrap();
    let limiter = limiter(&server.url(), "one");
    let quota = quota(&[(Dimension::ConcurrentRuns, 1)]);
    let run = call(&limiter, &quota, LONG).await.unwrap();
    assert_eq!(limiter.hosts(), Some((1, true)));
    server.tell("start").unwrap();
    assert!(becomes(async || limiter.hosts() == Some((1, false))).await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    // The run that began apart counts there.
    assert_eq!(runs(&self::limiter(&server.url(), "two"), &quota).await, 1);
    drop(run);
    assert!(becomes(async || call(&limiter, &quota, LONG).await.is_ok()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_of_other_hosts_is_known_within_a_second_or_two() {
    let server = Server::start().unwrap();
    let [one, other] = two(&server).await;
    let quota = quota(&[(Dimension::Memory, 100)]);
    let (here, there) = (call(&one, &quota, LONG).await.unwrap(), call(&other, &quota, LONG).await.unwrap());
    let most = |grant: &clawhold_limiter::Grant| grant.books().memory().most() >> 20;
    let taken = here.books().memory().take(60 << 20).unwrap();
    assert!(becomes(async || most(&there) == 40).await, "{}", most(&there));
    assert!(there.books().memory().take(41 << 20).is_none());
    drop(taken);
    assert!(becomes(async || most(&there) == 100).await, "{}", most(&there));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_keys_of_a_tenant_are_in_one_slot_and_expire() {
    let server = Server::start_as_cluster().unwrap();
    // As one server, which refuses keys of different slots; and as the cluster that it is.
    for redis in [Redis::one(&server.url(), "one".to_owned()), Redis::cluster(&[server.url()], "one".to_owned()).await]
    {
        let limiter = Limiter::shared(Arc::new(redis.unwrap()) as Arc<dyn Shared>, 1);
        let quota = quota(&[(Dimension::SkillCalls, 6_000), (Dimension::ConcurrentRuns, 1)]);
        let grant = call(&limiter, &quota, Duration::from_millis(1)).await.unwrap();
        let held = grant.books().memory().take(1 << 20).unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(limiter.hosts(), Some((1, false)), "no check has failed");
        drop((held, grant));
        drop(limiter);
    }
    let gone = async || server.ask(&["keys", "clawhold:{*"]).unwrap().is_empty();
    assert!(becomes(gone).await, "{}", server.ask(&["keys", "*"]).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_used_up_are_refused_without_asking() {
    let server = Server::start().unwrap();
    let limiter = limiter(&server.url(), "one");
    let quota = quota(&[(Dimension::SkillCalls, 5)]);
    let commands = || {
        let stats = server.ask(&["info", "stats"]).unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap().to_owned();
        line.trim().parse::<u64>().unwrap()
    };
    assert_eq!(burst(&limiter, &quota).await, 5);
    let before = commands();
    for _ in 0..1000 {
        assert!(call(&limiter, &quota, LONG).await.is_err());
    }
    assert!(commands() - before < 300, "{}", commands() - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_used_on_the_way_goes_beyond_a_limit_by_what_the_other_host_uses_in_a_moment() {
    let server = Server::start().unwrap();
    let two = two(&server).await;
    let quota = quota(&[(Dimension::AuditRecords, 600)]);
    let (began, mut charging) = (Instant::now(), JoinSet::new());
    for limiter in &two {
        let meter = limiter.meter(&tenant("acme-corp"), &quota);
        charging.spawn(async move {
            let mut charged = 0;
            while began.elapsed() < Duration::from_secs(2) {
                charged += u64::from(meter.charge(&Amounts::of(Dimension::AuditRecords, 1)).is_ok());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            charged
        });
    }
    let charged: u64 = charging.join_all().await.into_iter().sum();
    // Ten a second run off. Each host writes at most one a millisecond, and has heard of the other's after 50 ms and an answer.
    let most = 600 + 10 * (began.elapsed().as_secs() + 1) + 150;
    assert!((600..=most).contains(&charged), "{charged} and not {most} at most");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_of_redis_that_jumps_an_hour_locks_nobody_out_and_lets_in_no_more_than_the_limit() {
    let server = Server::start().unwrap();
    let limiter = limiter(&server.url(), "one");
    let quota = quota(&[(Dimension::SkillCalls, 60), (Dimension::ConcurrentRuns, 1000)]);
    // The clock itself cannot be set here: the time in the state is, the other way.
    let jump = |hours: i64| {
        let script = "local s = {struct.unpack('<ddddddd', redis.call('GET', KEYS[1]))} \
                      redis.call('SET', KEYS[1], struct.pack('<ddddddd', s[1], s[2], s[3], s[4], s[5], s[6], \
                      s[7] - ARGV[1] * 3600000000), 'KEEPTTL') return 'done'";
        let said = server.ask(&["eval", script, "1", "clawhold:{acme-corp}:state", &hours.to_string()]).unwrap();
        assert_eq!(said, "done");
    };
    assert!((60..=62).contains(&burst(&limiter, &quota).await));
    // All runs have ended, and that was told.
    assert!(becomes(async || runs(&limiter, &quota).await == 0).await);
    jump(-1);
    limiter.refresh(&tenant("acme-corp"), &quota).await;
    let at_once = burst(&limiter, &quota).await;
    assert!(at_once <= 2, "{at_once}: back by an hour gives nothing away");
    assert!(becomes(async || call(&limiter, &quota, LONG).await.is_ok()).await, "and nobody waits for an hour");
    assert!(becomes(async || runs(&limiter, &quota).await == 0).await);
    jump(1);
    limiter.refresh(&tenant("acme-corp"), &quota).await;
    let again = burst(&limiter, &quota).await;
    assert!((58..=63).contains(&again), "{again}: an hour on it is the limit once, and not sixty times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_counts_elsewhere_also_when_other_checks_overtake_its_own() {
    let server = Server::start().unwrap();
    let two = two(&server).await;
    let quota = quota(&[(Dimension::SkillCalls, 100_000), (Dimension::ConcurrentRuns, 2)]);
    for round in 0..30 {
        // Checks that ask for no run, and one for a run that is over soon, while a long one is on its way.
        let acme = tenant("acme-corp");
        let (long, short, (), ()) = tokio::join!(
            call(&two[0], &quota, LONG),
            call(&two[0], &quota, Duration::from_millis(1)),
            two[0].refresh(&acme, &quota),
            two[0].refresh(&acme, &quota),
        );
        let (long, short) = (long.unwrap(), short.unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
        // Nobody tells more of the first host: a flush comes later.
        assert!(runs(&two[1], &quota).await >= 1, "round {round}");
        drop((long, short));
        assert!(becomes(async || runs(&two[1], &quota).await == 0).await, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tenant_uses_that_came_while_hosts_were_apart_is_told_when_they_are_together() {
    let mut server = Server::start().unwrap();
    let two = two(&server).await;
    let quota = quota(&[(Dimension::SkillCalls, 600), (Dimension::ConcurrentRuns, 1000)]);
    // Known to one of them only, before they part.
    let globex = tenant("globex");
    let one = Amounts::of(Dimension::SkillCalls, 200);
    two[0].reserve(&globex, &quota, one, None).await.unwrap().settle(&one);
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.tell("hang").unwrap();
    for limiter in &two {
        let _parts = call(limiter, &quota, LONG).await;
        assert_eq!(limiter.hosts(), Some((2, true)));
    }
    let fuel = Amounts::of(Dimension::SkillCalls, 1).and(Dimension::Fuel, 1_000_000_000);
    for _ in 0..100 {
        let grant = two[1].reserve(&globex, &quota, fuel, None).await.unwrap();
        grant.settle(&Amounts::of(Dimension::SkillCalls, 1).and(Dimension::Fuel, 1_000));
    }
    server.tell("go").unwrap();
    assert!(becomes(async || two.iter().all(|limiter| limiter.hosts() == Some((2, false)))).await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    two[0].refresh(&globex, &quota).await;
    let used = two[0].standing(&globex, &quota, Dimension::SkillCalls).used;
    // Ten a second have run off.
    assert!((260..=300).contains(&used), "{used} of 300");
}
