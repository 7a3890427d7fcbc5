//! Pulling a package from an OCI registry that nobody vouches for.
//!
//! Everything that comes is bounded before it is read, and held against the digest that names it. Credentials go to the
//! registry's own origin and nowhere else, wherever it sends us. It pulls packages in the form of
//! [`clawhold_marketplace::oci`], and nothing else.

mod challenge;
mod source;

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use clawhold_marketplace::oci::{DOCUMENT_BYTES, Descriptor, MANIFEST, check_config, read_manifest};
use clawhold_tenancy::Digest;
use serde::Deserialize;
use ureq::Agent;
use url::Url;

use crate::output::plain;
use challenge::Challenge;
pub(crate) use source::{Reference, Source};

/// Redirects that are followed. A registry's blobs are one away, at a store of its own.
const REDIRECTS: usize = 5;
/// How long one request may take with its answer: 64 MiB at 1 Mbit/s.
const PATIENCE: Duration = Duration::from_mins(10);
/// Bytes of what a registry says when it refuses, and of a token's answer.
const SAID_BYTES: u64 = 64 * 1024;

/// A user of the registry.
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// What was pulled, and is what its digests say.
#[derive(Debug)]
pub(crate) struct Pulled {
    /// The digest of the manifest.
    pub(crate) manifest: Digest,
    /// The component.
    pub(crate) component: Vec<u8>,
    /// The signature that came along, which nobody has looked at.
    pub(crate) signature: Option<String>,
}

/// Pulls a package.
pub(crate) fn pull(source: &Source, plain_http: bool, login: Option<&Login>) -> anyhow::Result<Pulled> {
    Registry::new(source, plain_http, login)?.pull()
}

struct Registry<'a> {
    source: &'a Source,
    origin: Url,
    login: Option<&'a Login>,
    agent: Agent,
    /// What is sent to the origin, once it has asked for it.
    authorization: Option<String>,
}

impl<'a> Registry<'a> {
    fn new(source: &'a Source, plain_http: bool, login: Option<&'a Login>) -> anyhow::Result<Self> {
        let scheme = if plain_http { "http" } else { "https" };
        let origin = format!("{scheme}://{}/", source.host).parse().context("the registry's name is none of a host")?;
        let config =
            Agent::config_builder().http_status_as_error(false).max_redirects(0).timeout_global(Some(PATIENCE)).build();
        Ok(Self { source, origin, login, agent: config.new_agent(), authorization: None })
    }

    fn pull(&mut self) -> anyhow::Result<Pulled> {
        let (kind, text) = self.get(&format!("manifests/{}", self.source.reference), MANIFEST, DOCUMENT_BYTES)?;
        let manifest = Digest::of(&text);
        if let Reference::Digest(asked) = &self.source.reference {
            ensure!(manifest == *asked, "the manifest that came is {manifest}, not the one that was asked for");
        }
        let read = read_manifest(kind.as_deref(), &text)?;
        let config = self.blob("config", &read.config)?;
        check_config(&config, &read.layer.digest)?;
        let component = self.blob("component", &read.layer)?;
        Ok(Pulled { manifest, component, signature: read.signature })
    }

    /// A blob of the very size and digest that the manifest says.
    fn blob(&mut self, what: &str, blob: &Descriptor) -> anyhow::Result<Vec<u8>> {
        let Descriptor { digest, size } = *blob;
        let (_, bytes) = self
            .get(&format!("blobs/{digest}"), "application/octet-stream", size)
            .with_context(|| format!("the {what} cannot be pulled"))?;
        let found = bytes.len() as u64;
        ensure!(found == size, "the {what} has {found} bytes, and its manifest says {size}; it was not taken");
        ensure!(Digest::of(&bytes) == digest, "the {what} is not the one that its manifest names; it was not taken");
        Ok(bytes)
    }

