//! What each resource promises.

use clawhold_store::{
    Conflict, GrantRow, Listed, NewToken, Published, PublisherRow, RunWriter, SealedSecret, StatusChange, Store,
    StoreError, TenantState,
};
use clawhold_tenancy::{Digest, Role, RunId, Scope};

use crate::support::{event, id, install, publication, publish, put, record, run, tenant, token};

fn sealed(bytes: &[u8]) -> impl FnOnce(i64) -> Result<Vec<u8>, StoreError> {
    let bytes = bytes.to_vec();
    move |_| Ok(bytes)
}

fn conflict(error: StoreError) -> Conflict {
    match error {
        StoreError::Conflict(conflict) => conflict,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn nothing_is_kept_without_a_commit(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let mut tx = store.tenant_write(&acme).await.unwrap();
    tx.create_token(&token("0123456789ab")).await.unwrap();
    tx.insert_run(&record()).await.unwrap();
    drop(tx);
    let mut tx = store.system_write("tenant.create").await.unwrap();
    tx.create_tenant(&id("globex"), "standard", 1).await.unwrap();
    tx.append(&acme, &[event("x.y")]).await.unwrap();
    drop(tx);

    let mut tx = store.tenant(&acme).await.unwrap();
    assert!(tx.tokens(None, 10).await.unwrap().is_empty());
    assert!(tx.runs(None, 10).await.unwrap().is_empty());
    assert_eq!(tx.audit_head().await.unwrap().seq, 0);
    assert_eq!(store.system("x").await.unwrap().tenant(&id("globex")).await.unwrap(), None);
}

pub(crate) async fn a_commit_leaves_its_entry_in_the_right_chain(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let head = store.tenant_write(&acme).await.unwrap().commit(event("install.put")).await.unwrap();
    assert_eq!(head.seq, 1);
    let mut tx = store.system_write("tenant.suspend").await.unwrap();
    tx.append(&acme, &[event("tenant.suspend")]).await.unwrap();
    tx.commit(event("tenant.suspend")).await.unwrap();

    let mut tx = store.tenant(&acme).await.unwrap();
    let actions: Vec<_> = tx.audit(None, 10).await.unwrap().into_iter().map(|entry| entry.event.action).collect();
    assert_eq!(actions, ["tenant.suspend", "install.put"]);
    let mut tx = store.system("audit.read").await.unwrap();
    let actions: Vec<_> = tx.audit(None, 10).await.unwrap().into_iter().map(|entry| entry.event.action).collect();
    assert_eq!(actions, ["tenant.suspend", "tenant.create"]);
    tx.audit_verify().await.unwrap();
}

pub(crate) async fn a_tenant_id_is_taken_once(store: &Store) {
    tenant(store, "acme-corp").await;
    let mut tx = store.system_write("tenant.create").await.unwrap();
    let refused = tx.create_tenant(&id("acme-corp"), "standard", 1).await.unwrap_err();
    assert_eq!(conflict(refused), Conflict::Tenant(id("acme-corp")));
}

pub(crate) async fn a_tenant_is_suspended_and_resumed(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    for state in [TenantState::Suspended, TenantState::Active] {
        let mut tx = store.system_write("tenant.patch").await.unwrap();
        assert!(tx.set_tenant_state(&acme, state).await.unwrap());
        assert!(!tx.set_tenant_state(&id("nobody"), state).await.unwrap());
        tx.commit(event("tenant.patch")).await.unwrap();
        assert_eq!(store.system("x").await.unwrap().tenant(&acme).await.unwrap().unwrap().state, state);
    }
}

fn scopes() -> [Scope; 3] {
    [Scope::Host, Scope::Tenant(id("acme-corp")), Scope::Publisher(id("acme-corp"))]
}

/// A token with a role that its scope has.
fn fitting(scope: &Scope, text: &str) -> NewToken {
    let role = match scope {
        Scope::Host => Role::Operator,
        Scope::Tenant(_) => Role::Caller,
        Scope::Publisher(_) => Role::Publisher,
    };
    NewToken { role, ..token(text) }
}

pub(crate) async fn a_token_with_a_role_that_its_scope_has_not_is_no_token(store: &Store) {
    let mut tx = store.system_write("token.create").await.unwrap();
    let made = NewToken { role: Role::Operator, ..token("aaaaaaaaaaaa") };
    tx.create_token(&Scope::Tenant(id("acme-corp")), &made).await.unwrap();
    let refused = tx.token(&id("aaaaaaaaaaaa")).await.unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
}

pub(crate) async fn a_token_is_found_by_its_id_whatever_its_scope(store: &Store) {
    let ids = ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"];
    let mut tx = store.system_write("token.create").await.unwrap();
    for (scope, id) in scopes().iter().zip(ids) {
        tx.create_token(scope, &fitting(scope, id)).await.unwrap();
    }
    let refused = tx.create_token(&Scope::Host, &token(ids[1])).await.unwrap_err();
    assert_eq!(conflict(refused), Conflict::Token(id(ids[1])));
    tx.commit(event("token.create")).await.unwrap();

    let mut tx = store.system("authenticate").await.unwrap();
    for (scope, text) in scopes().iter().zip(ids) {
        let found = tx.token(&id(text)).await.unwrap().unwrap();
        let made = fitting(scope, text);
        assert_eq!(&found.scope, scope);
        assert_eq!((found.made.role, found.made.hash.0), (made.role, made.hash.0));
        assert_eq!((found.made.skills, found.made.expires_us), (made.skills, made.expires_us));
        assert_eq!(tx.tokens(scope, None, 10).await.unwrap().len(), 1);
    }
    assert!(tx.token(&id("dddddddddddd")).await.unwrap().is_none());
}

pub(crate) async fn a_token_is_revoked_once_and_only_in_its_scope(store: &Store) {
    let mut tx = store.system_write("token.revoke").await.unwrap();
    let [host, tenant, publisher] = scopes();
    let name = id("aaaaaaaaaaaa");
    tx.create_token(&tenant, &token("aaaaaaaaaaaa")).await.unwrap();
    assert!(tx.token(&name).await.unwrap().unwrap().is_valid_at(4));
    assert!(!tx.token(&name).await.unwrap().unwrap().is_valid_at(5), "expired");
    assert!(!tx.revoke_token(&host, &name, 2).await.unwrap());
    assert!(!tx.revoke_token(&publisher, &name, 2).await.unwrap());
    assert!(tx.revoke_token(&tenant, &name, 2).await.unwrap());
    assert!(!tx.revoke_token(&tenant, &name, 3).await.unwrap());
    let revoked = tx.token(&name).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_us, Some(2));
    assert!(!revoked.is_valid_at(4));
}

pub(crate) async fn a_version_is_final(store: &Store) {
    publish(store, "northwind/crm", "1.0.0").await;
    let mut tx = store.system_write("package.publish").await.unwrap();
    let first = publication("northwind/crm", "1.0.0");
    let digest = Digest::of(b"northwind/crm@1.0.0");
    assert_eq!(tx.publish(&first, b"northwind/crm@1.0.0", 1).await.unwrap(), Published::Identical(digest));
    let refused = tx.publish(&first, b"something else", 1).await.unwrap_err();
    assert!(matches!(conflict(refused), Conflict::Version { digest: there, .. } if there == digest));
    // The same component under another name is stored once, and found under both.
    let other = publication("northwind/copy", "1.0.0");
    assert_eq!(tx.publish(&other, b"northwind/crm@1.0.0", 1).await.unwrap(), Published::New(digest));

    let found = tx.version(&id("northwind/crm"), &semver::Version::new(1, 0, 0)).await.unwrap().unwrap();
    assert_eq!((found.digest, found.size), (digest, 19));
    assert_eq!(found.published.manifest, first.manifest);
    assert_eq!(tx.component(&digest).await.unwrap().as_deref(), Some(&b"northwind/crm@1.0.0"[..]));
    assert_eq!(tx.component(&Digest::of(b"something else")).await.unwrap(), None);
}

pub(crate) async fn the_latest_version_is_the_highest_and_not_the_newest(store: &Store) {
    let mut tx = store.system("package.show").await.unwrap();
    assert!(tx.latest_version(&id("northwind/crm")).await.unwrap().is_none());
    drop(tx);
    for (version, latest) in
        [("2.0.0-rc.1", "2.0.0-rc.1"), ("1.10.0", "1.10.0"), ("1.9.0", "1.10.0"), ("2.0.0-rc.2", "1.10.0")]
    {
        publish(store, "northwind/crm", version).await;
        let mut tx = store.system("package.show").await.unwrap();
        let found = tx.latest_version(&id("northwind/crm")).await.unwrap().unwrap();
        assert_eq!(found.published.manifest.package.version.to_string(), latest, "after {version}");
    }
}

pub(crate) async fn an_install_is_put_changed_and_removed(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    publish(store, "northwind/crm", "1.0.0").await;
    publish(store, "northwind/crm", "1.1.0").await;
    install(store, &acme, "northwind/crm", &["crm.lookup", "crm.old"]).await;

    let mut tx = store.tenant_write(&acme).await.unwrap();
    let first = tx.install(&id("northwind/crm")).await.unwrap().unwrap();
    let between = tx.installed_between(&id("northwind/aa"), &id("northwind/dd")).await.unwrap();
    assert_eq!(between, [(id("northwind/crm"), "1.0.0".parse().unwrap(), 2)], "with how many skills it has");
    assert_eq!(first.put, put("northwind/crm", "1.0.0"), "it reads back as it was put");
    let mut changed = put("northwind/crm", "1.1.0");
    changed.updated_us = 99;
    let revision = tx.put_install(&changed, &[id("crm.lookup"), id("crm.new")], None).await.unwrap();
    assert!(revision > first.revision);
    let second = tx.install_of_skill(&id("crm.new")).await.unwrap().unwrap();
    assert_eq!((second.put, second.created_us), (changed, first.created_us));
    assert_eq!(tx.install_of_skill(&id("crm.old")).await.unwrap(), None, "the new version does not offer it");

    assert!(tx.remove_install(&id("northwind/crm"), None).await.unwrap());
    assert!(tx.skills(None, 10).await.unwrap().is_empty());
    let again = tx.put_install(&put("northwind/crm", "1.0.0"), &[id("crm.lookup")], None).await.unwrap();
    assert!(again > revision, "a revision is never used twice");
    tx.commit(event("install.put")).await.unwrap();
}

pub(crate) async fn two_packages_of_a_tenant_cannot_offer_one_skill(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let globex = tenant(store, "globex").await;
    publish(store, "northwind/crm", "1.0.0").await;
    publish(store, "other/crm", "1.0.0").await;
    install(store, &acme, "northwind/crm", &["crm.lookup"]).await;
    let mut tx = store.tenant_write(&acme).await.unwrap();
    let refused =
        tx.put_install(&put("other/crm", "1.0.0"), &[id("other.one"), id("crm.lookup")], None).await.unwrap_err();
    assert!(refused.to_string().contains("northwind/crm"), "{refused}");
    assert_eq!(conflict(refused), Conflict::Skill { skill: id("crm.lookup"), by: id("northwind/crm") });
    drop(tx);
    install(store, &globex, "other/crm", &["crm.lookup"]).await;
    let mut tx = store.tenant(&acme).await.unwrap();
    let offered = tx.install_of_skill(&id("crm.lookup")).await.unwrap().unwrap();
    assert_eq!(offered.put.package, id("northwind/crm"));
}

pub(crate) async fn what_tenants_are_to_be_told_is_a_queue(store: &Store) {
    publish(store, "northwind/crm", "1.0.0").await;
    let change = |status: &str, counter| StatusChange {
        package: id("northwind/crm"),
        version: "1.0.0".parse().unwrap(),
        status: status.to_owned(),
        advisory: "x".to_owned(),
        changed_us: 7,
        counter,
        advisory_mac: "mark".to_owned(),
    };
    let mut tx = store.system_write("package.set_status").await.unwrap();
    // A counter of more digits is later, whatever its text.
    tx.set_status(&change("active", 10)).await.unwrap();
    tx.set_status(&change("revoked", 9)).await.unwrap();
    let missing = StatusChange { version: "9.9.9".parse().unwrap(), ..change("revoked", 11) };
    tx.commit(event("package.set_status")).await.unwrap();
    let mut tx = store.system_write("package.set_status").await.unwrap();
    assert!(matches!(conflict(tx.set_status(&missing).await.unwrap_err()), Conflict::Missing(_)));
    drop(tx);
    let next = async || store.system("x").await.unwrap().next_telling().await.unwrap();
    assert_eq!(store.system("x").await.unwrap().count_tellings(&id("northwind/crm")).await.unwrap(), 2);
    let first = next().await.unwrap();
    assert_eq!((first.counter, first.status.as_str(), first.changed_us, first.told.as_str()), (9, "revoked", 7, ""));
    assert!(store.note_nobody_told(&first, Some("acme-corp")).await.unwrap());
    assert!(!store.note_nobody_told(&first, Some("acme-corp")).await.unwrap(), "somebody else has told them");
    let mut tx = store.system_write("package.tell_tenants").await.unwrap();
    assert!(!tx.note_told(&first, None).await.unwrap());
    let further = next().await.unwrap();
    assert_eq!((further.counter, further.told.as_str()), (9, "acme-corp"));
    assert!(tx.note_told(&further, None).await.unwrap());
    tx.commit(event("package.tell_tenants")).await.unwrap();
    let second = next().await.unwrap();
    assert_eq!((second.counter, second.status.as_str()), (10, "active"));
    assert!(store.note_nobody_told(&second, None).await.unwrap());
    assert_eq!(next().await, None);
}

pub(crate) async fn an_install_needs_its_tenant_and_version(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    publish(store, "northwind/crm", "1.0.0").await;
    for (tenant, version) in [(&acme, "9.9.9"), (&id("nobody"), "1.0.0")] {
        let mut tx = store.tenant_write(tenant).await.unwrap();
        let refused = tx.put_install(&put("northwind/crm", version), &[], None).await.unwrap_err();
        assert!(matches!(conflict(refused), Conflict::Missing(_)));
    }
}

pub(crate) async fn a_secret_has_one_value_and_versions_that_never_come_back(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let name = id("salesforce");
    let mut tx = store.tenant_write(&acme).await.unwrap();
    assert_eq!(tx.put_secret(&name, (1, "a"), sealed(b"one")).await.unwrap(), 1);
    assert_eq!(tx.put_secret(&name, (2, "b"), sealed(b"two")).await.unwrap(), 2);
    let found = tx.secret(&name).await.unwrap().unwrap();
    assert_eq!((found.version, found.sealed.as_slice()), (2, &b"two"[..]));
    let listed = tx.secrets(None, 10).await.unwrap().remove(0);
    assert_eq!((listed.version, listed.created_us, listed.created_by.as_str()), (2, 2, "b"));

    let old = tx.secret_version(&name, 1).await.unwrap().unwrap();
    assert_eq!((old.version, old.sealed.as_slice()), (1, &b"one"[..]));
    assert!(tx.secret_version(&name, 3).await.unwrap().is_none());
    let listed = tx.secret_versions(&name).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|info| (info.version, info.created_us, info.created_by.as_str())).collect();
    assert_eq!(listed, [(2, 2, "b"), (1, 1, "a")]);
    let first = tx.sealed_secrets(None, 1).await.unwrap().remove(0);
    assert_eq!((&first.0, first.1.version), (&name, 1));
    let rest = tx.sealed_secrets(Some(&(first.0, 1)), 10).await.unwrap();
    assert_eq!(rest.iter().map(|(_, sealed)| sealed.version).collect::<Vec<_>>(), [2]);

    assert!(tx.delete_secret(&name).await.unwrap());
    assert!(tx.secret_versions(&name).await.unwrap().is_empty());
    assert!(!tx.delete_secret(&name).await.unwrap());
    assert_eq!(tx.secret(&name).await.unwrap(), None);
    assert!(tx.secrets(None, 10).await.unwrap().is_empty());
    assert_eq!(tx.put_secret(&name, (3, "a"), sealed(b"three")).await.unwrap(), 3);
    tx.commit(event("secret.put")).await.unwrap();
    // Sealed anew in place, unless it is another value by now.
    let seen = SealedSecret { version: 3, sealed: b"three".to_vec() };
    assert!(store.replace_sealed(&acme, &name, &seen, b"3").await.unwrap());
    assert!(!store.replace_sealed(&acme, &name, &seen, b"iii").await.unwrap());
    assert_eq!(store.tenant(&acme).await.unwrap().secret(&name).await.unwrap().unwrap().sealed, b"3");
    // No more of the older ones than a few.
    let mut tx = store.tenant_write(&acme).await.unwrap();
    for _ in 0..20 {
        tx.put_secret(&name, (4, "a"), sealed(b"more")).await.unwrap();
    }
    let kept: Vec<_> = tx.secret_versions(&name).await.unwrap().iter().map(|info| info.version).collect();
    assert_eq!(kept, (14..=23).rev().collect::<Vec<_>>());
    tx.commit(event("secret.put")).await.unwrap();

    let mut tx = store.tenant_write(&id("nobody")).await.unwrap();
    let refused = tx.put_secret(&name, (1, "a"), sealed(b"one")).await.unwrap_err();
    assert!(matches!(conflict(refused), Conflict::Missing(_)));
}

