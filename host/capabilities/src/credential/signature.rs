//! HTTP Message Signatures (RFC 9421) by HMAC-SHA-256, with the digest of the body (RFC 9530).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clawhold_secret_store::SecretValue;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderName, header};
use sha2::{Digest as _, Sha256};
use url::Url;
use zeroize::Zeroizing;

use super::Fields;
use crate::http::Outgoing;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// The fields that sign this request: method, host, path and query, its content type and the digest of its body.
pub(super) fn sign(request: &Outgoing, key: &SecretValue, now: SystemTime) -> Result<Fields, String> {
    let broken = |problem: &dyn std::fmt::Display| format!("the secret cannot sign: {problem}");
    let id = key.field("key_id").map_err(|e| broken(&e))?;
    let id = id.expose_str().unwrap_or_default();
    if !id.bytes().all(|b| (b.is_ascii_graphic() || b == b' ') && !matches!(b, b'"' | b'\\')) {
        return Err(broken(&"its key_id has characters that a header cannot carry"));
    }
    let secret = key.field("key").map_err(|e| broken(&e))?;
    let is_base64 = key.field("key_encoding").is_ok_and(|encoding| encoding.expose() == b"base64");
    let secret = if is_base64 {
        Zeroizing::new(BASE64_STANDARD.decode(secret.expose()).map_err(|_| broken(&"its key is no base64"))?)
    } else {
        Zeroizing::new(secret.expose().to_vec())
    };
    let mut fields = Vec::new();
    let mut covered = vec![
        ("@method", request.method.as_str().to_owned()),
        ("@authority", authority(&request.url)),
        ("@path", request.url.path().to_owned()),
        ("@query", format!("?{}", request.url.query().unwrap_or_default())),
    ];
    // Several fields of one name are signed as one, RFC 9421, section 2.1.
    let kinds = request.headers.get_all(header::CONTENT_TYPE).iter().filter_map(|value| value.to_str().ok());
    let kinds: Vec<&str> = kinds.map(str::trim).collect();
    if !kinds.is_empty() {
        covered.push(("content-type", kinds.join(", ")));
    }
    if !request.body.is_empty() {
        let digest = format!("sha-256=:{}:", BASE64_STANDARD.encode(Sha256::digest(&request.body)));
        covered.push(("content-digest", digest.clone()));
        fields.push((CONTENT_DIGEST, digest));
    }
    let created = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (input, signature) =
        signed(&covered, &format!(";created={created};keyid=\"{id}\";alg=\"hmac-sha256\""), &secret);
    fields.push((HeaderName::from_static("signature-input"), format!("sig1={input}")));
    fields.push((HeaderName::from_static("signature"), format!("sig1=:{signature}:")));
    Ok(fields)
}

/// What is signed by which parameters, and the signature.
fn signed(covered: &[(&str, String)], parameters: &str, key: &[u8]) -> (String, String) {
    let names: Vec<String> = covered.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let input = format!("({}){parameters}", names.join(" "));
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for (name, value) in covered {
        mac.update(format!("\"{name}\": {value}\n").as_bytes());
    }
    mac.update(format!("\"@signature-params\": {input}").as_bytes());
    (input, BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

/// As the `Host` field has it.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clawhold_tenancy::policy::Method;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    /// The example of RFC 9421, appendix B.2.5.
    #[test]
    fn a_request_is_signed_as_the_rfc_says() {
        let key = BASE64_STANDARD
            .decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
            .unwrap();
        let covered = [
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT".to_owned()),
            ("@authority", "example.com".to_owned()),
            ("content-type", "application/json".to_owned()),
        ];
        let (input, signature) = signed(&covered, ";created=1618884473;keyid=\"test-shared-secret\"", &key);
        assert_eq!(input, "(\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"");
        assert_eq!(signature, "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=");
    }

    #[test]
    fn the_whole_request_is_under_the_signature() {
        let request = |url: &str, body: &'static [u8]| Outgoing {
            tenant: "acme-corp".parse().unwrap(),
            method: Method::Post,
            url: url.parse().unwrap(),
            headers: HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))]),
            body: body.into(),
            credential: None,
        };
        let key = |key: &str, encoding: &str| {
            SecretValue::from(format!(r#"{{"key_id":"k","key":"{key}","key_encoding":"{encoding}"}}"#))
        };
        let then = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let of = |url: &str, body: &'static [u8], key: &SecretValue| sign(&request(url, body), key, then).unwrap();
        let first = of("https://x.example.com:8443/a?b=c", b"body", &key("c2VjcmV0", "base64"));
        assert_eq!(first[0].1, "sha-256=:Iw2DWNyOiJC0xY3utikS7i8gNXrpKlzIYbmOaP4xrLU=:");
        assert_eq!(
            first[1].1,
            "sig1=(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-type\" \
             \"content-digest\");created=1700000000;keyid=\"k\";alg=\"hmac-sha256\""
        );
        assert_eq!(first, of("https://x.example.com:8443/a?b=c", b"body", &key("secret", "text")));
        for other in [
            of("https://x.example.com:8443/a?b=d", b"body", &key("secret", "text")),
            of("https://x.example.com:8443/b?b=c", b"body", &key("secret", "text")),
            of("https://x.example.com/a?b=c", b"body", &key("secret", "text")),
            of("https://x.example.com:8443/a?b=c", b"bode", &key("secret", "text")),
            of("https://x.example.com:8443/a?b=c", b"body", &key("secres", "text")),
        ] {
            assert_ne!(first[2], other[2]);
        }
        for broken in [
            r#"{"key_id":"k"}"#,
            r#"{"key_id":"a\"b","key":"c"}"#,
            "text",
            r#"{"key_id":"k","key":"%","key_encoding":"base64"}"#,
        ] {
            let refusal = sign(&request("https://x.example.com/", b""), &SecretValue::from(broken.to_owned()), then);
            assert!(refusal.unwrap_err().contains("cannot sign"), "{broken}");
        }
    }
}
