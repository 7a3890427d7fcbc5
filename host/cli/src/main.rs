//! The `clawhold` command.

fn main() -> std::process::ExitCode {
    clawhold_cli::compiler_process();
    clawhold_cli::main()
}