pub(crate) async fn a_run_reads_back_as_it_was_written(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let mut written = record();
    written.usage.fuel = u64::MAX;
    let mut tx = store.tenant_write(&acme).await.unwrap();
    tx.insert_run(&written).await.unwrap();
    let read = tx.run(&written.id).await.unwrap().unwrap();
    assert_eq!(read.usage.fuel, i64::MAX as u64, "more than a column holds is the most that it holds");
    written.usage.fuel = read.usage.fuel;
    assert_eq!(format!("{read:?}"), format!("{written:?}"));
    assert!(tx.run(&RunId::now()).await.unwrap().is_none());
    let refused = tx.insert_run(&written).await.unwrap_err();
    assert!(matches!(conflict(refused), Conflict::Exists(_)));
}

pub(crate) async fn lists_go_on_where_the_last_page_ended(store: &Store) {
    for name in ["cc", "aa", "ee", "bb", "dd"] {
        tenant(store, name).await;
    }
    let mut tx = store.system("tenant.list").await.unwrap();
    let first = tx.tenants(None, 3).await.unwrap();
    let rest = tx.tenants(Some(&first[2].id), 3).await.unwrap();
    let names: Vec<_> = first.iter().chain(&rest).map(|tenant| tenant.id.as_str()).collect();
    assert_eq!(names, ["aa", "bb", "cc", "dd", "ee"]);
    drop(tx);

    let aa = id("aa");
    let writer = RunWriter::start(store.clone());
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(run(&writer, &aa).await);
    }
    runs.reverse();
    let mut tx = store.tenant(&aa).await.unwrap();
    let first = tx.runs(None, 2).await.unwrap();
    let rest = tx.runs(Some(&first[1].id), 9).await.unwrap();
    let listed: Vec<_> = first.iter().chain(&rest).map(|run| run.id).collect();
    assert_eq!(listed, runs, "newest first");
    drop(tx);

    for package in ["northwind/aa", "northwind/bb"] {
        for version in ["1.0.0", "1.1.0"] {
            publish(store, package, version).await;
        }
        install(store, &aa, package, &[&package.replace('/', ".")]).await;
    }
    let mut tx = store.system("package.list").await.unwrap();
    assert_eq!(tx.packages(Listed::All, &[], Some(&id("northwind/aa")), 9).await.unwrap()[0].name, id("northwind/bb"));
    let newest = tx.versions(&id("northwind/aa"), None, 1).await.unwrap().remove(0);
    assert_eq!(newest.published.manifest.package.version.to_string(), "1.1.0");
    let older = tx.versions(&id("northwind/aa"), Some(newest.number), 9).await.unwrap();
    assert_eq!(older.len(), 1);
    drop(tx);
    let mut tx = store.tenant(&aa).await.unwrap();
    assert_eq!(tx.installs(Some(&id("northwind/aa")), 9).await.unwrap().len(), 1);
    let skill = tx.skills(Some(&id("northwind.aa")), 9).await.unwrap().remove(0);
    assert_eq!((skill.skill, skill.package), (id("northwind.bb"), id("northwind/bb")));
}

