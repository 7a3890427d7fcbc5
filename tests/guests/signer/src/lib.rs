//! A guest that sends requests with each kind of credential, for the tests of what then is on the wire.

use clawhold_skill::{Error, http, secret, skill};

/// Signs a message with a field of a secret.
#[skill(name = "signer.sign")]
fn sign(secret_name: String, field: String) -> Result<String, Error> {
    Ok(match secret(&secret_name)?.field(&field)?.hmac_sha256(b"message") {
        Ok(mac) => format!("signed with {} bytes", mac.len()),
        Err(error) => format!("{error:?}"),
    })
}

/// Sends a request with a secret on it and says what came of it.
#[skill(name = "signer.send")]
fn send(
    url: String,
    secret_name: String,
    place: Option<String>,
    prefix_bytes: Option<u32>,
    body: Option<String>,
    headers: Option<Vec<String>>,
) -> Result<String, Error> {
    let held = secret(&secret_name)?;
    let mut request = if body.is_some() { http::post(&url) } else { http::get(&url) };
    for (name, value) in headers.iter().flatten().filter_map(|header| header.split_once(": ")) {
        request = request.header(name, value);
    }
    if let Some(body) = body {
        request = request.body(body);
    }
    let prefix = "p".repeat(prefix_bytes.unwrap_or_default() as usize);
    request = match place.as_deref() {
        Some("header") => request.header_secret("x-api-key", prefix, &held),
        Some("query") => request.query_secret("key", &held),
        Some("basic") => request.basic(&held, &held),
        _ => request.bearer(&held),
    };
    Ok(match request.send() {
        Ok(answer) => format!("{} {}", answer.status(), answer.text()?),
        Err(error) => format!("{error:?}"),
    })
}
