#[clawhold_skill::data]
fn greet(name: String) -> String {
    name
}

#[clawhold_skill::data(input)]
struct Name(String);

fn main() {}
