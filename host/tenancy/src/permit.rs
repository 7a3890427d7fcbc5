//! Rights: one table of actions, and permits that only this module can make.
//!
//! A use-case takes a `Permit<Action, Resource>`, so code that forgot the check does not compile:
//!
//! ```
//! use clawhold_tenancy::permit::{InvokeSkill, Permit};
//! use clawhold_tenancy::TenantId;
//!
//! fn invoke(permit: &Permit<InvokeSkill, TenantId>) {
//!     let _for_whom = permit.resource();
//! }
//! ```

use std::marker::PhantomData;

use crate::{Context, PackageName, Publisher, Role, Scope, TenantId};

/// Something that a role may or may not do.
pub trait Action {
    /// The name in the matrix and in the audit log, `noun.verb`.
    const NAME: &'static str;
    /// Who may do it.
    const ROLES: &'static [Role];
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// [`Action::NAME`].
    pub name: &'static str,
    /// [`Action::ROLES`].
    pub roles: &'static [Role],
}

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $name:literal: $($role:ident)+;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $action;
            impl Action for $action {
                const NAME: &'static str = $name;
                const ROLES: &'static [Role] = &[$(Role::$role),+];
            }
        )*
        /// Every action with its roles: the whole matrix.
        pub const TABLE: &[Row] = &[$(Row { name: $name, roles: <$action as Action>::ROLES }),*];
    };
}

actions! {
    /// Create a tenant.
    CreateTenant = "tenant.create": Operator;
    /// List all tenants.
    ListTenants = "tenant.list": Operator;
    /// Read one tenant's state.
    ShowTenant = "tenant.show": Operator Admin Auditor;
    /// Put a tenant into another tier.
    SetTenantTier = "tenant.set-tier": Operator;
    /// Read a tenant's quota, and where each value comes from.
    ShowQuota = "quota.show": Operator Admin Auditor;
    /// Change a tenant's own quota values. Not the admin: they bound what the admin may use.
    SetQuota = "quota.set": Operator;
    /// Read what a tenant uses.
    ShowUsage = "usage.show": Operator Admin Auditor;
    /// Read how the host fares.
    ShowHost = "host.show": Operator;
    /// Make new data keys for the host's own chain, and add a master key.
    RotateHostKeys = "host-key.rotate": Operator;
    /// Make a tenant new data keys.
    RotateKeys = "key.rotate": Operator Admin;
    /// Make a token for a publisher or the host.
    CreateHostToken = "host-token.create": Operator;
    /// List the host's and the publishers' tokens.
    ListHostTokens = "host-token.list": Operator;
    /// Revoke a token of a publisher or the host.
    RevokeHostToken = "host-token.revoke": Operator;
    /// Make a token of a tenant. An operator makes a tenant's first.
    CreateToken = "token.create": Operator Admin;
    /// List a tenant's tokens.
    ListTokens = "token.list": Operator Admin;
    /// Revoke a token of a tenant.
    RevokeToken = "token.revoke": Operator Admin;
    /// Store a secret's value. Not the operator: a tenant's credentials are the tenant's.
    PutSecret = "secret.put": Admin;
    /// List secrets: names, versions, dates.
    ListSecrets = "secret.list": Admin Auditor;
    /// Put an older value of a secret back.
    RollBackSecret = "secret.rollback": Admin;
    /// Delete a secret.
    DeleteSecret = "secret.delete": Admin;
    /// Publish a package version.
    PublishPackage = "package.publish": Publisher;
    /// Yank, revoke or quarantine a package's version, or take that back.
    SetPackageStatus = "package.set_status": Operator Publisher;
    /// Delete a package for good, with all its versions.
    DeletePackage = "package.delete": Operator;
    /// Say which tenants may see and install a package.
    GrantPackage = "package.grant": Operator Publisher;
    /// See whom a package is granted to.
    ListGrants = "package.list_grants": Operator Publisher;
    /// See published packages.
    ShowPackage = "package.show": Operator Admin Auditor Publisher;
    /// Register a publisher.
    AddPublisher = "publisher.add": Operator;
    /// See all publishers and their keys.
    ListPublishers = "publisher.list": Operator;
    /// See one publisher and its keys.
    ShowPublisher = "publisher.show": Operator Publisher;
    /// Give a publisher another key.
    AddPublisherKey = "publisher.add_key": Operator Publisher;
    /// Take the trust in a publisher's key back.
    RevokePublisherKey = "publisher.revoke_key": Operator;
    /// Register a publisher of a tenant's own, whose packages nobody else sees.
    AddOwnPublisher = "publisher.add_own": Operator Admin;
    /// See a tenant's own publishers.
    ListOwnPublishers = "publisher.list_own": Operator Admin Auditor;
    /// See what an install would allow.
    PlanInstall = "install.plan": Admin;
    /// Install or change an install, with consent.
    PutInstall = "install.put": Admin;
    /// Put the version back that was installed before.
    RollBackInstall = "install.rollback": Admin;
    /// List what is installed.
    ListInstalls = "install.list": Admin Auditor;
    /// Remove an install.
    RemoveInstall = "install.remove": Admin;
    /// List the callable skills.
    ListSkills = "skill.list": Admin Caller;
    /// Call a skill.
    InvokeSkill = "skill.invoke": Admin Caller;
    /// Read run records.
    ShowRuns = "run.show": Admin Auditor;
    /// Read the audit log.
    ReadAudit = "audit.read": Admin Auditor;
}

/// Proof that a context may do action `A` on the resource it names. Only [`Context::permit`] and its siblings
/// make one.
#[derive(Debug, Clone)]
pub struct Permit<A, R = TenantId> {
    resource: R,
    action: PhantomData<fn() -> A>,
}

