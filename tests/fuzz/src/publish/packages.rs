//! Where package files come from.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Context as _, Result};
use arbitrary::Unstructured;
use clawhold_test_support::guest::{Guest, manifest, with_manifest};
use fastrand::Rng;
use wasm_smith::{Component, Config, Module};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::sections;
use crate::{TARGETS, manifest as manifests, mutate};

/// Bytes of a guest that is worth mutating: compiling a large one takes the time of many small ones.
const SMALL: usize = 64 << 10;

/// What a module must have to be a skill.
const SHAPE: &str = r#"(module
  (memory (export "memory") 2)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
  (func (export "clawhold:skill/handler@0.1.0#describe") (result i32) unreachable)
  (func (export "clawhold:skill/handler@0.1.0#handle")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i64 i32 i32 i32 i32) (result i32) unreachable))"#;

/// What it may import.
const OFFERED: &str = r#"(module
  (import "clawhold:skill/audit@0.1.0" "log" (func (param i32 i32 i32)))
  (import "clawhold:skill/audit@0.1.0" "record" (func (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "clawhold:skill/secrets@0.1.0" "get" (func (param i32 i32 i32)))
  (import "clawhold:skill/secrets@0.1.0" "[method]secret.reveal" (func (param i32 i32)))
  (import "clawhold:skill/secrets@0.1.0" "[method]secret.field" (func (param i32 i32 i32 i32)))
  (import "clawhold:skill/secrets@0.1.0" "[resource-drop]secret" (func (param i32)))
  (import "clawhold:skill/http@0.1.0" "send" (func (param i32 i32))))"#;

/// What a package that imports all of these must ask for.
const ASKS: &str = ";;! [[secrets]]\n;;! name = \"token\"\n;;! purpose = \"To hold handles\"\n;;! [[http]]\n\
                    ;;! host = \"peer.invalid\"\n;;! methods = [\"GET\"]\n;;! paths = [\"/*\"]\n";

/// Words of component names.
const WORDS: &[&str] = &[
    "clawhold:skill/handler@0.1.0",
    "clawhold:skill/http@0.1.0",
    "clawhold:skill/http@9.0.0",
    "wasi:io/poll@0.2.0",
    "wasi:sockets/tcp@0.2.0",
    "clawhold:manifest",
    "\0asm\x0d\0\x01\0",
    "\0asm\x01\0\0\0",
    "cabi_realloc",
    "memory",
    "name",
];

/// A guest of the other tests: its name, its text and its package.
struct Seed {
    text: String,
    wasm: Vec<u8>,
}

static SEEDS: LazyLock<Vec<Seed>> = LazyLock::new(|| seeds().expect("the guests of the other tests can be built"));

fn seeds() -> Result<Vec<Seed>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests");
    let mut paths: Vec<_> =
        fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>().context("list the guests")?;
    paths.extend(fs::read_dir(crate::folder(&TARGETS[1]))?.filter_map(|entry| Some(entry.ok()?.path())));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wat"));
    paths.sort();
    let mut seeds = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        let wasm = Guest::of("case", &text).with_context(|| path.display().to_string())?.wasm;
        if wasm.len() <= SMALL {
            seeds.push(Seed { text, wasm });
        }
    }
    Ok(seeds)
}

pub(crate) fn generate(rng: &mut Rng) -> Vec<u8> {
    let seed = mutate::one(rng, &SEEDS);
    let other = mutate::one(rng, &SEEDS);
    let made = match rng.u8(..32) {
        0..4 => return damaged(rng, seed, other),
        4..10 => sections::change(rng, &seed.wasm, &other.wasm),
        10..18 => rewritten(rng, seed),
        18..23 => skill(rng),
        23..26 => {
            let config = config(rng, true);
            random_module(rng, &config).map(|module| sections::started(&seed.wasm, &module))
        }
        26..28 => random_component(rng).map(|inner| sections::nested(&seed.wasm, &inner)),
        28 => random_component(rng).map(|wasm| with_manifest(&wasm, &manifest("case", ""))),
        29 => of_manifest(rng),
        // A valid one, whose run is what is tested.
        _ => Some(seed.wasm.clone()),
    };
    let made = made.unwrap_or_else(|| damaged(rng, seed, other));
    numbered(made, rng)
}

/// Bytes changed wherever they are.
fn damaged(rng: &mut Rng, seed: &Seed, other: &Seed) -> Vec<u8> {
    let mut wasm = seed.wasm.clone();
    mutate::bytes(rng, &mut wasm, WORDS, &other.wasm);
    wasm
}

