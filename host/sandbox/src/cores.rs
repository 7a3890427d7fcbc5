//! One computing run to a core.
//!
//! Permits are no more than cores, yet Linux may have two threads that hold one take turns on the same core while another core is
//! idle: a thread that wakes up is put where there seems to be least to do at that moment, and a core that was idle only for short
//! moments lately does not look for work elsewhere before one of the kernel's ticks, milliseconds away. So each run that computes says
//! on which core it does, and goes to another if that one is taken.
//!
//! What it will not do: keep a thread where it is. The kernel may move it at any time, for whatever else runs on the machine. A core here
//! is what the kernel calls a processor.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// On no core that is known.
const NOWHERE: usize = usize::MAX;

/// The cores of the machine, and on which of them a run computes.
#[derive(Default)]
pub(crate) struct Cores {
    cores: Box<[Core]>,
    /// Those that may be used.
    usable: system::Usable,
}

/// Has a line of the cache of its own, since each run that begins writes here.
#[derive(Default)]
#[repr(align(64))]
struct Core {
    /// Whether this process may use it, as it was when it began.
    usable: bool,
    taken: AtomicBool,
}

/// Where one run computes.
pub(crate) struct Whereabouts(AtomicUsize);

impl Default for Whereabouts {
    fn default() -> Self {
        Self(AtomicUsize::new(NOWHERE))
    }
}

impl Cores {
    /// Those that the calling thread may use. None where the system does not say: then runs stay where they are put.
    pub(crate) fn of_this_thread() -> Self {
        let usable = system::usable();
        let mut cores: Vec<Core> = Vec::new();
        for core in system::each(&usable) {
            cores.resize_with(core + 1, Core::default);
            cores[core].usable = true;
        }
        Self { cores: cores.into(), usable }
    }

    /// The run computes on this thread. Goes to a core where no other does, if it is beside one and there is such a core.
    pub(crate) fn settle(&self, run: &Whereabouts) {
        if let Some(to) = self.settle_on(run, system::current())
            && !system::go(to, &self.usable)
        {
            // It was taken from this process meanwhile.
            self.leave(run);
        }
    }

    /// The run does not compute any more, or waits.
    pub(crate) fn leave(&self, run: &Whereabouts) {
        self.free(run.0.swap(NOWHERE, Ordering::Relaxed));
    }

    /// The run was found to be `here`. Gives where it should go instead.
    fn settle_on(&self, run: &Whereabouts, here: usize) -> Option<usize> {
        let own = run.0.load(Ordering::Relaxed);
        if here == own {
            return None;
        }
        if !self.cores.get(here).is_some_and(|core| core.usable) {
            // It was given to this process meanwhile.
            self.leave(run);
            return None;
        }
        if self.take(here) {
            run.0.store(here, Ordering::Relaxed);
            self.free(own);
            return None;
        }
        if own != NOWHERE {
            return Some(own);
        }
        let free = (here + 1..self.cores.len()).chain(0..here).find(|core| self.take(*core))?;
        run.0.store(free, Ordering::Relaxed);
        Some(free)
    }

    fn take(&self, core: usize) -> bool {
        let core = &self.cores[core];
        core.usable && !core.taken.load(Ordering::Relaxed) && !core.taken.swap(true, Ordering::Relaxed)
    }

    fn free(&self, core: usize) {
        if let Some(core) = self.cores.get(core) {
            core.taken.store(false, Ordering::Relaxed);
        }
    }

