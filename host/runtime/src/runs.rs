//! Reading what was run.

use clawhold_tenancy::permit::ShowRuns;
use clawhold_tenancy::run::Record;
use clawhold_tenancy::{Permit, RunId};

use crate::{Host, Problem};

impl Host {
    /// A tenant's runs, newest first, from before `before`.
    pub async fn runs(
        &self,
        permit: &Permit<ShowRuns>,
        before: Option<&RunId>,
        limit: u32,
    ) -> Result<Vec<Record>, Problem> {
        Ok(self.store.tenant(permit.tenant()).await?.runs(before, limit).await?)
    }

    /// One run.
    pub async fn run(&self, permit: &Permit<ShowRuns>, id: &RunId) -> Result<Record, Problem> {
        self.store.tenant(permit.tenant()).await?.run(id).await?.ok_or(Problem::NotFound("run"))
    }
}
