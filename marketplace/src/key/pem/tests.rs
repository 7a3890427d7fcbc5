use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::*;
use crate::dsse::pae;

const PASSPHRASE: &str = "correct horse";

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

#[test]
fn a_key_is_read_back_as_it_was_written() {
    for (pem, passphrase) in [(key().to_pem(), None), (key().to_encrypted_pem(PASSPHRASE).unwrap(), Some(PASSPHRASE))] {
        let read = SigningKey::from_pem(&pem, passphrase).unwrap();
        assert_eq!(read.public(), key().public());
        let with_windows_ends = pem.replace('\n', "\r\n");
        assert!(SigningKey::from_pem(&with_windows_ends, passphrase).is_ok());
    }
    let (one, other) = (key().to_encrypted_pem(PASSPHRASE).unwrap(), key().to_encrypted_pem(PASSPHRASE).unwrap());
    assert_ne!(one, other, "salt and start are new each time");
}

#[test]
fn a_key_opens_with_its_passphrase_alone() {
    let pem = key().to_encrypted_pem(PASSPHRASE).unwrap();
    let refused = |passphrase| SigningKey::from_pem(&pem, passphrase).unwrap_err();
    assert_eq!(refused(None), BadPem::NeedsPassphrase);
    assert_eq!(refused(Some("correct horsE")), BadPem::WrongPassphrase);
    assert_eq!(refused(Some("")), BadPem::WrongPassphrase);
    assert_eq!(key().to_encrypted_pem("1234567").unwrap_err(), BadPem::ShortPassphrase);
}

#[test]
fn a_file_that_is_no_key_is_refused() {
    let (clear, sealed) = (key().to_pem(), key().to_encrypted_pem(PASSPHRASE).unwrap());
    let p256 = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgZ3Yx6XkSM/Yhv0aP\n\
                -----END PRIVATE KEY-----\n";
    for (why, text) in [
        ("empty", String::new()),
        ("cut", clear[..60].to_owned()),
        ("no PEM", "secret".to_owned()),
        ("another label", clear.replace("PRIVATE", "PUBLIC")),
        ("sealed under the clear label", sealed.replace("ENCRYPTED ", "")),
        ("another kind", p256.to_owned()),
        ("huge", format!("{}{}", *clear, "\n".repeat(FILE_BYTES))),
    ] {
        assert_eq!(SigningKey::from_pem(&text, Some(PASSPHRASE)).unwrap_err(), BadPem::NotAKey, "{why}");
    }
}

fn sealed(how: Parameters<'_>) -> String {
    let (how, encrypted_data) = (EncryptionScheme::from(how), &[0; 64][..]);
    let info = EncryptedPrivateKeyInfo { encryption_algorithm: how, encrypted_data };
    let document = SecretDocument::try_from(info).unwrap();
    document.to_pem(EncryptedPrivateKeyInfo::PEM_LABEL, LineEnding::LF).unwrap().to_string()
}

