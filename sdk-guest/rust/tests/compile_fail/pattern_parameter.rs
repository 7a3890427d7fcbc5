use clawhold_skill::skill;

/// Adds two numbers.
#[skill]
fn sum((a, b): (i64, i64)) -> i64 {
    a + b
}

fn main() {}
