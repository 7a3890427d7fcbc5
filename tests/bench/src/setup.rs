//! A host with one tenant and one small skill.

use std::path::Path;
use std::sync::Arc;

use clawhold_cli::config::{Config, SignaturePolicy};
use clawhold_cli::{build_skill, serve};
use clawhold_runtime::marketplace::Narrowing;
use clawhold_runtime::marketplace::grant::{Grantee, VersionRange};
use clawhold_runtime::marketplace::upgrade::Channel;
use clawhold_runtime::{Host, InstallAsk, Problem, TokenAsk};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit as can;
use clawhold_tenancy::{Context, Publisher, Role, Scope, TenantId};
use clawhold_test_support::guest::Guest;
use secrecy::ExposeSecret;
use serde_json::json;
use tempfile::TempDir;

/// The skill that is called, and what it is called with.
pub(crate) const SKILL: &str = "probe.echo";
pub(crate) const INPUT: &str = r#"{"text":"hello"}"#;

pub(crate) struct Bench {
    pub(crate) host: Arc<Host>,
    pub(crate) tenant: TenantId,
    pub(crate) caller: String,
    _folder: TempDir,
}

/// The component: the tests' probe, whose echo does as little as a skill can.
pub(crate) fn component() -> anyhow::Result<Vec<u8>> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guests/probe");
    let out = tempfile::NamedTempFile::new()?;
    build_skill(&project, out.path())
}

pub(crate) fn context(scope: Scope, role: Role) -> Context {
    Context::of_host("bench", scope, role)
}

/// The values of a quota that no benchmark uses up: what is measured is not a refusal.
pub(crate) const PLENTY: &str = "    max_concurrent_runs: 1000
    max_queue: 1000
    max_skill_calls_per_minute: 10000000
    max_fuel_per_minute: 100000000000000
    max_audit_records_per_minute: 10000000
    max_http_requests_per_minute: 10000000
    max_egress_mb_per_minute: 1000000
";

/// The embedded composition, as `clawhold serve` makes it, with one tenant that has this package.
pub(crate) async fn bench(wasm: Vec<u8>) -> anyhow::Result<Bench> {
    bench_with(wasm, "").await
}

/// The same with more of a configuration.
pub(crate) async fn bench_with(wasm: Vec<u8>, yaml: &str) -> anyhow::Result<Bench> {
    let folder = tempfile::tempdir()?;
    let host = host(folder.path(), &format!("tenant_quotas:\n  default:\n{PLENTY}{yaml}")).await?;
    let tenant: TenantId = "acme-corp".parse()?;
    publish(&host, "northwind", wasm).await?;
    let caller = tenant_with(&host, &tenant, &["northwind/probe"]).await?;
    Ok(Bench { host, tenant, caller, _folder: folder })
}

/// A folder in memory, where there is such a place: for what would otherwise measure the disk. Its files are not part of
/// this process's memory.
pub(crate) fn in_memory() -> anyhow::Result<TempDir> {
    let shared = Path::new("/dev/shm");
    Ok(if shared.is_dir() { tempfile::tempdir_in(shared)? } else { tempfile::tempdir()? })
}

/// What `clawhold skill new` makes, built.
pub(crate) fn new_skill() -> anyhow::Result<Vec<u8>> {
    let project = tempfile::tempdir()?;
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk-guest/rust").canonicalize()?;
    let fill = |template: &str| {
        let text = template.replace("{{name}}", "hello").replace("{{publisher}}", "northwind").replace("{{wasi}}", "");
        text.replace("{{sdk}}", &format!("{{ path = \"{}\" }}", sdk.display()))
    };
    std::fs::create_dir(project.path().join("src"))?;
    for (name, template) in [
        ("Cargo.toml", include_str!("../../../host/cli/templates/rust/Cargo.toml.txt")),
        ("skill.toml", include_str!("../../../host/cli/templates/rust/skill.toml.txt")),
        ("src/lib.rs", include_str!("../../../host/cli/templates/rust/lib.rs.txt")),
    ] {
        std::fs::write(project.path().join(name), fill(template))?;
    }
    let out = tempfile::NamedTempFile::new()?;
    build_skill(project.path(), out.path())
}

