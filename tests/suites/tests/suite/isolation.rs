//! One tenant's things are not another's, and not another's to know of.

use clawhold_store::Store;
use clawhold_test_support::crm::{self, Customer};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _};

use crate::support::{TestHost, crm as crm_package, on_each_database};

on_each_database![
    each_tenant_sees_its_own_accounts_with_its_own_credential,
    hostile_01_another_tenants_things_look_like_things_that_do_not_exist,
    hostile_10_a_revoked_token_is_refused_at_once,
];

fn each_tenant_sees_its_own_accounts_with_its_own_credential(test: &TestHost) {
    let server = test.runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let customers = [("acme-corp", "acme-token"), ("globex", "globex-token")]
            .map(|(name, token)| Customer::sample(name, token).unwrap());
        crm::serve(listener, customers.into()).unwrap()
    });
    test.publish(crm_package());
    let mut found = Vec::new();
    for (tenant, secret) in [("acme-corp", "acme-token"), ("globex", "globex-token")] {
        let admin = test.tenant(tenant);
        test.send("PUT", &format!("/v1/tenants/{tenant}/secrets/salesforce"), &admin, &json!({ "value": secret })).ok();
        test.install(tenant, &admin, "northwind/crm", &json!({ "instance_url": server.url() }), &[]);
        let caller = test.token(tenant, "caller");
        let look_up = |name: &str| test.invoke(tenant, &caller, "crm.lookup_account", &json!({ "name": name })).ok();
        let obrien = look_up("O'Brien & Sons");
        assert!(obrien["output"]["id"].is_string(), "{obrien}");
        assert_eq!(look_up("x' OR Name LIKE '%")["output"], Value::Null, "an injection found something");
        found.push(obrien["output"]["id"].clone());

        let entries = test.audit(tenant, &admin);
        let read: Vec<&Value> = entries.iter().filter(|e| e["action"] == "crm.account.read").collect();
        assert_eq!(read.len(), 1, "{entries:?}");
        let run = entries.iter().find(|e| e["action"] == "skill.invoke").unwrap();
        assert_eq!(run["detail"]["egress"][0]["credential"], "salesforce");
        assert_eq!(run["run"], read[0]["run"], "the skill's entry belongs to its run");
        let text = format!("{entries:?}");
        assert!(!text.contains(secret) && !text.contains("O'Brien"), "a secret or a name is in the audit log");
    }
    assert_ne!(found[0], found[1], "both tenants got the same account");
    let (acme, globex) = (server.seen("acme-corp"), server.seen("globex"));
    assert_eq!((acme.requests, globex.requests, server.refused()), (2, 2, 0));
}

/// An answer, and the transactions that it took: reading, and writing.
type Counted = (crate::support::Answer, u64, u64);

