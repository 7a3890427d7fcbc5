use std::time::Instant;

use super::*;
use crate::key::SigningKey;

const SECOND: i64 = 1_000_000;
/// Heads in these tests are of this time and last an hour.
const NOW: i64 = 1_700_000_000 * SECOND;
const HOUR: i64 = 3600 * SECOND;

fn host() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

fn entry(package: &str, version: &str, status: Status, counter: i64) -> Entry {
    Entry {
        package: package.parse().unwrap(),
        version: version.parse().unwrap(),
        digest: Digest::of(format!("{package} {version}").as_bytes()),
        status,
        changed_us: NOW - HOUR,
        counter,
    }
}

fn entries() -> Vec<Entry> {
    vec![
        entry("northwind/crm", "1.10.0", Status::Active, 5),
        entry("northwind/crm", "1.9.0", Status::Yanked, 4),
        entry("globex/mail", "0.1.0", Status::Active, 2),
        entry("northwind/crm", "1.10.0-rc.1", Status::Quarantined, 3),
        entry("northwind/crm-tools", "1.0.0", Status::Active, 1),
    ]
}

fn head(entries: &[Entry], counter: i64) -> Head {
    Head::over(entries, counter, NOW, NOW + HOUR)
}

fn verify(entries: Vec<Entry>, head: &Head, seen: Option<&Seen>, now_us: i64) -> Result<Index, IndexRefused> {
    Index::verify(entries, &head.sign(&host()), &[host().public()], seen, now_us)
}

fn index(entries: Vec<Entry>, counter: i64) -> Index {
    let head = head(&entries, counter);
    verify(entries, &head, None, NOW).unwrap()
}

#[test]
fn a_state_that_was_verified_answers_by_version_and_by_file() {
    let index = index(entries(), 5);
    let crm: PackageName = "northwind/crm".parse().unwrap();
    assert_eq!(index.status(&crm, &Version::new(1, 9, 0)), Some(Status::Yanked));
    assert_eq!(index.status(&crm, &Version::new(1, 8, 0)), None);
    assert_eq!(index.status(&"globex/crm".parse().unwrap(), &Version::new(1, 9, 0)), None);
    let versions: Vec<String> = index.versions(&crm).iter().map(|entry| entry.version.to_string()).collect();
    assert_eq!(versions, ["1.9.0", "1.10.0-rc.1", "1.10.0"], "as versions are ordered, not as text");
    for entry in entries() {
        assert_eq!(index.by_digest(&entry.digest), Some(&entry));
    }
    assert_eq!(index.by_digest(&Digest::of(b"x")), None);
    assert!(index.is_fresh(NOW + HOUR - 1) && !index.is_fresh(NOW + HOUR));
}

#[test]
fn an_empty_index_is_one_too() {
    assert!(index(Vec::new(), 0).versions(&"northwind/crm".parse().unwrap()).is_empty());
}

#[test]
fn hostile_28_an_older_state_is_refused_and_a_newer_one_taken() {
    let newest = index(entries(), 5).seen();
    for (counter, seen_counter, same_root, expected) in [
        (5, 5, true, Ok(())),
        (6, 5, true, Ok(())),
        (6, 5, false, Ok(())),
        (5, 5, false, Err(IndexRefused::Forked(5))),
        (5, 6, true, Err(IndexRefused::RolledBack { found: 5, seen: 6 })),
    ] {
        let root = if same_root { newest.root } else { [1; 32] };
        let seen = Seen { counter: seen_counter, root };
        let said = verify(entries(), &head(&entries(), counter), Some(&seen), NOW).map(|_| ());
        assert_eq!(said, expected, "{counter} after {seen_counter}");
    }
}

#[test]
fn a_state_counts_while_it_is_fresh() {
    let head = head(&entries(), 5);
    for (now_us, expected) in [
        (NOW, Ok(())),
        (NOW + HOUR - 1, Ok(())),
        (NOW + HOUR, Err(IndexRefused::Expired(NOW + HOUR))),
        (NOW - 600 * SECOND, Ok(())),
        (NOW - 600 * SECOND - 1, Err(IndexRefused::FromTheFuture(NOW))),
    ] {
        assert_eq!(verify(entries(), &head, None, now_us).map(|_| ()), expected, "{now_us}");
    }
}

