//! Every route, with the action that it is. The matrix of roles is read off this table, and a route that is not in
//! it does not exist.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, post, put};
use clawhold_runtime::Host;
use clawhold_tenancy::permit as can;
use clawhold_tenancy::permit::{Action, Market};
use clawhold_tenancy::{Publisher, Role, TenantId};

use crate::gate::{Resource, gate};
use crate::{audit, installs, market, problem, runs, secrets, skills, tenants, tokens};

/// One line of the matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// The path, with `{…}` for what varies.
    pub path: &'static str,
    /// The action's name.
    pub action: &'static str,
    /// The keys that its query may have; any other is refused.
    pub query: &'static [&'static str],
    /// Who may.
    pub roles: &'static [Role],
}

/// The query of a list.
const PAGE: &[&str] = &["limit", "after"];

/// Routes and their rows, built together so that neither can be without the other.
struct Routes {
    host: Arc<Host>,
    router: Router<Arc<Host>>,
    rows: Vec<Row>,
}

impl Routes {
    fn get<A: Action + 'static, R: Resource<A>, H: Handler<T, Arc<Host>>, T: 'static>(
        self,
        path: &'static str,
        query: &'static [&'static str],
        handler: H,
    ) -> Self {
        self.add::<A, R>("GET", path, query, get(handler))
    }

    fn post<A: Action + 'static, R: Resource<A>, H: Handler<T, Arc<Host>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.add::<A, R>("POST", path, &[], post(handler))
    }

    fn put<A: Action + 'static, R: Resource<A>, H: Handler<T, Arc<Host>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.add::<A, R>("PUT", path, &[], put(handler))
    }

    fn delete<A: Action + 'static, R: Resource<A>, H: Handler<T, Arc<Host>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
    ) -> Self {
        self.add::<A, R>("DELETE", path, &[], delete(handler))
    }

    fn add<A: Action + 'static, R: Resource<A>>(
        mut self,
        method: &'static str,
        path: &'static str,
        query: &'static [&'static str],
        handler: MethodRouter<Arc<Host>>,
    ) -> Self {
        let guarded = handler.route_layer(from_fn_with_state((Arc::clone(&self.host), query), gate::<A, R>));
        self.router = self.router.route(path, guarded);
        self.rows.push(Row { method, path, action: A::NAME, query, roles: A::ROLES });
        self
    }
}

fn routes(host: Arc<Host>) -> Routes {
    use can::Host as HostResource;
    let routes = Routes { host, router: Router::new(), rows: Vec::new() };
    routes
        .post::<can::CreateTenant, HostResource, _, _>("/v1/tenants", tenants::create)
        .get::<can::ListTenants, HostResource, _, _>("/v1/tenants", PAGE, tenants::list)
        .get::<can::ShowTenant, TenantId, _, _>("/v1/tenants/{tenant}", &[], tenants::show)
        .post::<can::CreateHostToken, HostResource, _, _>("/v1/tokens", tokens::create_for_host)
        .get::<can::ListHostTokens, HostResource, _, _>(
            "/v1/tokens",
            &["publisher", "limit", "after"],
            tokens::list_of_host,
        )
        .delete::<can::RevokeHostToken, HostResource, _, _>("/v1/tokens/{token}", tokens::revoke_of_host)
        .post::<can::CreateToken, TenantId, _, _>("/v1/tenants/{tenant}/tokens", tokens::create)
        .get::<can::ListTokens, TenantId, _, _>("/v1/tenants/{tenant}/tokens", PAGE, tokens::list)
        .delete::<can::RevokeToken, TenantId, _, _>("/v1/tenants/{tenant}/tokens/{token}", tokens::revoke)
        .put::<can::PutSecret, TenantId, _, _>("/v1/tenants/{tenant}/secrets/{name}", secrets::put)
        .get::<can::ListSecrets, TenantId, _, _>("/v1/tenants/{tenant}/secrets", &[], secrets::list)
        .delete::<can::DeleteSecret, TenantId, _, _>("/v1/tenants/{tenant}/secrets/{name}", secrets::delete)
        .post::<can::PublishPackage, Publisher, _, _>("/v1/market/packages", market::publish)
        .get::<can::ShowPackage, Market, _, _>("/v1/market/packages", PAGE, market::list)
        .get::<can::ShowPackage, Market, _, _>("/v1/market/packages/{publisher}/{name}", &["version"], market::show)
        .post::<can::PlanInstall, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}/plan",
            installs::plan,
        )
        .put::<can::PutInstall, TenantId, _, _>("/v1/tenants/{tenant}/installs/{publisher}/{name}", installs::put)
        .get::<can::ListInstalls, TenantId, _, _>("/v1/tenants/{tenant}/installs", PAGE, installs::list)
        .get::<can::ListInstalls, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}",
            &[],
            installs::show,
        )
        .delete::<can::RemoveInstall, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}",
            installs::remove,
        )
        .get::<can::ListSkills, TenantId, _, _>("/v1/tenants/{tenant}/skills", PAGE, skills::list)
        .post::<can::InvokeSkill, TenantId, _, _>("/v1/tenants/{tenant}/skills/{skill}/invoke", skills::invoke)
        .get::<can::ShowRuns, TenantId, _, _>("/v1/tenants/{tenant}/runs", PAGE, runs::list)
        .get::<can::ShowRuns, TenantId, _, _>("/v1/tenants/{tenant}/runs/{run}", &[], runs::show)
        .get::<can::ReadAudit, TenantId, _, _>("/v1/tenants/{tenant}/audit", PAGE, audit::list)
        .get::<can::ReadAudit, TenantId, _, _>("/v1/tenants/{tenant}/audit/head", &[], audit::head)
        .get::<can::ReadAudit, TenantId, _, _>("/v1/tenants/{tenant}/audit/verify", &[], audit::verify)
        .get::<can::ReadAudit, TenantId, _, _>("/v1/tenants/{tenant}/audit/export", &[], audit::export)
}

/// The whole matrix, for the golden file and for tests that walk it.
pub fn table(host: Arc<Host>) -> Vec<Row> {
    routes(host).rows
}

pub(crate) fn router(host: Arc<Host>) -> Router {
    routes(Arc::clone(&host))
        .router
        .route("/problems", get(problem::list))
        .route("/problems/{name}", get(problem::show))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(axum::middleware::from_fn(crate::gate::identify))
        .with_state(host)
}
