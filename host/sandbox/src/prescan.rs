//! Looks at a file before any compiler does: is it a component, and what does it want from the host?

pub mod limits;

use clawhold_tenancy::limits::COMPONENT_BYTES;
use limits::Tally;
use wasmparser::{Encoding, Parser, Payload};

/// The interfaces that a component may import: ours, at the version we serve.
const OFFERED: [&str; 4] = [
    "clawhold:skill/types@0.1.0",
    "clawhold:skill/secrets@0.1.0",
    "clawhold:skill/http@0.1.0",
    "clawhold:skill/audit@0.1.0",
];

/// What a component of the wasi flavour may import beside them: WASI 0.2 without what serves requests or opens
/// sockets. The patch number is its own, see [`WASI_PATCH`].
const OFFERED_WASI: [&str; 22] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// The newest patch of WASI 0.2 that the engine's implementation knows. Older ones are parts of it.
const WASI_PATCH: u32 = 12;

/// Exports that are told of, and bytes of a name among them: the host calls one, and the others are for those who look
/// a component up.
const EXPORTS: usize = 100;
const EXPORT_BYTES: usize = 200;

/// The interface that a component must export.
const HANDLER: &str = "clawhold:skill/handler@0.1.0";

/// Why a file is no component that we run. Each message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Larger than allowed.
    #[error(
        "the component has {size} bytes, {COMPONENT_BYTES} are allowed; build it with `clawhold skill build`, which strips and optimises"
    )]
    TooLarge {
        /// Its size.
        size: u64,
    },
    /// Not WebAssembly at all.
    #[error("the file is not WebAssembly; publish the .wasm file that `clawhold skill build` wrote")]
    NotWasm,
    /// A module, which a component is made of.
    #[error("the file is a core module, not a component; build it with `clawhold skill build`, which wraps it")]
    CoreModule,
    /// Cut off, or broken.
    #[error("the component is damaged: {0}; build it again")]
    Malformed(String),
    /// Wants something that we do not give.
    #[error("the component imports {name:?}, which Clawhold does not offer; it offers {}, and WASI 0.2 without sockets; {}", OFFERED.join(", "), import_remedy(name))]
    Import {
        /// The import's name.
        name: String,
    },
    /// Lacks the interface that we call.
    #[error("the component does not export {HANDLER:?}; mark at least one function with #[skill]")]
    NoHandler,
    /// Has more custom sections of one name than one.
    #[error("the component has {count} sections named {name:?}, one is expected; build it with `clawhold skill build`")]
    Section {
        /// The section.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// More of something than a component may have.
    #[error("the component has {count} {what}, {most} are allowed ({reason}); make it smaller, or split it")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        count: u64,
        /// How much is allowed.
        most: u64,
        /// Why there is a bound.
        reason: &'static str,
    },
    /// The engine refused it.
    #[error("the component cannot be compiled: {0}")]
    Compile(String),
}

fn import_remedy(name: &str) -> &'static str {
    if name.starts_with("wasi:sockets/") {
        "make requests with the SDK's `http` or with wasi:http/outgoing-handler, whose hosts the tenant can see and accept"
    } else if name.starts_with("wasi:") {
        "build for wasm32-wasip2 with WASI 0.2.0 to 0.2.12 and no incoming handler, or for wasm32-unknown-unknown"
    } else if name.starts_with("clawhold:skill/") {
        "build it with the SDK of this host's version"
    } else {
        "remove what needs it"
    }
}

/// Whether WASI offers this interface in this version.
fn offered_by_wasi(import: &str) -> bool {
    let Some((interface, version)) = import.split_once('@') else { return false };
    let patch = version.strip_prefix("0.2.").and_then(|patch| patch.parse::<u32>().ok());
    OFFERED_WASI.contains(&interface) && patch.is_some_and(|patch| patch <= WASI_PATCH)
}

/// What a component says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prescan {
    /// The interfaces it imports.
    pub imports: Vec<String>,
    /// The interfaces it exports, 100 of them at the most.
    pub exports: Vec<String>,
    /// The contents of the custom section that was asked for.
    pub section: Option<Vec<u8>>,
}

impl Prescan {
    /// The first WASI interface that it imports: it is then of the wasi flavour.
    pub fn wasi(&self) -> Option<&str> {
        self.imports.iter().map(String::as_str).find(|name| name.starts_with("wasi:"))
    }
}

