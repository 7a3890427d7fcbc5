use super::*;
use crate::key::SigningKey;
use crate::signing::sign;

const MINUTE: i64 = 60_000_000;
/// Keys in these tests begin here; in minutes.
const BEGINS: i64 = 100;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn id(seed: u8) -> KeyId {
    key(seed).public().id()
}

fn record(seed: u8) -> KeyRecord {
    KeyRecord {
        key: key(seed).public(),
        not_before_us: BEGINS * MINUTE,
        not_after_us: None,
        revoked: None,
        added_us: BEGINS * MINUTE,
        added_by: AddedBy::Actor("token:ops#0123456789ab".to_owned()),
    }
}

fn revoked(seed: u8, minute: i64, earlier: Earlier) -> KeyRecord {
    KeyRecord { revoked: Some(Revocation { at_us: minute * MINUTE, earlier }), ..record(seed) }
}

fn statement() -> PackageStatement {
    PackageStatement {
        package: "northwind/crm".parse().unwrap(),
        version: Version::new(1, 4, 0),
        digest: Digest::of(b"component"),
        signed_us: 150 * MINUTE,
    }
}

fn verify(envelope: Option<&str>, keys: &[KeyRecord], minute: i64) -> Result<Signed, SignatureRefused> {
    let PackageStatement { package, version, digest, .. } = &statement();
    verify_package(envelope, keys, Expected { package, version, digest }, minute * MINUTE)
}

/// What the host says to the statement, signed by key 1 and received in this minute.
fn ask(keys: &[KeyRecord], minute: i64) -> Result<Signed, SignatureRefused> {
    verify(Some(&sign(&key(1), &statement())), keys, minute)
}

#[test]
fn a_package_that_a_valid_key_signed_is_taken() {
    let taken = ask(&[record(2), record(1)], 200).unwrap();
    assert_eq!(taken, Signed { key_id: id(1), signed_us: 150 * MINUTE });
}

#[test]
fn hostile_26_a_package_is_refused_with_the_reason_and_the_remedy() {
    let good = sign(&key(1), &statement());
    let with = |changed: PackageStatement| sign(&key(1), &changed);
    let rotation = KeyRotation {
        publisher: "northwind".parse().unwrap(),
        key: key(2).public(),
        not_before_us: 0,
        not_after_us: None,
    };
    let forged = good.replace(&id(1).to_string(), &id(2).to_string());
    for (envelope, says, remedy) in [
        (None, "not signed", "clawhold skill sign"),
        (Some(String::new()), "no envelope", "clawhold skill sign"),
        (Some(rotation.sign(&key(1))), "application/vnd.clawhold.key.v1+json", "clawhold skill sign"),
        (Some(sign(&key(9), &statement())), "has no key", "clawhold publisher add-key"),
        (Some(forged), "does not fit", "sign and publish it again"),
        (
            Some(with(PackageStatement { package: "northwind/quote".parse().unwrap(), ..statement() })),
            "for northwind/quote 1.4.0, and this is northwind/crm 1.4.0",
            "sign this very version",
        ),
        (
            Some(with(PackageStatement { version: Version::new(1, 4, 1), ..statement() })),
            "for northwind/crm 1.4.1, and this is northwind/crm 1.4.0",
            "sign this very version",
        ),
        (
            Some(with(PackageStatement { digest: Digest::of(b"other"), ..statement() })),
            "for a file with sha256:",
            "sign the file as it is now",
        ),
        (
            Some(with(PackageStatement { signed_us: 210 * MINUTE + 1, ..statement() })),
            "1970-01-01T03:30:00Z, which is yet to come",
            "set the signer's clock",
        ),
    ] {
        let said = verify(envelope.as_deref(), &[record(1), record(2)], 200).expect_err(says).to_string();
        assert!(said.contains(says) && said.contains(remedy), "{says}: {said}");
    }
    let late = with(PackageStatement { signed_us: 210 * MINUTE, ..statement() });
    assert!(verify(Some(&late), &[record(1)], 200).is_ok(), "clocks differ");
}

#[test]
fn a_key_counts_from_its_first_moment_to_its_last() {
    let ends = KeyRecord { not_after_us: Some(200 * MINUTE), ..record(1) };
    for (minute, expected) in [
        (99, Err(SignatureRefused::KeyNotYetValid { key: id(1), from_us: 100 * MINUTE })),
        (100, Ok(())),
        (199, Ok(())),
        (200, Err(SignatureRefused::KeyExpired { key: id(1), until_us: 200 * MINUTE })),
    ] {
        // In the first of these minutes the signature would be from the future, but the key is asked before.
        let early = sign(&key(1), &PackageStatement { signed_us: 0, ..statement() });
        assert_eq!(verify(Some(&early), std::slice::from_ref(&ends), minute).map(|_| ()), expected, "{minute}");
    }
}

#[test]
fn the_time_that_decides_is_the_hosts_and_not_the_signers() {
    let back_dated = sign(&key(1), &PackageStatement { signed_us: 120 * MINUTE, ..statement() });
    let keys = [revoked(1, 180, Earlier::Stays)];
    let refused = verify(Some(&back_dated), &keys, 200).unwrap_err();
    assert_eq!(refused, SignatureRefused::KeyRevoked { key: id(1), at_us: 180 * MINUTE });
}