#[test]
fn entries_that_are_not_those_of_the_head_are_refused() {
    let head = head(&entries(), 5);
    let changed = |change: fn(&mut Vec<Entry>)| {
        let mut entries = entries();
        change(&mut entries);
        verify(entries, &head, None, NOW).map(|_| ())
    };
    assert_eq!(changed(|all| all.reverse()), Ok(()), "their order says nothing");
    let changes: [fn(&mut Vec<Entry>); 8] = [
        |all| all[0].status = Status::Yanked,
        |all| all[0].digest = Digest::of(b"other"),
        |all| all[0].changed_us += 1,
        |all| all[0].counter -= 1,
        |all| all[0].version = Version::new(1, 10, 1),
        |all| all[2].package = "globex/mai".parse().unwrap(),
        |all| drop(all.pop()),
        |all| all.push(entry("globex/more", "1.0.0", Status::Active, 1)),
    ];
    let miscounted = Head { entries: 4, ..head.clone() };
    assert_eq!(verify(entries(), &miscounted, None, NOW).unwrap_err(), IndexRefused::OtherEntries);
    for (case, change) in changes.into_iter().enumerate() {
        assert_eq!(changed(change), Err(IndexRefused::OtherEntries), "{case}");
    }
}

#[test]
fn hostile_26_what_was_changed_of_one_package_leaves_that_one_out_and_no_other() {
    let (head, roots) = (head(&entries(), 5), Roots::of(&entries()));
    let apart = |entries: Vec<Entry>, roots: &Roots| {
        Index::verify_apart(entries, roots, None, &head.sign(&host()), &[host().public()], None, NOW)
    };
    let changes: [fn(&mut Vec<Entry>); 7] = [
        |all| all[1].status = Status::Active,
        |all| all[0].digest = Digest::of(b"other"),
        |all| all[0].digest = all[2].digest,
        |all| all[0].counter = 9,
        |all| drop(all.remove(0)),
        |all| all.push(all[0].clone()),
        |all| all.push(entry("northwind/crm", "2.0.0", Status::Active, 5)),
    ];
    for (case, change) in changes.into_iter().enumerate() {
        let mut changed = entries();
        change(&mut changed);
        let index = apart(changed, &roots).unwrap_or_else(|e| panic!("{case}: {e}"));
        assert!(index.left_out().eq([&"northwind/crm".parse().unwrap()]), "{case}");
        assert!(index.versions(&"northwind/crm".parse().unwrap()).is_empty(), "{case}");
        for other in
            [entry("globex/mail", "0.1.0", Status::Active, 2), entry("northwind/crm-tools", "1.0.0", Status::Active, 1)]
        {
            assert_eq!(index.get(&other.package, &other.version), Some(&other), "{case}");
        }
    }
    // Who knows what was signed goes on with it.
    let mut changed = entries();
    changed[1].status = Status::Active;
    let (known, keys) = (index(entries(), 5), [host().public()]);
    let index = Index::verify_apart(changed, &roots, Some(&known), &head.sign(&host()), &keys, None, NOW).unwrap();
    assert!(index.left_out().len() == 0 && index.entries() == known.entries());
    // What nobody ever signed is none of it, and is not missed either.
    let made_up = entry("acme/new", "1.0.0", Status::Active, 5);
    let index = apart(entries().into_iter().chain([made_up.clone()]).collect(), &roots).unwrap();
    assert!(index.left_out().len() == 0 && index.get(&made_up.package, &made_up.version).is_none());
    assert_eq!(index.entries().len(), 5);
    // Roots are believed because they were signed.
    let lies = Roots::of(&[entry("globex/mail", "0.1.0", Status::Yanked, 2)]);
    let mut yanked = entries();
    yanked[2].status = Status::Yanked;
    let lies = lies.iter().chain(roots.iter().filter(|(name, _)| name.as_str() != "globex/mail"));
    let lies = lies.map(|(package, root)| (package.clone(), *root)).collect();
    assert_eq!(apart(yanked, &lies).unwrap_err(), IndexRefused::OtherEntries);
}

