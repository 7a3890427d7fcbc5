//! `cargo xtask fuzz`: runs cases in a process of its own, so that what ends that process is found as well.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clawhold_fuzz::{Campaign, Finding, HANGS, Origin, TARGETS, Target, findings, room};

const HELP: &str = "\
Makes hostile input from seeds and gives it to what reads it.

usage: clawhold-fuzz [--minutes N] [--target T] [--seed S] [--cases N]
       clawhold-fuzz --target T --seed S | --input FILE

  --minutes N   how long, for each target; 1 when nothing else is said
  --target T    manifest, publish, lifting or schema; one after the other when not said
  --seed S      begins with this seed; without --minutes and --cases, runs its case alone
  --cases N     how many cases, instead of minutes
  --input FILE  runs this file alone, for example one that was found
";

/// Tells this program that it is the process in which the cases run.
const WORKER: &str = "CLAWHOLD_FUZZ_WORKER";

/// How often a process may be lost before the target is given up.
const LOST: usize = 10;

/// How often it says that it is still there.
const TELL: Duration = Duration::from_mins(1);

/// What is asked for.
#[derive(Default)]
struct Ask {
    seconds: Option<u64>,
    target: Option<&'static Target>,
    seed: Option<u64>,
    cases: Option<u64>,
    input: Option<PathBuf>,
}

fn main() -> ExitCode {
    clawhold_cli::compiler_process();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let ask = match Ask::read(&arguments) {
        Ok(ask) => ask,
        Err(problem) => {
            eprintln!("{problem}; see cargo xtask fuzz --help");
            return ExitCode::from(2);
        }
    };
    let done = if std::env::var_os(WORKER).is_some() { work(&ask) } else { supervise(&ask) };
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Ask {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let mut ask = Self::default();
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
            let whole = |text: &String| text.parse::<u64>().map_err(|_| format!("{name} {text}: use a whole number"));
            match name.as_str() {
                "--minutes" => ask.seconds = Some(whole(value()?)?.saturating_mul(60)),
                "--seconds" => ask.seconds = Some(whole(value()?)?),
                "--seed" => ask.seed = Some(whole(value()?)?),
                "--cases" => ask.cases = Some(whole(value()?)?),
                "--input" => ask.input = Some(value()?.into()),
                "--target" => {
                    let name = value()?;
                    let names = TARGETS.each_ref().map(|target| target.name).join(", ");
                    let target =
                        Target::named(name).ok_or_else(|| format!("there is no target {name}; there are {names}"))?;
                    ask.target = Some(target);
                }
                other => return Err(format!("{other} is not known")),
            }
        }
        if ask.target.is_none() && (ask.input.is_some() || (ask.seed.is_some() && ask.is_one_case())) {
            return Err("a single case needs its --target".to_owned());
        }
        if ask.input.is_some() && (ask.seed.is_some() || ask.seconds.is_some() || ask.cases.is_some()) {
            return Err("--input runs one file and takes neither --seed, --minutes nor --cases".to_owned());
        }
        Ok(ask)
    }

    fn is_one_case(&self) -> bool {
        self.seconds.is_none() && self.cases.is_none_or(|cases| cases == 1)
    }
}

/// Runs each target's cases in a process, and says which case ended a process that did not end by itself. Gives how many
/// targets have findings.
fn supervise(ask: &Ask) -> Result<usize> {
    let targets = TARGETS.iter().filter(|target| ask.target.is_none_or(|asked| asked.name == target.name));
    let mut bad = 0;
    for target in targets {
        bad += usize::from(!target_is_good(target, ask)?);
    }
    Ok(bad)
}

fn target_is_good(target: &'static Target, ask: &Ask) -> Result<bool> {
    let one = ask.input.is_some() || (ask.seed.is_some() && ask.is_one_case());
    let seconds = if one || ask.cases.is_some() { None } else { Some(ask.seconds.unwrap_or(60)) };
    // Any seed will do that is not the one of the last time.
    let mut seed = ask.seed.unwrap_or_else(|| fastrand::u64(..1 << 40));
    let mut cases = ask.cases.or(one.then_some(1));
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (first, mut good) = (seed, true);
    // A process that is lost removes nothing.
    let room = room()?;
    for _ in 0..LOST {
        let mut worker = Command::new(std::env::current_exe()?);
        worker.env(WORKER, "yes").env("TMPDIR", room.path()).args(["--target", target.name]);
        if let Some(input) = &ask.input {
            worker.arg("--input").arg(input);
        } else {
            worker.args(["--seed", &seed.to_string()]);
            if let Some(cases) = cases {
                worker.args(["--cases", &cases.to_string()]);
            }
            if let Some(end) = end {
                let left = end.saturating_duration_since(Instant::now()).as_secs();
                worker.args(["--seconds", &left.to_string()]);
            }
        }
        let status = worker.status().context("start the process in which the cases run")?;
        let current = fs::read_to_string(findings(target).join("current")).unwrap_or_default();
        let lost = match status.code() {
            Some(0) => return Ok(good),
            Some(1) => return Ok(false),
            Some(HANGS) => current.trim().strip_prefix("seed ").and_then(|seed| seed.parse::<u64>().ok()),
            _ => lost(target, current.trim(), &format!("it ended the process ({status})")),
        };
        good = false;
        // What the corpus ends is ended again each time.
        let Some(last) = lost else { return Ok(false) };
        println!("{}: the counts of the lost process are lost with it", target.name);
        seed = last.wrapping_add(1);
        cases = cases.map(|cases| cases.saturating_sub(seed.saturating_sub(first)));
        if cases == Some(0) || end.is_some_and(|end| Instant::now() >= end) {
            return Ok(false);
        }
    }
    Ok(good)
}

/// Tells of a case that ended its process, and gives its seed.
fn lost(target: &'static Target, current: &str, what: &str) -> Option<u64> {
    let seed = current.strip_prefix("seed ").and_then(|seed| seed.parse::<u64>().ok());
    let (origin, input) = match (seed, current.strip_prefix("file ")) {
        (Some(seed), _) => (Origin::Seed(seed), target.input(seed)),
        (None, Some(path)) => (Origin::File(path.into()), Vec::new()),
        (None, None) => {
            eprintln!("{}: {what}, and did not get as far as a case", target.name);
            return None;
        }
    };
    Finding::new(target, origin, what.to_owned(), input).tell();
    seed
}

/// Runs the cases. Gives how many different things were found.
fn work(ask: &Ask) -> Result<usize> {
    let target = ask.target.context("the process has no target")?;
    let mut campaign = Campaign::start(target, true)?;
    if let Some(input) = &ask.input {
        campaign.file(input.clone())?;
    } else {
        let first = ask.seed.unwrap_or_default();
        if ask.cases != Some(1) {
            println!("{}: begins with seed {first}", target.name);
            campaign.corpus()?;
        }
        let began = Instant::now();
        let mut told = began;
        for number in 0.. {
            let over = ask.seconds.is_some_and(|seconds| began.elapsed().as_secs() >= seconds);
            if over || ask.cases.is_some_and(|cases| number >= cases) {
                break;
            }
            campaign.seed(first.wrapping_add(number))?;
            if told.elapsed() > TELL {
                told = Instant::now();
                println!("{}: {} cases, {} findings", target.name, campaign.cases(), campaign.found());
            }
        }
    }
    println!("{campaign}");
    Ok(campaign.found())
}
