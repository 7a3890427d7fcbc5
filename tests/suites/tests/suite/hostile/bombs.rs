//! Files that are made to keep a compiler busy, or to be none that it should see.

use std::fmt::Write as _;

use clawhold_test_support::guest::{Guest, manifest, with_manifest};

use super::check::{Case, SMALL, refused_package};

/// A guest of a good deal of text, which nobody would want to read as a file.
fn bomb(name: &str, fields: &str) -> Vec<u8> {
    Guest::of(name, &format!("{fields}\n(func $run (result i32) (call $yes))")).unwrap().wasm
}

fn many(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut text, i| {
        writeln!(text, "{}", one(i)).unwrap();
        text
    })
}

#[test]
fn hostile_32_a_function_of_megabytes_is_refused() {
    let body = many(300_000, |_| "(drop (i32.mul (i32.const 77777777) (i32.const 3)))".to_owned());
    refused_package("large-function", &bomb("large-function", &format!("(func {body})")), &["function", "are allowed"]);
}

#[test]
fn hostile_32_very_many_functions_are_refused() {
    refused_package(
        "functions",
        &bomb("functions", &many(200_000, |_| "(func)".to_owned())),
        &["functions", "are allowed"],
    );
}

#[test]
fn hostile_32_ten_megabytes_of_types_are_refused() {
    let types = many(100_000, |i| format!("(type (func (param {}) (result i{})))", "i64 ".repeat(96), 32 << (i % 2)));
    let wasm = bomb("types", &types);
    assert!(wasm.len() > 10_000_000, "{}", wasm.len());
    refused_package("types", &wasm, &["types", "are allowed"]);
}

/// The compiler copes with them, in a process of its own; and so does the host that runs what it made.
#[test]
fn hostile_32_blocks_in_blocks_in_blocks_harm_nobody() {
    let depth = 60_000;
    let body = format!("{}{}", "block\n".repeat(depth), "end\n".repeat(depth));
    let wasm = bomb("nested-blocks", &format!("(func {body})"));
    let case = Case::of("spin");
    let publisher = case.host.api.publisher("guests");
    for _ in 0..3 {
        case.host.api.ask("POST", "/v1/market/packages", &publisher, Some(&wasm)).ok();
        case.is_clean();
    }
    case.memory_is_back(SMALL);
}

#[test]
fn hostile_32_components_in_components_are_refused() {
    let nested = format!("{}{}", "(component ".repeat(60), ")".repeat(60));
    let wasm = Guest::of("nested", &format!(";;@ component\n{nested}")).unwrap().wasm;
    refused_package("nested", &wasm, &["nested components", "are allowed"]);
}

#[test]
fn hostile_32_an_import_that_is_not_offered_is_refused() {
    let import = ";;@ component\n(import \"evil:host/backdoor@1.0.0\" (instance))";
    let wasm = Guest::of("importing", import).unwrap().wasm;
    refused_package("importing", &wasm, &["evil:host/backdoor@1.0.0", "does not offer"]);
}

#[test]
fn hostile_32_a_core_module_is_refused() {
    let module = wat::parse_str("(module (memory 1) (func (export \"f\")))").unwrap();
    refused_package("module", &with_manifest(&module, &manifest("module", "")), &["core module", "skill build"]);
}

#[test]
fn hostile_32_a_file_that_is_cut_off_anywhere_is_refused() {
    let whole = &Guest::named("unquote").unwrap().wasm;
    for length in [9, 40, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        refused_package("unquoted", &whole[..length], &[]);
    }
}

#[test]
fn hostile_32_bytes_that_are_not_what_they_were_are_refused() {
    let mut broken = Guest::named("spin").unwrap().wasm.clone();
    // The body of the loop: an instruction that there is not.
    let at = broken.windows(4).position(|four| four == [0x03, 0x40, 0x0c, 0x00]).unwrap();
    broken[at] = 0xff;
    refused_package("spinning", &broken, &["illegal opcode"]);
}

/// What the contract does not need is off, and what past advisories were about among it: no component with it gets in.
#[test]
fn hostile_32_what_the_engine_has_switched_off_is_refused() {
    for (name, fields) in [
        ("memory64", "(core module (memory i64 1))"),
        ("table64", "(core module (table i64 1 funcref))"),
        ("shared-memory", "(core module (memory 1 1 shared))"),
        ("garbage", "(core module (type (struct (field i32))))"),
        ("typed-references", "(core module (type $f (func)) (func (param (ref null $f)) (call_ref $f (local.get 0))))"),
        ("exceptions", "(core module (tag))"),
        ("stack-switching", "(core module (type $f (func)) (type (cont $f)))"),
        (
            "relaxed-simd",
            "(core module (func (param v128 v128 v128) (result v128) \
             (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2))))",
        ),
        ("page-sizes", "(core module (memory 1 (pagesize 1)))"),
        ("async", "(core func (canon waitable-set.new))"),
        ("futures", "(type (future u8))"),
        ("threads", "(core func (canon thread.available_parallelism))"),
    ] {
        let guest = Guest::of(name, &format!(";;@ component\n{fields}")).unwrap();
        refused_package(name, &guest.wasm, &["cannot be compiled"]);
    }
    // These are on for the engine's own code between components, and nobody else's.
    for (name, fields) in [
        ("two-memories", "(core module (memory 1) (memory 1))"),
        ("two-imported-memories", "(core module (import \"a\" \"a\" (memory 1)) (import \"a\" \"b\" (memory 1)))"),
        ("one-of-each", "(core module (import \"a\" \"a\" (memory 1)) (memory 1))"),
    ] {
        let guest = Guest::of(name, &format!(";;@ component\n{fields}")).unwrap();
        refused_package(name, &guest.wasm, &["memories in one module"]);
    }
}
