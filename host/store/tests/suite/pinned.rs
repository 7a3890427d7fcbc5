//! Logins of PostgreSQL that serve one tenant alone.

use clawhold_store::Store;
use clawhold_tenancy::{Digest, TenantId};
use sqlx::Connection as _;

use crate::postgres::{OF_TENANTS, connect, count, run, two_tenants};
use crate::support::{Postgres, event, id, install, publish, tenant};

const LOGIN: &str = "clawhold_test_pinned";

#[tokio::test]
async fn a_pinned_login_meets_no_other_tenant_whatever_it_sets() {
    let database = two_tenants().await;
    let mut superuser = connect(&database.at.superuser).await;
    // Roles are the whole server's, and another test may make this one at the same time.
    let _another_test_did = run(&mut superuser, &format!("CREATE ROLE {LOGIN} LOGIN IN ROLE clawhold_app")).await;
    let pinned = database.at.app.replace("clawhold_test_app@", &format!("{LOGIN}@"));
    let acme = "acme-corp".parse().unwrap();
    // A host that is up when it is pinned is pinned too: what its sessions have prepared was planned without.
    let globex = "globex".parse().unwrap();
    let running = Store::open(&pinned).await.unwrap();
    running.tenant_write(&globex).await.unwrap().commit(event("x.y")).await.unwrap();
    run(&mut superuser, &format!("GRANT clawhold_purge TO {LOGIN}")).await.unwrap();
    let more = Store::pin(&database.at.superuser, LOGIN, &acme).await.unwrap_err().to_string();
    assert!(more.contains("may become clawhold_purge"), "{more}");
    run(&mut superuser, &format!("REVOKE clawhold_purge FROM {LOGIN}")).await.unwrap();
    Store::pin(&database.at.superuser, LOGIN, &acme).await.unwrap();
    assert!(writes_nothing(&running, &globex).await, "it is not pinned");
    Store::pin(&database.at.superuser, LOGIN, &acme).await.unwrap();
    let other = Store::pin(&database.at.superuser, LOGIN, &"globex".parse().unwrap()).await.unwrap_err().to_string();
    assert!(other.contains("pinned to acme-corp"), "{other}");
    let nobody = Store::pin(&database.at.superuser, "clawhold_test_missing", &acme).await.unwrap_err().to_string();
    assert!(nobody.contains("clawhold_test_missing"), "{nobody}");
    assert!(Store::pin(&database.at.app, LOGIN, &acme).await.is_err(), "the host pins nobody");

    let mut app = connect(&pinned).await;
    for role in ["SELECT 1", "SET LOCAL ROLE clawhold_pinned"] {
        for (set, sees) in [("acme-corp", true), ("globex", false), ("_host", false)] {
            let mut tx = app.begin().await.unwrap();
            run(&mut tx, role).await.unwrap();
            run(&mut tx, &format!("SELECT set_config('app.tenant_id', '{set}', true)")).await.unwrap();
            for (table, column) in OF_TENANTS {
                let rows = count(&mut tx, table).await;
                // As the host itself it finds its own tenant and that tenant's tokens.
                let own = count(&mut tx, &format!("{table} WHERE {column} = 'acme-corp'")).await;
                assert_eq!(rows, own, "{table} as {set}");
                assert_eq!(
                    rows > 0,
                    sees || (set == "_host" && ["tenants", "tokens"].contains(&table)),
                    "{table} as {set}"
                );
            }
            let put = format!("INSERT INTO data_keys VALUES ('{set}', 7, '\\x01', 1)");
            assert_eq!(run(&mut tx, &put).await.is_ok(), sees, "{set}");
        }
    }
    assert!(run(&mut app, "SET ROLE clawhold_app").await.is_err(), "it gets rid of its pin");
    for write in [
        "INSERT INTO tenants SELECT 'umbrella', tier, state, created_us FROM tenants",
        "UPDATE tokens SET scope = 'globex'",
        "INSERT INTO tokens (id, scope_kind, scope, name, role, hash, created_us) \
         VALUES ('aaaaaaaaaaab', 'tenant', 'acme-corp', 'x', 'operator', '\\x01', 1)",
        "INSERT INTO tokens (id, scope_kind, scope, name, role, hash, created_us) \
         VALUES ('aaaaaaaaaaac', 'host', '', 'x', 'operator', '\\x01', 1)",
        "UPDATE packages SET created_us = 1",
        "INSERT INTO pinned_logins VALUES ('clawhold_test_app', 'acme-corp')",
        "DELETE FROM pinned_logins",
    ] {
        let mut tx = app.begin().await.unwrap();
        run(&mut tx, "SELECT set_config('app.tenant_id', '_host', true)").await.unwrap();
        assert_eq!(run(&mut tx, write).await.unwrap_or(0), 0, "{write}");
    }
    assert_eq!(count(&mut app, "pinned_logins").await, 1, "its own");
    assert!(count(&mut app, "versions").await > 0, "the index is everybody's to verify");

    // The host of this login works for its tenant, and a month's partition that is made later holds to the pin too.
    let store = Store::open(&pinned).await.unwrap();
    assert_eq!(store.pinned().await.unwrap().as_deref(), Some("acme-corp"));
    store.tenant_write(&acme).await.unwrap().commit(event("x.y")).await.unwrap();
    assert!(store.tenant_write(&globex).await.unwrap().commit(event("x.y")).await.is_err());
    assert!(store.system_write("a test").await.unwrap().commit(event("x.y")).await.is_err());

    // One that could take it off is refused, and one without a pin sees nothing.
    run(&mut superuser, &format!("GRANT clawhold_app TO {LOGIN}")).await.unwrap();
    let both = Store::open(&pinned).await.err().unwrap().to_string();
    assert!(both.contains(&format!("REVOKE clawhold_app FROM {LOGIN}")), "{both}");
    run(&mut superuser, &format!("REVOKE clawhold_app FROM {LOGIN}")).await.unwrap();
    run(&mut superuser, "UPDATE pinned_logins SET login = 'nobody'").await.unwrap();
    assert_eq!(count(&mut app, "tenants").await, 0);
    assert!(store.tenant_write(&acme).await.unwrap().commit(event("x.y")).await.is_err());
    run(&mut superuser, &format!("UPDATE pinned_logins SET login = '{LOGIN}'")).await.unwrap();

    // The others' logins are as they were, and so is this one when its pin is gone.
    assert_eq!(database.store.pinned().await.unwrap(), None);
    tenant(&database.store, "umbrella").await;
    assert!(Store::unpin(&database.at.superuser, LOGIN).await.unwrap());
    assert!(!Store::unpin(&database.at.superuser, LOGIN).await.unwrap());
    let store = Store::open(&pinned).await.unwrap();
    store.tenant_write(&globex).await.unwrap().commit(event("x.y")).await.unwrap();
}

