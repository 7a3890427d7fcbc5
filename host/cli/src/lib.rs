//! The `clawhold` command: the host itself, and a client of its API.
//!
//! This crate is the composition root: the only place that chooses drivers and reads configuration.

mod allocator;
mod client;
mod commands;
pub mod config;
mod output;
mod registry;
pub mod serve;
mod skill;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub use clawhold_sandbox::compiler_process;

use clap::{Args, Parser, Subcommand};
use clawhold_tenancy::limits::TABLE;
use clawhold_tenancy::run::Reason;

use crate::client::Client;
use crate::output::Output;

/// Host and run AI-agent skills for many tenants, each in a sandbox.
#[derive(Parser)]
#[command(name = "clawhold", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by the host.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Global {
    /// The host's address [default: http://127.0.0.1:8080].
    #[arg(long, global = true, env = "CLAWHOLD_URL", hide_env_values = true, value_name = "URL")]
    server: Option<String>,
    /// The token to use. Prefer the environment variable: arguments can be seen by other users.
    #[arg(long, global = true, env = "CLAWHOLD_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Print the API's JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run the host.
    #[command(after_help = "Example:\n  clawhold serve --dev")]
    Serve(serve::ServeArgs),
    /// Create and show tenants.
    #[command(subcommand)]
    Tenant(commands::tenant::Tenant),
    /// Make, list and revoke tokens.
    #[command(subcommand)]
    Token(commands::token::Token),
    /// Store and list a tenant's secrets.
    #[command(subcommand)]
    Secret(commands::secret::Secret),
    /// Make new data keys, and seal the secrets anew under them.
    #[command(subcommand)]
    Keys(commands::keys::Keys),
    /// Create, build, test and publish skills.
    #[command(subcommand)]
    Skill(skill::Skill),
    /// Show packages, grant them, take them over from other registries, and stop what is bad.
    #[command(subcommand)]
    Market(commands::market::Market),
    /// Register publishers and their keys.
    #[command(subcommand)]
    Publisher(commands::publisher::Publisher),
    /// Plan, add, list and remove a tenant's installs.
    #[command(subcommand)]
    Install(commands::install::Install),
    /// Say what the policy of an install allows.
    #[command(subcommand)]
    Policy(commands::policy::Policy),
    /// Call a skill.
    #[command(
        after_help = "Example:\n  clawhold invoke acme-corp hello.greet '{\"name\": \"Ada\"}'\n  clawhold invoke --retry acme-corp hello.greet '{\"name\": \"Ada\"}'"
    )]
    Invoke(commands::run::Invoke),
    /// Show what was run.
    #[command(subcommand)]
    Run(commands::run::Run),
    /// Show what a tenant uses of its quota, and how its skills fare.
    #[command(after_help = "Examples:\n  clawhold usage acme-corp\n  clawhold usage acme-corp --watch")]
    Usage(commands::usage::Usage),
    /// Read and verify a tenant's audit log.
    #[command(subcommand)]
    Audit(commands::audit::Audit),
    /// Say what is wrong with a host and how to mend it: its configuration, or the host that runs.
    #[command(after_help = "Examples:\n  clawhold doctor\n  clawhold doctor --config clawhold.yaml")]
    Doctor(commands::doctor::Doctor),
    /// Prepare and check a PostgreSQL database.
    #[command(subcommand)]
    Db(commands::db::Db),
}

/// What a command came to. The code is part of the interface.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The host refused: a right, an input.
    #[error("{0}")]
    Refused(String),
    /// The host would do it later.
    #[error("{said}")]
    Later {
        /// What it said.
        said: String,
        /// How long it wants to be left alone.
        after: Duration,
        /// Whether a quota refused, and not a host that cannot serve.
        refused: bool,
    },
    /// Anything else.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

/// Builds the skill project in this folder and gives its package, for tests and benchmarks.
pub fn build_skill(project: &Path, out: &Path) -> anyhow::Result<Vec<u8>> {
    skill::build_package(project, out)
}

