//! Who may see and install a package. What nobody granted does not exist, on any surface.

use std::fmt;
use std::str::FromStr;

use clawhold_tenancy::quota::Tier;
use clawhold_tenancy::{InvalidId, PackageName, TenantId};
use semver::{Version, VersionReq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of a range: more than the 32 comparators that the parser takes.
const RANGE_BYTES: usize = 256;

/// That a tenant, or each tenant of a tier, may see and install versions of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The package.
    pub package: PackageName,
    /// Its versions.
    pub range: VersionRange,
    /// To whom.
    pub to: Grantee,
}

impl Grant {
    /// Whether it is for this tenant, which is in this tier.
    pub fn is_for(&self, tenant: &TenantId, tier: &str) -> bool {
        match &self.to {
            Grantee::Tenant(granted) => granted == tenant,
            Grantee::Tier(granted) => granted.as_str() == tier,
        }
    }
}

/// Whether a tenant, which is in this tier, may see and install this version.
pub fn permits(grants: &[Grant], tenant: &TenantId, tier: &str, package: &PackageName, version: &Version) -> bool {
    grants.iter().any(|grant| grant.package == *package && grant.is_for(tenant, tier) && grant.range.contains(version))
}

/// To whom a grant is: written `tenant:acme-corp` or `tier:pro`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grantee {
    /// One tenant.
    Tenant(TenantId),
    /// Each tenant of a tier, as long as it is in it.
    Tier(Tier),
}

/// A text names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadGrantee {
    /// Neither of the two.
    #[error("nobody is called {0:?}; write `tenant:` and a tenant's id, or `tier:` and a tier's name")]
    Neither(String),
    /// No tenant.
    #[error(transparent)]
    Tenant(#[from] InvalidId),
    /// No tier.
    #[error("{0}")]
    Tier(String),
}

impl FromStr for Grantee {
    type Err = BadGrantee;

    fn from_str(text: &str) -> Result<Self, BadGrantee> {
        match text.split_once(':') {
            Some(("tenant", id)) => Ok(Self::Tenant(id.parse()?)),
            Some(("tier", name)) => Tier::try_from(name.to_owned()).map(Self::Tier).map_err(BadGrantee::Tier),
            _ => Err(BadGrantee::Neither(shown(text))),
        }
    }
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(id) => write!(f, "tenant:{id}"),
            Self::Tier(tier) => write!(f, "tier:{}", tier.as_str()),
        }
    }
}

/// Versions of a package: `*`, or what Cargo takes as a requirement, such as `^1.2` or `>=1.2, <3`.
///
/// A pre-release is in a range only if the range names one of the same numbers, as `>=2.0.0-rc.1` does. `*` is every
/// release, and no pre-release: who is granted everything is not thereby a tester.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionRange(VersionReq);

impl VersionRange {
    /// Every release.
    pub const ALL: Self = Self(VersionReq::STAR);

    /// Whether a version is in it.
    pub fn contains(&self, version: &Version) -> bool {
        self.0.matches(version)
    }
}

/// A text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no range of versions: {why}; write `*`, `^1.2`, `=1.4.0` or `>=1.2, <3`")]
pub struct BadRange {
    text: String,
    why: String,
}

