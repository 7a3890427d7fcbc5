//! Runs cases, counts how they end, keeps what was found.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::watch::{Watch, panics};
use crate::{Subject, Target};

/// Different findings that are told of one by one. More of them are one problem, or the host is broken.
const TOLD: usize = 20;

/// Where an input is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This seed made it.
    Seed(u64),
    /// It is in this file.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seed(seed) => write!(f, "seed {seed}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// Something that must not be.
pub struct Finding {
    target: &'static Target,
    origin: Origin,
    what: String,
    input: Vec<u8>,
}

impl Finding {
    /// That this input did this.
    pub fn new(target: &'static Target, origin: Origin, what: String, input: Vec<u8>) -> Self {
        Self { target, origin, what, input }
    }

    /// What is wrong.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Says what was found and how to see it again, and writes the input to a file.
    pub fn tell(&self) {
        let target = self.target.name;
        let (file, again) = match &self.origin {
            Origin::Seed(seed) => {
                let path = findings(self.target).join(format!("{seed}.{}", self.target.extension));
                let file = match fs::write(&path, &self.input) {
                    Ok(()) => format!("; its input is in {}", path.display()),
                    Err(error) => format!("; its input could not be kept: {error}"),
                };
                (file, format!("--seed {seed}"))
            }
            Origin::File(path) => (String::new(), format!("--input {}", path.display())),
        };
        eprintln!("FINDING {target}, {}: {}", self.origin, self.what);
        eprintln!("  to see it again: cargo xtask fuzz --target {target} {again}{file}");
    }
}

/// Where a target's findings are kept: beside what cargo builds.
pub fn findings(target: &Target) -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    // A test's program is one folder further down.
    let built = program.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release"));
    let folder = built.and_then(|path| path.parent()).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join("fuzz").join(target.name);
    // Whoever writes there says so if it failed.
    let _made = fs::create_dir_all(&folder);
    folder
}

/// Cases of one target, and what came of them.
pub struct Campaign {
    target: &'static Target,
    subject: Box<dyn Subject>,
    watch: Watch,
    began: Instant,
    cases: u64,
    ends: BTreeMap<String, u64>,
    slowest: (Duration, Option<Origin>),
    /// What was found, without its numbers, and how often.
    found: BTreeMap<String, u64>,
}

impl Campaign {
    /// Sets the target's subject up.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub fn start(target: &'static Target, supervised: bool) -> Result<Self> {
        Ok(Self {
            target,
            watch: Watch::start(target, supervised)?,
            subject: (target.start)()?,
            began: Instant::now(),
            cases: 0,
            ends: BTreeMap::new(),
            slowest: (Duration::ZERO, None),
            found: BTreeMap::new(),
        })
    }

    /// All of the target's corpus.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn corpus(&mut self) -> Result<()> {
        for (path, input) in crate::files(self.target)? {
            self.case(Origin::File(path), &input)?;
        }
        Ok(())
    }

    /// One file.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn file(&mut self, path: PathBuf) -> Result<()> {
        let input = crate::corpus::read(&path)?;
        self.case(Origin::File(path), &input)
    }

    /// The case of a seed.
    ///
    /// # Errors
    ///
    /// When the subject could not be set up again after a finding.
    pub fn seed(&mut self, seed: u64) -> Result<()> {
        let origin = Origin::Seed(seed);
        self.watch.begin(&origin, &[]);
        // What makes inputs is not what is tested, so its own panics are no findings.
        let input = catch_unwind(|| self.target.input(seed));
        panics();
        let input = input.unwrap_or_default();
        self.case(origin, &input)
    }

    fn case(&mut self, origin: Origin, input: &[u8]) -> Result<()> {
        self.watch.begin(&origin, input);
        let ended = catch_unwind(AssertUnwindSafe(|| self.subject.run(input)));
        let took = self.watch.end();
        if took > self.slowest.0 {
            self.slowest = (took, Some(origin.clone()));
        }
        self.cases += 1;
        let panics = panics();
        let wrong = match ended {
            Ok(Ok(end)) if panics.is_empty() => {
                *self.ends.entry(end).or_default() += 1;
                return Ok(());
            }
            Ok(Err(wrong)) => wrong,
            _ => String::new(),
        };
        let what = panics.into_iter().chain([wrong]).collect::<Vec<_>>().join("\n  ");
        self.ends.entry("FINDING".to_owned()).and_modify(|count| *count += 1).or_insert(1);
        let kind = kind(&what);
        let known = self.found.len();
        let times = self.found.entry(kind).or_default();
        *times += 1;
        if *times == 1 && known < TOLD {
            Finding::new(self.target, origin, what, input.to_vec()).tell();
        }
        // What it left behind is not the next one's fault.
        self.subject = (self.target.start)()?;
        Ok(())
    }

    /// How many different things were found.
    pub fn found(&self) -> usize {
        self.found.len()
    }

    /// Cases so far.
    pub fn cases(&self) -> u64 {
        self.cases
    }
}

/// What two findings of the same thing have in common: where a panic was, or what was said as far as it quotes nothing.
fn kind(what: &str) -> String {
    let first = what.lines().next().unwrap_or_default();
    if first.contains("panicked at") {
        return first.to_owned();
    }
    first.split(':').next().unwrap_or_default().chars().filter(|c| !c.is_ascii_digit()).take(150).collect()
}

impl fmt::Display for Campaign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, cases, seconds) = (self.target.name, self.cases, self.began.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = cases as f64 / seconds.max(0.001);
        write!(f, "{name}: {cases} cases in {seconds:.0} s, {rate:.1}/s")?;
        if let (took, Some(origin)) = &self.slowest {
            write!(f, "; the slowest took {} ms ({origin})", took.as_millis())?;
        }
        let mut ends: Vec<_> = self.ends.iter().collect();
        ends.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (end, count) in ends {
            write!(f, "\n  {count:9}  {end}")?;
        }
        for (kind, count) in &self.found {
            write!(f, "\n  found {count} times: {kind}")?;
        }
        if self.found.is_empty() { write!(f, "\n  nothing was found") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Faulty;

    impl Subject for Faulty {
        fn run(&mut self, input: &[u8]) -> Result<String, String> {
            match input[0] % 8 {
                0 => return Err(format!("it says nonsense: {input:?}")),
                1 => panic!("in the subject"),
                // Whoever joins it may ignore how it ended.
                2 => drop(std::thread::spawn(|| panic!("in a thread")).join()),
                _ => {}
            }
            Ok("well".to_owned())
        }
    }

    static FAULTY: Target = Target {
        name: "faulty",
        extension: "bin",
        patience: Duration::from_mins(1),
        generate: |rng| vec![rng.u8(..)],
        start: || Ok(Box::new(Faulty)),
    };

    #[test]
    fn what_is_wrong_is_found_once_for_each_kind_and_replays_from_its_seed() {
        let mut campaign = Campaign::start(&FAULTY, false).unwrap();
        for seed in 0..100 {
            campaign.seed(seed).unwrap();
        }
        let told = campaign.to_string();
        assert_eq!(campaign.found(), 3, "{told}");
        for (seed, wrong) in (0..100).map(|seed| (seed, FAULTY.input(seed)[0] % 8 < 3)) {
            let mut again = Campaign::start(&FAULTY, false).unwrap();
            again.seed(seed).unwrap();
            assert_eq!(again.found() > 0, wrong, "seed {seed}");
        }
        for part in ["it says nonsense", "campaign.rs", "well", "100 cases"] {
            assert!(told.contains(part), "{told}");
        }
        fs::remove_dir_all(findings(&FAULTY)).unwrap();
    }
}
