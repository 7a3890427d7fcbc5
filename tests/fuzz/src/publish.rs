//! A package file, from its first byte to a run of what it offers.
//!
//! The prescan alone takes microseconds, the rest a compiler's process: most inputs end at the first, and what it lets
//! through goes on. Of those that the engine will certainly refuse, being invalid, only some go on.

mod packages;
mod sections;

use anyhow::Result;
use clawhold_marketplace::{PackageError, read};
use clawhold_runtime::Problem;
use clawhold_sandbox::Refused;
use wasmparser::{Validator, WasmFeatures};

use crate::hosted::Hosted;
use crate::{Subject, said};

pub(crate) use packages::generate;

/// Of those that are invalid, one in so many goes to the compiler, which then says so.
const INVALID: u64 = 16;

struct Publisher {
    hosted: Hosted,
    cases: u64,
}

pub(crate) fn start() -> Result<Box<dyn Subject>> {
    Ok(Box::new(Publisher { hosted: Hosted::start(None)?, cases: 0 }))
}

impl Subject for Publisher {
    fn run(&mut self, input: &[u8]) -> Result<String, String> {
        let package = match read(input) {
            Err(refused) => {
                said(&refused.to_string())?;
                return Ok(format!("prescan: {}", kind(&refused)));
            }
            Ok(package) => package,
        };
        self.cases += 1;
        let valid = Validator::new_with_features(WasmFeatures::all()).validate_all(input).is_ok();
        let chosen = package.digest.as_bytes().iter().map(|byte| u64::from(*byte)).sum::<u64>().is_multiple_of(INVALID);
        if !valid && !chosen {
            return Ok("prescan: accepted, and invalid".to_owned());
        }
        if self.hosted.is_worn_out() {
            self.hosted = Hosted::start(None).map_err(|e| format!("a new host does not start: {e:#}"))?;
        }
        let end = self.publish(&package, input)?;
        self.hosted.still_works()?;
        self.hosted.nothing_is_left()?;
        Ok(end)
    }
}

impl Publisher {
    fn publish(&mut self, package: &clawhold_marketplace::Package, wasm: &[u8]) -> Result<String, String> {
        let name = &package.manifest.package.name;
        let published = match self.hosted.publish(name.publisher(), wasm.to_vec()) {
            Err(Problem::Package(why)) => {
                said(&why)?;
                return if why.contains("crashed over it") { Err(why) } else { Ok(stage(&why)) };
            }
            Err(Problem::Faults(faults)) => {
                let why = faults.to_string();
                said(&why)?;
                return if why.contains("crashed over it") { Err(why) } else { Ok(stage(&faults.said()[0].what)) };
            }
            Err(Problem::Conflict(why)) => {
                said(&why)?;
                return Ok("publish: that version is there".to_owned());
            }
            Err(other) => return Err(format!("publishing ends with {other:?}")),
            Ok(published) => published,
        };
        if published.digest != package.digest || published.skills.is_empty() {
            return Err(format!("something else was published: {published:?}"));
        }
        match self.hosted.publish(name.publisher(), wasm.to_vec()) {
            Ok(again) if again.digest == published.digest => {}
            other => return Err(format!("publishing it again ends with {other:?}")),
        }
        match self.hosted.install(name, &published.version) {
            Err(Problem::Invalid { .. } | Problem::Conflict(_)) => {
                return Ok("publish: published, not installed".to_owned());
            }
            Err(other) => return Err(format!("installing ends with {other:?}")),
            Ok(()) => {}
        }
        let mut ends = String::new();
        for skill in published.skills.iter().take(3) {
            let (end, record) = self.hosted.ends(&skill.name, "{}")?;
            let most = package.manifest.limits().memory_bytes;
            if record.usage.memory_bytes > most {
                return Err(format!("a run with {most} bytes took {}", record.usage.memory_bytes));
            }
            ends = end;
        }
        self.hosted.remove(name).map_err(|e| format!("removing ends with {e:?}"))?;
        if self.cases.is_multiple_of(8) {
            self.hosted.is_clean()?;
        }
        Ok(format!("published; its run: {ends}"))
    }
}

/// What the prescan refused it for.
fn kind(refused: &PackageError) -> String {
    let kind = match refused {
        PackageError::Component(refused) => match refused {
            Refused::TooLarge { .. } => "too large",
            Refused::NotWasm => "not WebAssembly",
            Refused::CoreModule => "a core module",
            Refused::Malformed(_) => "malformed",
            Refused::Import { .. } => "an import",
            Refused::NoHandler => "no handler",
            Refused::Section { .. } => "two manifests",
            Refused::TooMuch { what, .. } => return format!("too many {what}"),
            Refused::Compile(_) => "not compiled",
        },
        PackageError::Manifest(_) => "the manifest",
        PackageError::NoManifest => "no manifest",
        PackageError::NotText => "a manifest that is no text",
        PackageError::Settings(_) => "settings",
        PackageError::Embedded => "embedded twice",
        PackageError::Wasi { .. } => "WASI undeclared",
        PackageError::Undeclared { .. } => "a capability undeclared",
    };
    kind.to_owned()
}

/// How far it came, by what was said.
fn stage(why: &str) -> String {
    let reason = why.split_once("did not say what it offers (").and_then(|(_, rest)| rest.split_once(')'));
    match reason {
        Some((reason, _)) => format!("describe: {reason}"),
        None if why.contains("cannot be compiled") => "compiler: refused".to_owned(),
        None => "describe: what it offers is refused".to_owned(),
    }
}
