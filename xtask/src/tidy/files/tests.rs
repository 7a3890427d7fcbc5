use std::fs;
use std::path::Path;

use super::{Finding, check, length, without_reason};

#[test]
fn a_long_file_is_a_warning_and_a_very_long_one_an_error() {
    let name = Path::new("host/api/src/lib.rs");
    assert_eq!(length(name, &"x\n".repeat(400)), None);
    let text =
        |lines: usize, limit: usize| format!("host/api/src/lib.rs has {lines} lines, over {limit}; split it by noun");
    assert_eq!(length(name, &"x\n".repeat(401)), Some(Finding::Warning(text(401, 400))));
    assert_eq!(length(name, &"x\n".repeat(601)), Some(Finding::Broken(text(601, 600))));
}

#[test]
fn a_dependency_without_a_reason_is_named() {
    for (entries, expected) in [
        ("# Why.\na = \"1\"\nb = \"1\"", &[][..]),
        ("a = \"1\"", &["a"]),
        ("# Why.\na = \"1\"\n\nb = { version = \"1\" }", &["b"]),
        ("# Why.\na = { features = [\n    \"x\",\n\n    \"y\",\n] }\nb.workspace = true", &[]),
        ("a-b = \"1\"\n# Why.\nc = \"1\"", &["a-b"]),
    ] {
        let manifest = format!(
            "[workspace]\nresolver = \"3\"\n\n[workspace.dependencies]\n{entries}\n\n[profile.dev]\ndebug = 1\n"
        );
        let named: Vec<String> = without_reason(&manifest)
            .into_iter()
            .map(|(Finding::Broken(text) | Finding::Warning(text))| text.split(' ').nth(1).unwrap().to_owned())
            .collect();
        assert_eq!(named, expected, "{entries}");
    }
}

/// The guests without a test, in a repository of these files.
fn untested(files: &[(&str, &str)]) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in [("Cargo.toml", "")].iter().chain(files) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let found = check(root.path()).unwrap().into_iter();
    found.map(|(Finding::Broken(text) | Finding::Warning(text))| text.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn a_guest_that_no_test_names_is_found() {
    let files = [
        ("tests/guests/spin/Cargo.toml", ""),
        ("tests/guests/spin/src/lib.rs", "const ITSELF: &str = \"spin\";"),
        ("tests/guests/bomb.wat", ""),
        ("tests/guests/notes.md", ""),
        ("tests/suites/src/limits.rs", "run(\"bomb\")"),
        ("target/debug/build.rs", "run(\"spin\")"),
    ];
    assert_eq!(untested(&files), ["tests/guests/spin"]);
}

#[test]
fn a_guest_in_text_that_no_test_names_is_found() {
    let files = [
        ("tests/guests/grow.wat", ";; `a_test_that_is_no_more`"),
        ("tests/guests/grow-table.wat", ""),
        ("tests/suites/src/memory.rs", "stopped(\"grow-table\"); // grow"),
        ("host/sandbox/src/meter.rs", "let what = \"grow\";"),
    ];
    assert_eq!(untested(&files), ["tests/guests/grow"]);
}
