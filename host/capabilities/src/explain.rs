//! What would become of a request, without a run and without sending it.

use clawhold_tenancy::policy::{Denial, Method, Policy};
use clawhold_tenancy::{SecretName, TenantId};

use crate::Backends;
use crate::exits::{judged, parsed};

/// What would become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explained {
    /// It would go out, to an address that may be reached.
    Allowed,
    /// Somebody says no.
    Denied(Denial),
    /// Everybody lets it go, and it would not get there: why.
    Unreachable(String),
}

/// Asks the policy, the ceiling and the address filter, in that order, as a request of a run asks them. Resolves the name, and connects
/// to nothing. What a run's own limits and the tenant's quota would say depends on the run, and is not asked.
pub async fn explain(
    policy: &Policy,
    backends: &Backends,
    tenant: &TenantId,
    (method, url): (Method, &str),
    secrets: &[SecretName],
) -> Explained {
    let url = match parsed(url) {
        Ok(url) => url,
        Err(denial) => return Explained::Denied(denial),
    };
    if let Err(denial) = judged(policy, &backends.ceiling, method, &url, secrets) {
        return Explained::Denied(denial);
    }
    match backends.transport.check(tenant, &url).await {
        Ok(()) => Explained::Allowed,
        Err(error) => error.denial.map_or(Explained::Unreachable(error.message), Explained::Denied),
    }
}

#[cfg(test)]
mod tests;