/// The table of limits, as the README has it: `tenancy::limits` for people.
pub fn limits_table() -> String {
    let rows = TABLE.iter().map(|limit| {
        let number = |n: u64| if n == 0 { "none".to_owned() } else { format!("{} {}", output::grouped(n), limit.unit) };
        let (key, usual, most) = (limit.key, number(limit.default), number(limit.ceiling));
        format!("| `{key}` | {usual} | {most} | {} |\n", limit.reason.trim())
    });
    let head = "| key | default | ceiling | why |\n|---|---|---|---|\n".to_owned();
    rows.fold(head, |table, row| table + &row)
}

/// The table of dimensions, as docs/quotas.md has it: `tenancy::quota` for people.
pub fn quotas_table() -> String {
    use clawhold_tenancy::quota::TABLE;
    let rows = TABLE.iter().map(|row| {
        let (key, unit) = (row.key, row.unit);
        let [default, least, most] = [row.default, row.least, row.most].map(output::grouped);
        format!("### `{key}`\n\n{default} {unit} unless said otherwise; {least} to {most}.\n\n{}\n\n*How to choose it.* {}\n\n", row.protects, row.choose)
    });
    rows.collect()
}

/// The table of reasons in README.md.
pub fn reasons_table() -> String {
    let failed = Reason::ALL.into_iter().filter(|reason| *reason != Reason::Ok);
    let rows = failed.map(|reason| format!("| `{reason}` | {} | {} |\n", reason.what(), reason.remedy()));
    rows.fold("| reason | what happened | what helps |\n|---|---|---|\n".to_owned(), |table, row| table + &row)
}

/// Runs the command line and says how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Output { json: cli.global.json };
    let client = || Client::new(cli.global.server.clone(), cli.global.token.clone());
    let done = match cli.command {
        Command::Serve(args) => serve::run(args).map_err(Failure::from),
        Command::Tenant(command) => client().and_then(|c| command.run(&c, out)),
        Command::Token(command) => client().and_then(|c| command.run(&c, out)),
        Command::Secret(command) => client().and_then(|c| command.run(&c, out)),
        Command::Keys(command) => client().and_then(|c| command.run(&c, out)),
        Command::Skill(command) => command.run(client, out),
        Command::Market(command) => client().and_then(|c| command.run(&c, out)),
        Command::Publisher(command) => client().and_then(|c| command.run(&c, out)),
        Command::Install(command) => client().and_then(|c| command.run(&c, out)),
        Command::Policy(command) => client().and_then(|c| command.run(&c, out)),
        Command::Invoke(command) => client().and_then(|c| command.run(&c, out)),
        Command::Run(command) => client().and_then(|c| command.run(&c, out)),
        Command::Usage(command) => client().and_then(|c| command.run(&c, out)),
        Command::Audit(command) => command.run(client, out),
        Command::Doctor(command) => command.run(client, out),
        Command::Db(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", output::plain(&failure.to_string()));
            match failure {
                Failure::Refused(_) | Failure::Later { refused: true, .. } => ExitCode::from(3),
                Failure::Failed(_) | Failure::Later { refused: false, .. } => ExitCode::from(1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Splits as a shell does, as far as the examples need it.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut quoted, mut word) = (Vec::new(), false, None::<String>);
        for c in line.chars() {
            match c {
                '\'' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                ' ' if !quoted => words.extend(word.take()),
                '#' if !quoted && word.is_none() => break,
                c => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        let mut below = command.get_subcommands().filter(|below| below.get_name() != "help").peekable();
        if below.peek().is_none() {
            found.push((path.to_owned(), command.get_after_help().map(ToString::to_string).unwrap_or_default()));
        }
        for one in below {
            leaves(one, &format!("{path} {}", one.get_name()), found);
        }
    }

    #[test]
    fn every_command_has_an_example_that_it_understands() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "clawhold", &mut found);
        assert!(found.len() > 20, "{found:?}");
        for (path, help) in found {
            let examples: Vec<&str> = help.lines().filter(|line| line.contains(&path)).collect();
            assert!(!examples.is_empty(), "{path} has no example");
            for example in examples {
                let typed = &example[example.find("clawhold").unwrap()..];
                let typed = typed.split(" < ").next().unwrap().split(" >> ").next().unwrap();
                Cli::try_parse_from(words(typed)).unwrap_or_else(|error| panic!("{example}: {error}"));
            }
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
