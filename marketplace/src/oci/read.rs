//! Reading an artifact that somebody else wrote.

use clawhold_tenancy::Digest;
use clawhold_tenancy::limits::COMPONENT_BYTES;
use serde::Deserialize;

use super::{CONFIG, DOCUMENT_BYTES, LAYER, MANIFEST, ReadManifest, ReadPart, SIGNATURE};
use crate::dsse::ENVELOPE_BYTES;

/// Bytes of what came that a message repeats.
const SHOWN: usize = 100;

/// What a manifest says, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The config.
    pub config: Descriptor,
    /// The component.
    pub layer: Descriptor,
    /// The publisher's signature, which nobody has looked at yet.
    pub signature: Option<String>,
}

/// What a manifest says of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Its digest.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
}

/// Why something is no artifact of this form, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnArtifact {
    /// The manifest is another thing.
    #[error("the manifest has the media type {0:?}; push one image manifest, {MANIFEST}, and no index")]
    MediaType(String),
    /// It is no JSON of this form.
    #[error("the {0} cannot be read ({1}); write it as `wkg oci push` does")]
    Unreadable(&'static str, String),
    /// The manifest refers to another one.
    #[error(
        "the manifest has a subject, and this registry keeps packages alone; put a signature into the annotation {SIGNATURE}"
    )]
    Subject,
    /// There is not one layer.
    #[error("the manifest has {0} layers, one is expected; push the .wasm file alone")]
    Layers(usize),
    /// A blob has a media type that it may not have.
    #[error("the {blob} has the media type {found:?}, not {expected}; {remedy}")]
    BlobType {
        /// Which.
        blob: &'static str,
        /// What it has.
        found: String,
        /// What it should have.
        expected: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A digest is none that we know.
    #[error("the {0} has the digest {1:?}; use sha256: and 64 digits of 0-9 and a-f")]
    Digest(&'static str, String),
    /// A blob is too large.
    #[error("the {blob} has {size} bytes, {most} are allowed; make it smaller")]
    TooLarge {
        /// Which.
        blob: &'static str,
        /// What it has.
        size: u64,
        /// What it may have.
        most: u64,
    },
    /// The config speaks of something else.
    #[error("the config says {0}, and the manifest has another; push with `wkg oci push`, which writes the config")]
    OtherConfig(String),
}

/// Reads a manifest. `media_type` is what it came with, if it came with one.
pub fn read_manifest(media_type: Option<&str>, bytes: &[u8]) -> Result<Read, NotAnArtifact> {
    if let Some(other) = media_type.filter(|kind| *kind != MANIFEST) {
        return Err(NotAnArtifact::MediaType(short(other)));
    }
    within("manifest", bytes.len() as u64, DOCUMENT_BYTES)?;
    let manifest: ReadManifest = json("manifest", bytes)?;
    if let Some(other) = manifest.media_type.filter(|kind| kind != MANIFEST) {
        return Err(NotAnArtifact::MediaType(short(&other)));
    }
    if manifest.schema_version != 2 {
        return Err(NotAnArtifact::Unreadable("manifest", format!("its schemaVersion is {}", manifest.schema_version)));
    }
    if manifest.subject.is_some() {
        return Err(NotAnArtifact::Subject);
    }
    let [layer] = &manifest.layers[..] else { return Err(NotAnArtifact::Layers(manifest.layers.len())) };
    let layer = descriptor("layer", layer, LAYER, COMPONENT_BYTES)?;
    let config = descriptor("config", &manifest.config, CONFIG, DOCUMENT_BYTES)?;
    let signature = manifest.annotations.into_iter().find(|(name, _)| name == SIGNATURE).map(|(_, text)| text);
    if let Some(text) = &signature {
        within("signature", text.len() as u64, ENVELOPE_BYTES as u64)?;
    }
    Ok(Read { config, layer, signature })
}

/// Whether a config can be the one of this component. What it leaves out is not held against it: clients that are not
/// made for this form send `{}`.
pub fn check_config(bytes: &[u8], layer: &Digest) -> Result<(), NotAnArtifact> {
    let config: Config = json("config", bytes)?;
    if let Some(other) = config.architecture.filter(|name| name != "wasm") {
        return Err(NotAnArtifact::OtherConfig(format!("the architecture {:?}", short(&other))));
    }
    match config.layer_digests.as_deref() {
        None => Ok(()),
        Some([one]) if *one == layer.to_string() => Ok(()),
        Some(others) => Err(NotAnArtifact::OtherConfig(format!("the layers {:?}", short(&others.join(", "))))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    architecture: Option<String>,
    layer_digests: Option<Vec<String>>,
}

fn descriptor(
    blob: &'static str,
    part: &ReadPart,
    expected: &'static str,
    most: u64,
) -> Result<Descriptor, NotAnArtifact> {
    if part.media_type != expected {
        let packed = part.media_type.contains("gzip") || part.media_type.contains("zstd");
        let remedy = if packed { "push the file as it is, not compressed" } else { "push with `wkg oci push`" };
        return Err(NotAnArtifact::BlobType { blob, found: short(&part.media_type), expected, remedy });
    }
    // One digest has one spelling.
    let digest = part.digest.parse::<Digest>().ok().filter(|digest| digest.to_string() == part.digest);
    let digest = digest.ok_or_else(|| NotAnArtifact::Digest(blob, short(&part.digest)))?;
    within(blob, part.size, most)?;
    Ok(Descriptor { digest, size: part.size })
}

fn within(blob: &'static str, size: u64, most: u64) -> Result<(), NotAnArtifact> {
    if size > most { Err(NotAnArtifact::TooLarge { blob, size, most }) } else { Ok(()) }
}

fn json<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, NotAnArtifact> {
    serde_json::from_slice(bytes).map_err(|error| NotAnArtifact::Unreadable(what, short(&error.to_string())))
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn good() -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": Digest::of(b"{}"), "size": 2 },
            "layers": [{ "mediaType": LAYER, "digest": Digest::of(b"component"), "size": 9 }],
            "annotations": { "any": "thing" },
            "artifactType": CONFIG,
        })
    }

    /// The manifest with one place changed.
    fn with(place: &str, value: Value) -> Value {
        let mut manifest = good();
        *manifest.pointer_mut(place).unwrap() = value;
        manifest
    }

    #[test]
    fn what_is_no_package_is_refused_with_the_reason() {
        assert!(read_manifest(None, good().to_string().as_bytes()).is_ok());
        let mut signed = good();
        signed["annotations"] = json!({ SIGNATURE: "x".repeat(ENVELOPE_BYTES + 1) });
        let mut refers = good();
        refers["subject"] = json!({ "mediaType": MANIFEST, "digest": "sha256:00", "size": 1 });
        let layer = good()["layers"][0].clone();
        let upper = Digest::of(b"component").to_string().to_uppercase().replace("SHA256", "sha256");
        for (manifest, says) in [
            (with("/mediaType", json!(super::super::INDEX)), "no index"),
            (with("/schemaVersion", json!(1)), "schemaVersion is 1"),
            (with("/schemaVersion", json!("2")), "cannot be read"),
            (with("/config", json!({})), "missing field"),
            (
                with("/config/mediaType", json!("application/vnd.oci.image.config.v1+json")),
                "the config has the media type",
            ),
            (with("/config/size", json!(DOCUMENT_BYTES + 1)), "the config has 262145 bytes"),
            (with("/config/digest", json!("sha512:00")), "use sha256:"),
            (with("/layers", json!([])), "0 layers"),
            (with("/layers", json!([layer, layer])), "2 layers"),
            (with("/layers/0/mediaType", json!("application/vnd.oci.image.layer.v1.tar+gzip")), "not compressed"),
            (with("/layers/0/mediaType", json!("application/wasm+zstd")), "not compressed"),
            (with("/layers/0/mediaType", json!("text/html\u{7}")), "\"text/html\""),
            (with("/layers/0/digest", json!(upper)), "use sha256:"),
            (with("/layers/0/size", json!(COMPONENT_BYTES + 1)), "67108864 are allowed"),
            (with("/layers/0/size", json!(-1)), "cannot be read"),
            (signed, "the signature has 16385 bytes"),
            (refers, "has a subject"),
        ] {
            let said = read_manifest(Some(MANIFEST), manifest.to_string().as_bytes()).expect_err(says).to_string();
            assert!(said.contains(says) && said.contains("; ") && said.len() < 400, "{says}: {said}");
        }
        let said = read_manifest(Some("text/plain"), good().to_string().as_bytes()).unwrap_err().to_string();
        assert!(said.contains("text/plain"), "{said}");
        let twice = good().to_string().replace("\"layers\"", "\"layers\":[],\"layers\"");
        assert!(read_manifest(None, twice.as_bytes()).unwrap_err().to_string().contains("duplicate field"));
    }

    #[test]
    fn a_config_of_another_component_is_refused() {
        let layer = Digest::of(b"component");
        let check = |config: Value| check_config(config.to_string().as_bytes(), &layer);
        assert_eq!(check(json!({})), Ok(()));
        assert_eq!(check(json!({ "architecture": "wasm", "os": "wasip2", "layerDigests": [layer] })), Ok(()));
        for (config, says) in [
            (json!({ "architecture": "amd64" }), "amd64"),
            (json!({ "layerDigests": [Digest::of(b"other")] }), "the layers"),
            (json!({ "layerDigests": [] }), "the layers"),
            (json!({ "layerDigests": [layer, layer] }), "the layers"),
            (json!([]), "cannot be read"),
            (json!({ "layerDigests": "x" }), "cannot be read"),
        ] {
            let said = check(config).expect_err(says).to_string();
            assert!(said.contains(says), "{says}: {said}");
        }
    }
}
