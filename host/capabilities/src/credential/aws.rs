//! AWS Signature Version 4.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign as aws_sign,
};
use aws_sigv4::sign::v4;
use clawhold_secret_store::SecretValue;
use http::HeaderName;

use super::Fields;
use crate::http::Outgoing;

/// The fields that authorize this request, signed for this service.
pub(super) fn sign(request: &Outgoing, service: &str, key: &SecretValue, now: SystemTime) -> Result<Fields, String> {
    let field = |name: &str| {
        let value = key.field(name).map_err(|error| format!("the secret cannot sign: {error}"))?;
        value.expose_str().map(str::to_owned).ok_or_else(|| "the secret cannot sign: it is no text".to_owned())
    };
    // Wipes what it holds when it is dropped.
    let session = field("session_token").ok();
    let identity =
        Credentials::new(field("access_key_id")?, field("secret_access_key")?, session, None, "clawhold").into();
    let region = field("region")?;
    let unsigned = |why: &dyn std::fmt::Display| format!("the request cannot be signed for AWS: {why}");
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(&region)
        .name(service)
        .time(now)
        .settings(settings(service))
        .build()
        .map_err(|e| unsigned(&e))?
        .into();
    // What a proxy may change, or the host adds later, is not signed.
    let signed = |name: &str| name.starts_with("x-amz-") || matches!(name, "content-type" | "content-md5" | "range");
    let fields: Vec<(&str, &str)> = request
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .filter(|(name, _)| signed(name))
        .collect();
    let body = SignableBody::Bytes(&request.body);
    let signable = SignableRequest::new(request.method.as_str(), request.url.as_str(), fields.into_iter(), body)
        .map_err(|e| unsigned(&e))?;
    let (instructions, _) = aws_sign(signable, &params).map_err(|e| unsigned(&e))?.into_parts();
    let (headers, _) = instructions.into_parts();
    Ok(headers.iter().map(|field| (HeaderName::from_static(field.name()), field.value().to_owned())).collect())
}

/// S3 reads a path as it is sent, and wants the body's hash in a field of its own.
fn settings(service: &str) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use clawhold_tenancy::policy::Method;
    use http::HeaderMap;

    use super::*;

    const KEY: &str = r#"{"access_key_id":"AKIDEXAMPLE","secret_access_key":"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY","region":"us-east-1"}"#;

    fn signed(method: Method, url: &str, service: &str) -> Fields {
        let tenant = "acme-corp".parse().unwrap();
        let url = url.parse().unwrap();
        let request =
            Outgoing { tenant, method, url, headers: HeaderMap::new(), body: bytes::Bytes::new(), credential: None };
        // 2015-08-30T12:36:00Z, the moment of AWS's own examples.
        let then = UNIX_EPOCH + Duration::from_mins(24_015_636);
        sign(&request, service, &SecretValue::from(KEY.to_owned()), then).unwrap()
    }

    /// `get-vanilla` and `get-vanilla-query-order-key-case` of AWS's Signature Version 4 test suite.
    #[test]
    fn requests_are_signed_as_aws_says() {
        for (url, signature) in [
            ("https://example.amazonaws.com/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
            (
                "https://example.amazonaws.com/?Param2=value2&Param1=value1",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let fields = signed(Method::Get, url, "service");
            let authorization = &fields.iter().find(|(name, _)| *name == "authorization").unwrap().1;
            assert_eq!(
                *authorization,
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders=host;x-amz-date, Signature={signature}"
                )
            );
            assert!(fields.iter().any(|(name, value)| *name == "x-amz-date" && value == "20150830T123600Z"));
            assert!(fields.iter().all(|(_, value)| !value.contains("EXAMPLEKEY")));
        }
        let s3 = signed(Method::Put, "https://bucket.s3.us-east-1.amazonaws.com/a%20b", "s3");
        assert!(s3.iter().any(|(name, _)| *name == "x-amz-content-sha256"));
    }

    #[test]
    fn a_secret_that_cannot_sign_is_named_by_its_field() {
        let tenant = "acme-corp".parse().unwrap();
        let url = "https://x.example.com/".parse().unwrap();
        let (headers, body) = (HeaderMap::new(), bytes::Bytes::new());
        let request = Outgoing { tenant, method: Method::Get, url, headers, body, credential: None };
        let refusal = sign(&request, "s3", &SecretValue::from(r#"{"region":"r"}"#.to_owned()), UNIX_EPOCH).unwrap_err();
        assert!(refusal.contains("access_key_id"), "{refusal}");
    }
}
