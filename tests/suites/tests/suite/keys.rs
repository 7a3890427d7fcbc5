//! Data keys and versions of secrets, on each database.

use std::sync::Arc;

use clawhold_runtime::{Details, StoreKeys, StoreRows};
use clawhold_secret_store::CachedSecrets;
use clawhold_secret_store::contract::a_secret_store_keeps_its_word;
use clawhold_secret_store::keys::DataKeys;
use clawhold_secret_store::local::{LocalSecrets, MasterKey};
use clawhold_store::Store;
use serde_json::{Value, json};

use crate::support::{TestHost, on_each_database};

on_each_database![
    the_local_driver_keeps_its_word,
    an_older_value_is_put_back_as_a_new_version,
    keys_are_rotated_while_skills_use_what_they_seal,
    a_tenants_admin_has_no_more_keys_made_than_there_is_time_for,
];

fn the_local_driver_keeps_its_word(test: &TestHost) {
    let tenants = ["acme-corp", "globex", "initech", "umbrella"];
    for tenant in tenants {
        test.tenant(tenant);
    }
    let [acme, globex, initech, umbrella] = tenants.map(|tenant| tenant.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let master = Arc::new(MasterKey::open_or_create(test.folder()).unwrap());
        let store = Store::open(&test.store()).await.unwrap();
        let keys = DataKeys::new(Arc::clone(&master) as _, Arc::new(StoreKeys(store.clone())));
        let rows = || StoreRows::new(store.clone(), Details::new(Arc::clone(&keys)));
        let secrets = LocalSecrets::new(Arc::clone(&keys), Arc::clone(&master), rows());
        a_secret_store_keeps_its_word(&secrets, &acme, &globex).await;
        let cached = CachedSecrets::new(LocalSecrets::new(Arc::clone(&keys), Arc::clone(&master), rows()));
        a_secret_store_keeps_its_word(&cached, &initech, &umbrella).await;
    });
}

fn an_older_value_is_put_back_as_a_new_version(test: &TestHost) {
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let path = "/v1/tenants/acme-corp/secrets/token";
    let put = |value: &str| test.send("PUT", path, &admin, &json!({ "value": value })).ok();
    let sign = || {
        let answer = test.invoke("acme-corp", &admin, "probe.sign", &json!({ "name": "token", "message": "m" }));
        answer.ok()["output"].as_str().unwrap().to_owned()
    };
    let roll_back = |ask: &Value| test.send("POST", &format!("{path}/rollback"), &admin, ask);
    let missing = roll_back(&json!({}));
    assert_eq!((missing.status, missing.problem().as_str()), (404, "not-found"));
    put("one");
    let first = sign();
    let nothing = roll_back(&json!({}));
    assert_eq!((nothing.status, &nothing.body["place"]), (422, &json!("version")));
    put("two");
    assert_ne!(sign(), first);
    assert_eq!(roll_back(&json!({})).ok()["version"], 3);
    assert_eq!(sign(), first, "it holds from the next run on");
    assert_eq!(roll_back(&json!({ "version": 2 })).ok()["version"], 4);
    assert_ne!(sign(), first);
    for (version, says) in [(4, "is the one in use"), (9, "not kept any more; write one of 3, 2, 1"), (-1, "not kept")]
    {
        let refused = roll_back(&json!({ "version": version }));
        assert_eq!(refused.status, 422);
        assert!(refused.body["detail"].as_str().unwrap().contains(says), "{}", refused.body);
    }
    let versions = test.get(&format!("{path}/versions"), &admin).ok();
    let versions: Vec<_> = versions["items"].as_array().unwrap().iter().map(|item| item["version"].clone()).collect();
    assert_eq!(versions, [4, 3, 2, 1]);
    let told = test.audit("acme-corp", &admin);
    let told: Vec<_> = told.iter().filter(|entry| entry["action"] == "secret.rollback").collect();
    assert_eq!(told.last().unwrap()["detail"], json!({ "restores": 2, "version": 4 }), "{told:?}");
    test.send("DELETE", path, &admin, &Value::Null).ok();
    assert_eq!(test.get(&format!("{path}/versions"), &admin).status, 404);
    assert_eq!(roll_back(&json!({ "version": 1 })).status, 404, "what is deleted stays deleted");
}

