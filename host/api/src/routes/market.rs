//! Packages, whom they are granted to, and who publishes them.

use clawhold_tenancy::permit as can;
use clawhold_tenancy::permit::{Host as HostResource, Market};
use clawhold_tenancy::{PackageName, Publisher, TenantId};

use super::Routes;
use crate::openapi::Operation;
use crate::page::{Page, PageQuery};
use crate::{grants, market, publishers};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
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
}
