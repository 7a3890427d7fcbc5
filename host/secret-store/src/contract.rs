//! What every driver must do, for the tests of each. Calls panic where one does not.

use clawhold_tenancy::audit::{Event, Outcome};
use clawhold_tenancy::{SecretName, TenantId, TraceId};

use crate::keys::{DataKey, KeyRing};
use crate::{Change, Over, SecretError, SecretStore, SecretValue};

/// An event as a change of this secret brings it.
pub fn event(action: &str, name: &SecretName) -> Event {
    Event {
        at_us: 1,
        actor: "token:ci".to_owned(),
        action: action.to_owned(),
        resource: format!("secret:{name}"),
        outcome: Outcome::Success,
        run: None,
        trace: TraceId::random(),
        detail: Vec::new(),
    }
}

fn value(text: &str) -> SecretValue {
    SecretValue::from(text.to_owned())
}

async fn put(store: &dyn SecretStore, tenant: &TenantId, name: &SecretName, text: &str) -> i64 {
    store.put(tenant, name, value(text), Change::told(event("secret.put", name))).await.expect("it can be put")
}

/// Holds for a store of two tenants that have no secrets yet.
///
/// # Panics
///
/// Where the store does not do what [`SecretStore`] says.
pub async fn a_secret_store_keeps_its_word(store: &dyn SecretStore, acme: &TenantId, globex: &TenantId) {
    let name: SecretName = "salesforce".parse().expect("a name");
    let text = async |tenant: &TenantId| {
        let found = store.get(tenant, &name).await.expect("it can be reached");
        found.map(|found| (found.version, found.value.expose_str().expect("text").to_owned()))
    };
    let versions = async |tenant: &TenantId| {
        let listed = store.versions(tenant, &name).await.expect("it can be reached");
        listed.iter().map(|info| info.version).collect::<Vec<_>>()
    };
    let delete = async |tenant: &TenantId| {
        store.delete(tenant, &name, Change::told(event("secret.delete", &name))).await.expect("it can be reached")
    };

    // What is absent is nothing, and no error.
    assert_eq!((text(acme).await, versions(acme).await), (None, vec![]));
    assert!(store.get_version(acme, &name, 1).await.expect("it can be reached").is_none());
    assert!(!delete(acme).await, "there was nothing to delete");

    // The newest value is the one in use, and older ones can be had.
    assert_eq!(put(store, acme, &name, "one").await, 1);
    assert_eq!(put(store, acme, &name, "two").await, 2);
    assert_eq!(text(acme).await, Some((2, "two".to_owned())));
    assert_eq!(versions(acme).await, [2, 1]);
    let first = store.get_version(acme, &name, 1).await.expect("it can be reached");
    assert_eq!(first, Some(value("one")));
    assert!(store.get_version(acme, &name, 3).await.expect("it can be reached").is_none());

    // One tenant's are no other's.
    assert_eq!((text(globex).await, versions(globex).await), (None, vec![]));
    assert!(store.get_version(globex, &name, 1).await.expect("it can be reached").is_none());
    assert!(!delete(globex).await);
    assert_eq!((store.count(globex).await.expect("it can be reached"), store.count(acme).await.ok()), (0, Some(1)));
    assert_eq!(put(store, globex, &name, "globex's").await, 1);
    assert_eq!(text(acme).await, Some((2, "two".to_owned())));

    // Over no version but the one that was seen.
    let over = |version| Change { over: Over::Version(version), ..Change::told(event("secret.put", &name)) };
    let refused = store.put(acme, &name, value("late"), over(1)).await;
    assert!(matches!(refused, Err(SecretError::Changed)), "{refused:?}");
    assert_eq!((text(acme).await, versions(acme).await), (Some((2, "two".to_owned())), vec![2, 1]));
    assert_eq!(store.put(acme, &name, value("three"), over(2)).await.ok(), Some(3));

    // What is used up is not kept, and takes no other's place among the older ones.
    let used_up = |version| Change { over: Over::UsedUp(version), ..Change::told(event("secret.renew", &name)) };
    let refused = store.put(globex, &name, value("late"), used_up(2)).await;
    assert!(matches!(refused, Err(SecretError::Changed)), "{refused:?}");
    put(store, globex, &name, "second").await;
    for version in 2..22 {
        let renewed = store.put(globex, &name, value("renewed"), used_up(version)).await;
        assert_eq!(renewed.ok(), Some(version + 1));
    }
    assert_eq!((text(globex).await, versions(globex).await), (Some((22, "renewed".to_owned())), vec![22, 1]));
    put(store, globex, &name, "last").await;
    assert_eq!(versions(globex).await, [23, 22, 1]);

    // One holder at a time has what can be used once, and no longer than it may.
    let hour = std::time::Duration::from_hours(1);
    let claim = async |holder: &str, time| store.claim(acme, &name, holder, time).await.expect("it can be reached");
    assert!(claim("a", hour).await && claim("a", hour).await);
    assert!(store.claim(globex, &name, "b", hour).await.expect("it can be reached"), "it is another secret");
    store.release(acme, &name, "b").await.expect("it can be reached");
    assert!(!claim("b", hour).await, "nobody lets go what another one holds");
    store.release(acme, &name, "a").await.expect("it can be reached");
    assert!(claim("b", std::time::Duration::ZERO).await);
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    assert!(claim("c", hour).await, "a holder that died holds it no longer than it said");
    store.release(acme, &name, "c").await.expect("it can be reached");

    // No more secrets than there may be, and still new values of those that there are.
    let second: SecretName = "slack".parse().expect("a name");
    let full = |name: &SecretName| Change { most: 1, ..Change::told(event("secret.put", name)) };
    let refused = store.put(acme, &second, value("x"), full(&second)).await;
    assert!(matches!(refused, Err(SecretError::Full { most: 1, used: 1 })), "{refused:?}");
    assert_eq!(store.put(acme, &name, value("four"), full(&name)).await.ok(), Some(4));

    // Sealed anew, everything reads as before.
    store.reseal(acme).await.expect("it can be sealed anew");
    assert_eq!((text(acme).await, versions(acme).await), (Some((4, "four".to_owned())), vec![4, 3, 2, 1]));
    assert_eq!(store.get_version(acme, &name, 2).await.ok().flatten(), Some(value("two")));

    // Listed by name, a page at a time.
    put(store, acme, &second, "y").await;
    let listed = store.list(acme, None, 1).await.expect("it can be reached");
    assert_eq!(listed.iter().map(|info| (&info.name, info.version)).collect::<Vec<_>>(), [(&name, 4)]);
    let listed = store.list(acme, Some(&name), 10).await.expect("it can be reached");
    assert_eq!(listed.iter().map(|info| &info.name).collect::<Vec<_>>(), [&second]);

    // What is deleted is gone with all its versions, and their numbers never come back.
    assert!(delete(acme).await);
    assert_eq!((text(acme).await, versions(acme).await), (None, vec![]));
    assert!(store.get_version(acme, &name, 1).await.expect("it can be reached").is_none());
    for late in [over(4), used_up(4)] {
        let refused = store.put(acme, &name, value("late"), late).await;
        assert!(matches!(refused, Err(SecretError::Changed)), "what was deleted comes back: {refused:?}");
    }
    assert_eq!(text(acme).await, None);
    assert_eq!(put(store, acme, &name, "five").await, 5);
    assert_eq!(text(globex).await, Some((23, "last".to_owned())));

    // Any bytes, and as many as there may be.
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(64 * 1024).collect();
    let change = Change::told(event("secret.put", &second));
    store.put(acme, &second, SecretValue::from(bytes.clone()), change).await.expect("it can be put");
    let found = store.get(acme, &second).await.expect("it can be reached").expect("it is there");
    assert_eq!(found.value, SecretValue::from(bytes));

    // Several at once: each has a version of its own, and the last one is the newest.
    let puts = ["a", "b", "c", "d"].map(|text| put(store, acme, &name, text));
    let mut given = futures_util::future::join_all(puts).await;
    given.sort_unstable();
    assert_eq!(given, [6, 7, 8, 9]);
    assert_eq!(versions(acme).await.first(), Some(&9));
}

