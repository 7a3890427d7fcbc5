//! `cargo xtask demo`: two tenants, a publisher, its skills, one CRM, and what each of them sees.
//!
//! [`build`] makes the programs and packages, [`process`] runs them, [`stage`] sets up tenants through the command
//! line as people would, [`story`] calls skills over HTTP and checks each claim, and [`page`] prints.

mod build;
mod http;
mod page;
mod process;
mod stage;
mod story;

use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::{Usage, setup, shell};
use page::Page;
use process::Scene;
use stage::Stage;

pub(crate) const HELP: &str = "\
Builds everything, runs skills for two tenants, and shows what each of them sees.

usage: cargo xtask demo [--once]

  --once    end when all is checked: with 0, or with 1 and what failed

The host, its data and a small CRM run on the loopback address and in a temporary folder; nothing
else on this machine is touched. Without --once it stays up until Ctrl-C, so that you can try calls
of your own. The first build takes some minutes.
";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let once = match arguments {
        [] => false,
        [once] if once == "--once" => true,
        [other, ..] => return Err(Usage(format!("demo takes no {other}; see cargo xtask demo --help")).into()),
    };
    setup::prepare()?;
    let mut page = Page::stdout();
    page.title("Clawhold: one host, many tenants, skills that nobody has to trust");

    page.chapter("Building the host");
    let began = Instant::now();
    let programs = build::programs()?;
    page.line(&format!("built in {}", shell::since(began)));

    let mut scene = Scene::open()?;
    let result = play(&mut page, &mut scene, &programs, once);
    if result.is_err() {
        let kept = scene.keep();
        eprintln!("What the host and the CRM printed is in {}.", kept.display());
    }
    result
}

fn play(page: &mut Page, scene: &mut Scene, programs: &build::Programs, once: bool) -> Result<()> {
    page.chapter("Building the skills");
    let packages = build::packages(programs, scene.folder(), |package| {
        let title = format!("{} {}", package.name, package.version);
        page.line(&format!(
            "{title:24} {:>4} KiB in one component, built in {}",
            package.kib,
            shell::spoken(package.time)
        ));
    })?;

    page.chapter("Setting up a publisher and its tenants");
    let stage = Stage::set(scene, programs, packages).context("set up the tenants")?;
    stage.describe(page);

    story::tell(&stage, page);
    page.end();
    if !page.failed().is_empty() {
        bail!("the demo failed: {}", page.failed().join("; "));
    }
    if !once {
        stage.invite(page);
        scene.wait_until_told()?;
    }
    Ok(())
}
