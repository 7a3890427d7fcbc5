//! Guests in WebAssembly text: one small file in `tests/guests` for each way to misbehave.
//!
//! A file holds the fields of a core module, and what it leaves out is added: a memory, a heap (`cabi_realloc`), a
//! `describe` that offers one skill `guest.NAME` with schemas that take anything, and a `handle` that calls the file's
//! `$run`, which gives back the address of its answer (`$answer`, `$number` or `$yes` make one). A guest that needs its own
//! `memory`, `cabi_realloc`, `describe` or `handle` exports it, and gets no other.
//!
//! ```text
//! ;; Computes for ever.
//! ;;! [limits]
//! ;;! fuel = 1_000_000
//! (func $run (result i32) (loop $again (br $again)) (unreachable))
//! ```
//!
//! Lines of a special form say what text cannot:
//!
//! - `;;! LINE` is a line of its `skill.toml`, behind `[package]`;
//! - `;;@ utf16` or `;;@ latin1+utf16` is the encoding of its strings, else UTF-8;
//! - `;;@ component` says that the fields are those of a component, for what one core module cannot do. It is
//!   instantiated after them as `$main`, unless they define that themselves;
//! - `;;@ skill` stands for the fields that are added, in a component that makes its own `$main`;
//! - `;;@ repeat N TEXT` is the text, N times.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use wasm_encoder::{CustomSection, Section};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What is added where a guest leaves it out, by what shows that it does not.
const ADDED: [(&str, &str); 3] = [
    ("(export \"memory\")", include_str!("guest/memory.wat")),
    ("\"cabi_realloc\"", include_str!("guest/heap.wat")),
    ("\"clawhold:skill/handler@0.1.0#handle\"", include_str!("guest/handle.wat")),
];

/// A guest's package: a component with its manifest inside.
#[derive(Debug)]
pub struct Guest {
    /// The file's name in `tests/guests`, without `.wat`.
    pub name: String,
    /// The package.
    pub wasm: Vec<u8>,
}

impl Guest {
    /// The guest of this name. Each is made once in a process.
    ///
    /// # Errors
    ///
    /// When there is no such file, or it is no guest.
    pub fn named(name: &str) -> Result<Arc<Self>> {
        static MADE: LazyLock<Mutex<HashMap<String, Arc<Guest>>>> = LazyLock::new(Mutex::default);
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guest) = made.get(name) {
            return Ok(Arc::clone(guest));
        }
        let path = folder("tests/guests").join(format!("{name}.wat"));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let guest = Arc::new(Self::of(name, &text).with_context(|| format!("{}", path.display()))?);
        made.insert(name.to_owned(), Arc::clone(&guest));
        Ok(guest)
    }

    /// A guest of this text, for one that a test writes itself.
    ///
    /// # Errors
    ///
    /// When the text is no guest.
    pub fn of(name: &str, text: &str) -> Result<Self> {
        let component = component(name, text)?;
        Ok(Self { name: name.to_owned(), wasm: with_manifest(&component, &manifest(name, text)) })
    }

    /// The name of its package.
    pub fn package(&self) -> String {
        package(&self.name)
    }

    /// The name of its skill, unless it describes itself.
    pub fn skill(&self) -> String {
        skill(&self.name)
    }
}

/// The component of this text, without a manifest.
///
/// # Errors
///
/// When the text is no guest.
pub fn component_of(name: &str, text: &str) -> Result<Vec<u8>> {
    component(name, text)
}

/// Puts a manifest into a component, or into whatever else the bytes are.
pub fn with_manifest(component: &[u8], manifest: &str) -> Vec<u8> {
    let mut wasm = component.to_vec();
    CustomSection { name: "clawhold:manifest".into(), data: manifest.as_bytes().into() }.append_to(&mut wasm);
    wasm
}

/// The `skill.toml` of a guest.
pub fn manifest(name: &str, text: &str) -> String {
    let lines: Vec<&str> = directives(text, ";;!").collect();
    format!(
        "[package]\nname = {:?}\nversion = \"1.0.0\"\ndescription = \"Misbehaves\"\nlicense = \"Apache-2.0\"\n{}\n",
        package(name),
        lines.join("\n")
    )
}

