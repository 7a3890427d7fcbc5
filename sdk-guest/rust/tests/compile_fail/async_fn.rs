use clawhold_skill::skill;

/// Greets somebody.
#[skill]
async fn greet(name: String) -> String {
    name
}

fn main() {}