#[test]
fn who_left_a_package_out_signs_what_others_sign() {
    let (head, roots) = (head(&entries(), 5), Roots::of(&entries()));
    let mut changed = entries();
    changed[1].status = Status::Active;
    let keys = [host().public()];
    let part = Index::verify_apart(changed, &roots, None, &head.sign(&host()), &keys, None, NOW).unwrap();
    let whole = index(entries(), 5);
    for more in [entry("acme/new", "1.0.0", Status::Active, 6), entry("globex/mail", "0.1.0", Status::Revoked, 6)] {
        let (next, root) = part.next_head(more.clone(), NOW, NOW + HOUR).unwrap();
        assert_eq!(whole.next_head(more.clone(), NOW, NOW + HOUR).unwrap(), (next.clone(), root.clone()));
        assert_eq!(root, Roots::of(std::slice::from_ref(&more)));
        for known in [&part, &whole] {
            let updated = known.updated(vec![more.clone()], &next.sign(&host()), &keys, NOW).unwrap();
            assert_eq!(updated.get(&more.package, &more.version), Some(&more));
            assert!(updated.left_out().eq(known.left_out()));
        }
    }
    let again = Entry { digest: entries()[2].digest, ..entry("acme/new", "1.0.0", Status::Active, 6) };
    assert!(matches!(whole.next_head(again, NOW, NOW + HOUR), Err(IndexRefused::Twice { .. })));
    let own = entry("northwind/crm", "2.0.0", Status::Active, 6);
    assert_eq!(part.next_head(own.clone(), NOW, NOW + HOUR).unwrap_err(), IndexRefused::LeftOut(own.package));
}

#[test]
fn a_head_from_before_there_were_roots_of_packages_is_followed_by_one_with_them() {
    let mut sorted = entries();
    sorted.sort_unstable_by(|one, other| one.order(&other.package, &other.version));
    let old = Head { root: head::flat_root(&sorted), by_package: false, ..head(&entries(), 5) };
    let text = String::from_utf8(serde_json::to_vec(&old).unwrap()).unwrap();
    let text = text.replace("\"by_package\":false,", "");
    assert_eq!(serde_json::from_str::<Head>(&text).unwrap(), old, "it had no such field");
    let index = verify(entries(), &old, None, NOW).unwrap();
    let more = entry("acme/new", "1.0.0", Status::Active, 6);
    let all: Vec<Entry> = entries().into_iter().chain([more.clone()]).collect();
    assert_eq!(index.next_head(more, NOW, NOW + HOUR).unwrap(), (head(&all, 6), Roots::of(&all)));
}

#[test]
fn moving_a_byte_between_fields_changes_the_root() {
    let root = |package, version| {
        let entry = Entry { digest: Digest::of(b"x"), ..entry(package, version, Status::Active, 1) };
        head(&[entry], 1).root
    };
    assert_ne!(root("acme/crm1", "1.0.0"), root("acme/crm", "11.0.0"));
}

#[test]
fn a_state_that_an_honest_host_never_signs_is_refused() {
    let refused = |entries: Vec<Entry>| {
        let head = head(&entries, 5);
        verify(entries, &head, None, NOW).unwrap_err()
    };
    let (package, version): (PackageName, _) = ("globex/mail".parse().unwrap(), Version::new(0, 1, 0));
    let twice = entry("globex/mail", "0.1.0", Status::Revoked, 5);
    let other_file = Entry { digest: Digest::of(b"other"), ..twice.clone() };
    let same_file = Entry { package: "globex/zz".parse().unwrap(), ..twice.clone() };
    for (more, package, version) in
        [(other_file, &package, &version), (same_file.clone(), &same_file.package, &version)]
    {
        let all = entries().into_iter().chain([more]).collect();
        assert_eq!(refused(all), IndexRefused::Twice { package: package.clone(), version: version.clone() });
    }
    let ahead = entry("globex/next", "1.0.0", Status::Active, 6);
    let expected = IndexRefused::Ahead { package: ahead.package.clone(), version: ahead.version.clone() };
    assert_eq!(refused(entries().into_iter().chain([ahead]).collect()), expected);
}

#[test]
fn a_head_that_the_host_did_not_sign_is_refused() {
    let good = head(&entries(), 5);
    let other = SigningKey::from_seed(&[8; 32]);
    let envelope = good.sign(&host());
    let id = |key: &SigningKey| key.public().id().to_string();
    let package = crate::signing::PackageStatement {
        package: "northwind/crm".parse().unwrap(),
        version: Version::new(1, 0, 0),
        digest: Digest::of(b"x"),
        signed_us: 0,
    };
    for (text, says) in [
        (good.sign(&other), "which is not the host's"),
        (envelope.replace(&id(&host()), &id(&SigningKey::from_seed(&[9; 32]))), "does not fit"),
        (crate::signing::sign(&host(), &package), "no signed head"),
        (String::new(), "no signed head"),
    ] {
        let keys = [SigningKey::from_seed(&[9; 32]).public(), host().public()];
        let said = Index::verify(entries(), &text, &keys, None, NOW).expect_err(says).to_string();
        assert!(said.contains(says), "{says}: {said}");
    }
}

