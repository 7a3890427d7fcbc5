//! Tenants, what they may use, tokens, secrets and keys; and the host itself.

use clawhold_tenancy::TenantId;
use clawhold_tenancy::permit as can;
use clawhold_tenancy::permit::Host as HostResource;

use super::Routes;
use crate::openapi::Operation;
use crate::page::{Page, PageQuery};
use crate::{host, keys, quotas, secrets, tenants, tokens, usage};

pub(super) fn routes(routes: Routes) -> Routes {
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
}
