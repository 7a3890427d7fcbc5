//! `cargo xtask`: what is done with this repository besides editing it.
//!
//! Each command is a module with its help and one function. What they share, finding the repository and running
//! cargo, is in [`shell`].

mod bench;
mod ci;
mod clients;
mod demo;
mod fuzz;
mod setup;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use anyhow::Result;

/// One command: its name, its line in the overview, its help, and what it does with the arguments behind its name.
struct Command {
    name: &'static str,
    summary: &'static str,
    help: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const COMMANDS: [Command; 7] = [
    Command { name: "setup", summary: "add what the build needs to this machine", help: setup::HELP, run: setup::run },
    Command { name: "demo", summary: "watch skills run for two tenants", help: demo::HELP, run: demo::run },
    Command { name: "test", summary: "run all tests", help: test::HELP, run: test::run },
    Command { name: "tidy", summary: "check the rules between crates", help: tidy::HELP, run: tidy::run },
    Command { name: "ci", summary: "everything that must pass before a merge", help: ci::HELP, run: ci::run },
    Command { name: "bench", summary: "measure, in release", help: bench::HELP, run: bench::run },
    Command { name: "fuzz", summary: "hostile input, for as long as one likes", help: fuzz::HELP, run: fuzz::run },
];

/// A command line that makes no sense. The exit code is 2, as with the shell's own.
#[derive(Debug)]
struct Usage(String);

impl std::error::Error for Usage {}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", overview());
        return Ok(());
    };
    if is_help(name) {
        print!("{}", overview());
        return Ok(());
    }
    let command = COMMANDS.iter().find(|command| command.name == name).ok_or_else(|| {
        let names = COMMANDS.map(|command| command.name).join(", ");
        Usage(format!("{name} is not a command; there are {names}"))
    })?;
    if rest.first().is_some_and(|first| is_help(first)) {
        print!("{}", command.help);
        return Ok(());
    }
    (command.run)(rest)
}

fn is_help(argument: &str) -> bool {
    matches!(argument, "--help" | "-h" | "help")
}

fn overview() -> String {
    let lines = COMMANDS.map(|command| format!("  {:7} {}", command.name, command.summary)).join("\n");
    format!("usage: cargo xtask COMMAND [OPTIONS]\n\n{lines}\n\n`cargo xtask COMMAND --help` says more about one.\n")
}

/// For commands without arguments.
fn no_arguments(command: &str, arguments: &[String]) -> Result<()> {
    match arguments.first() {
        None => Ok(()),
        Some(first) => Err(Usage(format!("{command} takes no {first}; see cargo xtask {command} --help")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_begins_with_what_it_does_and_has_an_example() {
        for command in &COMMANDS {
            let lines: Vec<&str> = command.help.lines().collect();
            assert!(lines[0].ends_with('.'), "{}", command.name);
            assert!(command.help.contains(&format!("usage: cargo xtask {}", command.name)), "{}", command.name);
            assert!(lines.iter().all(|line| line.len() <= 100), "{}", command.name);
            assert!(overview().contains(command.summary));
        }
    }

    #[test]
    fn a_wrong_command_line_is_a_usage_error() {
        for line in ["tset", "setup --now", "demo --twice", "tidy all", "ci fast"] {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert!(dispatch(&arguments).unwrap_err().is::<Usage>(), "{line}");
        }
    }
}