#[test]
fn what_changed_alone_makes_the_newer_state() {
    let old = index(entries(), 5);
    let revoked = entry("northwind/crm", "1.10.0", Status::Revoked, 6);
    let more = entry("globex/more", "1.0.0", Status::Active, 6);
    let mut all = entries();
    all[0] = revoked.clone();
    all.push(more.clone());
    let head = head(&all, 6).sign(&host());
    let new = old.updated(vec![more.clone(), revoked.clone()], &head, &[host().public()], NOW).unwrap();
    assert_eq!(new.by_digest(&revoked.digest), Some(&revoked));
    assert_eq!(new.seen().counter, 6);
    let missed = old.updated(vec![more], &head, &[host().public()], NOW);
    assert_eq!(missed.unwrap_err(), IndexRefused::OtherEntries);
    let older = Head::over(&entries(), 4, NOW, NOW + HOUR).sign(&host());
    let replayed = old.updated(Vec::new(), &older, &[host().public()], NOW);
    assert_eq!(replayed.unwrap_err(), IndexRefused::RolledBack { found: 4, seen: 5 });
}

#[test]
fn what_must_stop_is_told_from_what_may_go_on() {
    for (was, is, changed, stops, cancels) in [
        (Some("active"), Some("active"), false, false, false),
        (Some("active"), Some("yanked"), true, false, false),
        (Some("active"), Some("quarantined"), true, true, false),
        (Some("active"), Some("revoked"), true, true, true),
        (Some("quarantined"), Some("revoked"), true, false, true),
        (Some("revoked"), Some("active"), true, false, false),
        (Some("revoked"), None, true, false, false),
        (Some("active"), None, true, true, true),
        (None, Some("active"), true, false, false),
        (None, Some("revoked"), true, false, false),
    ] {
        let state = |status: Option<&str>, counter| {
            let status = status.map(|word| Status::ALL.into_iter().find(|one| one.as_str() == word).unwrap());
            let mut all =
                vec![entry("acme/aa", "1.0.0", Status::Active, 1), entry("acme/zz", "1.0.0", Status::Active, 1)];
            all.extend(status.map(|status| entry("acme/crm", "1.0.0", status, counter)));
            index(all, counter)
        };
        let (older, newer) = (state(was, 1), state(is, 2));
        let changes = newer.changes_since(&older);
        assert_eq!(changes.len(), usize::from(changed), "{was:?} {is:?}");
        for change in changes {
            assert_eq!((change.stops(), change.cancels()), (stops, cancels), "{was:?} {is:?}");
        }
    }
}

#[test]
fn another_file_under_the_same_version_stops_the_first() {
    let older = index(entries(), 5);
    let mut all = entries();
    all[0].digest = Digest::of(b"other");
    let newer = index(all, 5);
    let changes = newer.changes_since(&older);
    assert!(changes.len() == 1 && changes[0].stops() && changes[0].cancels());
}

#[test]
fn what_was_seen_is_read_back_from_its_line() {
    let seen = index(entries(), 5).seen();
    let line = seen.to_string();
    assert_eq!(line.parse(), Ok(seen));
    assert_eq!(format!("{line}\n").parse(), Ok(seen));
    for bad in ["", "5", &line[1..], &line[..line.len() - 2], &format!("{line} x"), &format!("{line}\n{line}")] {
        assert_eq!(bad.parse::<Seen>(), Err(BadSeen), "{bad}");
    }
}

/// Measured by `cargo test --release -- --ignored --nocapture figure`.
#[test]
#[ignore = "a figure, not a rule"]
fn figure_of_fifty_thousand_versions() {
    let all: Vec<Entry> = (0..10_000)
        .flat_map(|p| {
            (0..5).map(move |v| {
                entry(&format!("publisher-{}/package-{p}", p % 400), &format!("1.{v}.0"), Status::Active, 1)
            })
        })
        .collect();
    let envelope = head(&all, 1).sign(&host());
    let mut scattered = all.clone();
    scattered.sort_by_key(|entry| entry.digest);
    for (case, list) in [("sorted", &all), ("scattered", &scattered)] {
        let list = list.clone();
        let start = Instant::now();
        let index = Index::verify(list, &envelope, &[host().public()], None, NOW).unwrap();
        println!("verify, {case}: {:?}", start.elapsed());
        let start = Instant::now();
        let changed = index.updated(Vec::new(), &envelope, &[host().public()], NOW).unwrap();
        println!("update: {:?}", start.elapsed());
        let start = Instant::now();
        assert!(changed.changes_since(&index).is_empty());
        println!("changes: {:?}", start.elapsed());
    }
}
