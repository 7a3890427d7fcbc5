use std::sync::Arc;
use std::time::Duration;

use clawhold_limiter::Limiter;
use clawhold_tenancy::quota::{Amounts, Dimension};

use crate::{call, quota, tenant};

#[tokio::test]
async fn a_grant_that_is_dropped_gives_back_everything_but_the_call() {
    let limiter = Arc::new(Limiter::default());
    let quota = quota(&[(Dimension::SkillCalls, 2), (Dimension::Fuel, 10_000_000), (Dimension::ConcurrentRuns, 1)]);
    let mut first = call(&limiter, &quota, Duration::from_mins(1)).await.unwrap();
    first.reserve_more(Amounts::of(Dimension::Fuel, 10_000_000)).await.unwrap();
    assert!(first.reserve_more(Amounts::of(Dimension::Fuel, 10_000_000)).await.is_err());
    drop(first);
    let mut second = call(&limiter, &quota, Duration::from_mins(1)).await.unwrap();
    second.reserve_more(Amounts::of(Dimension::Fuel, 10_000_000)).await.unwrap();
    drop(second);
    let over = call(&limiter, &quota, Duration::from_mins(1)).await.unwrap_err();
    assert_eq!((over.dimension, over.limit, over.used), (Dimension::SkillCalls, 2, 2));
}

#[tokio::test]
async fn hostile_08_a_million_tenants_that_did_something_once_take_no_room_for_ever() {
    let limiter = Arc::new(Limiter::default());
    // So much a minute that one is forgotten after less than a tenth of a millisecond.
    let quota = quota(&[(Dimension::SkillCalls, 10_000_000), (Dimension::ConcurrentRuns, 1)]);
    let mut most = 0;
    for n in 0..1_000_000 {
        let ask = Amounts::of(Dimension::SkillCalls, 1);
        limiter.reserve(&tenant(&format!("tenant-{n}")), &quota, ask, None).await.unwrap();
        if n % 10_000 == 0 {
            limiter.forget_idle();
            limiter.take_observed();
            most = most.max(limiter.tenants());
        }
    }
    std::thread::sleep(Duration::from_millis(5));
    limiter.take_observed();
    limiter.forget_idle();
    assert_eq!(limiter.tenants(), 0);
    assert!(most <= 20_001, "{most}");
}

#[tokio::test]
async fn who_has_a_run_or_waits_is_not_forgotten() {
    let limiter = Arc::new(Limiter::default());
    let quota = quota(&[(Dimension::Queue, 1)]);
    let grant = call(&limiter, &quota, Duration::from_mins(1)).await.unwrap();
    let place = grant.meter().queue().unwrap();
    assert_eq!(grant.meter().queue().unwrap_err().dimension, Dimension::Queue);
    limiter.take_observed();
    limiter.forget_idle();
    let held = limiter.levels();
    assert_eq!((held.len(), held[0].1.runs, held[0].1.queued), (1, 1, 1));
    drop((place, grant));
    assert_eq!((limiter.levels()[0].1.runs, limiter.levels()[0].1.queued), (0, 0));
}
