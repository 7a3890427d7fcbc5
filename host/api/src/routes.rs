//! Every route, with the action that it is. The matrix of roles is read off this table, and a route that is not in
//! it does not exist.

mod installs;
mod market;
mod tenants;

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use clawhold_runtime::Host;
use clawhold_tenancy::Role;
use clawhold_tenancy::permit::Action;
use serde_json::Value;

use crate::gate::{Resource, Rules, gate};
use crate::openapi::{Document, Operation};
use crate::{oci, openapi, problem};

/// What an `ETag` is.
const REVISION: &str = "The revision, for `If-Match`";

/// One line of the matrix.
#[derive(Debug, Clone)]
pub struct Row {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// The path, with `{…}` for what varies.
    pub path: &'static str,
    /// The action's name.
    pub action: &'static str,
    /// Who may.
    pub roles: &'static [Role],
    /// What it is for, takes and gives.
    pub(crate) operation: Operation,
}

/// Routes and their rows, built together so that neither can be without the other.
pub(crate) struct Routes {
    host: Arc<Host>,
    router: Router<Arc<Host>>,
    rows: Vec<Row>,
}

impl Routes {
    pub(crate) fn get<A: Action + 'static, R: Resource<A>, H: Handler<T, Arc<Host>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: Operation,
    ) -> Self {
        self.add::<A, R>("GET", path, get(handler), operation)
    }

    pub(crate) fn post<A: Action + 'static, R: Resource<A>, H: Handler<T, Arc<Host>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: Operation,
    ) -> Self {
        self.add::<A, R>("POST", path, post(handler), operation)
    }

    pub(crate) fn put<A: Action + 'static, R: Resource<A>, H: Handler<T, Arc<Host>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: Operation,
    ) -> Self {
        self.add::<A, R>("PUT", path, put(handler), operation)
    }

    pub(crate) fn patch<A: Action + 'static, R: Resource<A>, H: Handler<T, Arc<Host>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: Operation,
    ) -> Self {
        self.add::<A, R>("PATCH", path, patch(handler), operation)
    }

    fn delete<A: Action + 'static, R: Resource<A>, H: Handler<T, Arc<Host>>, T: 'static>(
        self,
        path: &'static str,
        handler: H,
        operation: Operation,
    ) -> Self {
        self.add::<A, R>("DELETE", path, delete(handler), operation)
    }

    fn add<A: Action + 'static, R: Resource<A>>(
        mut self,
        method: &'static str,
        path: &'static str,
        handler: MethodRouter<Arc<Host>>,
        operation: Operation,
    ) -> Self {
        let rules = Arc::new(Rules { query: operation.keys(), face: operation.face });
        let guarded = handler.route_layer(from_fn_with_state((Arc::clone(&self.host), rules), gate::<A, R>));
        self.router = self.router.route(path, guarded);
        self.rows.push(Row { method, path, action: A::NAME, roles: A::ROLES, operation });
        self
    }
}

fn all(host: Arc<Host>) -> Routes {
    let none = Routes { host, router: Router::new(), rows: Vec::new() };
    oci::routes(installs::routes(market::routes(tenants::routes(none))))
}

/// The whole matrix, for the golden file and for tests that walk it.
pub fn table(host: Arc<Host>) -> Vec<Row> {
    all(host).rows
}

/// The description of the API, OpenAPI 3.1.
pub fn description(host: Arc<Host>) -> Value {
    openapi::document(&all(host).rows)
}

pub(crate) fn router(host: Arc<Host>) -> Router {
    let routes = all(Arc::clone(&host));
    let described = get(openapi::show).with_state(Document::of(&routes.rows));
    routes
        .router
        .route("/v1/openapi.json", described)
        .route("/problems", get(problem::list))
        .route("/problems/{problem}", get(problem::show))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(axum::middleware::from_fn(crate::gate::identify))
        .with_state(host)
}
