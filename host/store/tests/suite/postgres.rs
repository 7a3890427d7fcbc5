//! PostgreSQL's own: roles, and row-level security that holds when a query forgets its tenant.

use clawhold_store::audit::Verification;
use clawhold_store::{
    Change, Found, KeptAnswer, KeyHolder, NewDatabase, RunWriter, Store, StoreError, UsageRow, WrappedKey,
};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use crate::support::{Postgres, broken_at, event, five_entries, install, publish, record, tenant, token};

pub(crate) async fn connect(address: &str) -> AnyConnection {
    AnyConnection::connect(address).await.unwrap()
}

pub(crate) async fn run(connection: &mut AnyConnection, statement: &str) -> Result<u64, sqlx::Error> {
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(connection).await.map(|done| done.rows_affected())
}

pub(crate) async fn count(connection: &mut AnyConnection, of: &str) -> i64 {
    let counted = AssertSqlSafe(format!("SELECT count(*) AS n FROM {of}"));
    sqlx::query(counted).fetch_one(connection).await.unwrap().try_get("n").unwrap()
}

/// Everything that belongs to tenants, by the column that says whose it is.
pub(crate) const OF_TENANTS: [(&str, &str); 14] = [
    ("tenants", "id"),
    ("tokens", "scope"),
    ("installs", "tenant_id"),
    ("install_skills", "tenant_id"),
    ("secrets", "tenant_id"),
    ("secret_versions", "tenant_id"),
    ("secret_claims", "tenant_id"),
    ("runs", "tenant_id"),
    ("audit", "tenant_id"),
    ("chain_heads", "tenant_id"),
    ("data_keys", "tenant_id"),
    ("kept_answers", "tenant_id"),
    ("keys_under_way", "tenant_id"),
    ("usage", "tenant_id"),
];