/// Reads the outer structure of a component, and the one custom section named `section`.
pub fn prescan(wasm: &[u8], section: &str) -> Result<Prescan, Refused> {
    if wasm.len() as u64 > COMPONENT_BYTES {
        return Err(Refused::TooLarge { size: wasm.len() as u64 });
    }
    if !wasm.starts_with(b"\0asm") {
        return Err(Refused::NotWasm);
    }
    if Parser::is_core_wasm(wasm) {
        return Err(Refused::CoreModule);
    }
    let malformed = |e: wasmparser::BinaryReaderError| Refused::Malformed(e.to_string());
    let (mut imports, mut exports, mut sections) = (Vec::new(), Vec::new(), Vec::new());
    let (mut handler, mut depth) = (false, 0_u32);
    let mut tally = Tally::default();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(malformed)?;
        tally.see(&payload, depth)?;
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => return Err(Refused::CoreModule),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(reader) if depth == 0 => {
                for import in reader {
                    imports.push(import.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(reader) if depth == 0 => {
                for export in reader {
                    let name = export.map_err(malformed)?.name.name;
                    handler |= name == HANDLER;
                    if exports.len() < EXPORTS && name.len() <= EXPORT_BYTES {
                        exports.push(name.to_owned());
                    }
                }
            }
            Payload::CustomSection(custom) if depth == 0 && custom.name() == section => {
                sections.push(custom.data().to_vec());
            }
            _ => {}
        }
    }
    if let Some(name) = imports.iter().find(|name| !OFFERED.contains(&name.as_str()) && !offered_by_wasi(name)) {
        return Err(Refused::Import { name: name.chars().take(200).collect() });
    }
    if !handler {
        return Err(Refused::NoHandler);
    }
    if sections.len() > 1 {
        return Err(Refused::Section { name: section.to_owned(), count: sections.len() });
    }
    Ok(Prescan { imports, exports, section: sections.pop() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wasm: &[u8], expected: &[&str]) {
        let said = prescan(wasm, "clawhold:manifest").expect_err("is refused").to_string();
        for part in expected {
            assert!(said.contains(part), "{said:?} does not say {part:?}");
        }
    }

    #[test]
    fn hostile_32_what_is_no_component_of_ours_is_refused_with_a_reason() {
        let component = |text: &str| wat::parse_str(text).unwrap();
        let whole = component(r#"(component (core module (func (export "f"))))"#);
        check(b"", &["not WebAssembly", "skill build"]);
        check(b"#!/bin/sh", &["not WebAssembly"]);
        check(&component("(module)"), &["core module", "skill build"]);
        check(&whole[..whole.len() - 3], &["damaged", "build it again"]);
        check(&whole, &["clawhold:skill/handler@0.1.0", "#[skill]"]);
        check(
            &component(r#"(component (import "wasi:sockets/tcp@0.2.0" (instance)))"#),
            &["wasi:sockets/tcp@0.2.0", "the SDK's `http`", "wasi:http/outgoing-handler"],
        );
        for name in [
            "wasi:http/incoming-handler@0.2.0",
            "wasi:io/streams@0.2.13",
            "wasi:io/streams@0.3.0",
            "wasi:io/streams@0.2.0-rc-2023-11-10",
            "wasi:keyvalue/store@0.2.0",
        ] {
            let text = format!(r#"(component (import "{name}" (instance)))"#);
            check(&component(&text), &[name, "wasm32-wasip2"]);
        }
        check(
            &component(r#"(component (import "clawhold:skill/http@9.0.0" (instance)))"#),
            &["clawhold:skill/http@9.0.0", "SDK of this host's version"],
        );
        check(&component(r#"(component (import "evil" (func)))"#), &["\"evil\"", "remove what needs it"]);
        check(&vec![0; usize::try_from(COMPONENT_BYTES).unwrap() + 1], &["67108865 bytes", "are allowed"]);
    }

    #[test]
    fn wasi_is_read_and_told() {
        let text = r#"(component (import "wasi:io/poll@0.2.6" (instance)) (instance $i)
            (export "clawhold:skill/handler@0.1.0" (instance $i)))"#;
        let seen = prescan(&wat::parse_str(text).unwrap(), "x").unwrap();
        assert_eq!(seen.wasi(), Some("wasi:io/poll@0.2.6"));
        assert_eq!(seen.exports, ["clawhold:skill/handler@0.1.0"]);
    }

    #[test]
    fn an_import_of_a_nested_component_is_not_the_hosts_business() {
        let nested = wat::parse_str(r#"(component (component (import "inner" (func))))"#).unwrap();
        assert_eq!(prescan(&nested, "x"), Err(Refused::NoHandler));
    }

    #[test]
    fn hostile_32_too_much_of_anything_is_refused_by_name() {
        use std::fmt::Write;
        let many = |count: usize, inner: &str| {
            let mut text = "(component (core module ".to_owned();
            for i in 0..count {
                write!(text, "{} ", inner.replace('#', &i.to_string())).unwrap();
            }
            wat::parse_str(text + "))").unwrap()
        };
        let nested = |depth: usize| wat::parse_str("(component ".repeat(depth) + &")".repeat(depth)).unwrap();
        check(&nested(12), &["nested components and modules", "8 are allowed"]);
        check(&many(50_001, "(type (func))"), &["50001 core types", "split it"]);
        check(&many(100_001, "(global i32 (i32.const 0))"), &["globals"]);
        check(&many(97, "(table 1 funcref)"), &["memories and tables"]);
        check(&many(100_001, r#"(export "f#" (func 0))"#), &["imports and exports"]);
        let body = format!("(func {})", "(drop (i32.const 100000)) ".repeat(250_000));
        check(&many(1, &body), &["bytes in one function"]);
    }

    #[test]
    fn hostile_32_a_few_bytes_that_declare_very_many_locals_are_refused() {
        // One group: a count and a type, however many there are.
        let locals = "i32 ".repeat(20_001);
        let wasm = wat::parse_str(format!("(component (core module (func (local {locals}))))")).unwrap();
        assert!(wasm.len() < 64, "{} bytes", wasm.len());
        check(&wasm, &["20001 locals in one function", "20000 are allowed"]);
    }

    #[test]
    fn two_manifests_are_one_too_many() {
        let mut wasm =
            wat::parse_str(r#"(component (instance $i) (export "clawhold:skill/handler@0.1.0" (instance $i)))"#)
                .unwrap();
        let section = [0_u8, 4, 1, b'm', b'h', b'i'];
        wasm.extend_from_slice(&section);
        assert_eq!(prescan(&wasm, "m").unwrap().section.as_deref(), Some(&b"hi"[..]));
        wasm.extend_from_slice(&section);
        assert_eq!(prescan(&wasm, "m"), Err(Refused::Section { name: "m".to_owned(), count: 2 }));
    }
}