/// Holds for a ring.
///
/// # Panics
///
/// Where the ring does not do what [`KeyRing`] says.
pub async fn a_key_ring_keeps_its_word(ring: &dyn KeyRing) {
    let key = DataKey::generate(3).expect("random bytes");
    let sealed = key.seal(&[b"place"], b"text").expect("it is short");
    let wrapped = ring.wrap("acme-corp", &key).await.expect("it can be reached");
    let opens = async |wrapped: &[u8]| {
        let key = ring.unwrap("acme-corp", 3, wrapped).await.expect("it was wrapped for this owner");
        key.open(&[b"place"], &sealed).expect("it is the same key").to_vec()
    };
    assert_eq!(opens(&wrapped).await, b"text");
    // For no other owner, under no other version, and not if it was changed.
    assert!(ring.unwrap("globex", 3, &wrapped).await.is_err());
    assert!(ring.unwrap("acme-corp", 4, &wrapped).await.is_err());
    for at in 0..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[at] ^= 1;
        assert!(ring.unwrap("acme-corp", 3, &changed).await.is_err(), "byte {at}");
    }
    assert!(ring.unwrap("acme-corp", 3, b"").await.is_err());
    // Nothing is wrapped anew that need not be.
    assert_eq!(ring.rewrap("acme-corp", 3, &wrapped).await.expect("it can be reached"), None);
    // The next key of the ring wraps nothing before somebody has met it.
    let next = ring.prepare().await.expect("it can be reached");
    assert_eq!(ring.prepare().await.ok(), Some(next), "one is made, however often it is asked for");
    assert_eq!(ring.rewrap("acme-corp", 3, &wrapped).await.expect("it can be reached"), None);
    let by_next = ring.wrap_by(next, "acme-corp", &key).await.expect("it can be reached");
    assert_eq!(opens(&by_next).await, b"text");
    assert_ne!(ring.prepare().await.ok(), Some(next), "it is in use by now");
    assert_eq!(opens(&wrapped).await, b"text", "what the older key of the ring has wrapped still opens");
    let anew =
        ring.rewrap("acme-corp", 3, &wrapped).await.expect("it can be reached").expect("an older key wrapped it");
    assert_ne!(anew, wrapped);
    assert_eq!(opens(&anew).await, b"text");
    assert_eq!(ring.rewrap("acme-corp", 3, &anew).await.expect("it can be reached"), None);
    assert!(ring.rewrap("globex", 3, &wrapped).await.is_err());
}
