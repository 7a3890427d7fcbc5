//! A publisher's keys in files, and signatures made with them.

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use clawhold_marketplace::key::{BadPem, SigningKey};
use clawhold_marketplace::signing::{PackageStatement, sign};
use clawhold_tenancy::audit::now_us;
use zeroize::Zeroizing;

use crate::Failure;
use crate::output::Output;

/// The key itself, for a build that has no files: a PEM.
const KEY: &str = "CLAWHOLD_PUBLISHER_KEY";
/// What opens a key file, where nobody is there to ask.
const PASSPHRASE: &str = "CLAWHOLD_KEY_PASSPHRASE";

/// Where a publisher's key is.
#[derive(Args)]
pub(crate) struct KeyFrom {
    /// The file of the publisher's key. Without it the key is taken from the environment variable `CLAWHOLD_PUBLISHER_KEY`, a PEM, if
    /// that is set. A passphrase is taken from `CLAWHOLD_KEY_PASSPHRASE`, or asked for.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl KeyFrom {
    /// The key, if one is named.
    pub(crate) fn read(&self) -> Result<Option<SigningKey>, Failure> {
        match (&self.key, std::env::var(KEY)) {
            (Some(path), _) => Ok(Some(read_key(path, ask_passphrase)?)),
            (None, Ok(pem)) => Ok(Some(open(&Zeroizing::new(pem), KEY, ask_passphrase)?)),
            (None, Err(_)) => Ok(None),
        }
    }
}

/// Reads a key's file.
pub(crate) fn read_key(path: &Path, ask: fn() -> anyhow::Result<Zeroizing<String>>) -> anyhow::Result<SigningKey> {
    let mode =
        fs::metadata(path).with_context(|| format!("cannot read the key {}", path.display()))?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("others can read the key {0} (mode {1:03o}); run: chmod 600 {0}", path.display(), mode & 0o777);
    }
    let pem = fs::read_to_string(path).with_context(|| format!("cannot read the key {}", path.display()))?;
    open(&Zeroizing::new(pem), &path.display().to_string(), ask)
}

fn open(pem: &str, whence: &str, ask: fn() -> anyhow::Result<Zeroizing<String>>) -> anyhow::Result<SigningKey> {
    match SigningKey::from_pem(pem, None) {
        Err(BadPem::NeedsPassphrase) => {
            let passphrase = ask()?;
            SigningKey::from_pem(pem, Some(&passphrase)).with_context(|| format!("cannot open the key {whence}"))
        }
        other => other.with_context(|| format!("cannot read the key {whence}")),
    }
}

fn ask_passphrase() -> anyhow::Result<Zeroizing<String>> {
    passphrase("Passphrase of the key: ")
}

/// For a second key of the same command.
pub(crate) fn ask_passphrase_anew() -> anyhow::Result<Zeroizing<String>> {
    passphrase("Passphrase of the new key: ")
}

fn passphrase(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    if let Ok(known) = std::env::var(PASSPHRASE) {
        return Ok(Zeroizing::new(known));
    }
    if !std::io::stdin().is_terminal() {
        return Err(anyhow!("the key has a passphrase and nobody is there to ask; set {PASSPHRASE}"));
    }
    Ok(Zeroizing::new(rpassword::prompt_password(prompt).context("cannot read the passphrase")?))
}

/// Makes a key.
pub(crate) fn keygen(file: &Path, without_passphrase: bool, out: Output) -> Result<(), Failure> {
    let key = SigningKey::generate().map_err(|e| anyhow!("the operating system gives no random bytes: {e}"))?;
    let pem = if without_passphrase {
        key.to_pem()
    } else {
        let first = passphrase("Passphrase for the new key: ")?;
        if std::env::var(PASSPHRASE).is_err() && *first != *passphrase("The same again: ")? {
            return Err(Failure::Refused("the two passphrases are not the same; nothing was made".to_owned()));
        }
        key.to_encrypted_pem(&first).map_err(anyhow::Error::from)?
    };
    let mut made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("cannot make {}; a file that is there is not written over", file.display()))?;
    made.write_all(pem.as_bytes())
        .and_then(|()| made.sync_all())
        .with_context(|| format!("cannot write {}", file.display()))?;
    let public = key.public();
    let said = serde_json::json!({ "key": public.to_string(), "id": public.id().to_string(), "file": file });
    out.show(&said, |_| {
        println!("{public}");
        eprintln!("Printed is the public half of the key. An operator registers it:");
        eprintln!("  clawhold publisher add NAME --key PUBLIC-HALF");
        eprintln!("or, for a publisher that has a key, the old one vouches for it:");
        eprintln!("  clawhold publisher rotate NAME --key OLD-FILE --to {}", file.display());
        eprintln!("The key itself is in {}. Keep a copy where nobody else reads it.", file.display());
    });
    Ok(())
}

/// Signs a package: the envelope's text.
pub(crate) fn signature(wasm: &[u8], key: &SigningKey) -> anyhow::Result<String> {
    let package = clawhold_marketplace::read(wasm)?;
    let about = package.manifest.package;
    let statement =
        PackageStatement { package: about.name, version: about.version, digest: package.digest, signed_us: now_us() };
    Ok(sign(key, &statement))
}

/// Where the signature of a package's file is.
pub(crate) fn signature_file(package: &Path) -> PathBuf {
    let mut name = package.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Signs a package's file, into a file beside it.
pub(crate) fn sign_file(package: &Path, wasm: &[u8], key: &KeyFrom, out: Output) -> Result<(), Failure> {
    let key =
        key.read()?.ok_or_else(|| Failure::Refused(format!("say which key signs, with --key FILE, or set {KEY}")))?;
    let file = signature_file(package);
    let text = signature(wasm, &key)?;
    fs::write(&file, format!("{text}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    let said = serde_json::json!({ "signature": file, "key": key.public().id().to_string() });
    out.show(&said, |_| println!("signed into {}", file.display()));
    Ok(())
}