    /// The media type and the body of what the repository has at this path.
    fn get(&mut self, path: &str, accept: &str, most: u64) -> anyhow::Result<(Option<String>, Vec<u8>)> {
        let url = self.origin.join(&format!("v2/{}/{path}", self.source.repository))?;
        let mut answer = self.follow(url.clone(), accept)?;
        if answer.status() == 401 && self.authorization.is_none() {
            let challenge = answer.headers().get("www-authenticate").and_then(|field| field.to_str().ok());
            let challenge = challenge.and_then(Challenge::parse).with_context(|| {
                format!("{} wants to know who asks, in a way that is not known here", self.source.host)
            })?;
            self.authorization = Some(self.authorize(&challenge)?);
            answer = self.follow(url, accept)?;
        }
        let status = answer.status();
        let kind = answer.headers().get("content-type").and_then(|field| field.to_str().ok());
        let kind = kind.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_owned());
        if status != 200 {
            let said = body(answer, SAID_BYTES).unwrap_or_default();
            bail!("{} answered {status}{}", self.source.host, reason(&said));
        }
        Ok((kind, body(answer, most)?))
    }

    /// Asks, and goes where the answer points to: never from TLS to none, and without credentials at another origin.
    fn follow(&self, mut url: Url, accept: &str) -> anyhow::Result<http::Response<ureq::Body>> {
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(url.as_str()).header("accept", accept);
            if let Some(authorization) = self.authorization.as_ref().filter(|_| self.is_own(&url)) {
                request = request.header("authorization", authorization);
            }
            let answer = request.call().with_context(|| format!("no answer from {}", plain(&shown(&url))))?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let to = answer.headers().get("location").and_then(|field| field.to_str().ok()).unwrap_or_default();
            url = self.allowed(url.join(to).context("it redirects to what is no address")?)?;
        }
        bail!("{} redirects again and again", self.source.host)
    }

    /// What to send with each request from now on.
    fn authorize(&self, challenge: &Challenge) -> anyhow::Result<String> {
        let (service, realm) = match challenge {
            Challenge::Basic => {
                return self.login.map(Login::basic).with_context(|| {
                    format!("{} wants a user; name one with --user, and CLAWHOLD_REGISTRY_PASSWORD", self.source.host)
                });
            }
            Challenge::Bearer { realm, service } => (service, realm),
        };
        let mut url = self.allowed(realm.parse().context("it gives tokens at what is no address")?)?;
        url.query_pairs_mut().append_pair("scope", &format!("repository:{}:pull", self.source.repository));
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        let mut request = self.agent.get(url.as_str());
        // A registry could name any place as the one that gives its tokens.
        if let Some(login) = self.login.filter(|_| self.is_own(&url)) {
            request = request.header("authorization", login.basic());
        }
        let answer = request.call().with_context(|| format!("no token from {}", plain(&shown(&url))))?;
        let status = answer.status();
        let text = body(answer, SAID_BYTES)?;
        ensure!(status == 200, "no token from {}: it answered {status}{}", plain(&shown(&url)), reason(&text));
        let given: Given = serde_json::from_slice(&text).map_err(|_| anyhow!("the token cannot be read"))?;
        let token = given.token.or(given.access_token).context("the token cannot be read")?;
        ensure!(token.bytes().all(|b| b.is_ascii_graphic()), "the token cannot be used");
        Ok(format!("Bearer {token}"))
    }

    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.origin.origin()
    }

    /// An address that a registry may send us to.
    fn allowed(&self, url: Url) -> anyhow::Result<Url> {
        let plain_is_fine = self.origin.scheme() == "http";
        ensure!(
            url.scheme() == "https" || url.scheme() == "http" && plain_is_fine,
            "{} sends us to {}, which is not protected by TLS; it was not asked",
            self.source.host,
            plain(&shown(&url))
        );
        Ok(url)
    }
}

impl Login {
    fn basic(&self) -> String {
        use base64::Engine as _;
        let pair = format!("{}:{}", self.user, self.password);
        format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair))
    }
}

#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
}

/// A body of at most so many bytes; one that is larger is not read to its end.
fn body(answer: http::Response<ureq::Body>, most: u64) -> anyhow::Result<Vec<u8>> {
    let declared = answer.headers().get("content-length").and_then(|field| field.to_str().ok()?.parse::<u64>().ok());
    let too_many = || anyhow!("what came has more than the {most} bytes that it may have; it was not taken");
    if declared.is_some_and(|size| size > most) {
        return Err(too_many());
    }
    let mut bytes = Vec::new();
    let reader = answer.into_body().into_with_config().limit(most.saturating_add(2)).reader();
    reader.take(most.saturating_add(1)).read_to_end(&mut bytes).context("the answer broke off")?;
    if bytes.len() as u64 > most { Err(too_many()) } else { Ok(bytes) }
}

/// What a registry says of why it refuses.
fn reason(said: &[u8]) -> String {
    let said: serde_json::Value = serde_json::from_slice(said).unwrap_or_default();
    let message = said["errors"][0]["message"].as_str().unwrap_or_default();
    let message: String = plain(message).replace('\n', " ").chars().take(300).collect();
    if message.is_empty() { message } else { format!(": {message}") }
}

/// An address without what may be secret in it: stores sign theirs in the query.
fn shown(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_asked_with_tls_sends_nobody_where_there_is_none() {
        let source: Source = "oci://ghcr.io/northwind/crm:1.4.0".parse().unwrap();
        let registry = Registry::new(&source, false, None).unwrap();
        let to = |text: &str| registry.allowed(text.parse().unwrap());
        assert!(to("https://store.example.com/blob").is_ok());
        let refused = to("http://store.example.com/blob?signed=secret").unwrap_err().to_string();
        assert!(refused.contains("http://store.example.com/blob") && !refused.contains("secret"), "{refused}");
        assert!(to("file:///etc/passwd").is_err());
        assert!(registry.is_own(&"https://ghcr.io:443/x".parse().unwrap()));
        assert!(!registry.is_own(&"https://ghcr.io:8443/x".parse().unwrap()));
        assert!(!registry.is_own(&"https://ghcr.io.example.com/x".parse().unwrap()));
    }
}
