//! Hostile input, made from seeds, for the places where a host reads what others wrote.
//!
//! A [`Target`] makes an input from a seed and gives it to a [`Subject`], which says in a few words how that ended, or what
//! is broken. A case is its seed and nothing else: no case changes the next one's input, so a seed replays alone, on any
//! machine with this tree. The files in `corpus/` run before the seeds, and are what many inputs are made of.
//!
//! | target | input | goes through |
//! |---|---|---|
//! | `manifest` | text | the manifest's parser, the policy and the plan that follow from it |
//! | `publish` | a package file | the prescan and, if that lets it through, all of publishing: compiling, describing, storing, a run |
//! | `lifting` | a program | an interpreter inside the sandbox, which hands its numbers to host functions as they are |
//! | `schema` | a JSON Schema and a value | measuring and compiling the one, reading the other, checking it, and the time that takes |
//!
//! Structured and seeded, and not libFuzzer: that needs a nightly compiler and one for C++, and finds its way by coverage
//! through a parser. Most of what is read here is parsed by the engine's own crates, which are fuzzed that way upstream;
//! what is ours is behind them, and random bytes rarely get there. So inputs are valid ones (the guests of other tests,
//! `wasm-smith`'s modules, well-formed host calls) with a few things wrong.
//!
//! What it will not do: measure coverage, make a found input smaller, or look for wrong answers of the engine's compiler.
//! `wasm-mutate` is not used: it keeps what a module means, which is the one thing that need not be kept here.
#![deny(missing_docs)]

mod campaign;
mod corpus;
mod hosted;
mod lifting;
mod manifest;
mod mutate;
mod publish;
mod schema;
mod watch;

use std::time::Duration;

use fastrand::Rng;

pub use campaign::{Campaign, Finding, Origin, findings};
pub use corpus::{files, folder};
pub use hosted::room;
pub use watch::HANGS;

/// Something that reads hostile input.
pub struct Target {
    /// Its name on the command line and in `corpus/`.
    pub name: &'static str,
    /// What its inputs are called when they are kept as files.
    pub extension: &'static str,
    /// A case that takes longer than this hangs. Far above what the slowest takes on a busy machine.
    pub patience: Duration,
    generate: fn(&mut Rng) -> Vec<u8>,
    start: fn() -> anyhow::Result<Box<dyn Subject>>,
}

/// What is given the inputs.
pub trait Subject {
    /// How it ended, in words of a small vocabulary, which are counted; or what is broken.
    ///
    /// # Errors
    ///
    /// When something that must always hold does not.
    fn run(&mut self, input: &[u8]) -> Result<String, String>;
}

/// All of them.
pub const TARGETS: [Target; 4] = [
    Target {
        name: "manifest",
        extension: "toml",
        patience: Duration::from_secs(5),
        generate: manifest::generate,
        start: manifest::start,
    },
    Target {
        name: "publish",
        extension: "wasm",
        // The compiler's process has 300 s by the clock.
        patience: Duration::from_secs(330),
        generate: publish::generate,
        start: publish::start,
    },
    Target {
        name: "lifting",
        extension: "txt",
        patience: Duration::from_secs(10),
        generate: lifting::generate,
        start: lifting::start,
    },
    Target {
        name: "schema",
        extension: "txt",
        // What 100,000,000 comparisons may take, and then some.
        patience: Duration::from_secs(30),
        generate: schema::generate,
        start: schema::start,
    },
];

impl Target {
    /// The target of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// The input that this seed makes.
    pub fn input(&self, seed: u64) -> Vec<u8> {
        (self.generate)(&mut Rng::with_seed(seed))
    }
}

/// What the host says to people: something, and not too much of it.
fn said(text: &str) -> Result<(), String> {
    /// Bytes. A line of a manifest, a few names and the causes of an error fit.
    const LONGEST: usize = 4096;
    match text.len() {
        _ if text.trim().is_empty() => Err("a refusal says nothing".to_owned()),
        bytes if bytes > LONGEST => {
            Err(format!("a refusal of {bytes} bytes: {}…", text.chars().take(200).collect::<String>()))
        }
        _ => Ok(()),
    }
}
