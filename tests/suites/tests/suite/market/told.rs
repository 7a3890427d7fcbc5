//! What tenants are told of the versions that they have.

use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

use super::{package, put};
use crate::support::{TestHost, becomes, on_each_database};

on_each_database![
    each_change_is_told_in_its_order_however_fast_they_come,
    a_publisher_does_not_change_a_package_faster_than_tenants_are_told,
    what_cannot_be_read_stands_before_nobody,
];

/// More than are told in one go.
const TENANTS: usize = 60;

/// What became of versions, as a tenant was told it.
fn told(test: &TestHost, tenant: &str, admin: &str) -> Vec<String> {
    let entries = test.audit(tenant, admin);
    let of_versions = entries.iter().filter(|entry| entry["actor"] == "host:market");
    of_versions.map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
}

fn untold(test: &TestHost) -> i64 {
    let address = test.database();
    test.runtime.block_on(async {
        let mut connection = AnyConnection::connect(&address).await.unwrap();
        let count = sqlx::query_scalar("SELECT count(*) FROM market_tellings");
        count.fetch_one(&mut connection).await.unwrap()
    })
}

fn each_change_is_told_in_its_order_however_fast_they_come(test: &TestHost) {
    let (acme, globex) = (test.tenant("acme-corp"), test.tenant("globex"));
    test.publishes(&package("northwind/crm", "1.0.0", "")).ok();
    put(test, "acme-corp", &acme, "northwind/crm", &json!({})).ok();
    for status in ["revoked", "active", "yanked", "active"] {
        test.becomes(&test.operator, "northwind/crm", "1.0.0", status).ok();
    }
    let all = ["package.revoked", "package.active", "package.yanked", "package.active"];
    assert!(becomes(|| untold(test) == 0), "they are not told");
    assert_eq!(told(test, "acme-corp", &acme), all);
    assert_eq!(told(test, "globex", &globex), [""; 0]);
    let entries = test.audit("acme-corp", &acme);
    let first = entries.iter().find(|entry| entry["action"] == "package.revoked").unwrap();
    assert!(first["detail"].to_string().contains("it rounds prices"), "{first}");
}

#[test]
fn more_tenants_than_are_told_in_one_go_are_each_told_once_also_where_two_hosts_tell_them() {
    let one = TestHost::on_postgres();
    let _other = TestHost::beside(&one, &format!("database_url: {}\n", one.store()));
    one.publishes(&package("northwind/crm", "1.0.0", "")).ok();
    let names: Vec<String> = (0..TENANTS).map(|number| format!("tenant-{number:02}")).collect();
    let admins: Vec<String> = std::thread::scope(|scope| {
        let some = names.chunks(TENANTS / 4).map(|some| {
            let one = &one;
            scope.spawn(move || {
                let make = |name: &String| {
                    let admin = one.tenant(name);
                    put(one, name, &admin, "northwind/crm", &json!({})).ok();
                    admin
                };
                some.iter().map(make).collect::<Vec<_>>()
            })
        });
        let all: Vec<_> = some.collect();
        all.into_iter().flat_map(|some| some.join().unwrap()).collect()
    });
    for status in ["revoked", "active"] {
        one.becomes(&one.operator, "northwind/crm", "1.0.0", status).ok();
    }
    assert!(becomes(|| untold(&one) == 0), "they are not told");
    for (name, admin) in names.iter().zip(&admins) {
        assert_eq!(told(&one, name, admin), ["package.revoked", "package.active"], "{name}");
    }
}

/// Puts rows into the beginning of the queue that nobody can read.
fn damage(test: &TestHost, count: usize) {
    let rows: Vec<String> =
        (0..count).map(|number| format!("(0, 'northwind/crm', 'damaged {number}', 'yanked', '', 0, '', '')")).collect();
    let statement = format!(
        "INSERT INTO market_tellings (counter, package, version, status, advisory, changed_us, told, mac) VALUES {} ON CONFLICT DO NOTHING",
        rows.join(", ")
    );
    let address = test.database();
    test.runtime.block_on(async {
        let mut connection = AnyConnection::connect(&address).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    });
}

fn a_publisher_does_not_change_a_package_faster_than_tenants_are_told(test: &TestHost) {
    let acme = test.tenant("acme-corp");
    test.publishes(&package("northwind/crm", "1.0.0", "")).ok();
    put(test, "acme-corp", &acme, "northwind/crm", &json!({})).ok();
    let author = test.publisher("northwind");
    // The host may have dropped them in between, once or twice.
    let refused = (0..10).find_map(|_| {
        damage(test, 16);
        let answer = test.becomes(&author, "northwind/crm", "1.0.0", "yanked");
        if answer.status == 200 {
            test.becomes(&test.operator, "northwind/crm", "1.0.0", "active").ok();
        }
        (answer.status != 200).then_some(answer)
    });
    let refused = refused.expect("nobody is ever refused");
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("still being told"), "{}", refused.body);
    // To stop a bad version nobody waits.
    test.becomes(&author, "northwind/crm", "1.0.0", "revoked").ok();
    let last = || told(test, "acme-corp", &acme).pop();
    assert!(becomes(|| last().as_deref() == Some("package.revoked")), "{:?}", Value::from(untold(test)));
}

fn what_cannot_be_read_stands_before_nobody(test: &TestHost) {
    let acme = test.tenant("acme-corp");
    test.publishes(&package("northwind/crm", "1.0.0", "")).ok();
    put(test, "acme-corp", &acme, "northwind/crm", &json!({})).ok();
    let before = test.host_chain();
    damage(test, 250);
    test.becomes(&test.operator, "northwind/crm", "1.0.0", "yanked").ok();
    assert!(becomes(|| told(test, "acme-corp", &acme) == ["package.yanked"]), "{}", untold(test));
    assert!(becomes(|| untold(test) == 0), "{}", untold(test));
    assert!(test.host_chain() > before + 1, "it is in the host's chain");
}
