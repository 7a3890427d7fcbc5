//! Packages as OCI artifacts, in the form of the CNCF's Wasm working group: a manifest, a config that says what the
//! component imports and exports, and the component itself as the one layer.
//!
//! The form: <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>. The manifest around it:
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md>.
//!
//! [`Artifact::of`] writes one, [`read_manifest`] reads what somebody else wrote. The publisher's signature rides as an
//! annotation of the manifest: clients of this form refuse a second layer, and drop what only refers to a manifest when
//! they copy it.

mod read;

use std::collections::BTreeMap;

use clawhold_tenancy::Digest;
use clawhold_tenancy::manifest::Package;
use serde::{Deserialize, Serialize};

use crate::moment::said;

pub use read::{Descriptor, NotAnArtifact, Read, check_config, read_manifest};

/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of a list of manifests.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of a config.
pub const CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// The media type of a component.
pub const LAYER: &str = "application/wasm";
/// The annotation of a manifest that holds the publisher's signature: the text of a DSSE envelope.
pub const SIGNATURE: &str = "vnd.clawhold.package.signature";

/// Bytes of a manifest, and of a config. 256 KiB: ours have two kilobytes, and an envelope has 16 KiB at the most.
pub const DOCUMENT_BYTES: u64 = 256 * 1024;

/// What an artifact follows from. The same facts give the same bytes.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Name, version, description and license.
    pub package: &'a Package,
    /// The component.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// The interfaces it imports, in its own order.
    pub imports: &'a [String],
    /// The interfaces it exports.
    pub exports: &'a [String],
    /// When it was published, in microseconds since 1970.
    pub published_us: i64,
    /// The publisher's signature, if there is one.
    pub signature: Option<&'a str>,
}

/// A manifest with the config that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The manifest.
    pub manifest: Document,
    /// The config.
    pub config: Document,
}

/// A text and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The digest of the text.
    pub digest: Digest,
    /// JSON.
    pub text: String,
}

impl Document {
    fn of(value: &impl Serialize) -> Self {
        let text = serde_json::to_string(value).expect("it has only string keys");
        Self { digest: Digest::of(text.as_bytes()), text }
    }
}

impl Artifact {
    /// The artifact that a package is.
    pub fn of(facts: &Facts<'_>) -> Self {
        let Facts { package, digest, size, imports, exports, published_us, signature } = *facts;
        let created = said(published_us);
        let config = Document::of(&Config {
            created: &created,
            architecture: "wasm",
            // What the form says of every component, whatever it imports.
            os: "wasip2",
            layer_digests: [digest],
            component: Component { exports, imports },
        });
        // Without a title `oras pull` writes no file. Names are of letters, digits and `-`, so this is no path.
        let title = format!("{}-{}.wasm", package.name.name(), package.version);
        let mut annotations = BTreeMap::from([
            ("org.opencontainers.image.created", created.clone()),
            ("org.opencontainers.image.description", package.description.clone()),
            ("org.opencontainers.image.licenses", package.license.clone()),
            ("org.opencontainers.image.title", package.name.to_string()),
            ("org.opencontainers.image.version", package.version.to_string()),
        ]);
        annotations.extend(signature.map(|signature| (SIGNATURE, signature.to_owned())));
        let manifest = Document::of(&Manifest {
            schema_version: 2,
            media_type: MANIFEST,
            config: Part {
                media_type: CONFIG,
                digest: config.digest,
                size: config.text.len() as u64,
                annotations: BTreeMap::new(),
            },
            layers: [Part {
                media_type: LAYER,
                digest,
                size,
                annotations: BTreeMap::from([("org.opencontainers.image.title", title)]),
            }],
            annotations,
        });
        Self { manifest, config }
    }
}

/// What refers to a manifest: here nothing ever does.
pub fn no_referrers() -> String {
    serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }).to_string()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'a str,
    layer_digests: [Digest; 1],
    component: Component<'a>,
}

#[derive(Serialize)]
struct Component<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Part<'a>,
    layers: [Part<'a>; 1],
    annotations: BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'a str, String>,
}

/// Annotations of a manifest that somebody else wrote.
type Annotations = BTreeMap<String, String>;

/// What a manifest that is read may have. Fields that are not named here are of no use to us: the specification makes
/// a reader ignore them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadManifest {
    schema_version: u32,
    media_type: Option<String>,
    config: ReadPart,
    layers: Vec<ReadPart>,
    #[serde(default)]
    annotations: Annotations,
    subject: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadPart {
    media_type: String,
    digest: String,
    size: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package() -> Package {
        Package {
            name: "northwind/crm".parse().unwrap(),
            version: "1.4.0".parse().unwrap(),
            description: "Looks up \"accounts\"".to_owned(),
            license: "Apache-2.0".to_owned(),
        }
    }

    fn artifact(signature: Option<&str>) -> Artifact {
        Artifact::of(&Facts {
            package: &package(),
            digest: Digest::of(b"component"),
            size: 9,
            imports: &["clawhold:skill/http@0.1.0".to_owned()],
            exports: &["clawhold:skill/handler@0.1.0".to_owned()],
            published_us: 1_700_000_000_000_000,
            signature,
        })
    }

    #[test]
    fn an_artifact_is_the_same_bytes_each_time() {
        let of = Digest::of(b"component");
        let Artifact { manifest, config } = artifact(None);
        assert_eq!(
            config.text,
            format!(
                r#"{{"created":"2023-11-14T22:13:20Z","architecture":"wasm","os":"wasip2","layerDigests":["{of}"],"component":{{"exports":["clawhold:skill/handler@0.1.0"],"imports":["clawhold:skill/http@0.1.0"]}}}}"#
            )
        );
        assert_eq!(
            manifest.text,
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{CONFIG}","digest":"{}","size":{}}},"layers":[{{"mediaType":"{LAYER}","digest":"{of}","size":9,"annotations":{{"org.opencontainers.image.title":"crm-1.4.0.wasm"}}}}],"annotations":{{"org.opencontainers.image.created":"2023-11-14T22:13:20Z","org.opencontainers.image.description":"Looks up \"accounts\"","org.opencontainers.image.licenses":"Apache-2.0","org.opencontainers.image.title":"northwind/crm","org.opencontainers.image.version":"1.4.0"}}}}"#,
                config.digest,
                config.text.len()
            )
        );
        assert_eq!(manifest.digest, Digest::of(manifest.text.as_bytes()));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let written = artifact(Some("{\"payload\":\"…\"}"));
        let read = read_manifest(Some(MANIFEST), written.manifest.text.as_bytes()).unwrap();
        assert_eq!(read.config.digest, written.config.digest);
        assert_eq!(read.layer, Descriptor { digest: Digest::of(b"component"), size: 9 });
        assert_eq!(read.signature.as_deref(), Some("{\"payload\":\"…\"}"));
        assert_eq!(check_config(written.config.text.as_bytes(), &read.layer.digest), Ok(()));
    }
}