impl FromStr for VersionRange {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        let bad = |why: String| BadRange { text: shown(text), why };
        if text.len() > RANGE_BYTES {
            return Err(bad(format!("it has {} bytes, {RANGE_BYTES} are allowed", text.len())));
        }
        // The parser drops it, and the range would then mean more than was written.
        if text.contains('+') {
            return Err(bad("no package has build metadata".to_owned()));
        }
        VersionReq::parse(text).map(Self).map_err(|e| bad(e.to_string()))
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(Grantee);
as_text!(VersionRange);

fn shown(text: &str) -> String {
    text.chars().take(64).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(to: &str, package: &str, range: &str) -> Grant {
        Grant { package: package.parse().unwrap(), range: range.parse().unwrap(), to: to.parse().unwrap() }
    }

    #[test]
    fn hostile_30_what_was_not_granted_is_not_permitted() {
        let grants = [
            grant("tenant:acme-corp", "northwind/crm", "^1.2"),
            grant("tier:pro", "northwind/quote", "*"),
            // A tenant may be called as a tier is.
            grant("tenant:free", "northwind/redact", "*"),
        ];
        for (tenant, tier, package, version, expected) in [
            ("acme-corp", "free", "northwind/crm", "1.2.0", true),
            ("acme-corp", "free", "northwind/crm", "1.1.9", false),
            ("acme-corp", "free", "northwind/crm", "2.0.0", false),
            ("acme-corp", "free", "northwind/crm2", "1.2.0", false),
            ("acme-corp", "free", "northwind/quote", "9.0.0", false),
            ("globex", "free", "northwind/crm", "1.2.0", false),
            ("globex", "pro", "northwind/quote", "9.0.0", true),
            ("globex", "pro", "northwind/crm", "1.2.0", false),
            ("pro", "free", "northwind/quote", "9.0.0", false),
            ("globex", "free", "northwind/redact", "1.0.0", false),
            ("free", "pro", "northwind/redact", "1.0.0", true),
        ] {
            let (package, version) = (package.parse().unwrap(), version.parse().unwrap());
            let said = permits(&grants, &tenant.parse().unwrap(), tier, &package, &version);
            assert_eq!(said, expected, "{tenant} {tier} {package} {version}");
            assert!(!permits(&[], &tenant.parse().unwrap(), tier, &package, &version));
        }
    }

    #[test]
    fn a_range_has_a_pre_release_only_if_it_names_one() {
        for (range, version, expected) in [
            ("*", "1.0.0", true),
            ("*", "1.0.0-rc.1", false),
            (">=1.0.0", "2.0.0-rc.1", false),
            ("^2.0.0-rc.1", "2.0.0-rc.2", true),
            ("^2.0.0-rc.1", "2.1.0", true),
            ("^2.0.0-rc.1", "2.1.0-rc.1", false),
            ("=1.4.0", "1.4.0", true),
            ("=1.4.0", "1.4.1", false),
            ("1.4", "1.9.0", true),
            ("~1.4", "1.9.0", false),
            (">=1.2, <3", "2.9.9", true),
            (">=1.2, <3", "3.0.0", false),
        ] {
            let read: VersionRange = range.parse().unwrap();
            assert_eq!(read.contains(&version.parse().unwrap()), expected, "{range} {version}");
        }
        assert_eq!("*".parse(), Ok(VersionRange::ALL));
    }

    #[test]
    fn a_text_that_is_no_range_is_refused_with_what_to_write() {
        for text in ["", "latest", "v1.0.0", "1.2.3.4", "^1.2 || ^2", "=1.0.0+build", &"1".repeat(300), "^1\n,^2\0"] {
            let said = text.parse::<VersionRange>().expect_err(text).to_string();
            assert!(said.contains("write `*`, `^1.2`") && said.len() < 300 && !said.contains('\0'), "{said}");
        }
    }

    #[test]
    fn a_text_that_names_nobody_is_refused_with_what_to_write() {
        for (text, says) in [
            ("", "write `tenant:`"),
            ("acme-corp", "write `tenant:`"),
            ("Tenant:acme-corp", "write `tenant:`"),
            ("tenant:", "tenant id"),
            ("tenant:../b", "tenant id"),
            ("tier:", "a tier is"),
            ("tier:default", "a tier is"),
        ] {
            let said = text.parse::<Grantee>().expect_err(text).to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn a_grant_is_read_back_as_it_was_written() {
        let grants = [
            grant("tenant:acme-corp", "northwind/crm", "^1.2"),
            grant("tier:pro", "northwind/crm", ">=1.2,<3"),
            grant("tier:pro", "northwind/crm", "*"),
        ];
        let text = serde_json::to_string(&grants).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Grant>>(&text).unwrap(), grants);
        assert!(text.contains(r#"{"package":"northwind/crm","range":">=1.2, <3","to":"tier:pro"}"#), "{text}");
    }
}
