//! PostgreSQL's own: roles, and row-level security that holds when a query forgets its tenant.

use clawhold_store::audit::Verification;
use clawhold_store::{RunWriter, Store, StoreError};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use crate::support::{Postgres, broken_at, event, five_entries, install, publish, record, tenant, token};

async fn connect(address: &str) -> AnyConnection {
    AnyConnection::connect(address).await.unwrap()
}

async fn run(connection: &mut AnyConnection, statement: &str) -> Result<u64, sqlx::Error> {
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection).await.map(|done| done.rows_affected())
}

async fn count(connection: &mut AnyConnection, of: &str) -> i64 {
    let counted = AssertSqlSafe(format!("SELECT count(*) AS n FROM {of}"));
    sqlx::query(counted).fetch_one(connection).await.unwrap().try_get("n").unwrap()
}

/// Everything that belongs to tenants, by the column that says whose it is.
const OF_TENANTS: [(&str, &str); 8] = [
    ("tenants", "id"),
    ("tokens", "scope"),
    ("installs", "tenant_id"),
    ("install_skills", "tenant_id"),
    ("secrets", "tenant_id"),
    ("runs", "tenant_id"),
    ("audit", "tenant_id"),
    ("chain_heads", "tenant_id"),
];

/// Two tenants with a row in each table.
async fn two_tenants() -> Postgres {
    let database = Postgres::new().await;
    let store = &database.store;
    publish(store, "northwind/crm", "1.0.0").await;
    for (name, text) in [("acme-corp", "aaaaaaaaaaaa"), ("globex", "bbbbbbbbbbbb")] {
        let id = tenant(store, name).await;
        install(store, &id, "northwind/crm", &["crm.lookup"]).await;
        let mut tx = store.tenant_write(&id).await.unwrap();
        tx.create_token(&token(text)).await.unwrap();
        tx.insert_run(&record()).await.unwrap();
        tx.put_secret(&"salesforce".parse().unwrap(), 1, "x", |_| Ok::<_, StoreError>(vec![1])).await.unwrap();
        tx.commit(event("x.y")).await.unwrap();
    }
    database
}

#[tokio::test]
async fn hostile_02_without_a_tenant_there_are_no_rows_and_no_inserts() {
    let database = two_tenants().await;
    let mut app = connect(&database.at.app).await;
    // A connection on which nothing was set yet, and one that a finished transaction has left an empty setting on.
    for used in [false, true] {
        if used {
            let mut tx = app.begin().await.unwrap();
            run(&mut tx, "SELECT set_config('app.tenant_id', 'acme-corp', true)").await.unwrap();
            assert!(count(&mut tx, "runs").await > 0);
            tx.commit().await.unwrap();
        }
        for (table, _) in OF_TENANTS {
            assert_eq!(count(&mut app, table).await, 0, "{table}");
        }
        let refused =
            run(&mut app, "INSERT INTO chain_heads (tenant_id, seq, hash) VALUES ('acme-corp', 9, 'x')").await;
        assert!(refused.unwrap_err().to_string().contains("row-level security"));
        let refused = run(&mut app, "INSERT INTO chain_heads (tenant_id, seq, hash) VALUES ('', 9, 'x')").await;
        assert!(refused.unwrap_err().to_string().contains("row-level security"));
    }
}

