//! A whole host in a temporary folder, for trying a package the way a tenant would run it: published, installed with
//! consent, invoked, recorded.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use clawhold_capabilities::Transport;
use clawhold_marketplace::Narrowing;
use clawhold_marketplace::grant::{Grantee, VersionRange};
use clawhold_marketplace::upgrade::Channel;
use clawhold_runtime::{Host, InstallAsk, Invoked, Problem, SkillSpec};
use clawhold_secret_store::SecretValue;
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit as can;
use clawhold_tenancy::run::Record;
use clawhold_tenancy::{Context, PackageName, Publisher, Role, RunId, Scope, SecretName, SkillName, TenantId};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::config::{Config, MarketConfig, SignaturePolicy};
use crate::serve;

/// For whom packages are tried.
const TENANT: &str = "test-tenant";

/// The host and the one package in it.
pub(crate) struct Bench {
    host: Arc<Host>,
    runtime: Runtime,
    tenant: TenantId,
    package: PackageName,
    pub(crate) skills: Vec<SkillSpec>,
    _folder: TempDir,
}

impl Bench {
    /// Publishes the package on a fresh host whose requests leave through `transport`.
    pub(crate) fn with(wasm: Vec<u8>, config: Config, transport: Option<Arc<dyn Transport>>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let tenant: TenantId = TENANT.parse()?;
        let (host, published) = runtime.block_on(async {
            // What is tried out here nobody has signed.
            let market = MarketConfig { signatures: SignaturePolicy::Optional, ..config.market.clone() };
            let config = Config { run_slots: Some(2), market, ..config };
            let host = serve::host(folder.path(), &config, transport).await?;
            let operator = context(Scope::Host, Role::Operator);
            host.create_tenant(
                &operator,
                &operator.permit_host::<can::CreateTenant>()?,
                &tenant,
                "standard",
                Keep::nothing(),
            )
            .await?;
            let publisher: Publisher = clawhold_marketplace::read(&wasm)?.manifest.package.name.publisher();
            let register = operator.permit_host::<can::AddPublisher>()?;
            host.add_publisher(&operator, &register, &publisher, None, Keep::nothing()).await?;
            let cx = context(Scope::Publisher(publisher), Role::Publisher);
            let published = host.publish(&cx, &cx.permit_publisher::<can::PublishPackage>()?, wasm).await?;
            let grant = operator.permit_package::<can::GrantPackage>(&published.name)?;
            host.grant(&operator, &grant, &Grantee::Tenant(tenant.clone()), &VersionRange::ALL, Keep::nothing())
                .await?;
            anyhow::Ok((host, published))
        })?;
        Ok(Self { host, runtime, tenant, package: published.name, skills: published.skills, _folder: folder })
    }

    /// Installs the package with these settings, letting it read the secrets it asks to read.
    pub(crate) fn install(&self, settings: Value) -> anyhow::Result<()> {
        let cx = self.admin();
        self.runtime.block_on(async {
            let mut ask = InstallAsk {
                package: self.package.clone(),
                version: None,
                settings,
                reveal: BTreeSet::new(),
                channel: Channel::Pinned,
                narrowing: Narrowing::default(),
            };
            let plan = cx.permit::<can::PlanInstall>(&self.tenant)?;
            let asked = self.host.plan_install(&plan, &ask).await?;
            ask.reveal = asked.plan.secrets.iter().filter(|s| s.reveal).map(|s| s.name.clone()).collect();
            let planned = self.host.plan_install(&plan, &ask).await?;
            let permit = cx.permit::<can::PutInstall>(&self.tenant)?;
            self.host.put_install(&cx, &permit, &ask, &planned.plan.consent, None, Keep::nothing()).await?;
            Ok(())
        })
    }

    /// Makes these the tenant's secrets, and no others.
    pub(crate) fn secrets(&self, secrets: &[(SecretName, String)]) -> anyhow::Result<()> {
        let cx = self.admin();
        self.runtime.block_on(async {
            for old in self.host.secrets(&cx.permit::<can::ListSecrets>(&self.tenant)?, None, u32::MAX).await? {
                self.host
                    .delete_secret(&cx, &cx.permit::<can::DeleteSecret>(&self.tenant)?, &old.name, Keep::nothing())
                    .await?;
            }
            for (name, value) in secrets {
                let permit = cx.permit::<can::PutSecret>(&self.tenant)?;
                self.host.put_secret(&cx, &permit, name, SecretValue::from(value.clone()), Keep::nothing()).await?;
            }
            Ok(())
        })
    }

    pub(crate) fn invoke(&self, skill: &SkillName, input: &Value) -> Result<Invoked, Problem> {
        let cx = self.admin();
        self.runtime.block_on(async {
            let permit = cx.permit::<can::InvokeSkill>(&self.tenant)?;
            self.host.invoke(&cx, &permit, skill, input.to_string(), Keep::nothing()).await
        })
    }

    /// The newest run, if it is not `before`.
    pub(crate) fn newest_run(&self, before: Option<RunId>) -> anyhow::Result<Option<Record>> {
        let permit = self.admin().permit::<can::ShowRuns>(&self.tenant)?;
        let newest = self.runtime.block_on(self.host.runs(&permit, None, 1))?.into_iter().next();
        Ok(newest.filter(|run| before != Some(run.id)))
    }

    /// The actions that a run recorded, in order.
    pub(crate) fn recorded(&self, run: RunId) -> anyhow::Result<Vec<String>> {
        let permit = self.admin().permit::<can::ReadAudit>(&self.tenant)?;
        let entries = self.runtime.block_on(self.host.audit(&permit, None, 200))?;
        let of_run = entries.into_iter().rev().filter(|(entry, _)| entry.event.run == Some(run));
        Ok(of_run.map(|(entry, _)| entry.event.action).filter(|action| action != "skill.invoke").collect())
    }

    fn admin(&self) -> Context {
        context(Scope::Tenant(self.tenant.clone()), Role::Admin)
    }
}

fn context(scope: Scope, role: Role) -> Context {
    Context::of_host("trial", scope, role)
}
