//! A guest on WASI: what a program can try there, on request.
use clawhold_skill::skill;

/// Prints lines.
#[skill(name = "wasi.print")]
fn print(lines: u32) -> u32 {
    for n in 0..lines {
        println!("line {n}");
    }
    lines
}
