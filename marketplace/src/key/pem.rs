//! A signing key in a file: PKCS#8 in PEM (RFC 5958, RFC 7468), which `openssl pkey` reads as well.
//!
//! Encrypted by a passphrase (PBES2: scrypt, then AES-256 in CBC mode), or clear for a build server that hands it over
//! in its environment. A file that comes from elsewhere says itself how much work it is to open, so that is bounded.

use ed25519_dalek::pkcs8::{EncodePrivateKey as _, KeypairBytes, PrivateKeyInfo};
use pkcs8::der::pem::{LineEnding, PemLabel as _};
use pkcs8::pkcs5::pbes2::{EncryptionScheme as Cipher, Kdf, Parameters, ScryptParams};
use pkcs8::pkcs5::{EncryptionScheme, pbes2};
use pkcs8::{EncryptedPrivateKeyInfo, SecretDocument};
use zeroize::Zeroizing;

use super::SigningKey;

/// The fewest characters of a passphrase: NIST SP 800-63B, 3.1.1.2.
pub const PASSPHRASE_CHARS: usize = 8;

/// Bytes of a key file. 4 KiB: ours has 400.
const FILE_BYTES: usize = 4 * 1024;

/// N, r and p of scrypt: 16 MiB, five times. OWASP puts it beside 128 MiB once, and OpenSSL opens nothing that needs
/// more than 32 MiB.
const SCRYPT: (u64, u16, u16) = (1 << 14, 8, 5);
/// Bytes of memory that a file may need: what [`SCRYPT`] takes, four times.
const SCRYPT_BYTES: u64 = 64 << 20;
/// N·r·p that a file may need: what [`SCRYPT`] takes, eight times. About two seconds.
const SCRYPT_WORK: u64 = 8 * (1 << 14) * 8 * 5;
/// Rounds of PBKDF2 that a file may need, which is what `openssl` writes unless told otherwise: about two seconds.
const PBKDF2_ROUNDS: u32 = 4_000_000;

/// Why a key file cannot be used or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPem {
    /// It is not a key, or one of another kind.
    #[error("this is no Ed25519 key in PKCS#8 and PEM; make one with `clawhold skill keygen`")]
    NotAKey,
    /// It is encrypted in a way that is not supported.
    #[error(
        "the key is encrypted with {0}, which is not supported; encrypt it anew with `openssl pkcs8 -topk8 -scrypt \
         -v2 aes-256-cbc`"
    )]
    Unsupported(String),
    /// It takes too much work to open.
    #[error(
        "opening the key needs {0}, which is more than is allowed; encrypt it anew with `openssl pkcs8 -topk8 -scrypt`"
    )]
    TooCostly(String),
    /// It is encrypted, and nobody gave the passphrase.
    #[error("the key is encrypted; give its passphrase")]
    NeedsPassphrase,
    /// The passphrase does not open it.
    #[error("the passphrase does not open the key; check it, or make a new key with `clawhold skill keygen`")]
    WrongPassphrase,
    /// The passphrase for a new key is too short.
    #[error("the passphrase has fewer than {PASSPHRASE_CHARS} characters; use a longer one")]
    ShortPassphrase,
    /// The system gave no random bytes.
    #[error("the system gives no random bytes: {0}")]
    NoRandomness(getrandom::Error),
}

