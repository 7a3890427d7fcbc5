//! A package file: a component that carries its manifest.

use std::str;

use clawhold_sandbox::{Refused, prescan};
use clawhold_tenancy::Digest;
use clawhold_tenancy::manifest::{Manifest, ManifestError, SECTION};
use wasm_encoder::{CustomSection, Section};

use crate::schema::{Schema, SchemaError};

/// A file that was read and checked as far as is possible without running it.
#[derive(Debug, Clone)]
pub struct Package {
    /// The manifest.
    pub manifest: Manifest,
    /// The manifest as its author wrote it.
    pub manifest_text: String,
    /// The digest of the whole file.
    pub digest: Digest,
    /// The interfaces that the component imports.
    pub imports: Vec<String>,
    /// The interfaces that it exports, see [`clawhold_sandbox::Prescan::exports`].
    pub exports: Vec<String>,
}

/// Why a file is no package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// The component.
    #[error(transparent)]
    Component(#[from] Refused),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is no manifest.
    #[error("the component carries no manifest; build it with `clawhold skill build`, which embeds skill.toml")]
    NoManifest,
    /// The manifest is not text.
    #[error("the embedded manifest is not UTF-8; save skill.toml as UTF-8 and build again")]
    NotText,
    /// There is one already.
    #[error("the component already carries a manifest; build it again before embedding another")]
    Embedded,
    /// What is asked of settings is no schema.
    #[error(
        "skill.toml: settings: {0}; write a JSON Schema of an object, such as `required = [\"currency\"]`, or leave the table out"
    )]
    Settings(SchemaError),
    /// The component is of the wasi flavour, and the manifest does not say so.
    #[error(
        "the component imports {import}, and skill.toml does not say that it runs on WASI; add a [wasi] table, or build it for wasm32-unknown-unknown"
    )]
    Wasi {
        /// The first of its imports from WASI.
        import: String,
    },
    /// The component uses what the manifest does not ask for.
    #[error("the component uses {interface}, and skill.toml declares none of it; add {remedy}")]
    Undeclared {
        /// The interface.
        interface: &'static str,
        /// What to add.
        remedy: &'static str,
    },
}

/// Reads a package file.
pub fn read(wasm: &[u8]) -> Result<Package, PackageError> {
    let seen = prescan(wasm, SECTION)?;
    let wasi = seen.wasi().map(str::to_owned);
    let text = seen.section.ok_or(PackageError::NoManifest)?;
    let text = String::from_utf8(text).map_err(|_| PackageError::NotText)?;
    let manifest = Manifest::parse(&text)?;
    declared(&manifest, wasi.as_deref(), &seen.imports)?;
    settings_schema(&manifest)?;
    let (imports, exports) = (seen.imports, seen.exports);
    Ok(Package { manifest, manifest_text: text, digest: Digest::of(wasm), imports, exports })
}

/// Puts a checked manifest into a component.
pub fn embed(component: &[u8], manifest_text: &str) -> Result<Vec<u8>, PackageError> {
    let seen = prescan(component, SECTION)?;
    if seen.section.is_some() {
        return Err(PackageError::Embedded);
    }
    let manifest = Manifest::parse(manifest_text)?;
    declared(&manifest, seen.wasi(), &seen.imports)?;
    settings_schema(&manifest)?;
    let mut wasm = component.to_vec();
    CustomSection { name: SECTION.into(), data: manifest_text.as_bytes().into() }.append_to(&mut wasm);
    Ok(wasm)
}

/// The schema that an install's settings must fit, if the package has one.
pub fn settings_schema(manifest: &Manifest) -> Result<Option<Schema>, PackageError> {
    let compile = |schema: &serde_json::Value| Schema::compile(&schema.to_string()).map_err(PackageError::Settings);
    manifest.settings.as_ref().map(compile).transpose()
}