    /// Cores on which a run computes.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.cores.iter().filter(|core| core.taken.load(Ordering::Relaxed)).count()
    }
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

    pub(super) type Usable = CpuSet;

    pub(super) fn usable() -> Usable {
        // More processors than the set has room for are none.
        sched_getaffinity(None).unwrap_or_default()
    }

    pub(super) fn each(usable: &Usable) -> impl Iterator<Item = usize> {
        (0..CpuSet::MAX_CPU).filter(|core| usable.is_set(*core))
    }

    pub(super) fn current() -> usize {
        sched_getcpu()
    }

    /// Moves this thread, which may then be moved again. If it may not go there, or not at all, it stays.
    pub(super) fn go(core: usize, usable: &Usable) -> bool {
        let mut only = CpuSet::new();
        only.set(core);
        let is_there = sched_setaffinity(None, &only).is_ok();
        if is_there && let Err(error) = sched_setaffinity(None, usable) {
            tracing::error!(%error, core, "a thread of guests' cannot leave the core that it was moved to");
        }
        is_there
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) type Usable = ();

    pub(super) fn usable() -> Usable {}

    pub(super) fn each((): &Usable) -> impl Iterator<Item = usize> {
        std::iter::empty()
    }

    pub(super) fn current() -> usize {
        super::NOWHERE
    }

    pub(super) fn go(_core: usize, (): &Usable) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cores(usable: &[bool]) -> Cores {
        let cores = usable.iter().map(|usable| Core { usable: *usable, ..Core::default() }).collect();
        Cores { cores, ..Cores::default() }
    }

    fn at(run: &Whereabouts) -> Option<usize> {
        Some(run.0.load(Ordering::Relaxed)).filter(|core| *core != NOWHERE)
    }

    #[test]
    fn whoever_is_put_beside_another_goes_to_a_free_core_and_comes_back_to_it() {
        let (cores, runs) = (cores(&[true, false, true, true]), [(); 4].map(|()| Whereabouts::default()));
        assert_eq!(cores.settle_on(&runs[0], 0), None);
        assert_eq!(cores.settle_on(&runs[1], 0), Some(2), "the process may not use core 1");
        assert_eq!(cores.settle_on(&runs[1], 2), None, "it is there");
        assert_eq!(cores.settle_on(&runs[1], 0), Some(2), "the kernel has moved it back");
        assert_eq!(cores.settle_on(&runs[1], 3), None, "there it may stay");
        assert_eq!(cores.settle_on(&runs[2], 0), Some(2), "it was left");
        assert_eq!(cores.settle_on(&runs[3], 0), None, "all are taken");
        cores.leave(&runs[0]);
        assert_eq!(cores.settle_on(&runs[3], 3), Some(0));
        assert_eq!(runs.each_ref().map(at), [None, Some(3), Some(2), Some(0)]);
        // What this process was given later is nobody's, and what was left for it is free.
        assert_eq!((cores.settle_on(&runs[1], 9), cores.settle_on(&runs[2], 1)), (None, None));
        assert_eq!((runs.each_ref().map(at), cores.taken()), ([None, None, None, Some(0)], 1));
    }

    proptest! {
        #[test]
        fn no_core_has_two_runs_or_stays_taken(
            usable in proptest::collection::vec(any::<bool>(), 1..6),
            steps in proptest::collection::vec((0_usize..5, 0_usize..7, any::<bool>()), 1..100),
        ) {
            let (cores, runs) = (cores(&usable), [(); 5].map(|()| Whereabouts::default()));
            for (run, here, leaves) in steps {
                if leaves {
                    cores.leave(&runs[run]);
                } else if let Some(to) = cores.settle_on(&runs[run], here) {
                    prop_assert_eq!(at(&runs[run]), Some(to));
                }
                for (core, state) in cores.cores.iter().enumerate() {
                    let there = runs.iter().filter(|run| at(run) == Some(core)).count();
                    prop_assert_eq!(there, usize::from(state.taken.load(Ordering::Relaxed)));
                    prop_assert!(there == 0 || usable[core]);
                }
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_is_really_moved_and_may_be_moved_again() {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
        let Ok(before) = sched_getaffinity(None) else { return };
        let cores = Cores::of_this_thread();
        if before.count() < 2 {
            eprintln!("skipped: there is one core only");
            return;
        }
        let (beside, run) = (Whereabouts::default(), Whereabouts::default());
        let here = sched_getcpu();
        assert_eq!(cores.settle_on(&beside, here), None);
        let to = cores.settle_on(&run, here).unwrap();
        assert_ne!(to, here);
        // The kernel may move it on at any time, and does not each time.
        let is_moved = (0..100).any(|_| {
            let mut only = CpuSet::new();
            only.set(here);
            sched_setaffinity(None, &only).unwrap();
            system::go(to, &before) && sched_getcpu() == to
        });
        assert!(is_moved && sched_getaffinity(None).unwrap() == before);
        assert!(!system::go(CpuSet::MAX_CPU - 1, &before) || before.is_set(CpuSet::MAX_CPU - 1));
    }
}