#[test]
fn what_came_before_a_revocation_stays_or_falls_as_the_operator_says() {
    for (earlier, minute, taken) in [
        (Earlier::Stays, 179, true),
        (Earlier::Stays, 180, false),
        (Earlier::Stays, 200, false),
        (Earlier::Falls, 179, false),
        (Earlier::Falls, 200, false),
    ] {
        let said = ask(&[revoked(1, 180, earlier)], minute);
        assert_eq!(said.is_ok(), taken, "{earlier:?} {minute}: {said:?}");
        if let Err(refusal) = said {
            assert!(refusal.to_string().contains("revoked as of 1970-01-01T03:00:00Z; sign with another key"));
        }
    }
}

/// Key 1, for which key 2 vouched in minute 150.
fn vouched_for() -> KeyRecord {
    KeyRecord { added_by: AddedBy::Key(id(2)), added_us: 150 * MINUTE, ..record(1) }
}

#[test]
fn a_key_falls_with_the_one_that_vouched_for_it() {
    for (case, voucher, taken) in [
        ("the old key is good", record(2), true),
        ("the old key ended since", KeyRecord { not_after_us: Some(160 * MINUTE), ..record(2) }, true),
        ("the old key was safe when it vouched", revoked(2, 160, Earlier::Stays), true),
        ("the old key was stolen when it vouched", revoked(2, 140, Earlier::Stays), false),
        ("nobody knows since when the old key was stolen", revoked(2, 160, Earlier::Falls), false),
    ] {
        let said = ask(&[vouched_for(), voucher], 200);
        assert_eq!(said.is_ok(), taken, "{case}: {said:?}");
    }
    assert_eq!(ask(&[vouched_for()], 200), Err(SignatureRefused::UnknownKey(id(2))));
    let circle = KeyRecord { added_by: AddedBy::Key(id(1)), ..record(2) };
    assert_eq!(ask(&[vouched_for(), circle], 200), Err(SignatureRefused::UnknownKey(id(1))));
}

fn rotation() -> KeyRotation {
    KeyRotation {
        publisher: "northwind".parse().unwrap(),
        key: key(3).public(),
        not_before_us: 0,
        not_after_us: Some(900 * MINUTE),
    }
}

#[test]
fn a_key_that_an_older_one_vouches_for_signs_from_then_on() {
    let northwind = "northwind".parse().unwrap();
    let new = rotate(&rotation().sign(&key(1)), &[record(1)], &northwind, 300 * MINUTE).unwrap();
    assert_eq!(new.added_by, AddedBy::Key(id(1)));
    assert_eq!((new.not_before_us, new.not_after_us), (300 * MINUTE, Some(900 * MINUTE)));
    let keys = [record(1), new];
    let signed = sign(&key(3), &statement());
    assert!(verify(Some(&signed), &keys, 299).is_err(), "it was not known then, whatever it says of itself");
    assert!(verify(Some(&signed), &keys, 300).is_ok());
}

#[test]
fn a_rotation_that_nobody_could_have_meant_is_refused() {
    let northwind: clawhold_tenancy::Publisher = "northwind".parse().unwrap();
    let globex = KeyRotation { publisher: "globex".parse().unwrap(), ..rotation() };
    let known = KeyRotation { key: key(2).public(), ..rotation() };
    let over = KeyRotation { not_after_us: Some(300 * MINUTE), ..rotation() };
    let empty = KeyRotation { not_before_us: 500 * MINUTE, not_after_us: Some(400 * MINUTE), ..rotation() };
    let keys = [record(1), revoked(2, 200, Earlier::Stays)];
    for (envelope, says) in [
        (rotation().sign(&key(9)), "has no key"),
        (rotation().sign(&key(2)), "is revoked"),
        (rotation().sign(&key(3)), "has no key"),
        (sign(&key(1), &statement()), "about something else"),
        (globex.sign(&key(1)), "for the publisher globex, not for northwind"),
        (known.sign(&key(1)), "already"),
        (over.sign(&key(1)), "1970-01-01T05:00:00Z, which is over"),
        (empty.sign(&key(1)), "before it begins"),
    ] {
        let said = rotate(&envelope, &keys, &northwind, 300 * MINUTE).expect_err(says).to_string();
        assert!(said.contains(says), "{says}: {said}");
    }
    let many: Vec<KeyRecord> = (10..).take(KEYS - 1).map(record).chain([record(1)]).collect();
    let said = rotate(&rotation().sign(&key(1)), &many, &northwind, 300 * MINUTE);
    assert_eq!(said, Err(RotationRefused::TooMany));
}

#[test]
fn a_record_is_read_back_as_it_was_kept() {
    let kept = KeyRecord { added_by: AddedBy::Key(id(2)), ..revoked(1, 180, Earlier::Falls) };
    let text = serde_json::to_string(&kept).unwrap();
    assert_eq!(serde_json::from_str::<KeyRecord>(&text).unwrap(), kept);
}