fn hostile_01_another_tenants_things_look_like_things_that_do_not_exist(test: &TestHost) {
    let acme = test.with_probe("acme-corp", "https://acme.example.com");
    let globex = test.tenant("globex");
    // Globex has one of everything.
    test.send("PUT", "/v1/tenants/globex/secrets/token", &globex, &json!({ "value": "globex-secret" })).ok();
    test.install("globex", &globex, "northwind/probe", &json!({ "origin": "https://globex.example.com" }), &[]);
    let run = test.invoke("globex", &globex, "probe.echo", &json!({ "text": "x" })).ok()["run"]["id"].clone();
    let (run, token) = (run.as_str().unwrap(), globex.split('_').nth(1).unwrap());
    test.get(&format!("/v1/tenants/globex/runs/{run}"), &globex).ok();

    let without_ids = |mut answer: crate::support::Answer| {
        for name in ["clawhold-request", "date"] {
            answer.headers.remove(name);
        }
        (answer.status, answer.headers, answer.body)
    };
    // Every route that names a tenant, as the table has them: a new one is in it.
    let table = clawhold_api::table(std::sync::Arc::clone(&test.host));
    let routes: Vec<_> = table.iter().filter(|row| row.path.contains("{tenant}")).collect();
    assert!(routes.len() > 15, "{routes:?}");
    let asks = std::cell::Cell::new(0);
    for row in &routes {
        let path = row
            .path
            .replace("{publisher}/{name}", "northwind/probe")
            .replace("{secret}", "token")
            .replace("{token}", token)
            .replace("{skill}", "probe.echo")
            .replace("{run}", run);
        let ask = |tenant: &str| {
            asks.set(asks.get() + 1);
            let body = (row.method != "GET").then_some(br#"{"value":"x"}"#.as_slice());
            let before = test.host.counts().1;
            let answer = test.ask(row.method, &path.replace("{tenant}", tenant), &acme, body);
            let after = test.host.counts().1;
            // The same work, and so the same time: as many transactions that read, and as many that write.
            (answer, after.reads - before.reads, after.writes - before.writes)
        };
        // The first fills what is kept in memory.
        ask("nobody");
        // What the host does by itself every few seconds may fall into one of them; it does not fall into three.
        let asked = || (ask("globex"), ask("nobody"), ask("%2e%2e%2fglobex"));
        let alike = |(theirs, nobodys, _): &(Counted, Counted, Counted)| (theirs.1, theirs.2) == (nobodys.1, nobodys.2);
        let (theirs, nobodys, odd) = (0..2).map(|_| asked()).find(alike).unwrap_or_else(asked);
        assert_eq!(theirs.0.status, 404, "{} {path}", row.method);
        assert_eq!((theirs.1, theirs.2), (nobodys.1, nobodys.2), "{} {path} takes other work", row.method);
        let theirs = without_ids(theirs.0);
        assert_eq!(theirs, without_ids(nobodys.0), "{} {path}", row.method);
        assert_eq!(theirs, without_ids(odd.0), "{} {path}", row.method);
    }
    // Globex's ids in a path of acme's own name as little as such that nobody has.
    for row in routes.iter().filter(|row| row.path.contains("{run}") || row.path.contains("{token}")) {
        let ask = |run: &str, token: &str| {
            let path = row.path.replace("{tenant}", "acme-corp").replace("{run}", run).replace("{token}", token);
            without_ids(test.ask(row.method, &path, &acme, None))
        };
        let theirs = ask(run, token);
        assert_eq!(theirs.0, 404, "{} {}", row.method, row.path);
        let nobodys = ask("01900000-0000-7000-8000-000000000000", "0123456789abcdef0123456789abcdef");
        assert_eq!(theirs, nobodys, "{} {}", row.method, row.path);
    }
    test.get("/v1/tenants/globex/skills", &globex).ok();

    // Told to the tenant whose token it was, and to nobody else.
    let denied = |tenant: &str, token: &str| {
        test.audit(tenant, token).into_iter().filter(|entry| entry["outcome"] == "denied").count()
    };
    assert_eq!((denied("acme-corp", &acme), denied("globex", &globex)), (asks.get(), 0));
    let secrets = test.get("/v1/tenants/globex/secrets", &globex).ok();
    assert_eq!(secrets["items"][0]["version"], 1, "somebody else's put or delete went through");
}

#[test]
fn a_skill_that_is_not_installed_looks_like_one_that_does_not_exist() {
    let test = TestHost::start();
    test.with_probe("acme-corp", "https://acme.example.com");
    let initech = test.tenant("initech");
    let installed_elsewhere = test.invoke("initech", &initech, "probe.echo", &json!({ "text": "x" }));
    let nowhere = test.invoke("initech", &initech, "no.such.skill", &json!({ "text": "x" }));
    assert_eq!((installed_elsewhere.status, &installed_elsewhere.body), (404, &nowhere.body));
}

#[test]
fn hostile_19_a_secret_that_is_not_the_installs_looks_like_one_that_does_not_exist() {
    let test = TestHost::start();
    let acme = test.with_probe("acme-corp", "https://acme.example.com");
    let globex = test.tenant("globex");
    for (tenant, admin, name) in [("globex", &globex, "token"), ("acme-corp", &acme, "undeclared")] {
        test.send("PUT", &format!("/v1/tenants/{tenant}/secrets/{name}"), admin, &json!({ "value": "v" })).ok();
    }
    let sign = |name: &str| {
        let answer = test.invoke("acme-corp", &acme, "probe.sign", &json!({ "name": name, "message": "m" }));
        (answer.status, answer.body["kind"].clone(), answer.body["detail"].to_string().replace(name, "NAME"))
    };
    // Missing here but there for globex; stored and undeclared; never heard of; of an impossible form.
    let missing = sign("token");
    assert_eq!(missing.0, 422);
    for name in ["undeclared", "nobodys", "../globex/token"] {
        assert_eq!(sign(name), missing, "{name}");
    }
}

fn hostile_10_a_revoked_token_is_refused_at_once(test: &TestHost) {
    let admin = test.tenant("acme-corp");
    let caller = test.token("acme-corp", "caller");
    assert_eq!(test.get("/v1/tenants/acme-corp/skills", &caller).status, 200);
    let id = caller.split('_').nth(1).unwrap();
    assert_eq!(test.ask("DELETE", &format!("/v1/tenants/acme-corp/tokens/{id}"), &admin, None).status, 204);
    let refused = test.get("/v1/tenants/acme-corp/skills", &caller);
    assert_eq!((refused.status, refused.problem()), (401, "unauthenticated".to_owned()));
}

#[test]
fn a_token_with_a_list_of_skills_calls_no_other() {
    let test = TestHost::start();
    test.with_probe("acme-corp", "https://acme.example.com");
    let body = json!({ "name": "echo only", "role": "caller", "skills": ["probe.echo"] });
    let made = test.send("POST", "/v1/tenants/acme-corp/tokens", &test.operator, &body).ok();
    let token = made["token"].as_str().unwrap();
    assert_eq!(test.invoke("acme-corp", token, "probe.echo", &json!({ "text": "x" })).status, 200);
    assert_eq!(test.invoke("acme-corp", token, "probe.whoami", &json!({})).status, 404);
    let admin = test.token("acme-corp", "admin");
    let denied = test.audit("acme-corp", &admin).into_iter().find(|entry| entry["outcome"] == "denied").unwrap();
    assert_eq!((&denied["action"], &denied["resource"]), (&json!("skill.invoke"), &json!("skill:probe.whoami")));
    let listed = test.get("/v1/tenants/acme-corp/skills", token).ok();
    let names: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|skill| skill["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["probe.echo"]);

    // A page that holds nothing for this caller still leads to the next.
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let page = test.get(&format!("/v1/tenants/acme-corp/skills?limit=1{after}"), token).ok();
        seen.extend(page["items"].as_array().unwrap().iter().map(|skill| skill["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["probe.echo"]);
}

#[test]
fn a_host_with_a_pinned_login_serves_its_tenant_and_publishes_nothing() {
    let test = TestHost::on_postgres();
    let acme = test.with_probe("acme-corp", "https://acme.example.com");
    let (globex, publisher) = (test.tenant("globex"), test.publisher("northwind"));
    let before = test.audit("acme-corp", &acme).len();
    let database = test.postgres.clone().unwrap();
    let mut superuser = test.runtime.block_on(AnyConnection::connect(&database.superuser)).unwrap();
    let make = sqlx::query("CREATE ROLE clawhold_test_pinned_host LOGIN IN ROLE clawhold_app");
    let _another_run_did = test.runtime.block_on(make.execute(&mut superuser));
    let tenant = "acme-corp".parse().unwrap();
    let pin = Store::pin(&database.superuser, "clawhold_test_pinned_host", &tenant);
    test.runtime.block_on(pin).unwrap();

    // What it runs it has read itself, and not because it is granted: what is installed goes on.
    let grant = "/v1/market/packages/northwind/probe/grants/tier:standard";
    assert_eq!(test.ask("DELETE", grant, &test.operator, None).status, 204);
    std::fs::remove_dir_all(test.folder().join("artifacts")).unwrap();
    let pinned = database.app.replace("clawhold_test_app@", "clawhold_test_pinned_host@");
    let test = test.restarted(&format!("database_url: {pinned}\n"));
    let text = json!({ "text": "x" });
    test.invoke("acme-corp", &acme, "probe.echo", &text).ok();
    test.send("PUT", "/v1/tenants/acme-corp/secrets/token", &acme, &json!({ "value": "x" })).ok();
    assert_eq!(test.audit("acme-corp", &acme).len(), before + 2);
    for (whose, token) in [("globex", &globex), ("northwind", &publisher), ("operator", &test.operator)] {
        let refused = test.get("/v1/market/packages", token);
        assert_eq!((refused.status, refused.problem()), (401, "unauthenticated".to_owned()), "{whose}");
    }
    let elsewhere = test.get("/v1/tenants/globex/audit", &acme);
    assert_eq!(elsewhere.status, 404, "{}", elsewhere.body);
}