/// A capability that is used and not asked for would only fail later, at the tenant's.
fn declared(manifest: &Manifest, wasi: Option<&str>, imports: &[String]) -> Result<(), PackageError> {
    if let (Some(import), None) = (wasi, &manifest.wasi) {
        return Err(PackageError::Wasi { import: import.to_owned() });
    }
    let imports = |interface: &str| imports.iter().any(|name| name.starts_with(interface));
    // `http` brings the type of `secrets` with it, so only `http` without a rule tells anything by itself.
    let http = imports("clawhold:skill/http@");
    if (http || imports("wasi:http/outgoing-handler@")) && manifest.http.is_empty() {
        return Err(PackageError::Undeclared { interface: "http", remedy: "an [[http]] with host, methods and paths" });
    }
    if imports("clawhold:skill/secrets@") && manifest.secrets.is_empty() && !http {
        return Err(PackageError::Undeclared { interface: "secrets", remedy: "a [[secrets]] with name and purpose" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
[package]
name = "northwind/crm"
version = "1.0.0"
description = "x"
license = "MIT"
"#;

    fn component(imports: &str) -> Vec<u8> {
        let text =
            format!(r#"(component {imports} (instance $i) (export "clawhold:skill/handler@0.1.0" (instance $i)))"#);
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn what_was_embedded_is_read_back() {
        let wasm = embed(&component(""), MANIFEST).unwrap();
        let package = read(&wasm).unwrap();
        assert_eq!(package.manifest_text, MANIFEST);
        assert_eq!(package.digest, Digest::of(&wasm));
        assert_eq!(embed(&wasm, MANIFEST), Err(PackageError::Embedded));
    }

    #[test]
    fn a_capability_that_is_used_and_not_declared_is_refused() {
        let http = component(r#"(import "clawhold:skill/http@0.1.0" (instance))"#);
        let said = embed(&http, MANIFEST).unwrap_err().to_string();
        assert!(said.contains("uses http") && said.contains("[[http]]"), "{said}");
        let secrets = component(r#"(import "clawhold:skill/secrets@0.1.0" (instance))"#);
        assert!(embed(&secrets, MANIFEST).unwrap_err().to_string().contains("[[secrets]]"));
    }

    #[test]
    fn what_is_asked_of_settings_must_be_a_schema() {
        let asks = |settings: &str| embed(&component(""), &format!("{MANIFEST}\n{settings}"));
        let wasm = asks("[settings]\nrequired = [\"currency\"]\n").unwrap();
        let schema = settings_schema(&read(&wasm).unwrap().manifest).unwrap().unwrap();
        assert!(schema.check(&serde_json::json!({ "currency": "EUR" })).is_ok());
        assert!(schema.check(&serde_json::json!({})).unwrap_err().problem.contains("currency"));
        for bad in [
            "settings = 1\n",
            "[settings]\ntype = \"no such type\"\n",
            "[settings]\n\"$ref\" = \"https://example.com/x\"\n",
        ] {
            // A value must stand before the tables of a manifest.
            let text = if bad.starts_with('[') { format!("{MANIFEST}\n{bad}") } else { format!("{bad}{MANIFEST}") };
            let said = embed(&component(""), &text).unwrap_err().to_string();
            assert!(said.starts_with("skill.toml: settings: ") && said.contains("JSON Schema"), "{said}");
        }
    }

    #[test]
    fn a_component_on_wasi_must_say_so() {
        let wasi = component(r#"(import "wasi:cli/stdout@0.2.6" (instance))"#);
        let said = embed(&wasi, MANIFEST).unwrap_err().to_string();
        assert!(said.contains("wasi:cli/stdout@0.2.6") && said.contains("[wasi]"), "{said}");
        let asks = format!("{MANIFEST}\n[wasi]\n");
        assert!(read(&embed(&wasi, &asks).unwrap()).is_ok());
        let http = component(r#"(import "wasi:http/outgoing-handler@0.2.6" (instance))"#);
        assert!(embed(&http, &asks).unwrap_err().to_string().contains("[[http]]"));
    }

    #[test]
    fn a_component_without_a_manifest_is_refused() {
        assert_eq!(read(&component("")).unwrap_err(), PackageError::NoManifest);
    }
}
