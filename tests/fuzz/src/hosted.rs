//! A host with one tenant, as `clawhold serve` makes it, and what is asked of it after each case.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use clawhold_capabilities::Transport;
use clawhold_cli::config::Config;
use clawhold_cli::serve;
use clawhold_marketplace::Narrowing;
use clawhold_marketplace::grant::{Grantee, VersionRange};
use clawhold_marketplace::upgrade::Channel;
use clawhold_runtime::{Host, InstallAsk, Invoked, Problem, PublishedPackage};
use clawhold_secret_store::SecretValue;
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::run::{Reason, Record};
use clawhold_tenancy::{
    Context, PackageName, Publisher, Role, RunId, Scope, SecretName, SkillName, TenantId, permit as can,
};
use clawhold_test_support::guest::Guest;
use semver::Version;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::said;

/// One slot, so that each run has the slot of the run before. The ceiling of fuel is a tenth of a second.
const YAML: &str = "run_slots: 1
market:
  signatures: optional
limits:
  fuel: 100000000
  timeout_ms: 2000
tenant_quotas:
  default:
    max_skill_calls_per_minute: 10000000
    max_fuel_per_minute: 100000000000000
    max_audit_records_per_minute: 10000000
    max_http_requests_per_minute: 10000000
    max_egress_mb_per_minute: 1000000
";

/// Bytes of the database and its log, and packages, at which a host is worn out, and the next one starts in a new folder.
const MOST_BYTES: u64 = 256 << 20;
const MOST_PACKAGES: usize = 500;

/// A folder in memory, where there is such a place and nobody chose another: a commit to disk takes longer than most cases.
///
/// # Errors
///
/// When it cannot be made.
pub fn room() -> io::Result<TempDir> {
    let shared = Path::new("/dev/shm");
    let chosen = std::env::var_os("TMPDIR").is_some();
    if shared.is_dir() && !chosen { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }
}

pub(crate) struct Hosted {
    runtime: Runtime,
    host: Arc<Host>,
    tenant: TenantId,
    admin: Context,
    folder: TempDir,
    /// The digests of what is published: there must be no other native code on disk.
    published: BTreeSet<String>,
}

