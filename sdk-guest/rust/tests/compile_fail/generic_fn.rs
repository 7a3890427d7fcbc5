use clawhold_skill::skill;

/// Greets somebody.
#[skill]
fn greet<T: ToString>(name: T) -> String {
    name.to_string()
}

/// Greets anybody.
#[skill]
fn greet_anybody(name: impl ToString) -> String {
    name.to_string()
}

fn main() {}