/// Two tenants with a row in each table.
pub(crate) async fn two_tenants() -> Postgres {
    let database = Postgres::new().await;
    let store = &database.store;
    publish(store, "northwind/crm", "1.0.0").await;
    for (name, text) in [("acme-corp", "aaaaaaaaaaaa"), ("globex", "bbbbbbbbbbbb")] {
        let id = tenant(store, name).await;
        install(store, &id, "northwind/crm", &["crm.lookup"]).await;
        let mut tx = store.tenant_write(&id).await.unwrap();
        tx.create_token(&token(text)).await.unwrap();
        tx.insert_run(&record()).await.unwrap();
        // The second one makes the first an older version.
        for _ in 0..2 {
            tx.put_secret(&"salesforce".parse().unwrap(), (1, "x"), |_| Ok::<_, StoreError>(vec![1])).await.unwrap();
        }
        let (token, key, fingerprint) = ("0123456789ab".parse().unwrap(), "k".to_owned(), [1; 32]);
        tx.keep_answer(&KeptAnswer { token, key, fingerprint, answer: vec![1], created_us: 1 }).await.unwrap();
        tx.commit(event("x.y")).await.unwrap();
        let (token, key, request) = ("0123456789ab".parse().unwrap(), "k".to_owned(), "r".to_owned());
        let holder = KeyHolder { chain: name.to_owned(), token, key, host: "h".to_owned(), request };
        assert!(store.hold_key(&holder, 2, 1).await.unwrap());
        let usage = UsageRow { slot_us: 1, process: "p".to_owned(), data: "{}".to_owned() };
        store.put_usage(&[(id.clone(), usage)], 0).await.unwrap();
        let key = WrappedKey { version: 1, wrapped: vec![1], created_us: 1 };
        store.add_data_key(name, &key).await.unwrap();
        assert!(store.claim_secret(&id, &"salesforce".parse().unwrap(), "h", 1, 1).await.unwrap());
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
        "UPDATE oci_documents SET content = ''",
        "DELETE FROM oci_documents",
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
                  (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive AND p.polcmd = '*' \
                   AND p.polroles = ARRAY[(SELECT oid FROM pg_roles WHERE rolname = 'clawhold_pinned')] AND p.polqual IS NOT NULL AND p.polwithcheck IS NOT NULL) AS pins, \
                  (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS all_policies \
                  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') \
                  AND c.relname NOT IN ('packages', 'versions', 'components', 'market_index', 'market_roots', 'market_tellings', 'publishers', 'grants', 'oci_documents', \
                  'pinned_logins', '_sqlx_migrations')";
    let rows = sqlx::query(tables).fetch_all(&mut owner).await.unwrap();
    let of_months = rows.iter().filter(|row| row.try_get::<String, _>("name").unwrap().starts_with("audit_")).count();
    assert_eq!(of_months, 1 + 7, "the default partition, this month's, and six to come");
    // chain_starts is written by whoever owns the tables.
    let known = OF_TENANTS.len() + 1;
    assert_eq!(rows.len() - of_months, known, "a table is new: name it here, or among those that are the host's");
    for row in rows {
        let name: String = row.try_get("name").unwrap();
        let facts = ["forced", "policies", "pins", "all_policies"].map(|fact| row.try_get::<i64, _>(fact).unwrap());
        let pins = i64::from(!name.starts_with("audit_"));
        // And one on what may be installed.
        let more = i64::from(name == "installs");
        assert_eq!(facts, [1, 1, pins, 1 + pins + more], "{name}");
        let known = OF_TENANTS.iter().any(|(table, _)| *table == name);
        assert!(known || name == "chain_starts" || name.starts_with("audit_"), "{name}");
    }
    // Nothing goes round them.
    for (what, query) in [
        (
            "views",
            "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND relkind IN ('v', 'm')",
        ),
        (
            "functions that work with another's rights, or that the app may call",
            "pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public' \
             AND (p.prosecdef OR has_function_privilege('clawhold_app', p.oid, 'EXECUTE') \
             OR p.proname <> 'sees_package' AND has_function_privilege('clawhold_pinned', p.oid, 'EXECUTE'))",
        ),
        (
            "grants on partitions",
            "information_schema.role_table_grants WHERE table_schema = 'public' AND table_name LIKE 'audit_%' \
             AND grantee <> 'clawhold_test_owner'",
        ),
        (
            "grants to others",
            "information_schema.role_table_grants WHERE table_schema = 'public' \
             AND grantee NOT IN ('clawhold_app', 'clawhold_purge', 'clawhold_pinned', 'clawhold_test_owner')",
        ),
        (
            "rights to change the log",
            "information_schema.role_table_grants WHERE table_name IN ('audit', 'runs') AND grantee IN ('clawhold_app', 'clawhold_pinned') \
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
    // Rights that are one SET ROLE away.
    let mut superuser = connect(&database.at.superuser).await;
    let becomes = database.at.app.replace("clawhold_test_app@", "clawhold_test_becomes@");
    let make = "CREATE ROLE clawhold_test_becomes LOGIN NOINHERIT IN ROLE clawhold_app, clawhold_test_owner";
    let _another_run_did = run(&mut superuser, make).await;
    let said = Store::open(&becomes).await.err().unwrap().to_string();
    assert!(said.contains("owns the tables"), "{said}");
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
            tasks.push(tokio::spawn(
                async move { writer.append(tenant, Some(record()), vec![event("x.y")], None).await },
            ));
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

#[tokio::test]
async fn hostile_03_a_pool_of_one_connection_hands_nothing_on() {
    let database = two_tenants().await;
    let store = Store::open_with(&database.at.app, 1).await.unwrap();
    let [acme, globex] = ["acme-corp", "globex"].map(|id| id.parse().unwrap());
    for round in 0..20 {
        let (tenant, other) = if round % 2 == 0 { (&acme, &globex) } else { (&globex, &acme) };
        // Committed, dropped midway, and failed: the connection's next user has none of it.
        let mut tx = store.tenant_write(tenant).await.unwrap();
        match round % 3 {
            0 => drop(tx.commit(event("x.y")).await.unwrap()),
            1 => drop(tx),
            _ => tx.insert_run(&record()).await.unwrap(),
        }
        let mut tx = store.tenant(other).await.unwrap();
        assert!(tx.runs(None, 10).await.unwrap().len() == 1, "{round}");
        let entries = tx.audit(None, 200).await.unwrap();
        drop(tx);
        assert_eq!(store.tenant(other).await.unwrap().audit_head().await.unwrap().seq, entries[0].seq);
        let mut tx = store.system("look").await.unwrap();
        assert!(tx.audit(None, 10).await.unwrap().iter().all(|entry| entry.event.action != "x.y"));
    }
}

#[tokio::test]
async fn hostile_04_a_partition_is_not_read_directly() {
    let database = two_tenants().await;
    let mut owner = connect(&database.at.owner).await;
    let partitions = "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'audit'::regclass";
    let partitions = sqlx::query(partitions).fetch_all(&mut owner).await.unwrap();
    let mut app = connect(&database.at.app).await;
    for row in partitions {
        let name: String = row.try_get("name").unwrap();
        let mut tx = app.begin().await.unwrap();
        run(&mut tx, "SELECT set_config('app.tenant_id', 'acme-corp', true)").await.unwrap();
        let denied = run(&mut tx, &format!("SELECT * FROM {name}")).await.unwrap_err().to_string();
        assert!(denied.contains("permission denied"), "{name}: {denied}");
        tx.rollback().await.unwrap();
        let denied = run(&mut app, &format!("INSERT INTO {name} SELECT * FROM audit")).await.unwrap_err().to_string();
        assert!(denied.contains("permission denied"), "{name}: {denied}");
    }
    for call in ["own_rows_only('audit')", "add_audit_month(now()::date)"] {
        let denied = run(&mut app, &format!("SELECT {call}")).await.unwrap_err().to_string();
        assert!(denied.contains("permission denied"), "{call}: {denied}");
    }
}

#[tokio::test]
async fn changes_are_told_to_other_hosts_and_silence_is_noticed() {
    let database = two_tenants().await;
    let mut changes = database.store.changes().unwrap();
    assert_eq!(changes.next().await, Change::Listening);
    let other = Store::open(&database.at.app).await.unwrap();
    let mut tx = other.tenant_write(&"acme-corp".parse().unwrap()).await.unwrap();
    assert!(tx.revoke_token(&"aaaaaaaaaaaa".parse().unwrap(), 9).await.unwrap());
    assert!(tx.remove_install(&"northwind/crm".parse().unwrap(), None).await.unwrap());
    tx.commit(event("x.y")).await.unwrap();
    assert_eq!(changes.next().await, Change::Token("aaaaaaaaaaaa".to_owned()));
    assert_eq!(changes.next().await, Change::Installs("acme-corp".to_owned()));
    let mut superuser = connect(&database.at.superuser).await;
    let listens = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE query LIKE 'LISTEN%' AND datname = current_database()";
    assert!(run(&mut superuser, listens).await.unwrap() > 0);
    assert_eq!(changes.next().await, Change::Deaf);
    assert_eq!(changes.next().await, Change::Listening, "it comes back alone");
}

#[tokio::test]
async fn a_new_database_has_two_roles_and_a_host_starts_on_it() {
    let there = Postgres::new().await;
    let unique = std::process::id();
    let new = NewDatabase {
        database: format!("clawhold_init_{unique}"),
        owner: format!("clawhold_init_owner_{unique}"),
        owner_password: "one1".to_owned(),
        host: format!("clawhold_init_host_{unique}"),
        host_password: "two2".to_owned(),
    };
    assert_eq!(Store::init(&there.at.superuser, &new).await.unwrap(), Found::default());
    let again = Store::init(&there.at.superuser, &new).await.unwrap();
    assert_eq!(again, Found { owner: true, host: true, database: true }, "nothing is made twice");
    let (server, _) = there.at.superuser.rsplit_once('/').unwrap();
    let at = |role: &str, password: &str| {
        let (_, server) = server.rsplit_once('@').unwrap();
        format!("postgres://{role}:{password}@{server}/{}", new.database)
    };
    let host = at(&new.host, &new.host_password);
    let said = Store::open(&host).await.err().unwrap().to_string();
    assert!(said.contains("clawhold db migrate"), "{said}");
    Store::migrate(&at(&new.owner, &new.owner_password)).await.unwrap();
    let store = Store::open(&host).await.unwrap();
    tenant(&store, "acme-corp").await;
    for wrong in [
        NewDatabase { database: "x; DROP".to_owned(), ..new.clone() },
        NewDatabase { owner: "pg_x".to_owned(), ..new.clone() },
        NewDatabase { host: new.owner.clone(), ..new.clone() },
        NewDatabase { host_password: "it's".to_owned(), ..new.clone() },
    ] {
        assert!(Store::init(&there.at.superuser, &wrong).await.is_err(), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_verify_full_only_a_server_that_the_authority_vouches_for_is_spoken_to() {
    let server = tokio::task::spawn_blocking(|| {
        let server = clawhold_test_support::postgres::Stoppable::start_with_tls().unwrap();
        let database = server.database(|owner| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(Store::migrate(owner))?)
        });
        (server, database.unwrap())
    });
    let (server, database) = server.await.unwrap();
    let authority = server.authority().unwrap().display().to_string();
    let by_name = database.app.replace("@127.0.0.1", "@localhost");
    let store = Store::open(&format!("{by_name}?sslmode=verify-full&sslrootcert={authority}")).await.unwrap();
    tenant(&store, "acme-corp").await;
    let mut superuser = connect(&database.superuser).await;
    let encrypted = "pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'clawhold_test_app' AND s.ssl";
    let plain = "pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'clawhold_test_app' AND NOT s.ssl";
    assert!(count(&mut superuser, encrypted).await > 0);
    assert_eq!(count(&mut superuser, plain).await, 0);
    // Another name than the certificate's, and a certificate that nobody we know has signed.
    for refused in [
        format!("{}?sslmode=verify-full&sslrootcert={authority}", database.app),
        format!("{by_name}?sslmode=verify-full"),
    ] {
        let said = Store::open(&refused).await.err().expect("it was spoken to").to_string();
        assert!(said.contains("certificate"), "{said}");
    }
}
