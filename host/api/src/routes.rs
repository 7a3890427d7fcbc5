//! Every route, with the action that it is. The matrix of roles is read off this table, and a route that is not in
//! it does not exist.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use clawhold_runtime::Host;
use clawhold_tenancy::audit::SignedHead;
use clawhold_tenancy::permit as can;
use clawhold_tenancy::permit::{Action, Market};
use clawhold_tenancy::{PackageName, Publisher, Role, TenantId};

use serde_json::Value;

use crate::gate::{Resource, Rules, gate};
use crate::openapi::{Document, Operation};
use crate::page::{Page, PageQuery};
use crate::{
    audit, grants, host, installs, keys, market, oci, openapi, problem, publishers, quotas, runs, secrets, skills,
    tenants, tokens, usage,
};

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

fn routes(host: Arc<Host>) -> Routes {
    use can::Host as HostResource;
    let routes = Routes { host, router: Router::new(), rows: Vec::new() };
    routes
        .post::<can::CreateTenant, HostResource, _, _>(
            "/v1/tenants",
            tenants::create,
            Operation::new("createTenant", "Add a tenant")
                .takes::<tenants::NewTenant>()
                .gives::<tenants::TenantView>(201),
        )
        .get::<can::ListTenants, HostResource, _, _>(
            "/v1/tenants",
            tenants::list,
            Operation::new("listTenants", "The tenants").query::<PageQuery>().gives::<Page<tenants::TenantView>>(200),
        )
        .get::<can::ShowTenant, TenantId, _, _>(
            "/v1/tenants/{tenant}",
            tenants::show,
            Operation::new("showTenant", "A tenant").gives::<tenants::TenantView>(200),
        )
        .patch::<can::SetTenantTier, TenantId, _, _>(
            "/v1/tenants/{tenant}",
            tenants::change,
            Operation::new("changeTenant", "Put a tenant into another tier")
                .takes::<tenants::TenantChange>()
                .gives::<tenants::TenantView>(200),
        )
        .get::<can::ShowQuota, TenantId, _, _>(
            "/v1/tenants/{tenant}/quota",
            quotas::show,
            Operation::new("showQuota", "A tenant's quota, and where each value comes from")
                .gives::<quotas::Quota>(200),
        )
        .patch::<can::SetQuota, TenantId, _, _>(
            "/v1/tenants/{tenant}/quota",
            quotas::set,
            Operation::new("setQuota", "Say something else of a tenant's quota, on every node within a second")
                .takes::<quotas::QuotaChange>()
                .gives::<quotas::Quota>(200),
        )
        .get::<can::ShowUsage, TenantId, _, _>(
            "/v1/tenants/{tenant}/usage",
            usage::show,
            Operation::new("showUsage", "What a tenant uses now, and used within the last day")
                .gives::<usage::Usage>(200),
        )
        .get::<can::ShowHost, HostResource, _, _>(
            "/v1/host",
            host::show,
            Operation::new("showHost", "How the host fares").gives::<host::HostStatus>(200),
        )
        .post::<can::CreateHostToken, HostResource, _, _>(
            "/v1/tokens",
            tokens::create_for_host,
            Operation::new("createHostToken", "Make a token of an operator or a publisher")
                .takes::<tokens::NewHostToken>()
                .gives::<tokens::Made>(201),
        )
        .get::<can::ListHostTokens, HostResource, _, _>(
            "/v1/tokens",
            tokens::list_of_host,
            Operation::new("listHostTokens", "Operators' and publishers' tokens, without their secret half")
                .query::<tokens::HostTokensQuery>()
                .gives::<Page<tokens::TokenView>>(200),
        )
        .delete::<can::RevokeHostToken, HostResource, _, _>(
            "/v1/tokens/{token}",
            tokens::revoke_of_host,
            Operation::new("revokeHostToken", "Revoke a token of an operator or a publisher").gives_nothing(),
        )
        .post::<can::CreateToken, TenantId, _, _>(
            "/v1/tenants/{tenant}/tokens",
            tokens::create,
            Operation::new("createToken", "Make a token of a tenant")
                .takes::<tokens::NewToken>()
                .gives::<tokens::Made>(201),
        )
        .get::<can::ListTokens, TenantId, _, _>(
            "/v1/tenants/{tenant}/tokens",
            tokens::list,
            Operation::new("listTokens", "A tenant's tokens, without their secret half")
                .query::<PageQuery>()
                .gives::<Page<tokens::TokenView>>(200),
        )
        .delete::<can::RevokeToken, TenantId, _, _>(
            "/v1/tenants/{tenant}/tokens/{token}",
            tokens::revoke,
            Operation::new("revokeToken", "Revoke a token of a tenant, on every node within a second").gives_nothing(),
        )
        .post::<can::CreateToken, TenantId, _, _>(
            "/v1/tenants/{tenant}/publishers/{publisher}/tokens",
            tokens::create_for_publisher,
            Operation::new("createPublisherToken", "Make a token of a publisher that the tenant owns")
                .takes::<tokens::NewPublisherToken>()
                .gives::<tokens::Made>(201),
        )
        .get::<can::ListTokens, TenantId, _, _>(
            "/v1/tenants/{tenant}/publishers/{publisher}/tokens",
            tokens::list_of_publisher,
            Operation::new(
                "listPublisherTokens",
                "The tokens of a publisher that the tenant owns, without their secret half",
            )
            .query::<PageQuery>()
            .gives::<Page<tokens::TokenView>>(200),
        )
        .delete::<can::RevokeToken, TenantId, _, _>(
            "/v1/tenants/{tenant}/publishers/{publisher}/tokens/{token}",
            tokens::revoke_of_publisher,
            Operation::new("revokePublisherToken", "Revoke a token of a publisher that the tenant owns")
                .gives_nothing(),
        )
        .put::<can::PutSecret, TenantId, _, _>(
            "/v1/tenants/{tenant}/secrets/{secret}",
            secrets::put,
            Operation::new("putSecret", "Store a new version of a secret")
                .takes::<secrets::NewValue>()
                .gives::<secrets::Stored>(200),
        )
        .get::<can::ListSecrets, TenantId, _, _>(
            "/v1/tenants/{tenant}/secrets",
            secrets::list,
            Operation::new("listSecrets", "Secrets by name and version, without their values")
                .query::<PageQuery>()
                .gives::<Page<secrets::SecretView>>(200),
        )
        .get::<can::ListSecrets, TenantId, _, _>(
            "/v1/tenants/{tenant}/secrets/{secret}/versions",
            secrets::versions,
            Operation::new("listSecretVersions", "The versions of a secret that can be put back, newest first")
                .gives::<secrets::Versions>(200),
        )
        .post::<can::RollBackSecret, TenantId, _, _>(
            "/v1/tenants/{tenant}/secrets/{secret}/rollback",
            secrets::roll_back,
            Operation::new("rollBackSecret", "Put an older value of a secret back, as a new version")
                .takes::<secrets::RollBack>()
                .gives::<secrets::Stored>(200),
        )
        .post::<can::RotateKeys, TenantId, _, _>(
            "/v1/tenants/{tenant}/keys/rotate",
            keys::rotate,
            Operation::new("rotateKeys", "Make a tenant a new data key, and seal its secrets under it")
                .takes::<keys::RotateAsk>()
                .gives::<keys::RotatedView>(200),
        )
        .post::<can::RotateHostKeys, HostResource, _, _>(
            "/v1/host/keys/rotate",
            keys::rotate_host,
            Operation::new(
                "rotateHostKeys",
                "Make a new data key for the host's own chain, and add a master key if that is wanted",
            )
            .takes::<keys::RotateHostAsk>()
            .gives::<keys::RotatedView>(200),
        )
        .delete::<can::DeleteSecret, TenantId, _, _>(
            "/v1/tenants/{tenant}/secrets/{secret}",
            secrets::delete,
            Operation::new("deleteSecret", "Delete a secret with all its versions").gives_nothing(),
        )
        .post::<can::PublishPackage, Publisher, _, _>(
            "/v1/market/packages",
            market::publish,
            Operation::new(
                "publishPackage",
                "Publish a package version; with `Accept: application/x-ndjson` the answer tells how far it is",
            )
            .query::<market::PublishQuery>()
            .takes_wasm()
            .gives::<market::Published>(201)
            .gives::<market::Published>(200)
            .gives_lines(200),
        )
        .get::<can::ShowPackage, Market, _, _>(
            "/v1/market/packages",
            market::list,
            Operation::new(
                "listPackages",
                "The packages that you may see, or those of them that have all words of a search",
            )
            .query::<market::SearchQuery>()
            .gives::<Page<market::PackageView>>(200),
        )
        .get::<can::ShowPackage, Market, _, _>(
            "/v1/market/packages/{publisher}/{name}",
            market::show,
            Operation::new("showPackage", "A version of a package: the newest, or the one that `version` names")
                .query::<market::VersionQuery>()
                .gives::<market::VersionView>(200),
        )
        .get::<can::ShowPackage, Market, _, _>(
            "/v1/market/packages/{publisher}/{name}/versions",
            market::versions,
            Operation::new(
                "listPackageVersions",
                "The versions of a package, the newest first, and what becomes of each",
            )
            .gives::<Page<market::StatusView>>(200),
        )
        .put::<can::SetPackageStatus, PackageName, _, _>(
            "/v1/market/packages/{publisher}/{name}/versions/{version}/status",
            market::set_status,
            Operation::new(
                "setPackageStatus",
                "Yank, quarantine or revoke a version, or take that back; on every node within a second",
            )
            .takes::<market::NewStatus>()
            .gives::<market::StatusView>(200),
        )
        .post::<can::DeletePackage, PackageName, _, _>(
            "/v1/market/packages/{publisher}/{name}/delete",
            market::delete,
            Operation::new(
                "deletePackage",
                "Delete a package for good: its versions run nowhere any more, and its name is never given again",
            )
            .takes::<market::Deletion>()
            .gives::<market::DeletedView>(200),
        )
        .get::<can::ListGrants, PackageName, _, _>(
            "/v1/market/packages/{publisher}/{name}/grants",
            grants::list,
            Operation::new("listGrants", "Whom a package is granted to").gives::<Page<grants::GrantView>>(200),
        )
        .put::<can::GrantPackage, PackageName, _, _>(
            "/v1/market/packages/{publisher}/{name}/grants/{grantee}",
            grants::put,
            Operation::new("grantPackage", "Let a tenant, or each tenant of a tier, see and install a package")
                .takes::<grants::NewGrant>()
                .gives::<grants::GrantView>(200),
        )
        .delete::<can::GrantPackage, PackageName, _, _>(
            "/v1/market/packages/{publisher}/{name}/grants/{grantee}",
            grants::remove,
            Operation::new("takeGrantBack", "No new installs by them; what is installed goes on").gives_nothing(),
        )
        .post::<can::AddPublisher, HostResource, _, _>(
            "/v1/market/publishers",
            publishers::add,
            Operation::new("addPublisher", "Register a publisher")
                .takes::<publishers::NewPublisher>()
                .gives::<publishers::PublisherView>(201),
        )
        .get::<can::ListPublishers, HostResource, _, _>(
            "/v1/market/publishers",
            publishers::list,
            Operation::new("listPublishers", "The publishers and their keys")
                .query::<PageQuery>()
                .gives::<Page<publishers::PublisherView>>(200),
        )
        .get::<can::ShowPublisher, Publisher, _, _>(
            "/v1/market/publishers/{publisher}",
            publishers::show,
            Operation::new("showPublisher", "A publisher and its keys").gives::<publishers::PublisherView>(200),
        )
        .post::<can::AddPublisherKey, Publisher, _, _>(
            "/v1/market/publishers/{publisher}/keys",
            publishers::add_key,
            Operation::new("addPublisherKey", "Give a publisher another key")
                .takes::<publishers::NewKey>()
                .gives::<publishers::PublisherView>(201),
        )
        .post::<can::RevokePublisherKey, Publisher, _, _>(
            "/v1/market/publishers/{publisher}/keys/{key}/revoke",
            publishers::revoke_key,
            Operation::new("revokePublisherKey", "Take the trust in a publisher's key back")
                .takes::<publishers::KeyRevocation>()
                .gives::<publishers::PublisherView>(200),
        )
        .post::<can::AddOwnPublisher, TenantId, _, _>(
            "/v1/tenants/{tenant}/publishers",
            publishers::add_own,
            Operation::new(
                "addOwnPublisher",
                "Register a publisher of the tenant's own, whose packages nobody else sees",
            )
            .takes::<publishers::NewPublisher>()
            .gives::<publishers::PublisherView>(201),
        )
        .get::<can::ListOwnPublishers, TenantId, _, _>(
            "/v1/tenants/{tenant}/publishers",
            publishers::list_own,
            Operation::new("listOwnPublishers", "The publishers of the tenant's own, 16 at the most")
                .gives::<Page<publishers::PublisherView>>(200),
        )
        .post::<can::PlanInstall, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}/plan",
            installs::plan,
            Operation::new("planInstall", "What an install would allow, and the word that consents to it")
                .takes::<installs::PlanAsk>()
                .gives::<installs::PlanView>(200),
        )
        .put::<can::PutInstall, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}",
            installs::put,
            Operation::new("putInstall", "Install a package, or change an install")
                .takes::<installs::NewInstall>()
                .gives::<installs::InstallView>(200)
                .field("ETag", REVISION)
                .conditional(),
        )
        .get::<can::ListInstalls, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs",
            installs::list,
            Operation::new("listInstalls", "What is installed")
                .query::<PageQuery>()
                .gives::<Page<installs::InstallView>>(200),
        )
        .get::<can::ListInstalls, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}",
            installs::show,
            Operation::new("showInstall", "An install").gives::<installs::InstallView>(200).field("ETag", REVISION),
        )
        .get::<can::PlanInstall, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}/explain",
            installs::explain,
            Operation::new("explainRequest", "What would become of a request of an installed package; sends nothing")
                .query::<installs::ExplainQuery>()
                .gives::<installs::ExplanationView>(200),
        )
        .post::<can::RollBackInstall, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}/rollback",
            installs::roll_back,
            Operation::new(
                "rollBackInstall",
                "Put the version back that was installed before, with what was agreed to then",
            )
            .takes::<installs::RollBackAsk>()
            .gives::<installs::InstallView>(200)
            .conditional(),
        )
        .delete::<can::RemoveInstall, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}",
            installs::remove,
            Operation::new(
                "removeInstall",
                "Remove an install: nothing of it runs any more, on any node, within a second",
            )
            .gives_nothing()
            .conditional(),
        )
        .get::<can::ListSkills, TenantId, _, _>(
            "/v1/tenants/{tenant}/skills",
            skills::list,
            Operation::new("listSkills", "The skills that the token may call, with their schemas")
                .query::<PageQuery>()
                .gives::<Page<skills::Callable>>(200),
        )
        .post::<can::InvokeSkill, TenantId, _, _>(
            "/v1/tenants/{tenant}/skills/{skill}/invoke",
            skills::invoke,
            Operation::new("invokeSkill", "Call a skill: the body is its input, as its `input_schema` says")
                .takes::<Value>()
                .gives::<skills::Answered<'static>>(200)
                .field("Clawhold-Run", "The id of the run")
                .field(
                    "RateLimit",
                    "How many calls are left of `max_skill_calls_per_minute`, and seconds until all are",
                )
                .field("RateLimit-Policy", "The quota and its window")
                .or(504),
        )
        .get::<can::ShowRuns, TenantId, _, _>(
            "/v1/tenants/{tenant}/runs",
            runs::list,
            Operation::new("listRuns", "Runs, the newest first, without their logs").query::<PageQuery>().gives::<Page<
                runs::RunView,
            >>(
                200
            ),
        )
        .get::<can::ShowRuns, TenantId, _, _>(
            "/v1/tenants/{tenant}/runs/{run}",
            runs::show,
            Operation::new("showRun", "A run, with its log").gives::<runs::RunView>(200),
        )
        .get::<can::ReadAudit, TenantId, _, _>(
            "/v1/tenants/{tenant}/audit",
            audit::list,
            Operation::new("listAudit", "Entries of the audit log, the newest first")
                .query::<PageQuery>()
                .gives::<Page<audit::EntryView>>(200),
        )
        .get::<can::ReadAudit, TenantId, _, _>(
            "/v1/tenants/{tenant}/audit/head",
            audit::head,
            Operation::new("auditHead", "Where the audit log ends, signed by the host").gives::<SignedHead>(200),
        )
        .get::<can::ReadAudit, TenantId, _, _>(
            "/v1/tenants/{tenant}/audit/verify",
            audit::verify,
            Operation::new("verifyAudit", "Whether the audit log is whole, or where it breaks first")
                .gives::<audit::Verdict>(200),
        )
        .get::<can::ReadAudit, TenantId, _, _>(
            "/v1/tenants/{tenant}/audit/export",
            audit::export,
            Operation::new("exportAudit", "The whole audit log as lines of JSON, in the form of docs/audit.md")
                .gives_lines(200),
        )
}

fn all(host: Arc<Host>) -> Routes {
    oci::routes(routes(host))
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