impl Hosted {
    /// A host with a tenant that has a good guest and two secrets.
    pub(crate) fn start(transport: Option<Arc<dyn Transport>>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let folder = room()?;
        let tenant: TenantId = "acme-corp".parse()?;
        let host = runtime.block_on(serve::host(folder.path(), &Config::parse(YAML)?, transport))?;
        let operator = context(Scope::Host, Role::Operator);
        let admin = context(Scope::Tenant(tenant.clone()), Role::Admin);
        let permit = operator.permit_host::<can::CreateTenant>()?;
        runtime.block_on(host.create_tenant(&operator, &permit, &tenant, "standard", Keep::nothing()))?;
        let permit = admin.permit::<can::PutSecret>(&tenant)?;
        for (name, value) in [("token", "not for anybody"), ("login", r#"{"user":"ada","pass":"s3cret"}"#)] {
            let value = SecretValue::from(value.to_owned());
            runtime.block_on(host.put_secret(&admin, &permit, &name.parse()?, value, Keep::nothing()))?;
        }
        let mut hosted = Self { runtime, host, tenant, admin, folder, published: BTreeSet::new() };
        for name in ["good", "clean"] {
            let guest = if name == "clean" { Guest::named(name)?.wasm.clone() } else { good()? };
            hosted.add(guest).with_context(|| format!("publish and install {name}"))?;
        }
        Ok(hosted)
    }

    /// Publishes and installs.
    pub(crate) fn add(&mut self, wasm: Vec<u8>) -> Result<PublishedPackage> {
        let published = self.publish("guests".parse()?, wasm)?;
        self.install(&published.name, &published.version)?;
        Ok(published)
    }

    pub(crate) fn publish(&mut self, publisher: Publisher, wasm: Vec<u8>) -> Result<PublishedPackage, Problem> {
        let operator = context(Scope::Host, Role::Operator);
        let register = operator.permit_host::<can::AddPublisher>()?;
        let registered = self.host.add_publisher(&operator, &register, &publisher, None, Keep::nothing());
        match self.runtime.block_on(registered) {
            Ok(_) | Err(Problem::Conflict(_)) => {}
            Err(problem) => return Err(problem),
        }
        let author = context(Scope::Publisher(publisher), Role::Publisher);
        let permit = author.permit_publisher::<can::PublishPackage>()?;
        let published = self.runtime.block_on(self.host.publish(&author, &permit, wasm))?;
        self.published.insert(published.digest.hex());
        let permit = operator.permit_package::<can::GrantPackage>(&published.name)?;
        let to = Grantee::Tenant(self.tenant.clone());
        self.runtime.block_on(self.host.grant(&operator, &permit, &to, &VersionRange::ALL, Keep::nothing()))?;
        Ok(published)
    }

    /// Installs a version with all that it asks for.
    pub(crate) fn install(&self, package: &PackageName, version: &Version) -> Result<(), Problem> {
        let (tenant, admin) = (&self.tenant, &self.admin);
        self.runtime.block_on(async {
            let market = admin.permit_market::<can::ShowPackage>()?;
            let (found, _) = self.host.package(admin, &market, package, Some(version)).await?;
            let secrets = &found.published.manifest.secrets;
            let reveal: BTreeSet<SecretName> = secrets.iter().filter(|s| s.reveal).map(|s| s.name.clone()).collect();
            let settings = serde_json::json!({ "origin": "https://acme.example.com" });
            let ask = InstallAsk {
                package: package.clone(),
                version: Some(version.clone()),
                settings,
                reveal,
                channel: Channel::Pinned,
                narrowing: Narrowing::default(),
            };
            let plan = self.host.plan_install(&admin.permit::<can::PlanInstall>(tenant)?, &ask).await?;
            let permit = admin.permit::<can::PutInstall>(tenant)?;
            self.host.put_install(admin, &permit, &ask, &plan.plan.consent, None, Keep::nothing()).await?;
            Ok(())
        })
    }

    pub(crate) fn remove(&self, package: &PackageName) -> Result<(), Problem> {
        let permit = self.admin.permit::<can::RemoveInstall>(&self.tenant)?;
        self.runtime.block_on(self.host.remove_install(&self.admin, &permit, package, None, Keep::nothing()))
    }

    pub(crate) fn invoke(&self, skill: &SkillName, input: &str) -> Result<Invoked, Problem> {
        let permit = self.admin.permit::<can::InvokeSkill>(&self.tenant)?;
        self.runtime.block_on(self.host.invoke(&self.admin, &permit, skill, input.to_owned(), Keep::nothing()))
    }

    /// The run's record.
    pub(crate) fn record(&self, run: &RunId) -> Result<Record, Problem> {
        let permit = self.admin.permit::<can::ShowRuns>(&self.tenant)?;
        self.runtime.block_on(self.host.run(&permit, run))
    }

    /// Calls a skill that may do anything but harm. Gives how it ended and its record.
    pub(crate) fn ends(&self, skill: &SkillName, input: &str) -> Result<(String, Record), String> {
        let (end, run) = match self.invoke(skill, input) {
            Ok(answer) => (Reason::Ok, answer.run),
            Err(Problem::Skill { run, message, .. }) => {
                // Its own words, which may be none.
                if message.chars().count() > 2001 {
                    return Err(format!("a skill's message of {} bytes is passed on", message.len()));
                }
                (Reason::SkillError, run)
            }
            Err(Problem::Run { run, reason, message }) => {
                said(&message)?;
                (reason, run)
            }
            Err(other) => return Err(format!("a run ends with {other:?}")),
        };
        if matches!(end, Reason::Cancelled | Reason::Denied) {
            return Err(format!("a run ends with {end}, and nobody cancelled or denied it"));
        }
        let record = self.record(&run).map_err(|e| format!("an answered run has no record: {e}"))?;
        if record.reason != end {
            return Err(format!("it was answered with {end} and recorded with {}", record.reason));
        }
        Ok((end.to_string(), record))
    }

    /// A good guest answers as ever.
    pub(crate) fn still_works(&self) -> Result<(), String> {
        self.answers_true("guest.good")
    }

    /// One that looks at all of its memories and tables finds them as new.
    pub(crate) fn is_clean(&self) -> Result<(), String> {
        self.answers_true("guest.clean")
    }

    fn answers_true(&self, skill: &str) -> Result<(), String> {
        let name = skill.parse().map_err(|e| format!("{e}"))?;
        match self.invoke(&name, "{}") {
            Ok(answer) if answer.output.get() == "true" => Ok(()),
            other => Err(format!("afterwards {skill} gives {other:?}")),
        }
    }

    /// The host's folder holds native code of what is published, and nothing else that a case could have left.
    pub(crate) fn nothing_is_left(&self) -> Result<(), String> {
        let names = |folder: &str| -> Result<BTreeSet<String>> {
            let path = self.folder.path().join(folder);
            fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        };
        let check = || -> Result<()> {
            for process in names("scratch")? {
                let runs = names(&format!("scratch/{process}"))?;
                ensure!(runs.is_empty(), "scratch files are left: {runs:?}");
            }
            for name in names("artifacts")? {
                let (digest, ending) = name.split_once('-').unwrap_or_default();
                ensure!(
                    self.published.contains(digest) && !ending.contains("tmp"),
                    "{name} is left among the artifacts"
                );
            }
            Ok(())
        };
        check().map_err(|e| format!("{e:#}"))
    }

    /// Whether it is time for a new folder.
    pub(crate) fn is_worn_out(&self) -> bool {
        let size = |name: &str| fs::metadata(self.folder.path().join(name)).map_or(0, |file| file.len());
        self.published.len() > MOST_PACKAGES || size("clawhold.db") + size("clawhold.db-wal") > MOST_BYTES
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.runtime.block_on(self.host.stop(Duration::from_secs(1)));
    }
}

fn good() -> Result<Vec<u8>> {
    Ok(Guest::of("good", "(func $run (result i32) (call $yes))").map_err(|e| anyhow!("{e:#}"))?.wasm)
}

fn context(scope: Scope, role: Role) -> Context {
    Context::of_host("fuzz", scope, role)
}
