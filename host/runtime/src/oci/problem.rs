//! Why an OCI client's request was not done, in the words of its specification.

use clawhold_marketplace::oci::NotAnArtifact;
use clawhold_store::StoreError;

use crate::Problem;

/// The codes of <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes>, as far as we give
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryCode {
    /// There is no such blob, or it is not for the caller.
    BlobUnknown,
    /// The upload cannot go on so.
    BlobUploadInvalid,
    /// There is no such upload, or no longer.
    BlobUploadUnknown,
    /// The digest is not that of the bytes, or is none.
    DigestInvalid,
    /// The manifest names a blob that was not pushed.
    ManifestBlobUnknown,
    /// The manifest, or the package that it names, cannot be taken.
    ManifestInvalid,
    /// There is no such version, or it is not for the caller.
    ManifestUnknown,
    /// The repository's name is none of a package.
    NameInvalid,
    /// There is no such package, or it is not for the caller.
    NameUnknown,
    /// A size is not that of the bytes, or is above what is allowed.
    SizeInvalid,
    /// The version is published with other bytes.
    Denied,
    /// The registry does not do this.
    Unsupported,
    /// There are as many of something as may be.
    TooManyRequests,
}

impl RegistryCode {
    /// The code as clients read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
        }
    }
}

/// Why an OCI client's request was not done.
#[derive(Debug, thiserror::Error)]
pub enum RegistryProblem {
    /// For a reason that its specification has a word for.
    #[error("{why}")]
    Refused {
        /// The word.
        code: RegistryCode,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A part of a blob came out of order.
    #[error("the upload has {there} bytes, and this part does not begin there; send what comes next")]
    Range {
        /// Bytes that are there.
        there: u64,
    },
    /// For a reason that every face of the host has.
    #[error(transparent)]
    Other(Problem),
}

impl RegistryProblem {
    pub(crate) fn new(code: RegistryCode, why: impl Into<String>) -> Self {
        Self::Refused { code, why: why.into() }
    }

    /// What does not exist, or is not for the caller: these are not told apart.
    pub(crate) fn unknown(code: RegistryCode) -> impl FnOnce(Problem) -> Self {
        move |problem| match problem {
            Problem::NotFound(_) => Self::missing(code),
            other => other.into(),
        }
    }

    pub(crate) fn missing(code: RegistryCode) -> Self {
        let what = match code {
            RegistryCode::BlobUnknown => "blob",
            RegistryCode::ManifestUnknown => "version",
            _ => "repository",
        };
        Self::new(
            code,
            format!("there is no such {what} here, or it is not for this token; ask its publisher or the operator"),
        )
    }
}

impl From<Problem> for RegistryProblem {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Package(why) => Self::new(RegistryCode::ManifestInvalid, why),
            Problem::Faults(faults) => Self::new(RegistryCode::ManifestInvalid, faults.to_string()),
            // The gate's, for a repository of somebody else.
            Problem::NotFound(_) => Self::missing(RegistryCode::NameUnknown),
            Problem::Conflict(why) => Self::new(RegistryCode::Denied, why),
            other => Self::Other(other),
        }
    }
}

impl From<StoreError> for RegistryProblem {
    fn from(error: StoreError) -> Self {
        Problem::from(error).into()
    }
}

impl From<NotAnArtifact> for RegistryProblem {
    fn from(error: NotAnArtifact) -> Self {
        let code = match error {
            NotAnArtifact::TooLarge { .. } => RegistryCode::SizeInvalid,
            NotAnArtifact::Digest(..) => RegistryCode::DigestInvalid,
            NotAnArtifact::Subject => RegistryCode::Unsupported,
            _ => RegistryCode::ManifestInvalid,
        };
        Self::new(code, error.to_string())
    }
}
