use serde_json::{Value, json};

use super::{Finding, check};

/// A workspace with one crate, and its only dependency: a folder of the workspace, or a library.
fn metadata(folder: &str, dependency: &str, kind: &Value) -> Value {
    let own = ["host/", "skills/", "sdk-guest/", "tests/"].iter().any(|start| dependency.starts_with(start))
        || ["marketplace", "xtask"].contains(&dependency);
    let path = if own { json!(format!("/clone/{dependency}")) } else { Value::Null };
    json!({
        "workspace_root": "/clone",
        "packages": [{
            "name": "made-up", "manifest_path": format!("/clone/{folder}/Cargo.toml"),
            "dependencies": [{"name": dependency, "kind": kind, "path": path}],
        }],
    })
}

fn findings(folder: &str, dependency: &str) -> Vec<String> {
    let of_kind = |kind: Value| -> Vec<String> {
        let found = check(&metadata(folder, dependency, &kind)).unwrap();
        found.into_iter().map(|(Finding::Broken(text) | Finding::Warning(text))| text).collect()
    };
    let normal = of_kind(Value::Null);
    let of_tests = of_kind(json!("dev"));
    if dependency == "tests/support" && (folder.starts_with("host/") || folder == "marketplace") {
        assert!(of_tests.is_empty(), "the servers of tests are there for tests: {of_tests:?}");
    } else {
        assert_eq!(normal, of_tests, "a test's dependency counts like any other");
    }
    normal
}

#[test]
fn a_broken_rule_names_the_crate_the_dependency_and_the_rule() {
    for (folder, dependency, rule) in [
        ("host/store", "host/sandbox", "siblings of one layer never see each other"),
        ("host/capabilities", "marketplace", "siblings of one layer never see each other"),
        ("host/tenancy", "host/store", "a layer sees lower layers only"),
        ("marketplace", "host/runtime", "a layer sees lower layers only"),
        ("host/api", "host/cli", "a layer sees lower layers only"),
        ("host/runtime", "tests/support", "the host sees the crates of its own layers only"),
        ("host/cli", "skills/northwind/crm", "the host sees the crates of its own layers only"),
        ("host/runtime", "wasmtime", "know the engine (host/sandbox, host/capabilities, tests/bench)"),
        ("host/api", "wasmtime-wasi", "know the engine"),
        ("host/runtime", "sqlx", "no query outside of a store's transaction (host/store, tests/suites)"),
        ("tests/support", "sqlx-core", "no query outside of a store's transaction"),
        ("host/cli", "axum", "use-cases know nothing of HTTP"),
        ("host/api", "clap_complete", "only the program reads a command line (host/cli)"),
        ("skills/northwind/crm", "host/tenancy", "a skill sees its SDK and nothing else"),
        ("skills/northwind/crm", "skills/northwind/quote", "a skill sees its SDK and nothing else"),
        ("sdk-guest/rust", "host/sandbox", "an SDK sees the contract and nothing of the host"),
        ("xtask", "host/tenancy", "xtask is built before anything else"),
        ("xtask", "tests/support", "xtask is built before anything else"),
        ("xtask", "tokio", "it is built before anything else"),
    ] {
        let found = findings(folder, dependency);
        let [text] = &found[..] else { panic!("{folder} -> {dependency}: {found:?}") };
        assert!(text.starts_with(&format!("{folder} depends on {dependency}: ")), "{text}");
        assert!(text.contains(rule), "{text}");
    }
}

#[test]
fn what_the_layers_allow_is_not_found() {
    for (folder, dependency) in [
        ("host/store", "host/tenancy"),
        ("host/capabilities", "host/sandbox"),
        ("host/runtime", "marketplace"),
        ("host/cli", "host/api"),
        ("host/store", "sqlx"),
        ("host/cli", "clap"),
        ("host/sandbox", "wasmparser"),
        ("host/api", "axum"),
        ("tests/support", "axum"),
        ("tests/support", "host/cli"),
        ("tests/bench", "wasmtime"),
        ("sdk-guest/rust", "sdk-guest/rust-macros"),
        ("skills/northwind/crm", "sdk-guest/rust"),
        ("skills/northwind/quote", "rust_decimal"),
        ("xtask", "serde_json"),
    ] {
        assert_eq!(findings(folder, dependency), [""; 0], "{folder} -> {dependency}");
    }
}

#[test]
fn a_crate_without_a_layer_is_found() {
    let found = findings("host/billing", "serde");
    assert!(found[0].starts_with("host/billing has no place in the layers"), "{found:?}");
}
