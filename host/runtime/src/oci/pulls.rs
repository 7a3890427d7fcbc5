//! Components that are being pulled. Each is in memory as a whole until its reader has it, and a reader may be slow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use clawhold_tenancy::Scope;

use crate::Problem;

/// Pulls of one tenant or publisher at a time, and of all: 512 MiB at the most.
const OF_ONE: u64 = 2;
const OF_ALL: u64 = 8;

/// Who pulls now, and how much.
#[derive(Clone, Default)]
pub(crate) struct Pulls(Arc<Mutex<HashMap<Scope, u64>>>);

/// A place among the pulls.
pub struct PullPlace {
    all: Pulls,
    scope: Scope,
}

impl Pulls {
    pub(crate) fn place(&self, scope: &Scope) -> Result<PullPlace, Problem> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, sum) = (all.get(scope).copied().unwrap_or(0), all.values().sum::<u64>());
        if own >= OF_ONE {
            let (reset_s, window_s) = (Some(1), None);
            return Err(Problem::Quota { dimension: "pulls", limit: OF_ONE, used: own, reset_s, window_s });
        }
        if sum >= OF_ALL {
            return Err(Problem::Unavailable(
                "as many pulls are under way as may be; pull again in a moment".to_owned(),
            ));
        }
        all.insert(scope.clone(), own + 1);
        Ok(PullPlace { all: self.clone(), scope: scope.clone() })
    }
}

impl Drop for PullPlace {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(&self.scope) {
            *own -= 1;
            if *own == 0 {
                all.remove(&self.scope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulls_are_bounded_for_each_and_for_all() {
        let pulls = Pulls::default();
        let tenant = |n: u64| Scope::Tenant(format!("tenant-{n}").parse().unwrap());
        let mut held: Vec<_> = (0..4).flat_map(|n| [pulls.place(&tenant(n)), pulls.place(&tenant(n))]).collect();
        assert!(held.iter().all(Result::is_ok));
        assert!(matches!(pulls.place(&tenant(0)), Err(Problem::Quota { .. })));
        assert!(matches!(pulls.place(&tenant(9)), Err(Problem::Unavailable(_))));
        held.pop();
        assert!(pulls.place(&tenant(9)).is_ok());
        drop(held);
        assert!(pulls.0.lock().unwrap().is_empty());
    }
}
