//! What is installed, called, recorded.

use clawhold_tenancy::TenantId;
use clawhold_tenancy::audit::SignedHead;
use clawhold_tenancy::permit as can;
use serde_json::Value;

use super::{REVISION, Routes};
use crate::openapi::Operation;
use crate::page::{Page, PageQuery};
use crate::{audit, installs, runs, skills};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .post::<can::PlanInstall, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}/plan",
            installs::plan,
            Operation::new("planInstall", "What an install would allow, and the word that consents to it")
                .takes::<installs::PlanAsk>()
                .gives::<installs::PlanView>(200),
        )
        .put::<can::PutInstall, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}",
            installs::put,
            Operation::new("putInstall", "Install a package, or change an install")
                .takes::<installs::NewInstall>()
                .gives::<installs::InstallView>(200)
                .field("ETag", REVISION)
                .conditional(),
        )
        .get::<can::ListInstalls, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs",
            installs::list,
            Operation::new("listInstalls", "What is installed")
                .query::<PageQuery>()
                .gives::<Page<installs::InstallView>>(200),
        )
        .get::<can::ListInstalls, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}",
            installs::show,
            Operation::new("showInstall", "An install").gives::<installs::InstallView>(200).field("ETag", REVISION),
        )
        .get::<can::PlanInstall, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}/explain",
            installs::explain,
            Operation::new("explainRequest", "What would become of a request of an installed package; sends nothing")
                .query::<installs::ExplainQuery>()
                .gives::<installs::ExplanationView>(200),
        )
        .post::<can::RollBackInstall, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}/rollback",
            installs::roll_back,
            Operation::new(
                "rollBackInstall",
                "Put the version back that was installed before, with what was agreed to then",
            )
            .takes::<installs::RollBackAsk>()
            .gives::<installs::InstallView>(200)
            .conditional(),
        )
        .delete::<can::RemoveInstall, TenantId, _, _>(
            "/v1/tenants/{tenant}/installs/{publisher}/{name}",
            installs::remove,
            Operation::new(
                "removeInstall",
                "Remove an install: nothing of it runs any more, on any node, within a second",
            )
            .gives_nothing()
            .conditional(),
        )
        .get::<can::ListSkills, TenantId, _, _>(
            "/v1/tenants/{tenant}/skills",
            skills::list,
            Operation::new("listSkills", "The skills that the token may call, with their schemas")
                .query::<PageQuery>()
                .gives::<Page<skills::Callable>>(200),
        )
        .post::<can::InvokeSkill, TenantId, _, _>(
            "/v1/tenants/{tenant}/skills/{skill}/invoke",
            skills::invoke,
            Operation::new("invokeSkill", "Call a skill: the body is its input, as its `input_schema` says")
                .takes::<Value>()
                .gives::<skills::Answered<'static>>(200)
                .field("Clawhold-Run", "The id of the run")
                .field(
                    "RateLimit",
                    "How many calls are left of `max_skill_calls_per_minute`, and seconds until all are",
                )
                .field("RateLimit-Policy", "The quota and its window")
                .or(504),
        )
        .get::<can::ShowRuns, TenantId, _, _>(
            "/v1/tenants/{tenant}/runs",
            runs::list,
            Operation::new("listRuns", "Runs, the newest first, without their logs").query::<PageQuery>().gives::<Page<
                runs::RunView,
            >>(
                200
            ),
        )
        .get::<can::ShowRuns, TenantId, _, _>(
            "/v1/tenants/{tenant}/runs/{run}",
            runs::show,
            Operation::new("showRun", "A run, with its log").gives::<runs::RunView>(200),
        )
        .get::<can::ReadAudit, TenantId, _, _>(
            "/v1/tenants/{tenant}/audit",
            audit::list,
            Operation::new("listAudit", "Entries of the audit log, the newest first")
                .query::<PageQuery>()
                .gives::<Page<audit::EntryView>>(200),
        )
        .get::<can::ReadAudit, TenantId, _, _>(
            "/v1/tenants/{tenant}/audit/head",
            audit::head,
            Operation::new("auditHead", "Where the audit log ends, signed by the host").gives::<SignedHead>(200),
        )
        .get::<can::ReadAudit, TenantId, _, _>(
            "/v1/tenants/{tenant}/audit/verify",
            audit::verify,
            Operation::new("verifyAudit", "Whether the audit log is whole, or where it breaks first")
                .gives::<audit::Verdict>(200),
        )
        .get::<can::ReadAudit, TenantId, _, _>(
            "/v1/tenants/{tenant}/audit/export",
            audit::export,
            Operation::new("exportAudit", "The whole audit log as lines of JSON, in the form of docs/audit.md")
                .gives_lines(200),
        )
}
