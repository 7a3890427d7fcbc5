//! P14: from a revocation to the last run that still began, on two nodes under load. P15: what a tenant sees of a large marketplace.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clawhold_runtime::marketplace::index::Status;
use clawhold_runtime::{Authentic, Host, Problem, StatusAsk};
use clawhold_secret_store::local::MasterKey;
use clawhold_store::{GrantRow, Package, Store};
use clawhold_tenancy::keep::Keep;
use clawhold_tenancy::permit as can;
use clawhold_tenancy::{PackageName, Role, Scope, SkillName, TenantId};
use clawhold_test_support::postgres::{Database, programs};

use crate::Figure;
use crate::setup::{PLENTY, context, host, publish, smallest, tenant_with};

const REVOCATIONS: usize = 15;
const CALLERS: usize = 8;

/// Packages, tenants, and grants of each.
const PACKAGES: u32 = 10_000;
const TENANTS: u32 = 1_000;
const GRANTS: u32 = 100;
const LISTS: u32 = 2_000;

fn database() -> anyhow::Result<Database> {
    Database::new(|owner| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(Store::migrate(owner))?)
    })
    .context("P14 and P15 are measured on PostgreSQL")
}

fn yaml(database: &Database) -> String {
    format!("run_slots: 8\ntenant_quotas:\n  default:\n{PLENTY}database_url: {}\n", database.app)
}

pub(crate) fn revocation() -> anyhow::Result<Vec<Figure>> {
    let database = database()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let rounds = runtime.block_on(async {
        let one = host(folders[0].path(), &yaml(&database)).await?;
        std::fs::copy(folders[0].path().join("master.key"), folders[1].path().join("master.key"))?;
        let other = host(folders[1].path(), &yaml(&database)).await?;
        publish(&one, "guests", smallest("yes")?).await?;
        let tenant: TenantId = "acme-corp".parse()?;
        tenant_with(&one, &tenant, &["guests/yes"]).await?;
        let mut rounds = Vec::new();
        for _ in 0..REVOCATIONS {
            for node in [&one, &other] {
                until_it_runs(node, &tenant).await?;
            }
            rounds.push(revoked(&one, &other, &tenant).await?);
            set(&one, Status::Active).await?;
        }
        anyhow::Ok(rounds)
    })?;
    Ok(vec![Figure {
        id: "P14",
        name: "from the call that revokes to the beginning of the last accepted run, two nodes",
        unit: "s",
        target: "<= 1",
        rounds,
    }])
}

async fn call(node: &Arc<Host>, tenant: &TenantId) -> anyhow::Result<bool> {
    let cx = context(Scope::Tenant(tenant.clone()), Role::Caller);
    let permit = cx.permit::<can::InvokeSkill>(tenant)?;
    let skill: SkillName = "guest.yes".parse()?;
    match node.invoke(&cx, &permit, &skill, "{}".to_owned(), Keep::nothing()).await {
        Ok(_) => Ok(true),
        Err(Problem::Stopped(_) | Problem::Run { .. }) => Ok(false),
        Err(problem) => Err(problem.into()),
    }
}

