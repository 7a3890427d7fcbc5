//! A host with one tenant and one small skill.

use std::path::Path;
use std::sync::Arc;

use clawhold_cli::config::Config;
use clawhold_cli::{build_skill, serve};
use clawhold_runtime::{Host, InstallAsk, TokenAsk};
use clawhold_tenancy::permit as can;
use clawhold_tenancy::{Actor, Context, Publisher, RequestId, Role, Scope, TenantId, TraceId};
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
    Context {
        actor: Actor::Host("bench"),
        scope,
        role,
        skills: None,
        request: RequestId::now(),
        trace: TraceId::random(),
    }
}

/// The embedded composition, as `clawhold serve` makes it.
pub(crate) async fn bench(wasm: Vec<u8>) -> anyhow::Result<Bench> {
    let folder = tempfile::tempdir()?;
    let config = Config::parse("tenant_quotas:\n  default:\n    max_concurrent_runs: 1000\n")?;
    let host = serve::host(folder.path(), &config, None).await?;
    let tenant: TenantId = "acme-corp".parse()?;
    let operator = context(Scope::Host, Role::Operator);
    host.create_tenant(&operator, &operator.permit_host::<can::CreateTenant>()?, &tenant, "standard").await?;
    let ask = TokenAsk { name: "bench".to_owned(), role: Role::Caller, skills: None, expires_us: None };
    let token = host.create_token(&operator, &operator.permit::<can::CreateToken>(&tenant)?, ask).await?;
    let publisher: Publisher = "northwind".parse()?;
    let author = context(Scope::Publisher(publisher), Role::Publisher);
    host.publish(&author, &author.permit_publisher::<can::PublishPackage>()?, wasm).await?;
    let admin = context(Scope::Tenant(tenant.clone()), Role::Admin);
    let ask = InstallAsk {
        package: "northwind/probe".parse()?,
        version: None,
        settings: json!({ "origin": "https://acme.example.com" }),
        reveal: std::collections::BTreeSet::new(),
    };
    let plan = host.plan_install(&admin.permit::<can::PlanInstall>(&tenant)?, &ask).await?;
    host.put_install(&admin, &admin.permit::<can::PutInstall>(&tenant)?, &ask, &plan.plan.consent).await?;
    Ok(Bench { host, tenant, caller: token.token.expose_secret().to_owned(), _folder: folder })
}