pub(crate) async fn a_tenant_is_shown_what_is_granted_to_it_or_its_tier_or_is_its_own_page_by_page(store: &Store) {
    let acme = tenant(store, "acme-corp").await;
    let globex = tenant(store, "globex").await;
    for package in [
        "aa/own",
        "bb/both",
        "cc/tier",
        "dd/elsewhere",
        "ee/itself",
        "ff/deleted",
        "gg/own",
        "gg/own-deleted",
        "gg-2/nobody",
    ] {
        publish(store, package, "1.0.0").await;
    }
    let mut tx = store.system_write("publisher.put").await.unwrap();
    for (name, owner) in [("aa", &acme), ("gg", &acme), ("dd", &globex)] {
        let row = PublisherRow {
            name: id(name),
            owner: Some(owner.clone()),
            keys: "[]".to_owned(),
            created_us: 1,
            created_by: "token:operator".to_owned(),
            mac: String::new(),
        };
        assert!(tx.add_publisher(&row).await.unwrap());
    }
    for package in ["ff/deleted", "gg/own-deleted"] {
        assert!(tx.delete_package(&id(package), 2).await.unwrap());
    }
    for (package, grantee) in [
        ("bb/both", "tenant:acme-corp"),
        ("bb/both", "tier:standard"),
        ("cc/tier", "tier:standard"),
        ("dd/elsewhere", "tenant:globex"),
        ("dd/elsewhere", "tier:gold"),
        ("ee/itself", "tenant:acme-corp"),
        // Whose package is deleted, or never was.
        ("ff/deleted", "tenant:acme-corp"),
        ("ff/never", "tier:standard"),
    ] {
        let (package, grantee) = (id(package), grantee.to_owned());
        let created_by = "token:operator".to_owned();
        let mac = String::new();
        tx.put_grant(&GrantRow { package, grantee, range: "*".to_owned(), created_us: 1, created_by, mac })
            .await
            .unwrap();
    }
    tx.commit(event("publisher.put")).await.unwrap();

    let mut tx = store.system("package.list").await.unwrap();
    for limit in 1..=9 {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = tx.packages_for(&acme, "standard", after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit as usize);
            seen.extend(page.into_iter().map(|package| package.name.to_string()));
            let Some(next) = next else { break };
            assert!(after.is_none_or(|after| after < next), "a page leads on");
            after = Some(next);
        }
        assert_eq!(seen, ["aa/own", "bb/both", "cc/tier", "ee/itself", "gg/own"], "{limit} on a page");
    }
}

pub(crate) async fn transactions_are_counted(store: &Store) {
    let before = store.counts();
    let acme = id("acme-corp");
    drop(store.tenant(&acme).await.unwrap());
    drop(store.system("x").await.unwrap());
    drop(store.tenant_write(&acme).await.unwrap());
    store.ready().await.unwrap();
    let after = store.counts();
    assert_eq!((after.reads - before.reads, after.writes - before.writes), (2, 1));
}
