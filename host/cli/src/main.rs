//! The `clawhold` command.

fn main() -> std::process::ExitCode {
    clawhold_cli::main()
}
