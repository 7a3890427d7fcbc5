//! The allocator, and when it gives memory back.

use std::sync::Weak;
use std::time::Duration;

use clawhold_runtime::Host;

/// In this crate, so that the tests of a whole host run with it as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often a host looks whether it is idle.
const LOOK: Duration = Duration::from_secs(1);

/// Gives memory that is not in use back to the system while nothing runs. The allocator would keep it for who asks next,
/// and an idle host would look as large as its busiest moment.
pub(crate) async fn give_back_when_idle(host: Weak<Host>) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        let Some(host) = host.upgrade() else { return };
        if host.running() == 0 {
            collect();
        }
    }
}

#[allow(unsafe_code)]
fn collect() {
    // SAFETY: it may be called from any thread at any time, and frees nothing that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
