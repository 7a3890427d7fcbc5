use clawhold_skill::{Context, skill};

/// Greets somebody.
#[skill]
fn greet(name: String, _cx: &Context) -> String {
    name
}

/// Greets anybody.
#[skill]
fn greet_anybody(_cx: Context, name: String) -> String {
    name
}

fn main() {}
