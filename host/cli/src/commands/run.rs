//! `clawhold invoke` and `clawhold run`

use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use clawhold_tenancy::limits::INPUT_BYTES;
use clawhold_tenancy::{RunId, SkillName, TenantId};
use serde_json::Value;

use crate::Failure;
use crate::client::Client;
use crate::output::{Output, cell, plain};

#[derive(Args)]
pub(crate) struct Invoke {
    /// The tenant.
    tenant: TenantId,
    /// The skill, for example `crm.lookup_account`.
    skill: SkillName,
    /// The input: JSON.
    #[arg(default_value = "{}")]
    input: String,
    /// When a quota is used up or the host cannot serve, wait as long as it says and try again, so many times at most.
    #[arg(long, value_name = "TIMES", num_args = 0..=1, require_equals = true, default_missing_value = "5")]
    retry: Option<u32>,
}

/// The longest wait between two tries that is added to what the host asked for: 10 s.
const MOST_MORE: Duration = Duration::from_secs(10);

fn most_more(tried: u32) -> Duration {
    (Duration::from_millis(250) * 2_u32.saturating_pow(tried)).min(MOST_MORE)
}

/// Calls `ask` again as long as the host says later and there are tries left. Whoever waits for the same quota should not come back at
/// the same time: to what the host asked for comes a random part of a time that doubles.
fn patiently(tries: u32, mut ask: impl FnMut() -> Result<Value, Failure>) -> Result<Value, Failure> {
    let mut tried = 0;
    loop {
        match ask() {
            Err(Failure::Later { said, after, .. }) if tried < tries => {
                let wait = after + most_more(tried).mul_f64(fastrand::f64());
                tried += 1;
                let first = said.lines().next().unwrap_or_default();
                eprintln!("{}; try {tried} of {tries} in {:.1} s", plain(first), wait.as_secs_f64());
                std::thread::sleep(wait);
            }
            answer => return answer,
        }
    }
}

impl Invoke {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        let input: Value = serde_json::from_str(&self.input)
            .context("the input is no JSON; quote it for the shell, such as '{\"name\": \"Ada\"}'")?;
        let size = input.to_string().len() as u64;
        if size > INPUT_BYTES {
            return Err(anyhow!("the input has {size} bytes, {INPUT_BYTES} are allowed; send less").into());
        }
        let path = format!("tenants/{}/skills/{}/invoke", self.tenant, self.skill);
        let answer = patiently(self.retry.unwrap_or(0), || client.post(&path, &input))?;
        out.show(&answer, |answer| {
            println!("{:#}", answer["output"]);
            let run = &answer["run"];
            eprintln!(
                "run {}: {} fuel, {} KiB memory, {} host calls, {} µs",
                cell(&run["id"]),
                run["fuel"],
                run["memory_bytes"].as_u64().unwrap_or(0) >> 10,
                run["host_calls"],
                run["duration_us"]
            );
        });
        Ok(())
    }
}

#[derive(Subcommand)]
pub(crate) enum Run {
    /// List runs, newest first.
    #[command(after_help = "Example:\n  clawhold run list acme-corp")]
    List {
        /// The tenant.
        tenant: TenantId,
    },
    /// Show one run: outcome, usage, requests, log.
    #[command(after_help = "Example:\n  clawhold run show acme-corp 0198c0de-0000-7000-8000-000000000000")]
    Show {
        /// The tenant.
        tenant: TenantId,
        /// The run.
        #[arg(value_parser = |text: &str| text.parse::<RunId>())]
        run: RunId,
    },
}

impl Run {
    pub(crate) fn run(self, client: &Client, out: Output) -> Result<(), Failure> {
        match self {
            Self::List { tenant } => {
                let columns = [
                    ("RUN", "id"),
                    ("SKILL", "skill"),
                    ("REASON", "reason"),
                    ("FUEL", "fuel"),
                    ("µS", "duration_us"),
                    ("STARTED", "started"),
                    ("CALLER", "caller"),
                ];
                out.list(&client.get(&format!("tenants/{tenant}/runs"))?, &columns);
            }
            Self::Show { tenant, run } => {
                let shown = client.get(&format!("tenants/{tenant}/runs/{run}"))?;
                out.show(&shown, |shown| {
                    for (name, value) in shown.as_object().into_iter().flatten().filter(|(name, _)| *name != "log") {
                        println!("{name:16}{}", cell(value));
                    }
                    for line in shown["log"].as_array().into_iter().flatten() {
                        println!("log             {}", cell(line));
                    }
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// How long a call took that was told `later` so many times before it went through, and how often it was asked.
    fn after(later: u32, tries: u32) -> (Duration, u32, bool) {
        let (began, mut asked) = (Instant::now(), 0);
        let answer = patiently(tries, || {
            asked += 1;
            if asked <= later {
                let after = Duration::from_millis(20);
                return Err(Failure::Later { said: "a quota is used up".to_owned(), after, refused: true });
            }
            Ok(Value::Null)
        });
        (began.elapsed(), asked, answer.is_ok())
    }

    #[test]
    fn whoever_retries_waits_as_told_and_a_random_time_more_and_gives_up_in_the_end() {
        let waits: Vec<Duration> = (0..5).map(|_| after(1, 1).0).collect();
        assert!(waits.iter().all(|wait| *wait >= Duration::from_millis(20)), "{waits:?}");
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*most > *least + Duration::from_millis(5), "they come back together: {waits:?}");
        assert_eq!(after(2, 1).1, 2, "once more, and no more");
        assert!(!after(2, 1).2 && after(1, 1).2);
        assert_eq!([0, 1, 5, 6, u32::MAX].map(|tried| most_more(tried).as_millis()), [250, 500, 8_000, 10_000, 10_000]);
    }

    #[test]
    fn what_is_wrong_is_not_tried_again() {
        let mut asked = 0;
        let answer = patiently(5, || {
            asked += 1;
            Err(anyhow!("no such skill").into())
        });
        assert!(answer.is_err() && asked == 1);
    }
}
