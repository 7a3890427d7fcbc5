use clawhold_skill::skill;

/// Greets somebody.
#[skill]
fn greet(self, name: String) -> String {
    name
}

fn main() {}