impl<A: Action, R> Permit<A, R> {
    /// What the permit is for.
    pub fn resource(&self) -> &R {
        &self.resource
    }

    /// The action's name, for the audit entry.
    pub fn action(&self) -> &'static str {
        A::NAME
    }

    fn new(resource: R) -> Self {
        Self { resource, action: PhantomData }
    }
}

impl<A: Action> Permit<A, TenantId> {
    /// The tenant that the permit is for.
    pub fn tenant(&self) -> &TenantId {
        &self.resource
    }
}

/// The host as a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host;

/// The shared list of packages as a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Market;

/// Why there is no permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The token belongs to something else. Answered exactly like a resource that does not exist.
    #[error("not found")]
    Elsewhere,
    /// The token belongs here and its role may not do this.
    #[error("a token with the role {has} may not do {action}; use one with the role {}", names(.needs))]
    Role {
        /// The action's name.
        action: &'static str,
        /// The token's role.
        has: Role,
        /// The roles that may.
        needs: &'static [Role],
    },
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(" or ")
}

impl Context {
    /// A permit on one tenant. A token of another tenant, or of a publisher, is told nothing: not even that the
    /// tenant exists.
    pub fn permit<A: Action>(&self, tenant: &TenantId) -> Result<Permit<A, TenantId>, Refusal> {
        match &self.scope {
            Scope::Host => {}
            Scope::Tenant(own) if own == tenant => {}
            _ => return Err(Refusal::Elsewhere),
        }
        self.has_role::<A>().map(|()| Permit::new(tenant.clone()))
    }

    /// A permit on the host.
    pub fn permit_host<A: Action>(&self) -> Result<Permit<A, Host>, Refusal> {
        self.has_role::<A>()?;
        match &self.scope {
            Scope::Host => Ok(Permit::new(Host)),
            _ => Err(Refusal::Elsewhere),
        }
    }

    /// A permit on the list of packages.
    pub fn permit_market<A: Action>(&self) -> Result<Permit<A, Market>, Refusal> {
        self.has_role::<A>().map(|()| Permit::new(Market))
    }

    /// A permit on the packages of this token's own publisher.
    pub fn permit_publisher<A: Action>(&self) -> Result<Permit<A, Publisher>, Refusal> {
        self.has_role::<A>()?;
        match &self.scope {
            Scope::Publisher(own) => Ok(Permit::new(own.clone())),
            _ => Err(Refusal::Elsewhere),
        }
    }

    /// A permit on one package: of this token's own publisher, or any for the operator. Of another one a publisher is told nothing.
    pub fn permit_package<A: Action>(&self, package: &PackageName) -> Result<Permit<A, PackageName>, Refusal> {
        self.permit_of_publisher::<A>(&package.publisher()).map(|_| Permit::new(package.clone()))
    }

    /// A permit on one publisher: this token's own, or any for the operator.
    pub fn permit_of_publisher<A: Action>(&self, publisher: &Publisher) -> Result<Permit<A, Publisher>, Refusal> {
        match &self.scope {
            Scope::Host => {}
            Scope::Publisher(own) if own == publisher => {}
            _ => return Err(Refusal::Elsewhere),
        }
        self.has_role::<A>().map(|()| Permit::new(publisher.clone()))
    }

    fn has_role<A: Action>(&self) -> Result<(), Refusal> {
        if A::ROLES.contains(&self.role) {
            Ok(())
        } else {
            Err(Refusal::Role { action: A::NAME, has: self.role, needs: A::ROLES })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(scope: Scope, role: Role) -> Context {
        Context::of_host("test", scope, role)
    }

    #[test]
    fn a_token_of_another_tenant_learns_nothing_whatever_its_role() {
        let acme: TenantId = "acme-corp".parse().unwrap();
        let globex: TenantId = "globex".parse().unwrap();
        for role in [Role::Admin, Role::Auditor, Role::Caller] {
            let cx = context(Scope::Tenant(globex.clone()), role);
            assert_eq!(cx.permit::<InvokeSkill>(&acme).unwrap_err(), Refusal::Elsewhere);
            assert_eq!(cx.permit::<PutSecret>(&acme).unwrap_err(), Refusal::Elsewhere);
        }
        let publisher = context(Scope::Publisher("northwind".parse().unwrap()), Role::Publisher);
        assert_eq!(publisher.permit::<InvokeSkill>(&acme).unwrap_err(), Refusal::Elsewhere);
    }

    #[test]
    fn an_operator_of_a_tenant_or_a_publisher_does_not_exist() {
        for scope in [Scope::Tenant("acme-corp".parse().unwrap()), Scope::Publisher("northwind".parse().unwrap())] {
            assert!(!Role::Operator.fits(&scope));
            let made_up = context(scope, Role::Operator);
            assert_eq!(made_up.permit_host::<CreateTenant>().unwrap_err(), Refusal::Elsewhere);
            assert_eq!(made_up.permit_host::<CreateHostToken>().unwrap_err(), Refusal::Elsewhere);
        }
        assert!(context(Scope::Host, Role::Operator).permit_host::<CreateTenant>().is_ok());
    }

    #[test]
    fn an_operator_may_not_touch_a_tenants_secrets() {
        let acme: TenantId = "acme-corp".parse().unwrap();
        let operator = context(Scope::Host, Role::Operator);
        assert!(operator.permit::<CreateToken>(&acme).is_ok());
        let refusal = operator.permit::<PutSecret>(&acme).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "a token with the role operator may not do secret.put; use one with the role admin"
        );
    }

    #[test]
    fn every_action_has_a_name_of_its_own() {
        let mut names: Vec<_> = TABLE.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }
}
