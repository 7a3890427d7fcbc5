//! A network that answers by the path of a request, so that the same program always gets the same.

use async_trait::async_trait;
use bytes::Bytes;
use clawhold_capabilities::{Bounds, Incoming, Outgoing, Transport, TransportError};
use clawhold_sandbox::contract::clawhold::skill::http::Rule;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The paths that it knows; any other is answered with nothing in it.
pub(crate) const PATHS: [&str; 6] = ["/", "/large", "/fields", "/odd", "/refused", "/many"];

pub(crate) struct Network;

#[async_trait]
impl Transport for Network {
    async fn send(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, TransportError> {
        let mut headers = HeaderMap::new();
        let mut body = Vec::new();
        match request.url.path() {
            "/large" => body = vec![b'x'; usize::try_from(bounds.response_bytes.min(1 << 20)).unwrap_or(0)],
            "/fields" => {
                for n in 0..200 {
                    headers.append(HeaderName::from_static("x-field"), HeaderValue::from(n));
                }
            }
            // Bytes that a header may have and text may not.
            "/odd" => {
                let value = HeaderValue::from_bytes(b"caf\xe9 \xff\xfe").unwrap_or(HeaderValue::from_static(""));
                headers.append(HeaderName::from_static("x-odd"), value);
                body = vec![0xff; 3];
            }
            "/refused" => {
                let message = "the network is made up".to_owned();
                return Err(TransportError { rule: Rule::Connect, message, sent: true, denial: None });
            }
            "/many" => {
                for n in 0..1000_u32 {
                    let name = HeaderName::from_bytes(format!("x-{n}").as_bytes());
                    headers.append(name.unwrap_or(HeaderName::from_static("x")), HeaderValue::from_static(""));
                }
            }
            _ => {}
        }
        let wire_bytes = body.len() as u64;
        Ok(Incoming { status: 200, headers, body: Bytes::from(body), wire_bytes })
    }
}