/// The index names all versions, and of packages themselves a login sees no more than its tenant.
#[tokio::test]
async fn a_pinned_login_reads_of_packages_what_its_tenant_owns_was_granted_or_has_installed() {
    let database = Postgres::new().await;
    let store = &database.store;
    let (acme, _globex) = (tenant(store, "acme-corp").await, tenant(store, "globex").await);
    let packages = [
        "acme-own/one",
        "globex-own/one",
        "northwind/granted",
        "northwind/tier",
        "northwind/other",
        "northwind/installed",
    ];
    let mut superuser = connect(&database.at.superuser).await;
    for package in packages {
        publish(store, package, "1.0.0").await;
        let document = format!(
            "INSERT INTO oci_documents (package, version, kind, digest, content) VALUES ('{package}', '1.0.0', 'manifest', '{package}', '{{}}')"
        );
        run(&mut superuser, &document).await.unwrap();
    }
    install(store, &acme, "northwind/installed", &["installed.x"]).await;
    for (name, owner) in [("acme-own", "'acme-corp'"), ("globex-own", "'globex'"), ("northwind", "NULL")] {
        let add = format!(
            "INSERT INTO publishers (name, owner, keys, created_us, created_by) VALUES ('{name}', {owner}, '[]', 1, 'x')"
        );
        run(&mut superuser, &add).await.unwrap();
    }
    for (package, grantee) in
        [("granted", "tenant:acme-corp"), ("tier", "tier:standard"), ("other", "tenant:globex"), ("other", "tier:pro")]
    {
        let grant = format!(
            "INSERT INTO grants (grantee, package, range, created_us, created_by) VALUES ('{grantee}', 'northwind/{package}', '*', 1, 'x')"
        );
        run(&mut superuser, &grant).await.unwrap();
    }
    let login = "clawhold_test_pinned_reader";
    let _another_run_did = run(&mut superuser, &format!("CREATE ROLE {login} LOGIN IN ROLE clawhold_app")).await;
    Store::pin(&database.at.superuser, login, &acme).await.unwrap();
    let pinned = database.at.app.replace("clawhold_test_app@", &format!("{login}@"));

    let mut app = connect(&pinned).await;
    // What is installed is seen with the tenant's own rows, and its tier by whoever looks its tenant up.
    for (set, sees) in [
        ("acme-corp", &["acme-own/one", "northwind/granted", "northwind/installed", "northwind/tier"][..]),
        ("_host", &["acme-own/one", "northwind/granted", "northwind/tier"]),
        ("globex", &["acme-own/one", "northwind/granted"]),
        ("", &["acme-own/one", "northwind/granted"]),
    ] {
        let mut tx = app.begin().await.unwrap();
        run(&mut tx, &format!("SELECT set_config('app.tenant_id', '{set}', true)")).await.unwrap();
        for (what, query) in [
            ("packages", "SELECT name FROM packages ORDER BY 1"),
            (
                "components",
                "SELECT package FROM components JOIN versions ON versions.digest = components.digest ORDER BY 1",
            ),
            ("oci_documents", "SELECT package FROM oci_documents ORDER BY 1"),
        ] {
            let seen: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut *tx).await.unwrap();
            assert_eq!(seen, sees, "{what} as {set}");
        }
        assert_eq!(count(&mut tx, "versions").await, 6, "the index is verified over all");
        let denied = run(&mut tx, "SELECT told FROM market_tellings").await.unwrap_err().to_string();
        assert!(denied.contains("permission denied"), "{denied}");
    }

    // By the doors that a host has.
    let store = Store::open(&pinned).await.unwrap();
    let digest = |package: &str| Digest::of(format!("{package}@1.0.0").as_bytes());
    let mut tx = store.system("a test").await.unwrap();
    for (package, sees) in [("acme-own/one", true), ("globex-own/one", false), ("northwind/other", false)] {
        assert_eq!(tx.component(&digest(package)).await.unwrap().is_some(), sees, "{package}");
    }
    assert!(tx.version(&id("acme-own/one"), &id("1.0.0")).await.unwrap().is_some());
    drop(tx);
    let mut tx = store.tenant(&acme).await.unwrap();
    assert!(tx.component(&digest("northwind/installed")).await.unwrap().is_some());
    assert!(tx.component(&digest("globex-own/one")).await.unwrap().is_none());
    drop(tx);
    // Nor does it see more by saying that more is installed.
    let mut tx = app.begin().await.unwrap();
    run(&mut tx, "SELECT set_config('app.tenant_id', 'acme-corp', true)").await.unwrap();
    let copy = |package: &str| {
        format!(
            "INSERT INTO installs (tenant_id, package, version, digest, settings, consent, reveal, policy, revision, created_us, updated_us, updated_by) \
             SELECT tenant_id, '{package}', version, digest, settings, consent, reveal, policy, revision, 1, 1, 'x' FROM installs WHERE package = 'northwind/installed'"
        )
    };
    run(&mut tx, &copy("northwind/granted")).await.unwrap();
    let refused = run(&mut tx, &copy("globex-own/one")).await.unwrap_err().to_string();
    assert!(refused.contains("row-level security"), "{refused}");
    drop(tx);
    let mut tx = app.begin().await.unwrap();
    run(&mut tx, "SELECT set_config('app.tenant_id', 'acme-corp', true)").await.unwrap();
    let refused = run(&mut tx, "UPDATE installs SET package = 'globex-own/one'").await.unwrap_err().to_string();
    assert!(refused.contains("permission denied"), "{refused}");
    drop(tx);
    // What is installed is changed, and goes on, whatever became of its grant.
    install(&store, &acme, "northwind/installed", &["installed.y"]).await;
    // The others see all of it.
    let mut tx = database.store.system("a test").await.unwrap();
    for package in packages {
        assert!(tx.component(&digest(package)).await.unwrap().is_some(), "{package}");
    }
}

/// Whether a tenant's chain takes no entry, however often it is tried.
async fn writes_nothing(store: &Store, tenant: &TenantId) -> bool {
    for _ in 0..20 {
        if let Ok(tx) = store.tenant_write(tenant).await
            && tx.commit(event("x.y")).await.is_ok()
        {
            return false;
        }
    }
    true
}
