//! What a publisher signs about a package.

use clawhold_tenancy::{Digest, PackageName};
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::dsse::{Envelope, Statement};
use crate::key::SigningKey;

/// That this file is this version of this package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageStatement {
    /// The package.
    pub package: PackageName,
    /// Its version.
    pub version: Version,
    /// The digest of the whole file.
    pub digest: Digest,
    /// When it was signed by the signer's own clock, in microseconds since 1970. A claim: nothing rests on it.
    pub signed_us: i64,
}

impl Statement for PackageStatement {
    const TYPE: &'static str = "application/vnd.clawhold.package.v1+json";
}

/// Signs a package: the text of an envelope, which goes along with the file.
pub fn sign(key: &SigningKey, statement: &PackageStatement) -> String {
    Envelope::seal(statement, key).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_names_package_version_and_file() {
        let statement = PackageStatement {
            package: "northwind/crm".parse().unwrap(),
            version: Version::new(1, 4, 0),
            digest: Digest::of(b"component"),
            signed_us: 9,
        };
        let key = SigningKey::from_seed(&[7; 32]);
        let envelope = Envelope::parse(&sign(&key, &statement)).unwrap();
        assert_eq!(envelope.open(&key.public()), Ok(statement.clone()));
        let written = serde_json::to_string(&statement).unwrap();
        let digest = statement.digest;
        let expected = format!(r#"{{"package":"northwind/crm","version":"1.4.0","digest":"{digest}","signed_us":9}}"#);
        assert_eq!(written, expected, "others verify it as well, so its form is fixed");
    }
}