async fn until_it_runs(node: &Arc<Host>, tenant: &TenantId) -> anyhow::Result<()> {
    let began = Instant::now();
    while !call(node, tenant).await? {
        ensure!(began.elapsed() < Duration::from_secs(10), "it does not come back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn set(node: &Host, status: Status) -> anyhow::Result<()> {
    let operator = context(Scope::Host, Role::Operator);
    let package: PackageName = "guests/yes".parse()?;
    let permit = operator.permit_package::<can::SetPackageStatus>(&package)?;
    let ask = StatusAsk { version: "1.0.0".parse()?, status, advisory: "measured".to_owned() };
    node.set_status(&operator, &permit, &ask, Keep::nothing()).await?;
    Ok(())
}

/// Seconds from the call that revokes to the beginning of the last run that was let begin.
async fn revoked(one: &Arc<Host>, other: &Arc<Host>, tenant: &TenantId) -> anyhow::Result<f64> {
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|n| {
            let node = Arc::clone(if n % 2 == 0 { one } else { other });
            let (tenant, stop) = (tenant.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut last = None;
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    if call(&node, &tenant).await? {
                        last = Some(began);
                    }
                }
                anyhow::Ok(last)
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    set(one, Status::Revoked).await?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stop.store(true, Ordering::Relaxed);
    let mut last = began;
    for caller in callers {
        if let Some(began) = caller.await?? {
            last = last.max(began);
        }
    }
    Ok(last.duration_since(began).as_secs_f64())
}

pub(crate) fn listing() -> anyhow::Result<Vec<Figure>> {
    let database = database()?;
    let folder = tempfile::tempdir()?;
    // What the host lists it has marked itself.
    let marks = Authentic::new(MasterKey::open_or_create(folder.path())?.derive("market-rows"));
    let packages = rows(
        "packages (name, created_us, published, newest, about, words, mac)",
        (1..=PACKAGES).map(|n| {
            let (name, about) = (package(n)?, ABOUT.to_owned());
            let row = Package { name, created_us: 1, newest: "1.0.0".to_owned(), about, mac: String::new() };
            let (name, mac) = (&row.name, marks.listed(&row));
            Ok(format!("'{name}', 1, 1, '1.0.0', '{ABOUT}', '{name} looks up accounts a.b', '{mac}'"))
        }),
    )?;
    fill(
        &database,
        "market.sql",
        &format!(
            "{packages}
        INSERT INTO components SELECT 'sha256:' || encode(sha256(n::text::bytea), 'hex'), 'x' FROM generate_series(1, {PACKAGES}) n;
        INSERT INTO versions (package, version, number, digest, size, manifest, descriptors, published_us, published_by)
            SELECT 'publisher-' || n % 100 || '/package-' || n, '1.0.0', 1, 'sha256:' || encode(sha256(n::text::bytea), 'hex'), 1, '{{}}', '[]', 1, 'bench'
            FROM generate_series(1, {PACKAGES}) n;
        INSERT INTO tenants (id, tier, state, created_us) SELECT 'tenant-' || n, 'standard', 'active', 1 FROM generate_series(1, {TENANTS}) n;
        "
        ),
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let host = runtime.block_on(host(folder.path(), &yaml(&database)))?;
    let mut figures = Vec::new();
    let mut alone = Vec::new();
    for (tenants, id) in [(10, "P15few"), (TENANTS, "P15")] {
        fill(&database, "grants.sql", &grants(&marks, tenants)?)?;
        let mut rounds = Vec::new();
        for _ in 0..5 {
            rounds.push(runtime.block_on(lists(&host, tenants))?);
        }
        if id == "P15" {
            let flat = rounds.iter().zip(&alone).map(|(many, few)| many / few).collect();
            figures.push(Figure {
                id: "P15flat",
                name: "the same ÷ with 10 tenants",
                unit: "ratio",
                target: "~ 1",
                rounds: flat,
            });
        } else {
            alone.clone_from(&rounds);
        }
        let name = if id == "P15" {
            "all packages that a tenant sees, of 10,000, among 1,000 tenants with 100 grants each, p99"
        } else {
            "the same among 10 tenants"
        };
        let target = if id == "P15" { "<= 10" } else { "-" };
        figures.push(Figure { id, name, unit: "ms", target, rounds });
    }
    Ok(figures)
}

/// A package's summary, as it is kept for lists.
const ABOUT: &str = r#"{"description":"Looks up accounts","skills":["a.b"],"hosts":["api.example.com"],"secrets":["token"],"wasi":false,"signed":true}"#;

fn package(n: u32) -> anyhow::Result<PackageName> {
    Ok(format!("publisher-{}/package-{n}", n % 100).parse()?)
}

/// What each of so many tenants is granted: other packages each.
fn grants(marks: &Authentic, tenants: u32) -> anyhow::Result<String> {
    let granted =
        (1..=tenants).flat_map(|tenant| (1..=GRANTS).map(move |k| (tenant, 1 + (tenant * 37 + k * 97) % PACKAGES)));
    let row = |(tenant, n)| {
        let grant = GrantRow {
            package: package(n)?,
            grantee: format!("tenant:tenant-{tenant}"),
            range: "*".to_owned(),
            created_us: 1,
            created_by: "bench".to_owned(),
            mac: String::new(),
        };
        let mac = marks.grant(&grant);
        Ok(format!("'{}', '{}', '*', 1, 'bench', '{mac}'", grant.grantee, grant.package))
    };
    rows("grants (grantee, package, range, created_us, created_by, mac)", granted.map(row))
}

/// Statements that insert these rows, a thousand in each.
fn rows(into: &str, rows: impl Iterator<Item = anyhow::Result<String>>) -> anyhow::Result<String> {
    let rows = rows.collect::<anyhow::Result<Vec<_>>>()?;
    let insert =
        |some: &[String]| format!("INSERT INTO {into} VALUES ({}) ON CONFLICT DO NOTHING;\n", some.join("), ("));
    Ok(rows.chunks(1000).map(insert).collect::<String>() + "ANALYZE;\n")
}

/// Milliseconds of the slowest in a hundred lists.
async fn lists(host: &Host, tenants: u32) -> anyhow::Result<f64> {
    let mut took = Vec::new();
    for n in 0..LISTS {
        let tenant: TenantId = format!("tenant-{}", 1 + n * 7 % tenants).parse()?;
        let cx = context(Scope::Tenant(tenant), Role::Admin);
        let permit = cx.permit_market::<can::ShowPackage>()?;
        let began = Instant::now();
        let (seen, _) = host.packages(&cx, &permit, &[], None, 200).await?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(seen.len() == GRANTS as usize, "a tenant sees {} packages", seen.len());
    }
    took.sort_by(f64::total_cmp);
    Ok(took[took.len() * 99 / 100])
}

/// Runs statements as somebody for whom no rule holds.
fn fill(database: &Database, name: &str, statements: &str) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join(name);
    std::fs::write(&file, statements)?;
    let psql = programs().context("PostgreSQL's programs cannot be found")?.join("psql");
    let done = Command::new(if psql.is_file() { psql.as_path() } else { Path::new("psql") })
        .args(["-q", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(&file)
        .arg(&database.superuser)
        .status()?;
    ensure!(done.success(), "psql ended with {done}");
    Ok(())
}
