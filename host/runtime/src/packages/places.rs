//! Places for publications: how many are under way at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clawhold_tenancy::permit::PublishPackage;
use clawhold_tenancy::{Permit, Publisher};

use crate::{Host, Problem};

/// Publications under way at a time, over all publishers and of one. Each holds its package several times over, 64 MiB at the
/// most, and they are compiled one after the other.
const PUBLICATIONS: usize = 8;
const OF_ONE_PUBLISHER: usize = 2;

/// Who publishes now, once for each publication.
#[derive(Clone, Default)]
pub(crate) struct Publications(Arc<Mutex<Vec<Publisher>>>);

/// A place among the publications under way.
pub struct PublicationPlace {
    all: Publications,
    publisher: Publisher,
}

impl Publications {
    fn lock(&self) -> MutexGuard<'_, Vec<Publisher>> {
        // Whole after a panic too: entries come and go one at a time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PublicationPlace {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(own) = all.iter().position(|publisher| *publisher == self.publisher) {
            all.swap_remove(own);
        }
    }
}

impl Host {
    /// A place for one publication, to be taken before its file is read.
    pub fn place_to_publish(&self, permit: &Permit<PublishPackage, Publisher>) -> Result<PublicationPlace, Problem> {
        let publisher = permit.resource().clone();
        let mut all = self.publications.lock();
        let own = all.iter().filter(|other| **other == publisher).count();
        if own >= OF_ONE_PUBLISHER || all.len() >= PUBLICATIONS {
            let whose = if own >= OF_ONE_PUBLISHER { "of this publisher" } else { "of all publishers" };
            return Err(Problem::Unavailable(format!(
                "as many publications {whose} are under way as may be; publish again when one has ended"
            )));
        }
        all.push(publisher.clone());
        Ok(PublicationPlace { all: self.publications.clone(), publisher })
    }
}