impl SigningKey {
    /// The key as a file that nothing protects: for a secret of a build server.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.document()
            .to_pem(PrivateKeyInfo::PEM_LABEL, LineEnding::LF)
            .expect("a key of 48 bytes has room in any document")
    }

    /// The key as a file that the passphrase opens.
    pub fn to_encrypted_pem(&self, passphrase: &str) -> Result<Zeroizing<String>, BadPem> {
        if passphrase.chars().count() < PASSPHRASE_CHARS {
            return Err(BadPem::ShortPassphrase);
        }
        let (mut salt, mut iv) = ([0; 16], [0; 16]);
        getrandom::fill(&mut salt).and_then(|()| getrandom::fill(&mut iv)).map_err(BadPem::NoRandomness)?;
        let (cost_parameter, block_size, parallelization) = SCRYPT;
        let kdf = ScryptParams { salt: &salt, cost_parameter, block_size, parallelization, key_length: None };
        let how = Parameters { kdf: Kdf::Scrypt(kdf), encryption: Cipher::Aes256Cbc { iv: &iv } };
        let clear = self.document();
        let pem = PrivateKeyInfo::try_from(clear.as_bytes())
            .and_then(|key| key.encrypt_with_params(how, passphrase))
            .and_then(|sealed| Ok(sealed.to_pem(EncryptedPrivateKeyInfo::PEM_LABEL, LineEnding::LF)?));
        Ok(pem.expect("our own parameters are good ones"))
    }

    /// Reads a key file. The passphrase is not looked at when the file is clear.
    pub fn from_pem(text: &str, passphrase: Option<&str>) -> Result<Self, BadPem> {
        if text.len() > FILE_BYTES {
            return Err(BadPem::NotAKey);
        }
        let (label, document) = SecretDocument::from_pem(text.trim()).map_err(|_| BadPem::NotAKey)?;
        if PrivateKeyInfo::validate_pem_label(label).is_ok() {
            return Self::from_der(document.as_bytes());
        }
        EncryptedPrivateKeyInfo::validate_pem_label(label).map_err(|_| BadPem::NotAKey)?;
        let sealed = EncryptedPrivateKeyInfo::try_from(document.as_bytes())
            .map_err(|_| BadPem::Unsupported("something other than PBES2 with AES".to_owned()))?;
        affordable(&sealed.encryption_algorithm)?;
        let clear = sealed.decrypt(passphrase.ok_or(BadPem::NeedsPassphrase)?).map_err(|_| BadPem::WrongPassphrase)?;
        Self::from_der(clear.as_bytes())
    }

    fn from_der(der: &[u8]) -> Result<Self, BadPem> {
        let info = PrivateKeyInfo::try_from(der).map_err(|_| BadPem::NotAKey)?;
        // Also sees to it that a public half in the file belongs to the secret one.
        ed25519_dalek::SigningKey::try_from(info).map(Self).map_err(|_| BadPem::NotAKey)
    }

    /// Without the public half: OpenSSL 3.0 reads no version 2 of PKCS#8.
    fn document(&self) -> SecretDocument {
        KeypairBytes { secret_key: self.0.to_bytes(), public_key: None }
            .to_pkcs8_der()
            .expect("a key of 32 bytes has one encoding")
    }
}

/// Whether a file says that opening it takes no more than it should. Asked before any of the work is done.
fn affordable(how: &EncryptionScheme<'_>) -> Result<(), BadPem> {
    let EncryptionScheme::Pbes2(Parameters { kdf, .. }) = how else {
        return Err(BadPem::Unsupported("PBES1".to_owned()));
    };
    match kdf {
        Kdf::Scrypt(ScryptParams { cost_parameter, block_size, parallelization, .. }) => {
            let size = cost_parameter.saturating_mul(u64::from(*block_size));
            let (memory, work) = (size.saturating_mul(128), size.saturating_mul(u64::from(*parallelization)));
            // Each of the p parts holds a block of its own.
            let blocks = 128 * u64::from(*block_size) * u64::from(*parallelization);
            if memory > SCRYPT_BYTES || blocks > SCRYPT_BYTES || work > SCRYPT_WORK {
                let said = format!("scrypt with N={cost_parameter}, r={block_size}, p={parallelization}");
                return Err(BadPem::TooCostly(said));
            }
        }
        Kdf::Pbkdf2(params) if params.prf == pbes2::Pbkdf2Prf::HmacWithSha1 => {
            return Err(BadPem::Unsupported("PBKDF2 over SHA-1".to_owned()));
        }
        Kdf::Pbkdf2(params) if params.iteration_count > PBKDF2_ROUNDS => {
            return Err(BadPem::TooCostly(format!("{} rounds of PBKDF2", params.iteration_count)));
        }
        Kdf::Pbkdf2(_) => {}
        _ => return Err(BadPem::Unsupported("an unknown way to make a key of a passphrase".to_owned())),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