fn package(name: &str) -> String {
    format!("guests/{name}")
}

fn skill(name: &str) -> String {
    format!("guest.{name}")
}

fn component(name: &str, text: &str) -> Result<Vec<u8>> {
    let mut encoding = StringEncoding::UTF8;
    for directive in directives(text, ";;@") {
        match directive.split(' ').next().unwrap_or_default() {
            "component" => return of_component(name, text),
            "utf16" => encoding = StringEncoding::UTF16,
            "latin1+utf16" => encoding = StringEncoding::CompactUTF16,
            other => bail!("{other:?} is no directive"),
        }
    }
    let mut core = wat::parse_str(format!("(module {text}\n{})", added(name, text)))?;
    let mut resolve = Resolve::default();
    let (contract, _) = resolve.push_path(folder("wit"))?;
    let world = resolve.select_world(&[contract], Some("skill"))?;
    embed_component_metadata(&mut core, &resolve, world, encoding, false)?;
    ComponentEncoder::default().validate(true).module(&core)?.encode()
}

fn of_component(name: &str, text: &str) -> Result<Vec<u8>> {
    let mut whole = format!("(component\n{}", include_str!("guest/component.wat"));
    for line in text.lines() {
        let Some(directive) = line.trim_start().strip_prefix(";;@ ") else {
            whole.push_str(line);
            whole.push('\n');
            continue;
        };
        match directive.split_once(' ') {
            None if directive == "component" => {}
            None if directive == "skill" => whole.push_str(&added(name, text)),
            Some(("repeat", rest)) => {
                let (times, what) = rest.split_once(' ').context("repeat needs a number and a text")?;
                whole.push_str(&what.repeat(times.parse()?));
                whole.push('\n');
            }
            _ => bail!("{directive:?} is no directive of a component"),
        }
    }
    if !text.contains("(core instance $main") {
        whole.push_str("(core module $main (func $run (result i32) (call $yes))\n");
        whole.push_str(&added(name, ""));
        whole.push_str(")\n(core instance $main (instantiate $main))\n");
    }
    whole.push_str(include_str!("guest/handler.wat"));
    whole.push(')');
    Ok(wat::parse_str(whole)?)
}

/// The fields that a guest leaves out.
fn added(name: &str, text: &str) -> String {
    let mut fields: String = ADDED.iter().filter(|(shows, _)| !text.contains(shows)).map(|(_, field)| *field).collect();
    if !text.contains("\"clawhold:skill/handler@0.1.0#describe\"") {
        let wide = directives(text, ";;@").any(|directive| directive == "utf16");
        fields.push_str(&describe(&skill(name), wide));
    }
    fields
}

/// A `describe` that offers one skill, with its strings from 1088 on, `wide` in UTF-16.
fn describe(skill: &str, wide: bool) -> String {
    let mut at = 1088;
    let mut words = vec![1032, 1];
    let mut strings = Vec::new();
    for text in [skill, "Misbehaves", "{}", "{}"] {
        let length = u32::try_from(text.len()).expect("a short text, in ASCII");
        words.extend([at, length]);
        if wide {
            strings.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        } else {
            strings.extend(text.bytes());
        }
        at += if wide { 2 * length } else { length };
    }
    let list: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    format!(
        "  (data (i32.const 1024) \"{}\")\n  (data (i32.const 1088) \"{}\")\n  \
         (func (export \"clawhold:skill/handler@0.1.0#describe\") (result i32) (i32.const 1024))\n",
        escaped(&list),
        escaped(&strings)
    )
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "\\{byte:02x}");
        text
    })
}

fn directives<'t>(text: &'t str, mark: &'t str) -> impl Iterator<Item = &'t str> {
    text.lines().filter_map(move |line| line.trim_start().strip_prefix(mark)).map(str::trim)
}

fn folder(of_the_repository: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(of_the_repository)
}

#[cfg(test)]
mod tests;