#[test]
fn a_file_that_takes_too_much_work_is_refused_before_any_of_it_is_done() {
    let encryption = Cipher::Aes256Cbc { iv: &[0; 16] };
    let scrypt = |cost_parameter, block_size, parallelization| {
        let kdf = ScryptParams { salt: &[0; 16], cost_parameter, block_size, parallelization, key_length: None };
        sealed(Parameters { kdf: Kdf::Scrypt(kdf), encryption })
    };
    let refused = |text: &str| SigningKey::from_pem(text, Some(PASSPHRASE)).unwrap_err();
    for (n, r, p) in [
        (1 << 20, 8, 1),
        (1 << 16, 16, 1),
        (u64::MAX, u16::MAX, u16::MAX),
        (1 << 63, 1, 1),
        (1 << 14, 8, 100),
        (2, 1000, 1000),
        (2, u16::MAX, u16::MAX),
    ] {
        let start = std::time::Instant::now();
        assert!(matches!(refused(&scrypt(n, r, p)), BadPem::TooCostly(_)), "{n} {r} {p}");
        assert!(start.elapsed().as_millis() < 100, "{n} {r} {p}");
    }
    assert_eq!(refused(&scrypt(1 << 15, 8, 1)), BadPem::WrongPassphrase, "what openssl can open is opened");
    assert_eq!(refused(&scrypt(3, 8, 1)), BadPem::WrongPassphrase, "and no power of two is no panic");
    let pbkdf2 = |iteration_count, prf| {
        let kdf = Kdf::Pbkdf2(pbes2::Pbkdf2Params { salt: &[0; 16], iteration_count, key_length: None, prf });
        refused(&sealed(Parameters { kdf, encryption }))
    };
    let sha256 = pbes2::Pbkdf2Prf::HmacWithSha256;
    assert!(matches!(pbkdf2(PBKDF2_ROUNDS + 1, sha256), BadPem::TooCostly(_)));
    assert_eq!(pbkdf2(2048, sha256), BadPem::WrongPassphrase);
    assert!(matches!(pbkdf2(2048, pbes2::Pbkdf2Prf::HmacWithSha1), BadPem::Unsupported(_)));
}

/// Runs `openssl`; nothing where there is none.
fn openssl(folder: &Path, args: &[&str]) -> Option<Output> {
    let run = Command::new("openssl").args(args).current_dir(folder).output();
    let Ok(output) = run else {
        println!("skipped: there is no `openssl` here");
        return None;
    };
    Some(output)
}

#[test]
fn openssl_reads_our_keys_and_verifies_what_they_sign() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    file("clear.pem", key().to_pem().as_bytes());
    file("sealed.pem", key().to_encrypted_pem(PASSPHRASE).unwrap().as_bytes());
    let message = pae("application/vnd.clawhold.package.v1+json", b"{}");
    file("message", &message);
    file("signature", &key().sign(&message));
    let passphrase = format!("pass:{PASSPHRASE}");
    for args in [
        &["pkey", "-in", "clear.pem", "-pubout", "-out", "public.pem"][..],
        &["pkey", "-in", "sealed.pem", "-passin", &passphrase, "-pubout", "-out", "again.pem"],
        &["pkeyutl", "-verify", "-pubin", "-inkey", "again.pem", "-rawin", "-in", "message", "-sigfile", "signature"],
    ] {
        let Some(output) = openssl(folder.path(), args) else { return };
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(read("public.pem"), read("again.pem"));
    let wrong = openssl(folder.path(), &["pkey", "-in", "sealed.pem", "-passin", "pass:wrong"]).unwrap();
    assert!(!wrong.status.success());
}

#[test]
fn keys_that_openssl_writes_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let passphrase = format!("pass:{PASSPHRASE}");
    fs::write(folder.path().join("clear.pem"), key().to_pem().as_bytes()).unwrap();
    let pass_out = ["-passout", &passphrase, "-in", "clear.pem"];
    for (how, opens) in [
        (&["pkcs8", "-topk8", "-scrypt", "-v2", "aes-256-cbc"][..], true),
        (&["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-iter", "600000"], true),
        (&["pkey", "-aes-256-cbc"], true),
        (&["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"], false),
    ] {
        let args: Vec<&str> = how.iter().copied().chain(pass_out).collect();
        let Some(output) = openssl(folder.path(), &args) else { return };
        assert!(output.status.success(), "{how:?}: {}", String::from_utf8_lossy(&output.stderr));
        let pem = String::from_utf8(output.stdout).unwrap();
        match SigningKey::from_pem(&pem, Some(PASSPHRASE)) {
            Ok(read) => assert!(opens && read.public() == key().public(), "{how:?}"),
            Err(refusal) => assert!(!opens && matches!(refusal, BadPem::Unsupported(_)), "{how:?}: {refusal}"),
        }
    }
}