fn keys_are_rotated_while_skills_use_what_they_seal(test: &TestHost) {
    let admin = test.with_probe("acme-corp", "https://acme.example.com");
    let globex = test.tenant("globex");
    let put =
        |value: &str| test.send("PUT", "/v1/tenants/acme-corp/secrets/token", &admin, &json!({ "value": value })).ok();
    put("zero");
    put("one");
    let ask = json!({ "name": "token", "message": "m" });
    let sign = || test.invoke("acme-corp", &admin, "probe.sign", &ask).ok()["output"].clone();
    let signed = sign();
    let rotate = |token: &str, tenant: &str, ask: &Value| {
        test.send("POST", &format!("/v1/tenants/{tenant}/keys/rotate"), token, ask)
    };
    // Whatever the moment, each run finds its secret.
    let rotated = std::thread::scope(|scope| {
        let signing: Vec<_> = (0..3).map(|_| scope.spawn(|| (0..20).all(|_| sign() == signed))).collect();
        let rotated: Vec<Value> = (0..5).map(|_| rotate(&admin, "acme-corp", &json!({})).ok()).collect();
        assert!(signing.into_iter().all(|signing| signing.join().unwrap()));
        rotated
    });
    let version = |rotated: &Value| (rotated["key_version"].clone(), rotated["resealed"].clone());
    let expected: Vec<_> = (2..=6).map(|version| (json!(version), json!(2))).collect();
    assert_eq!(rotated.iter().map(version).collect::<Vec<_>>(), expected);
    // The same time again, as after an interruption: nothing is left to do.
    let again = json!({ "made_before": rotated[4]["made_before"] });
    let done = rotate(&test.operator, "acme-corp", &again).ok();
    assert_eq!((version(&done), &done["is_new"]), ((json!(6), json!(0)), &json!(false)));
    assert_eq!(sign(), signed);
    // What was written under older keys still reads.
    let entries = test.audit("acme-corp", &admin);
    assert!(entries.iter().any(|entry| entry["action"] == "secret.put" && entry["detail"]["version"] == 1));
    // Each is told of before it begins, and when it is done.
    let told: Vec<_> = entries.iter().filter(|entry| entry["action"] == "key.rotate").collect();
    assert_eq!(told.len(), 2 * 6, "{told:?}");
    for (pair, key) in told.chunks(2).zip([2, 3, 4, 5, 6, 6]) {
        assert_eq!(
            (&pair[0]["resource"], &pair[0]["detail"]["begun"]),
            (&json!("data-keys"), &json!(true)),
            "{pair:?}"
        );
        assert_eq!(
            (&pair[1]["resource"], &pair[1]["detail"]["begun"]),
            (&json!(format!("data-key:{key}")), &Value::Null)
        );
    }
    assert_eq!(test.get("/v1/tenants/acme-corp/audit/verify", &admin).ok()["verified"], true);
    let back = test.send("POST", "/v1/tenants/acme-corp/secrets/token/rollback", &admin, &json!({})).ok();
    assert_eq!(back["version"], 3);

    let future = rotate(&admin, "acme-corp", &json!({ "made_before": "2999-01-01T00:00:00Z" }));
    assert_eq!((future.status, &future.body["place"]), (422, &json!("made_before")));
    assert_eq!(rotate(&globex, "acme-corp", &json!({})).status, 404);
    assert_eq!(rotate(&test.operator, "nobody", &json!({})).status, 404);
    assert_eq!(rotate(&admin, "acme-corp", &json!({ "made_before": "tomorrow" })).status, 422);

    let host = |ask: &Value| test.send("POST", "/v1/host/keys/rotate", &test.operator, ask).ok();
    let added = host(&json!({ "add_master": true }));
    assert_eq!((&added["master_version"], &added["is_new"]), (&json!(2), &json!(true)));
    let done = rotate(&test.operator, "acme-corp", &again).ok();
    assert_eq!((&done["key_version"], &done["rewrapped"]), (&json!(6), &json!(6)), "the new master key wraps all");
    assert_ne!(sign(), signed, "it was rolled back");
}

fn a_tenants_admin_has_no_more_keys_made_than_there_is_time_for(test: &TestHost) {
    let admin = test.tenant("acme-corp");
    let globex = test.tenant("globex");
    let rotate = |token: &str, tenant: &str, ask: &Value| {
        test.send("POST", &format!("/v1/tenants/{tenant}/keys/rotate"), token, ask)
    };
    let made: Vec<Value> =
        (0..23).map(|_| rotate(&admin, "acme-corp", &json!({})).ok()["key_version"].clone()).collect();
    assert_eq!(made.last(), Some(&json!(24)), "{made:?}");
    let refused = rotate(&admin, "acme-corp", &json!({}));
    assert_eq!((refused.status, refused.problem().as_str()), (409, "conflict"), "{}", refused.body);
    assert!(refused.body["detail"].as_str().unwrap().contains("more than one an hour"), "{}", refused.body);
    // What makes none goes on, so does whoever has made none, and the operator decides for themselves.
    let before = json!({ "made_before": "2001-01-01T00:00:00Z" });
    assert_eq!(rotate(&admin, "acme-corp", &before).ok()["key_version"], 24);
    assert_eq!(rotate(&globex, "globex", &json!({})).ok()["is_new"], true);
    assert_eq!(rotate(&test.operator, "acme-corp", &json!({})).ok()["key_version"], 25);
}