/// A host with this configuration.
pub(crate) async fn host(folder: &Path, yaml: &str) -> anyhow::Result<Arc<Host>> {
    let mut config = Config::parse(yaml)?;
    config.market.signatures = SignaturePolicy::Optional;
    serve::host(folder, &config, None).await
}

pub(crate) async fn publish(host: &Arc<Host>, publisher: &str, wasm: Vec<u8>) -> anyhow::Result<()> {
    let publisher: Publisher = publisher.parse()?;
    let operator = context(Scope::Host, Role::Operator);
    let register = operator.permit_host::<can::AddPublisher>()?;
    match host.add_publisher(&operator, &register, &publisher, None, Keep::nothing()).await {
        Ok(_) | Err(Problem::Conflict(_)) => {}
        Err(problem) => return Err(problem.into()),
    }
    let author = context(Scope::Publisher(publisher), Role::Publisher);
    let published = host.publish(&author, &author.permit_publisher::<can::PublishPackage>()?, wasm).await?;
    let grant = operator.permit_package::<can::GrantPackage>(&published.name)?;
    let to = Grantee::Tier("standard".to_owned().try_into().map_err(anyhow::Error::msg)?);
    host.grant(&operator, &grant, &to, &VersionRange::ALL, Keep::nothing()).await?;
    Ok(())
}

/// A new tenant with these packages installed; gives the token of a caller.
pub(crate) async fn tenant_with(host: &Arc<Host>, tenant: &TenantId, packages: &[&str]) -> anyhow::Result<String> {
    tenant_with_origin(host, tenant, packages, "https://acme.example.com").await
}

/// The same, whose skills may reach this origin.
pub(crate) async fn tenant_with_origin(
    host: &Arc<Host>,
    tenant: &TenantId,
    packages: &[&str],
    origin: &str,
) -> anyhow::Result<String> {
    let operator = context(Scope::Host, Role::Operator);
    host.create_tenant(&operator, &operator.permit_host::<can::CreateTenant>()?, tenant, "standard", Keep::nothing())
        .await?;
    let ask = TokenAsk { name: "bench".to_owned(), role: Role::Caller, skills: None, expires_us: None };
    let token =
        host.create_token(&operator, &operator.permit::<can::CreateToken>(tenant)?, ask, Keep::nothing()).await?;
    let admin = context(Scope::Tenant(tenant.clone()), Role::Admin);
    for package in packages {
        let ask = InstallAsk {
            package: package.parse()?,
            version: None,
            settings: json!({ "origin": origin }),
            reveal: std::collections::BTreeSet::new(),
            channel: Channel::Pinned,
            narrowing: Narrowing::default(),
        };
        let plan = host.plan_install(&admin.permit::<can::PlanInstall>(tenant)?, &ask).await?;
        host.put_install(
            &admin,
            &admin.permit::<can::PutInstall>(tenant)?,
            &ask,
            &plan.plan.consent,
            None,
            Keep::nothing(),
        )
        .await?;
    }
    Ok(token.token.expose_secret().to_owned())
}

/// The smallest skill: it answers `true`.
pub(crate) fn smallest(name: &str) -> anyhow::Result<Vec<u8>> {
    Ok(Guest::of(name, "(func $run (result i32) (call $yes))")?.wasm)
}

/// A skill that counts to `rounds` before it answers.
pub(crate) fn counting(name: &str, rounds: u32) -> anyhow::Result<Vec<u8>> {
    counting_within(name, rounds, 10_000)
}

/// The same with so many milliseconds for a run.
pub(crate) fn counting_within(name: &str, rounds: u32, timeout_ms: u32) -> anyhow::Result<Vec<u8>> {
    let text = format!(
        ";;! [limits]\n;;! fuel = 10_000_000_000\n;;! timeout_ms = {timeout_ms}\n\
         (func $run (result i32) (local $i i32) (local $x i32)\n\
         (loop $again\n\
           (local.set $x (i32.xor (i32.mul (local.get $x) (i32.const 31)) (local.get $i)))\n\
           (local.set $i (i32.add (local.get $i) (i32.const 1)))\n\
           (br_if $again (i32.lt_u (local.get $i) (i32.const {rounds}))))\n\
         (if (i32.eq (local.get $x) (i32.const 1)) (then (return (call $number (local.get $x)))))\n\
         (call $yes))"
    );
    Ok(Guest::of(name, &text)?.wasm)
}
