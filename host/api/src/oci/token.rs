//! `GET /v2/token`: a short-lived token for the one that was sent.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use clawhold_runtime::oci::{Access, Reach};
use clawhold_runtime::{Host, Problem};
use clawhold_tenancy::permit::{Market, ShowPackage};
use serde_json::json;

use crate::gate::Allowed;
use crate::oci::refused::{Refused, refuse};
use crate::page::rfc3339;

pub(super) async fn give(
    State(host): State<Arc<Host>>,
    Extension(reach): Extension<Reach>,
    allowed: Allowed<ShowPackage, Market>,
    request: Request,
) -> Response {
    // A short-lived token would live as long as anybody asked with it.
    if reach != Reach::Whole {
        return refuse(&host, &request, Problem::Unauthenticated, None);
    }
    let query =
        Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map(|Query(query)| query).unwrap_or_default();
    let asked: Vec<Access> = query
        .iter()
        .filter(|(key, _)| key == "scope")
        .flat_map(|(_, scopes)| scopes.split(' '))
        .filter_map(access)
        .collect();
    match host.registry_token(&allowed.cx, &allowed.permit, asked) {
        Ok(given) => Json(json!({
            "token": given.token,
            "access_token": given.token,
            "expires_in": given.seconds,
            "issued_at": rfc3339(given.issued_us),
        }))
        .into_response(),
        Err(problem) => Refused::from(problem).into_response(),
    }
}

/// `repository:NAME:ACTIONS`. What we do not have, nobody gets.
fn access(scope: &str) -> Option<Access> {
    let (package, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let may = |action: &str| actions.split(',').any(|asked| asked == action);
    Some(Access { package: package.parse().ok()?, pull: may("pull"), push: may("push") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_names_a_package_and_what_may_be_done() {
        let read = access("repository:northwind/crm:pull,push").unwrap();
        assert_eq!((read.package.as_str(), read.pull, read.push), ("northwind/crm", true, true));
        let read = access("repository:northwind/crm:delete,pull").unwrap();
        assert_eq!((read.pull, read.push), (true, false));
        for other in
            ["", "registry:catalog:*", "repository:crm:pull", "repository:a/b/../c:pull", "repository:northwind/crm"]
        {
            assert_eq!(access(other), None, "{other}");
        }
    }
}
