use clawhold_skill::skill;

#[skill]
fn greet(name: String) -> String {
    name
}

fn main() {}
