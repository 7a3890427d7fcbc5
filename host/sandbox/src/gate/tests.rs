use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use super::*;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn poll<F: Future>(self: &Arc<Self>, future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(&Arc::clone(self).into()))
    }

    fn times(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it waits for ever")
}

#[tokio::test]
async fn a_permit_that_is_given_back_goes_to_who_waits() {
    let gate = Gate::new(1, None);
    let first = soon(gate.pass(Payer::named("a"))).await;
    let second = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { gate.pass(Payer::named("b")).await }
    });
    while gate.is_quiet() {
        tokio::task::yield_now().await;
    }
    drop(first);
    let second = soon(second).await.unwrap();
    assert!(second.0.holds() && gate.is_quiet());
}

#[tokio::test]
async fn whoever_stops_waiting_takes_no_permit_along() {
    let gate = Gate::new(1, None);
    let first = soon(gate.pass(Payer::named("a"))).await;
    let mut gone = Box::pin(gate.pass(Payer::named("b")));
    assert!(poll_once(gone.as_mut()).is_pending());
    drop(gone);
    // And one that was granted and not looked at yet.
    let mut granted = Box::pin(gate.pass(Payer::named("c")));
    assert!(poll_once(granted.as_mut()).is_pending());
    drop(first);
    drop(granted);
    soon(gate.pass(Payer::named("d"))).await;
}

#[tokio::test]
async fn whoever_lets_others_go_is_in_the_queue_at_once_and_comes_back_in_its_turn() {
    let gate = Gate::new(1, None);
    let turn = gate.turn(Payer::named("a"));
    let (woken, other_woken) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
    let mut run = Box::pin(Gated::new(Arc::clone(&turn), Box::pin(turn.let_others_go())));
    let mut other = Box::pin(gate.pass(Payer::named("b")));
    assert!(woken.poll(run.as_mut()).is_pending() && turn.holds(), "nobody else waited");
    assert_eq!(woken.times(), 1, "or it would never be polled again");
    assert!(woken.poll(run.as_mut()).is_ready());
    let mut run = Box::pin(Gated::new(Arc::clone(&turn), Box::pin(turn.let_others_go())));
    assert!(other_woken.poll(other.as_mut()).is_pending());
    assert!(woken.poll(run.as_mut()).is_pending() && !turn.holds());
    assert_eq!((woken.times(), other_woken.times()), (0, 1));
    // It is not polled again before the other gives the permit back, and gets it all the same.
    assert!(!gate.is_quiet());
    let Poll::Ready(pass) = other_woken.poll(other.as_mut()) else { panic!("the other did not get the permit") };
    drop(pass);
    assert!(gate.is_quiet() && turn.holds());
    assert_eq!(woken.times(), 1);
    assert!(woken.poll(run.as_mut()).is_ready());
    turn.leave();
    assert!(gate.lock().fair.has_free());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_run_has_a_core_while_it_computes_and_none_while_it_waits_or_when_it_has_failed() {
    let gate = Gate::new(2, None);
    let (turn, taken) = (gate.turn(Payer::named("a")), |gate: &Gate| gate.cores.taken());
    let (inside, mut polls) = (Arc::clone(&gate), 0);
    let mut run = Box::pin(Gated::new(
        Arc::clone(&turn),
        Box::pin(poll_fn(move |_| -> Poll<()> {
            polls += 1;
            assert_eq!(taken(&inside), usize::from(polls != 2), "in poll {polls}");
            assert!(polls < 3, "a host function fails");
            Poll::Pending
        })),
    ));
    assert!(poll_once(run.as_mut()).is_pending() && taken(&gate) == 0);
    // On its caller's thread.
    turn.borrow(true);
    assert!(poll_once(run.as_mut()).is_pending() && taken(&gate) == 0);
    turn.borrow(false);
    let failed = std::panic::catch_unwind(AssertUnwindSafe(|| poll_once(run.as_mut())));
    assert!(failed.is_err() && taken(&gate) == 0);
    // Taking an instance down is computing.
    let computes = turn.computes();
    assert_eq!(taken(&gate), 1);
    drop(computes);
    assert_eq!(taken(&gate), 0);
}

#[tokio::test]
async fn a_run_that_is_dropped_while_it_lets_others_go_leaves_the_queue() {
    let gate = Gate::new(1, None);
    let turn = gate.turn(Payer::named("a"));
    let mut run = Box::pin(Gated::new(Arc::clone(&turn), Box::pin(turn.let_others_go())));
    poll_fn(|cx| turn.poll_acquire(cx)).await;
    let mut other = Box::pin(gate.pass(Payer::named("b")));
    assert!(poll_once(other.as_mut()).is_pending());
    assert!(poll_once(run.as_mut()).is_pending() && !gate.is_quiet());
    drop(run);
    turn.leave();
    assert!(gate.is_quiet());
    drop(soon(other).await);
    assert!(gate.lock().fair.has_free());
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