#[tokio::test]
async fn hostile_03_a_query_that_forgets_its_tenant_meets_one_tenants_rows_alone() {
    let database = two_tenants().await;
    let mut app = connect(&database.at.app).await;
    for (tenant, other) in [("acme-corp", "globex"), ("globex", "acme-corp")] {
        for (table, whose) in OF_TENANTS {
            // One connection, transaction after transaction: nothing of the one before is left.
            let mut tx = app.begin().await.unwrap();
            run(&mut tx, &format!("SELECT set_config('app.tenant_id', '{tenant}', true)")).await.unwrap();
            assert!(count(&mut tx, table).await > 0, "{table}");
            assert_eq!(count(&mut tx, &format!("{table} WHERE {whose} <> '{tenant}'")).await, 0, "{table}");
            let stolen = run(&mut tx, &format!("UPDATE {table} SET {whose} = '{other}'")).await;
            assert!(stolen.is_err(), "{table}: a row was given to {other}");
            tx.rollback().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_row_of_one_tenant_is_not_written_while_the_transaction_is_anothers() {
    let database = two_tenants().await;
    let mut app = connect(&database.at.app).await;
    for bound in ["acme-corp", "_host"] {
        let mut tx = app.begin().await.unwrap();
        run(&mut tx, &format!("SELECT set_config('app.tenant_id', '{bound}', true)")).await.unwrap();
        let copied = "INSERT INTO audit SELECT 'globex', 99, at_us, actor, action, resource, outcome, run_id, trace_id, \
                      detail, prev_hash, hash FROM audit LIMIT 1";
        assert!(run(&mut tx, copied).await.unwrap_err().to_string().contains("row-level security"), "{bound}");
        tx.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn the_log_and_the_runs_cannot_be_changed_by_the_apps_role() {
    let database = two_tenants().await;
    let mut app = connect(&database.at.app).await;
    for statement in [
        "UPDATE audit SET action = 'x.z'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "UPDATE runs SET reason = 'ok'",
        "DELETE FROM runs",
        "DELETE FROM chain_heads",
        "UPDATE versions SET digest = ''",
        "UPDATE components SET bytes = ''",
        "ALTER TABLE audit DISABLE ROW LEVEL SECURITY",
        "DROP POLICY own_rows ON audit",
        "CREATE TABLE mine (x TEXT)",
        "SET ROLE clawhold_purge",
        "SET SESSION AUTHORIZATION clawhold_test_owner",
    ] {
        let refused = run(&mut app, statement).await.expect_err(statement).to_string();
        assert!(refused.contains("denied") || refused.contains("must be owner"), "{statement}: {refused}");
    }
}

/// By the catalogue and not by a list of names, so that a table that is added later is in it.
#[tokio::test]
async fn every_table_of_tenants_has_forced_policies_for_reading_and_writing() {
    let database = Postgres::new().await;
    let mut owner = connect(&database.at.owner).await;
    let tables = "SELECT c.relname::text AS name, (c.relrowsecurity AND c.relforcerowsecurity)::int::bigint AS forced, \
                  (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd = '*' \
                   AND p.polqual IS NOT NULL AND p.polwithcheck IS NOT NULL) AS policies, \
                  (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS all_policies \
                  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') \
                  AND c.relname NOT IN ('packages', 'versions', 'components', '_sqlx_migrations')";
    let rows = sqlx::query(tables).fetch_all(&mut owner).await.unwrap();
    assert_eq!(rows.len(), OF_TENANTS.len(), "a table is new: name it here, or among those that are the host's");
    for row in rows {
        let name: String = row.try_get("name").unwrap();
        let facts = ["forced", "policies", "all_policies"].map(|fact| row.try_get::<i64, _>(fact).unwrap());
        assert_eq!(facts, [1, 1, 1], "{name}");
        assert!(OF_TENANTS.iter().any(|(table, _)| *table == name), "{name}");
    }
    // Nothing goes round them.
    for (what, query) in [
        (
            "views",
            "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND relkind IN ('v', 'm')",
        ),
        ("functions", "pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public'"),
        (
            "grants to others",
            "information_schema.role_table_grants WHERE table_schema = 'public' \
             AND grantee NOT IN ('clawhold_app', 'clawhold_purge', 'clawhold_test_owner')",
        ),
        (
            "rights to change the log",
            "information_schema.role_table_grants WHERE table_name IN ('audit', 'runs') AND grantee = 'clawhold_app' \
             AND privilege_type NOT IN ('SELECT', 'INSERT')",
        ),
        (
            "roles that policies do not hold for",
            "pg_roles WHERE rolname LIKE 'clawhold%' AND (rolsuper OR rolbypassrls)",
        ),
    ] {
        assert_eq!(count(&mut owner, query).await, 0, "{what}");
    }
}

#[tokio::test]
async fn a_host_does_not_start_as_a_role_for_which_the_policies_do_not_hold() {
    let database = Postgres::new().await;
    for (address, expected) in [
        (&database.at.superuser, "IN ROLE clawhold_app"),
        (&database.at.owner, "owns the tables"),
        (&database.at.app.replace("clawhold_test_app@", "clawhold_test_nobody@"), "clawhold_test_nobody"),
        (&database.at.app.replace("postgres:", "mysql:"), "`sqlite:` and the path"),
    ] {
        let refused = Store::open(address).await.err();
        let said = refused.unwrap_or_else(|| panic!("{address} was taken")).to_string();
        assert!(said.contains(expected), "{address}: {said}");
    }
    let mut superuser = connect(&database.at.superuser).await;
    run(&mut superuser, "DELETE FROM _sqlx_migrations WHERE version > 1").await.unwrap();
    let said = Store::open(&database.at.app).await.err().unwrap().to_string();
    assert!(said.contains("clawhold db migrate"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_that_write_at_once_leave_unbroken_chains() {
    let database = Postgres::new().await;
    let tenants = [tenant(&database.store, "acme-corp").await, tenant(&database.store, "globex").await];
    let other = Store::open(&database.at.app).await.unwrap();
    let mut tasks = Vec::new();
    for store in [&database.store, &other] {
        let writer = RunWriter::start(store.clone());
        for n in 0..100 {
            // Each group has both tenants' rows, in the same order on either host.
            let (writer, tenant) = (writer.clone(), tenants[n % 2].clone());
            tasks.push(tokio::spawn(async move { writer.append(tenant, Some(record()), vec![event("x.y")]).await }));
        }
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for tenant in &tenants {
        for store in [&database.store, &other] {
            let mut tx = store.tenant(tenant).await.unwrap();
            let found = tx.audit_verify().await.unwrap();
            assert!(matches!(found, Verification::Verified { entries: 100, .. }), "{found:?}");
            assert_eq!(tx.runs(None, 200).await.unwrap().len(), 100);
        }
    }
}

#[tokio::test]
async fn hostile_42_a_changed_chain_is_broken_where_it_was_changed() {
    for (what, place, statement) in [
        ("edited action", 3, "UPDATE audit SET action = 'x.z' WHERE tenant_id = 'acme-corp' AND seq = 3"),
        ("edited detail", 5, "UPDATE audit SET detail = '\\x00' WHERE tenant_id = 'acme-corp' AND seq = 5"),
        ("deleted", 3, "DELETE FROM audit WHERE tenant_id = 'acme-corp' AND seq = 3"),
        ("cut tail", 4, "DELETE FROM audit WHERE tenant_id = 'acme-corp' AND seq >= 4"),
        ("head set back", 4, "UPDATE chain_heads SET seq = 3 WHERE tenant_id = 'acme-corp'"),
        (
            "inserted",
            6,
            "INSERT INTO audit SELECT tenant_id, 6, at_us, actor, action, resource, outcome, run_id, trace_id, detail, \
             prev_hash, hash FROM audit WHERE tenant_id = 'acme-corp' AND seq = 5",
        ),
    ] {
        let database = Postgres::new().await;
        let acme = tenant(&database.store, "acme-corp").await;
        five_entries(&database.store, &acme).await;
        let mut superuser = connect(&database.at.superuser).await;
        assert_eq!(run(&mut superuser, statement).await.unwrap().min(1), 1, "{what}");
        assert_eq!(broken_at(&database.store, &acme, what).await, place, "{what}");
    }
}
