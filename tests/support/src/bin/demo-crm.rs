//! The CRM as a program of its own, for `cargo xtask demo`.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use clawhold_test_support::crm::{self, Customer, SAMPLES};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
A CRM with a Salesforce-style query API and made-up data, for demos.

usage: demo-crm [--listen ADDRESS] --customer NAME=TOKEN...

  --listen ADDRESS        where to listen; port 0 takes a free one (127.0.0.1:0)
  --customer NAME=TOKEN   a customer of the CRM, acme-corp or globex, and its API token

example: demo-crm --listen 127.0.0.1:8090 --customer acme-corp=a-token --customer globex=another
";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Some((listen, customers)) = arguments(std::env::args().skip(1))? else {
        print!("{HELP}");
        return Ok(());
    };
    let mut stop = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    let crm = crm::serve(listener, customers).context("start the CRM")?;
    println!("CRM is listening on {}", crm.url());
    tokio::select! {
        _ = stop.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("watch for Ctrl-C"),
    }
}

/// `None` asks for help.
fn arguments(mut arguments: impl Iterator<Item = String>) -> Result<Option<(SocketAddr, Vec<Customer>)>> {
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut customers = Vec::new();
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{flag} needs a value; see --help"));
        match flag.as_str() {
            "--help" | "-h" => return Ok(None),
            "--listen" => {
                let text = value()?;
                listen = text.parse().with_context(|| format!("--listen {text}: write it as 127.0.0.1:8090"))?;
            }
            "--customer" => customers.push(customer(&value()?)?),
            _ => bail!("{flag} is not known; see --help"),
        }
    }
    ensure!(!customers.is_empty(), "there is no customer; write --customer acme-corp=TOKEN");
    Ok(Some((listen, customers)))
}

/// Without the text in the error: it holds a token.
fn customer(text: &str) -> Result<Customer> {
    let (name, token) = text.split_once('=').context("--customer: write it as NAME=TOKEN")?;
    ensure!(!token.is_empty(), "--customer {name}=: the token is empty");
    let known = SAMPLES.join(" and ");
    Customer::sample(name, token).with_context(|| format!("--customer {name}: there is data for {known} only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_arguments_are_named_and_tokens_are_not() {
        for (text, says) in [
            ("", "there is no customer"),
            ("--customer", "--customer needs a value"),
            ("--customer acme-corp", "NAME=TOKEN"),
            ("--customer acme-corp=", "the token is empty"),
            ("--customer initech=very-secret", "acme-corp and globex only"),
            ("--listen here --customer globex=t", "127.0.0.1:8090"),
            ("--port 1", "--port is not known"),
        ] {
            let error = arguments(text.split_whitespace().map(str::to_owned)).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains("very-secret"), "{error}");
        }
    }
}