/// A guest's text with other numbers and other lines, if that is still a guest.
fn rewritten(rng: &mut Rng, seed: &Seed) -> Option<Vec<u8>> {
    const TRIES: usize = 8;
    (0..TRIES).find_map(|_| {
        let text = mutate::text(rng, &seed.text, WORDS);
        if is_boundless(&text) { None } else { Some(Guest::of("case", &text).ok()?.wasm) }
    })
}

/// Whether a guest's text asks for more repetitions than there is memory for: a question to whatever makes it, not to a host.
fn is_boundless(text: &str) -> bool {
    const MOST: u32 = 5000;
    let times = |line: &str| line.trim_start().strip_prefix(";;@ repeat ")?.split(' ').next()?.parse::<u32>().ok();
    text.lines().filter(|line| line.contains(";;@ repeat")).any(|line| times(line).is_none_or(|times| times > MOST))
}

/// A skill of the right shape with anything in its functions.
fn skill(rng: &mut Rng) -> Option<Vec<u8>> {
    static CONTRACT: LazyLock<Option<(Resolve, wit_parser::WorldId)>> = LazyLock::new(|| {
        let mut resolve = Resolve::default();
        let (contract, _) = resolve.push_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit")).ok()?;
        let world = resolve.select_world(&[contract], Some("skill")).ok()?;
        Some((resolve, world))
    });
    let mut config = config(rng, false);
    config.exports = wat::parse_str(SHAPE).ok();
    config.available_imports = wat::parse_str(OFFERED).ok();
    let mut core = random_module(rng, &config)?;
    let (resolve, world) = CONTRACT.as_ref()?;
    embed_component_metadata(&mut core, resolve, *world, StringEncoding::UTF8, false).ok()?;
    let component = ComponentEncoder::default().module(&core).ok()?.encode().ok()?;
    Some(with_manifest(&component, &manifest("case", ASKS)))
}

/// A component with a manifest that may be anything.
fn of_manifest(rng: &mut Rng) -> Option<Vec<u8>> {
    let text = r#"(component (instance $i) (export "clawhold:skill/handler@0.1.0" (instance $i)))"#;
    let manifest = String::from_utf8(manifests::generate(rng)).ok()?;
    Some(with_manifest(&wat::parse_str(text).ok()?, &manifest))
}

/// What the engine has, and now and then what it has not.
fn config(rng: &mut Rng, alone: bool) -> Config {
    let mut odd = || mutate::once_in(rng, 16);
    let several = if odd() { 4 } else { 1 };
    Config {
        // With these come references to what the host owns, which the engine counts as garbage-collected.
        reference_types_enabled: odd(),
        gc_enabled: odd(),
        exceptions_enabled: odd(),
        threads_enabled: odd(),
        memory64_enabled: odd(),
        custom_page_sizes_enabled: odd(),
        shared_everything_threads_enabled: odd(),
        wide_arithmetic_enabled: odd(),
        allow_invalid_funcs: odd(),
        relaxed_simd_enabled: false,
        generate_custom_sections: true,
        max_memories: several,
        max_tables: several,
        max_memory32_bytes: 1 << 24,
        max_imports: if alone { 0 } else { 8 },
        min_funcs: 1,
        allow_start_export: true,
        ..Config::default()
    }
}

fn random_module(rng: &mut Rng, config: &Config) -> Option<Vec<u8>> {
    let data = random(rng);
    let mut choices = Unstructured::new(&data);
    let mut module = Module::new(config.clone(), &mut choices).ok()?;
    if rng.bool() {
        // Most random code ends by itself or not at all; this ends, and says more of what it met on the way.
        module.ensure_termination(10_000).ok()?;
    }
    Some(module.to_bytes())
}

fn random_component(rng: &mut Rng) -> Option<Vec<u8>> {
    let config = config(rng, false);
    let data = random(rng);
    Some(Component::new(config, &mut Unstructured::new(&data)).ok()?.to_bytes())
}

fn random(rng: &mut Rng) -> Vec<u8> {
    let bytes = [256, 2048, 16384][rng.usize(..3)];
    (0..bytes).map(|_| rng.u8(..)).collect()
}

/// Gives it a version of its own: a version is published once.
fn numbered(mut wasm: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    const VERSION: &[u8] = b"version = \"1.0.0\"";
    let new = format!("version = \"1.{:09}.0\"", rng.u32(100_000_000..1_000_000_000));
    // Before the section's size is known: a section is made anew.
    let Some(mut parts) = sections::of(&wasm) else { return wasm };
    for (id, body) in &mut parts {
        if *id == 0
            && let Some(at) = body.windows(VERSION.len()).position(|bytes| bytes == VERSION)
        {
            body.splice(at..at + VERSION.len(), new.bytes());
        }
    }
    wasm = sections::file(&wasm, &parts);
    wasm
}
