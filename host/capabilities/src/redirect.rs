//! Where a 3xx answer leads (RFC 9110, section 15.4).

use bytes::Bytes;
use clawhold_sandbox::contract::clawhold::skill::http::{Error, Rule};
use clawhold_tenancy::DEPTH_HEADER;
use clawhold_tenancy::policy::Method;
use http::{HeaderName, header};

use crate::exits::URL_BYTES;
use crate::http::{Incoming, Outgoing};

/// Redirects that are followed.
pub(crate) const MOST: u32 = 3;

/// Fields that tell of a body.
const OF_BODY: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE, header::CONTENT_LOCATION];
/// Fields that may go to another origin. Every other one may be a key, or signed for the first.
const TO_OTHERS: [HeaderName; 5] =
    [header::ACCEPT, header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE, header::USER_AGENT, DEPTH];
const DEPTH: HeaderName = HeaderName::from_static(DEPTH_HEADER);

/// Where an answer leads, if it does.
pub(crate) fn location(answer: &Incoming) -> Option<&str> {
    let leads = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
    answer.headers.get(header::LOCATION).filter(|_| leads)?.to_str().ok()
}

/// The request that follows from a redirect, without a credential. Whether it may be sent others say.
pub(crate) fn next(before: &Outgoing, status: u16, location: &str) -> Result<Outgoing, String> {
    if location.len() > URL_BYTES {
        return Err(format!("the answer leads to a URL of {} bytes, {URL_BYTES} are allowed", location.len()));
    }
    let mut url = before.url.join(location).map_err(|e| format!("the answer leads to what is no URL ({e})"))?;
    url.set_fragment(None);
    let (from, to) = (before.url.scheme(), url.scheme());
    if to != from && (from, to) != ("http", "https") {
        return Err(format!("the answer leads from {from} to {to}"));
    }
    let mut next = Outgoing { url, credential: None, ..before.clone() };
    // What was sent is not sent again where the answer is to be fetched.
    let fetches = match status {
        303 => before.method != Method::Head,
        301 | 302 => before.method == Method::Post,
        _ => false,
    };
    if fetches {
        (next.method, next.body) = (Method::Get, Bytes::new());
        for field in &OF_BODY {
            next.headers.remove(field);
        }
    }
    if next.url.origin() != before.url.origin() {
        if !next.body.is_empty() {
            return Err(format!(
                "the answer leads to {}, and the body was for another origin",
                next.url.origin().ascii_serialization()
            ));
        }
        next.headers = next
            .headers
            .drain()
            .filter_map(|(name, value)| Some((name?, value)))
            .filter(|(name, _)| TO_OTHERS.contains(name))
            .collect();
    }
    Ok(next)
}

/// A redirect that is not followed: something was sent by then.
pub(crate) fn refused<T>(rule: Rule, why: &str) -> Result<T, Error> {
    Err(Error { rule, message: format!("the answer is a redirect that is not followed: {why}"), sent: true })
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn request(method: Method) -> Outgoing {
        let mut headers = HeaderMap::new();
        for name in ["content-type", "authorization", "cookie", "accept", "x-api-key", "clawhold-depth"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        Outgoing {
            tenant: "acme-corp".parse().unwrap(),
            method,
            url: "https://a.example.com/x/y?q".parse().unwrap(),
            headers,
            body: Bytes::from_static(b"body"),
            credential: None,
        }
    }

    #[test]
    fn the_method_follows_rfc_9110() {
        use Method::{Delete, Get, Head, Post, Put};
        for (status, before, after) in [
            (301, Post, Get),
            (302, Post, Get),
            (303, Post, Get),
            (303, Put, Get),
            (303, Delete, Get),
            (303, Head, Head),
            (301, Put, Put),
            (302, Delete, Delete),
            (307, Post, Post),
            (308, Post, Post),
            (308, Delete, Delete),
        ] {
            let next = next(&request(before), status, "/z").unwrap();
            assert_eq!(next.method, after, "{status} {before:?}");
            assert_eq!(next.body.is_empty(), after == Get, "{status} {before:?}");
            assert_eq!(next.headers.contains_key("content-type"), after != Get, "{status} {before:?}");
            assert!(next.headers.contains_key("authorization"), "it stays with the origin");
        }
    }

    #[test]
    fn what_belongs_to_an_origin_stays_there() {
        for (to, stays) in [
            ("/z", true),
            ("z", true),
            ("//a.example.com/z", true),
            ("https://a.example.com:443/z", true),
            ("https://b.example.com/", false),
            ("//b.example.com/", false),
            ("https://a.example.com:8443/", false),
        ] {
            let next = next(&request(Method::Post), 302, to).unwrap();
            for field in ["authorization", "cookie", "x-api-key"] {
                assert_eq!(next.headers.contains_key(field), stays, "{field} {to}");
            }
            assert!(next.headers.contains_key("accept") && next.headers.contains_key("clawhold-depth"));
            // A body is repeated for its own origin alone.
            assert_eq!(super::next(&request(Method::Post), 307, to).is_ok(), stays, "{to}");
        }
    }

    #[test]
    fn hostile_16_a_redirect_to_another_scheme_is_none() {
        for to in ["http://a.example.com/", "file:///etc/passwd", "ftp://a.example.com/", "data:,x", "https://", "//"] {
            assert!(next(&request(Method::Get), 302, to).is_err(), "{to}");
        }
        assert!(next(&request(Method::Get), 302, &format!("/{}", "a".repeat(URL_BYTES))).is_err());
        assert_eq!(next(&request(Method::Get), 302, "/a#b").unwrap().url.as_str(), "https://a.example.com/a");
    }
}
