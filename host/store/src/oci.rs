//! What OCI clients ask for of published versions: documents and components by digest.

use clawhold_tenancy::{Digest, PackageName};
use semver::Version as Number;

use crate::error::failed;
use crate::fields::Fields;
use crate::{StoreError, SystemTx, Write};

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// The manifest.
    Manifest,
    /// The config that the manifest names.
    Config,
}

impl DocumentKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Config => "config",
        }
    }
}

/// A document of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciDocument {
    /// What it is.
    pub kind: DocumentKind,
    /// The digest of its text.
    pub digest: Digest,
    /// JSON.
    pub text: String,
}

/// What a digest is the digest of, in one package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A document.
    Document(DocumentKind),
    /// A component.
    Component,
}

impl<M> SystemTx<M> {
    /// A document of a version. [`StoreError::Corrupt`] if its text is not the one that its digest names.
    pub async fn oci_document(
        &mut self,
        package: &PackageName,
        version: &Number,
        kind: DocumentKind,
    ) -> Result<Option<OciDocument>, StoreError> {
        let row =
            sqlx::query("SELECT digest, content FROM oci_documents WHERE package = $1 AND version = $2 AND kind = $3")
                .bind(package.as_str())
                .bind(version.to_string())
                .bind(kind.as_str())
                .fetch_optional(&mut *self.tx)
                .await
                .map_err(failed("read a package's manifest"))?;
        let Some(row) = row else { return Ok(None) };
        let fields = Fields::of("oci_documents", &row);
        let (digest, text) = (fields.id::<Digest>("digest")?, fields.text("content")?);
        if Digest::of(text.as_bytes()) != digest {
            return Err(fields.corrupt("content", format_args!("not the document {digest}")));
        }
        Ok(Some(OciDocument { kind, digest, text }))
    }

    /// Which version of a package has a document or a component with this digest, and what that is.
    pub async fn oci_named(
        &mut self,
        package: &PackageName,
        digest: &Digest,
    ) -> Result<Option<(Number, Named)>, StoreError> {
        let row = sqlx::query(
            "SELECT version, kind FROM oci_documents WHERE package = $1 AND digest = $2 \
             UNION ALL SELECT version, 'component' AS kind FROM versions WHERE package = $1 AND digest = $2 LIMIT 1",
        )
        .bind(package.as_str())
        .bind(digest.to_string())
        .fetch_optional(&mut *self.tx)
        .await
        .map_err(failed("look up a digest"))?;
        let Some(row) = row else { return Ok(None) };
        let fields = Fields::of("oci_documents", &row);
        let named = match fields.text("kind")?.as_str() {
            "manifest" => Named::Document(DocumentKind::Manifest),
            "config" => Named::Document(DocumentKind::Config),
            "component" => Named::Component,
            _ => return Err(fields.corrupt("kind", "not manifest or config")),
        };
        Ok(Some((fields.id("version")?, named)))
    }
}

impl SystemTx<Write> {
    /// Keeps the documents of a version that was published in this transaction.
    pub async fn keep_oci_documents(
        &mut self,
        package: &PackageName,
        version: &Number,
        documents: &[OciDocument],
    ) -> Result<(), StoreError> {
        for document in documents {
            sqlx::query(
                "INSERT INTO oci_documents (package, version, kind, digest, content) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(package.as_str())
            .bind(version.to_string())
            .bind(document.kind.as_str())
            .bind(document.digest.to_string())
            .bind(document.text.as_str())
            .execute(&mut *self.tx)
            .await
            .map_err(failed("keep a package's manifest"))?;
        }
        Ok(())
    }
}
