use std::fs;

use super::{Guest, folder, manifest};

#[test]
fn every_guest_becomes_a_component() {
    let mut made = 0;
    for entry in fs::read_dir(folder("tests/guests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wat") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            if let Err(error) = Guest::named(name) {
                panic!("{name}: {error:#}");
            }
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with(";; "), "{name} does not say what it does");
            made += 1;
        }
    }
    assert!(made > 0);
}

#[test]
fn the_manifest_has_the_lines_of_the_text() {
    let text = manifest("x", ";; Says.\n;;! [limits]\n(func)\n  ;;! fuel = 5\n");
    assert!(text.starts_with("[package]\nname = \"guests/x\"\n"), "{text}");
    assert!(text.ends_with("[limits]\nfuel = 5\n"), "{text}");
}

#[test]
fn what_a_guest_has_of_its_own_is_not_added() {
    let run = "(func $run (result i32) (call $yes))";
    assert!(Guest::of("x", run).is_ok());
    let own = format!("(memory (export \"memory\") 3) {run}");
    assert!(Guest::of("x", &own).is_ok(), "a second memory was added");
    assert!(Guest::of("x", "(func $run (result i32) (call $no))").is_err());
    assert!(Guest::of("x", &format!(";;@ utf7\n{run}")).unwrap_err().to_string().contains("utf7"));
}
