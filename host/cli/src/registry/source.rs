//! `oci://HOST/REPOSITORY:TAG`

use std::fmt;
use std::str::FromStr;

use clawhold_tenancy::Digest;

/// Where a package is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// A name or an address, with the port if there is one.
    pub(crate) host: String,
    /// The repository, of any number of parts.
    pub(crate) repository: String,
    pub(crate) reference: Reference,
}

/// Which of a repository's manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    Tag(String),
    Digest(Digest),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, repository, reference } = self;
        let sign = if let Reference::Tag(_) = reference { ':' } else { '@' };
        write!(f, "oci://{host}/{repository}{sign}{reference}")
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (host, rest) = text.strip_prefix("oci://")?.split_once('/')?;
            let (repository, reference) = match rest.split_once('@') {
                Some((repository, digest)) => (repository, Reference::Digest(digest.parse().ok()?)),
                None => rest.rsplit_once(':').map(|(name, tag)| (name, Reference::Tag(tag.to_owned())))?,
            };
            let source = Self { host: host.to_owned(), repository: repository.to_owned(), reference };
            source.is_well_formed().then_some(source)
        };
        read().ok_or_else(|| "write oci://HOST/REPOSITORY:TAG, or oci://HOST/REPOSITORY@sha256:…".to_owned())
    }
}

impl Source {
    /// By the specification's own patterns, so that nothing in it means anything in a URL.
    fn is_well_formed(&self) -> bool {
        let host = !self.host.is_empty()
            && self.host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
        let part = |part: &str| {
            let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
            part.bytes().all(inside)
                && part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.ends_with(|c: char| c.is_ascii_alphanumeric())
        };
        let repository = self.repository.len() < 256 && self.repository.split('/').all(part);
        let reference = match &self.reference {
            Reference::Tag(tag) => {
                (1..=128).contains(&tag.len())
                    && !tag.starts_with(['.', '-'])
                    && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
            }
            Reference::Digest(_) => true,
        };
        host && repository && reference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_names_host_repository_and_manifest() {
        let digest = Digest::of(b"x");
        for (text, host, repository) in [
            ("oci://ghcr.io/northwind/crm:1.4.0".to_owned(), "ghcr.io", "northwind/crm"),
            ("oci://127.0.0.1:5000/a/b/c_d:v1".to_owned(), "127.0.0.1:5000", "a/b/c_d"),
            ("oci://[::1]:5000/crm:latest".to_owned(), "[::1]:5000", "crm"),
            (format!("oci://ghcr.io/northwind/crm@{digest}"), "ghcr.io", "northwind/crm"),
        ] {
            let source: Source = text.parse().unwrap();
            assert_eq!((&source.host[..], &source.repository[..]), (host, repository));
            assert_eq!(source.to_string(), text);
        }
        for bad in [
            "ghcr.io/northwind/crm:1.4.0",
            "oci://ghcr.io",
            "oci://ghcr.io/northwind/crm",
            "oci:///crm:1",
            "oci://user@ghcr.io/crm:1",
            "oci://ghcr.io/../crm:1",
            "oci://ghcr.io/a//b:1",
            "oci://ghcr.io/Crm:1",
            "oci://ghcr.io/crm?x=:1",
            "oci://ghcr.io/crm:1/2",
            "oci://ghcr.io/crm:a b",
            "oci://ghcr.io/crm@sha256:00",
        ] {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }
}
