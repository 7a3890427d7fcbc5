use clawhold_skill::{Context, skill};

/// Greets somebody.
#[skill]
fn greet(_cx: &Context, name: &str) -> String {
    name.to_owned()
}

/// Adds numbers.
#[skill]
fn sum(numbers: &[i64]) -> i64 {
    numbers.iter().sum()
}

fn main() {}
