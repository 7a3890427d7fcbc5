//! What authenticates rows that decide what runs: whoever can write to the database, and has no key, makes none that is believed.

use clawhold_store::{GrantRow, Package, Publication, PublisherRow, PutInstall, Shown, StatusChange, Telling, Version};
use clawhold_tenancy::{Digest, PackageName, TenantId};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Makes and checks the marks of rows. All hosts on one database have the same key.
pub struct Authentic(Zeroizing<[u8; 32]>);

impl Authentic {
    /// With this key, which has no other use.
    pub fn new(key: Zeroizing<[u8; 32]>) -> Self {
        Self(key)
    }

    /// The mark of a published version. What becomes of it is not under it, but in the index.
    pub(crate) fn version(&self, digest: &Digest, publication: &Publication) -> String {
        let Publication { manifest, descriptors, published_us, published_by, signature, mac: _ } = publication;
        self.mac(&[
            b"version",
            digest.to_string().as_bytes(),
            json(manifest).as_bytes(),
            descriptors.as_bytes(),
            &published_us.to_be_bytes(),
            published_by.as_bytes(),
            &[u8::from(signature.is_some())],
            signature.as_deref().unwrap_or_default().as_bytes(),
        ])
    }

    /// The mark of an install.
    pub fn install(&self, tenant: &TenantId, put: &PutInstall) -> String {
        let PutInstall {
            package,
            version,
            digest,
            settings,
            consent,
            reveal,
            policy,
            updated_us,
            updated_by,
            channel,
            before,
            narrowing,
            mac: _,
        } = put;
        self.mac(&[
            b"install",
            tenant.as_str().as_bytes(),
            package.as_str().as_bytes(),
            version.to_string().as_bytes(),
            digest.to_string().as_bytes(),
            settings.to_string().as_bytes(),
            consent.to_string().as_bytes(),
            json(reveal).as_bytes(),
            json(policy).as_bytes(),
            &updated_us.to_be_bytes(),
            updated_by.as_bytes(),
            channel.as_bytes(),
            &[u8::from(before.is_some())],
            before.as_deref().unwrap_or_default().as_bytes(),
            narrowing.as_bytes(),
        ])
    }

    /// The mark of a publisher.
    pub(crate) fn publisher(&self, row: &PublisherRow) -> String {
        let PublisherRow { name, owner, keys, created_us, created_by, mac: _ } = row;
        self.mac(&[
            b"publisher",
            name.as_str().as_bytes(),
            &[u8::from(owner.is_some())],
            owner.as_ref().map_or("", TenantId::as_str).as_bytes(),
            keys.as_bytes(),
            &created_us.to_be_bytes(),
            created_by.as_bytes(),
        ])
    }

    /// The mark of a grant.
    pub fn grant(&self, row: &GrantRow) -> String {
        let GrantRow { package, grantee, range, created_us, created_by, mac: _ } = row;
        self.mac(&[
            b"grant",
            package.as_str().as_bytes(),
            grantee.as_bytes(),
            range.as_bytes(),
            &created_us.to_be_bytes(),
            created_by.as_bytes(),
        ])
    }

    /// The mark of what lists show of a package.
    pub(crate) fn shown(&self, package: &PackageName, shown: &Shown) -> String {
        self.summary(package, &shown.newest.to_string(), &shown.about)
    }

    /// The same, of what is there.
    pub fn listed(&self, row: &Package) -> String {
        self.summary(&row.name, &row.newest, &row.about)
    }

    fn summary(&self, package: &PackageName, newest: &str, about: &str) -> String {
        self.mac(&[b"shown", package.as_str().as_bytes(), newest.as_bytes(), about.as_bytes()])
    }

    /// The mark of why a version became what it is.
    pub(crate) fn status(&self, change: &StatusChange) -> String {
        let StatusChange { package, version, status, advisory, changed_us, .. } = change;
        self.said(package, &version.to_string(), status, *changed_us, advisory)
    }

    /// The same, of what is there.
    pub(crate) fn advisory(&self, package: &PackageName, row: &Version) -> String {
        let version = row.published.manifest.package.version.to_string();
        self.said(package, &version, &row.status, row.changed_us, &row.advisory)
    }

    /// The same, of what tenants are still to be told.
    pub(crate) fn telling(&self, row: &Telling) -> String {
        let Telling { package, version, status, changed_us, advisory, .. } = row;
        self.said(package, &version.to_string(), status, *changed_us, advisory)
    }

    fn said(&self, package: &PackageName, version: &str, status: &str, changed_us: i64, advisory: &str) -> String {
        self.mac(&[
            b"advisory",
            package.as_str().as_bytes(),
            version.as_bytes(),
            status.as_bytes(),
            &changed_us.to_be_bytes(),
            advisory.as_bytes(),
        ])
    }

    /// Each part behind its length, so that no two rows are written alike.
    fn mac(&self, parts: &[&[u8]]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.0).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        hex::encode(mac.finalize().into_bytes())
    }
}

/// Whether two marks are one, in a time that tells nothing of where they differ.
pub(crate) fn same(one: &str, other: &str) -> bool {
    use subtle::ConstantTimeEq as _;
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("what the store writes has only string keys")
}
