//! What every request passes on its way out, whichever interface a guest makes it by: the budget, the reading of URL and
//! fields, the policy; and its entry in the journal.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clawhold_sandbox::contract::clawhold::skill::http::{Error, Rule};
use clawhold_secret_store::SecretValue;
use clawhold_tenancy::policy::{By, Denial, HostCeiling, Method, Policy};
use clawhold_tenancy::quota::{Amounts, Dimension, Over};
use clawhold_tenancy::run::Egress;
use clawhold_tenancy::{DEPTH_HEADER, RunLimits, SecretName};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::Url;
use zeroize::Zeroizing;

use crate::audit::cut;
use crate::http::{Bounds, Incoming, Outgoing};
use crate::{Authority, Journal, Leak, Leaks, lock};

/// Bytes of a URL: what common servers accept.
pub(crate) const URL_BYTES: usize = 8192;
/// Characters of a request's origin that are recorded: a scheme, the longest name that DNS has, and a port.
const ORIGIN_CHARS: usize = 300;
/// Header fields of a request, and bytes of all of them.
const HEADERS: usize = 64;
pub(crate) const HEADER_BYTES: usize = 32 * 1024;

/// Fields that frame a message or steer the connection. A guest that sets one could make two requests of one.
const RESERVED: [&str; 12] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-connection",
    "expect",
];

const LESS_REQUESTS: &str = "make fewer requests in one run, or raise `http_requests` under [limits] in skill.toml, as far as the operator lets it be";

/// What a guest wants to send, whichever interface it came by.
pub(crate) struct Wanted<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) fields: Vec<(&'a str, &'a [u8])>,
    pub(crate) body: Bytes,
}

/// What decides over a run's requests, whichever interface they come by.
pub(crate) struct Exits<'a> {
    pub(crate) authority: Option<&'a Authority>,
    pub(crate) limits: &'a RunLimits,
    pub(crate) journal: &'a Arc<Mutex<Journal>>,
}

/// A request's entry in the journal: there from the start, so that a request that is cut off is told of as well.
pub(crate) struct Told {
    journal: Arc<Mutex<Journal>>,
    /// Requests before this one.
    before: usize,
    /// Log lines of the run, and bytes of each.
    log: (u32, usize),
}

impl Exits<'_> {
    /// Enters a request into the journal.
    pub(crate) fn begin(&self, method: &str) -> Told {
        let mut journal = lock(self.journal);
        let before = journal.requests as usize;
        journal.requests += 1;
        // Those that may be sent, and the first that may not.
        if before > self.limits.http_requests as usize {
            journal.requests_not_listed += 1;
        } else {
            journal.egress.push(Egress {
                method: method.to_owned(),
                origin: String::new(),
                credential: None,
                status: None,
                refused: None,
                denied: None,
                response_bytes: 0,
            });
        }
        let log = (self.limits.log_lines, self.limits.log_line_bytes as usize);
        Told { journal: Arc::clone(self.journal), before, log }
    }

    /// The request as it would leave, if every rule allows it.
    pub(crate) fn vet(
        &self,
        wanted: Wanted<'_>,
        secrets: &[SecretName],
        told: &Told,
    ) -> Result<(Authority, Outgoing), Error> {
        let Some(authority) = self.authority else {
            return refuse(Rule::Policy, "there is no network while a package describes itself");
        };
        told.within(self.limits.http_requests)?;
        let url = parse_url(wanted.url).map_err(|problem| told.deny(unreadable(&problem)))?;
        told.origin(&url);
        let mut headers = parse_headers(&wanted.fields).or_else(|problem| refuse(Rule::InvalidRequest, problem))?;
        headers.insert(DEPTH_HEADER, HeaderValue::from(u16::from(authority.depth) + 1));
        headers.insert(header::USER_AGENT, user_agent(headers.get(header::USER_AGENT), &authority.agent));
        let most = self.limits.http_request_bytes;
        if wanted.body.len() as u64 > most {
            let problem = format!("the body has {} bytes, {most} are allowed", wanted.body.len());
            return refuse(Rule::Size, problem);
        }
        let tenant = authority.tenant.clone();
        let outgoing = Outgoing { tenant, method: wanted.method, url, headers, body: wanted.body, credential: None };
        judge(authority, outgoing.method, &outgoing.url, secrets).map_err(|denial| told.deny(denial))?;
        Ok((authority.clone(), outgoing))
    }

    /// Where an answer leads, if every rule allows that too.
    pub(crate) fn vet_again(&self, next: Outgoing, secrets: &[SecretName], told: &Told) -> Result<Outgoing, Error> {
        let Some(authority) = self.authority else { return refuse(Rule::Policy, "there is no network") };
        told.within(self.limits.http_requests)?;
        told.origin(&next.url);
        readable(&next.url).map_err(|problem| told.deny(unreadable(&problem)))?;
        judge(authority, next.method, &next.url, secrets).map_err(|denial| told.deny(denial))?;
        Ok(next)
    }

    /// What the exchange may take when the guest asks for this much time.
    pub(crate) fn bounds(&self, authority: &Authority, asked: Option<Duration>) -> Bounds {
        let most = Duration::from_millis(self.limits.http_timeout_ms);
        let time = asked.unwrap_or(most).min(most);
        Bounds {
            deadline: authority.deadline.min(Instant::now() + time),
            response_bytes: self.limits.http_response_bytes,
        }
    }
}

/// Sends a request that every rule allows, at the tenant's expense. What may come back is reserved before; what came takes its place.
/// A run that is cut meanwhile has used all of it, for nobody knows what arrived.
pub(crate) async fn send(
    authority: &Authority,
    outgoing: Outgoing,
    mut bounds: Bounds,
    told: &Told,
) -> Result<Incoming, Error> {
    told.keep_in(authority, &outgoing)?;
    let line = outgoing.url.as_str().len() as u64;
    let sent = line + bytes_of(&outgoing.headers) + outgoing.body.len() as u64;
    let most = authority.meter.quota().amount(Dimension::Egress);
    // An answer that is larger than the quota could never be paid for.
    bounds.response_bytes = bounds.response_bytes.min(most.saturating_sub(sent));
    let used = |received| Amounts::of(Dimension::HttpRequests, 1).and(Dimension::Egress, sent + received);
    let held = authority.meter.hold(&used(bounds.response_bytes));
    let held = held.or_else(|over| refuse(Rule::Budget, used_up(&over)))?;
    let answer = authority.backends.transport.send(outgoing, bounds).await;
    held.settle(&used(match &answer {
        Ok(incoming) => incoming.wire_bytes,
        // What came of an answer that broke off nobody knows: a peer could send all but its last byte.
        Err(error) if error.sent => bounds.response_bytes,
        Err(_) => 0,
    }));
    answer.map_err(|error| match error.denial {
        Some(denial) => told.deny(denial),
        None => Error { rule: error.rule, message: error.message, sent: error.sent },
    })
}

fn bytes_of(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

/// What a skill is told when its tenant's quota is used up.
pub(crate) fn used_up(over: &Over) -> String {
    let row = over.dimension.row();
    let (used, limit) = (over.used.div_ceil(row.scale), over.limit / row.scale);
    let then = match over.wait_us {
        Some(wait) => format!("try again in {} s", wait.div_ceil(1_000_000)),
        None => "it is more than can ever be".to_owned(),
    };
    format!("the tenant's {} is used up ({used} of {limit} {}); {then}", row.key, row.unit)
}

impl Told {
    fn origin(&self, url: &Url) {
        let origin = url.origin().ascii_serialization().chars().take(ORIGIN_CHARS).collect();
        self.change(|told| told.origin = origin);
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Egress)) {
        // Gone if the run ended before the request did.
        if let Some(told) = lock(&self.journal).egress.get_mut(self.before) {
            change(told);
        }
    }

    /// Whether the run may make one more request.
    fn within(&self, most: u32) -> Result<(), Error> {
        if self.before < most as usize {
            return Ok(());
        }
        let why = format!("a run may make {most} requests");
        self.note(Denial { by: By::Bound, why: why.clone(), remedy: LESS_REQUESTS.to_owned() }, false);
        refuse(Rule::Budget, why)
    }

    /// Tells the tenant who said no, by which rule, and what would allow it; and the guest that somebody did.
    pub(crate) fn deny(&self, denial: Denial) -> Error {
        let (rule, said) = match denial.by {
            // The guest wrote it, and can write it otherwise.
            By::Request => (Rule::InvalidRequest, format!("{}; {}", denial.why, denial.remedy)),
            By::Credential => (Rule::Credential, "this secret may not be put on this request".to_owned()),
            By::Address => (Rule::Address, "the host leads to an address that skills may not reach".to_owned()),
            By::Bound => (Rule::Budget, denial.why.clone()),
            By::Manifest | By::Operator => (Rule::Policy, "this request is not allowed".to_owned()),
        };
        self.note(denial, true);
        Error { rule, message: format!("{said}; the run's log has the reason"), sent: false }
    }

    /// Refuses a request that holds the value of a secret which may not go there.
    fn keep_in(&self, authority: &Authority, outgoing: &Outgoing) -> Result<(), Error> {
        let Outgoing { method, url, headers, body, .. } = outgoing;
        let strays = |name: &SecretName| judge(authority, *method, url, std::slice::from_ref(name)).is_err();
        let strays: Vec<(SecretName, SecretValue)> = {
            let journal = lock(&self.journal);
            let exposed = journal.exposed.iter().filter(|((name, _), _)| strays(name));
            exposed.map(|((name, _), value)| (name.clone(), value.clone())).collect()
        };
        let Some(leaks) = Leaks::of(strays.iter().map(|(name, value)| (name, value))) else { return Ok(()) };
        let fields = headers.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
        let found = fields.chain([url.as_str().as_bytes(), body]).find_map(|part| {
            let decoded: Option<Zeroizing<Vec<u8>>> =
                part.contains(&b'%').then(|| percent_encoding::percent_decode(part).collect::<Vec<u8>>().into());
            let first = |part: &[u8]| leaks.find(part).next().map(|(secret, form)| (secret.to_owned(), form));
            first(part).or_else(|| first(&decoded?))
        });
        let Some((secret, form)) = found else { return Ok(()) };
        lock(&self.journal).leaks.push(Leak { secret: secret.clone(), form, place: "request" });
        Err(self.deny(Denial {
            by: By::Credential,
            why: format!("the request holds the value of the secret {secret} ({}), which may not go there", form.as_str()),
            remedy: "find out why the skill sends it; if it should, its author lists the secret under `credentials` of that \
                     [[http]] in skill.toml"
                .to_owned(),
        }))
    }

    fn note(&self, denial: Denial, in_log: bool) {
        let mut journal = lock(&self.journal);
        if in_log {
            let Denial { by, why, remedy } = &denial;
            let line = format!("warn http: refused by the {}: {why}; {remedy}", by.as_str());
            journal.line(self.log.0, cut(&line, self.log.1).to_owned());
        }
        if let Some(told) = journal.egress.get_mut(self.before) {
            told.denied = Some(denial.into());
        }
    }

    /// Notes how the request ended.
    pub(crate) fn ended(&self, answer: Result<Incoming, Error>) -> Result<Incoming, Error> {
        self.change(|told| match &answer {
            Ok(incoming) => {
                told.status = Some(incoming.status);
                told.response_bytes = incoming.body.len() as u64;
            }
            Err(error) => told.refused = Some(word(error.rule).to_owned()),
        });
        answer
    }
}

/// Whether the install and the operator let this request go, and these secrets with it.
fn judge(authority: &Authority, method: Method, url: &Url, secrets: &[SecretName]) -> Result<(), Denial> {
    judged(&authority.policy, &authority.backends.ceiling, method, url, secrets)
}

/// The same, of a policy and a ceiling.
pub(crate) fn judged(
    policy: &Policy,
    ceiling: &HostCeiling,
    method: Method,
    url: &Url,
    secrets: &[SecretName],
) -> Result<(), Denial> {
    policy.allows(method, url, None)?;
    secrets.iter().try_for_each(|secret| policy.allows(method, url, Some(secret)))?;
    ceiling.check(url)
}

/// What is wrong with a URL, and what to write instead.
fn unreadable(problem: &str) -> Denial {
    let (why, remedy) = problem.split_once("; ").unwrap_or((problem, "write https://host/path"));
    Denial { by: By::Request, why: why.to_owned(), remedy: remedy.to_owned() }
}

pub(crate) fn parsed(text: &str) -> Result<Url, Denial> {
    parse_url(text).map_err(|problem| unreadable(&problem))
}

fn parse_url(text: &str) -> Result<Url, String> {
    if text.len() > URL_BYTES {
        return Err(format!("the URL has {} bytes, {URL_BYTES} are allowed", text.len()));
    }
    // The parser drops these, so a URL that is shown would not be the one that is sent.
    if text.chars().any(|c| c.is_control() || c == ' ' || c == '\\') {
        return Err("the URL has control characters, spaces or backslashes; encode them".to_owned());
    }
    let url = Url::parse(text).map_err(|e| format!("the URL cannot be read ({e}); write https://host/path"))?;
    readable(&url)?;
    Ok(url)
}

/// Whether a URL says where it leads, and nothing else.
fn readable(url: &Url) -> Result<(), String> {
    if !matches!(url.scheme(), "https" | "http") {
        return Err(format!("the scheme {} is not served; write https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL has user information; use a credential".to_owned());
    }
    if url.fragment().is_some() {
        return Err("the URL has a fragment, which is never sent; leave it out".to_owned());
    }
    Ok(())
}

/// Who asks: what the guest says of itself, and always the host and the package.
fn user_agent(guests: Option<&HeaderValue>, ours: &HeaderValue) -> HeaderValue {
    let both =
        guests.and_then(|guests| HeaderValue::from_bytes(&[guests.as_bytes(), b" ", ours.as_bytes()].concat()).ok());
    both.unwrap_or_else(|| ours.clone())
}

fn parse_headers(given: &[(&str, &[u8])]) -> Result<HeaderMap, String> {
    if given.len() > HEADERS {
        return Err(format!("the request has {} header fields, {HEADERS} are allowed", given.len()));
    }
    let size: usize = given.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > HEADER_BYTES {
        return Err(format!("the header fields have {size} bytes, {HEADER_BYTES} are allowed"));
    }
    let mut headers = HeaderMap::with_capacity(given.len() + 4);
    for (name, value) in given {
        let name = field_name(name)?;
        let value = str::from_utf8(value).ok().and_then(|value| HeaderValue::from_str(value).ok());
        let value =
            value.ok_or_else(|| format!("the value of the header {name} has characters that a header cannot carry"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

pub(crate) fn field_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::try_from(text).map_err(|_| {
        let shown: String = text.chars().take(64).collect();
        format!("{shown:?} is no header name")
    })?;
    if is_reserved(&name) {
        return Err(format!("the header {name} belongs to the host; leave it out"));
    }
    Ok(name)
}

/// Whether a field belongs to the host.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    RESERVED.contains(&name) || name.starts_with("proxy-") || name == DEPTH_HEADER
}

pub(crate) fn refuse<T>(rule: Rule, message: impl Into<String>) -> Result<T, Error> {
    Err(Error { rule, message: message.into(), sent: false })
}

fn word(rule: Rule) -> &'static str {
    match rule {
        Rule::InvalidRequest => "invalid-request",
        Rule::Policy => "policy",
        Rule::Credential => "credential",
        Rule::Address => "address",
        Rule::Dns => "dns",
        Rule::Connect => "connect",
        Rule::Tls => "tls",
        Rule::Protocol => "protocol",
        Rule::Size => "size",
        Rule::Deadline => "deadline",
        Rule::Budget => "budget",
        Rule::Unavailable => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_18_a_guest_cannot_frame_a_message_itself() {
        fn field<'a>(name: &'a str, value: &'a str) -> (&'a str, &'a [u8]) {
            (name, value.as_bytes())
        }
        for bad in [
            field("Host", "evil.example.com"),
            field("Transfer-Encoding", "chunked"),
            field("CONTENT-LENGTH", "0"),
            field("TE", "trailers"),
            field("Connection", "close, Authorization"),
            field("Proxy-Anything", "x"),
            field("Clawhold-Depth", "0"),
            field("X-A", "b\r\nGET /admin HTTP/1.1"),
            field("X-A\r\nX-B", "c"),
            field("X A", "c"),
            field("", "c"),
            field("X-A", "a\0b"),
        ] {
            assert!(parse_headers(std::slice::from_ref(&bad)).is_err(), "{bad:?}");
        }
        assert!(parse_headers(&[field("Accept", "application/json"), field("X-A", "")]).is_ok());
        assert!(parse_headers(&vec![field("a", "b"); HEADERS + 1]).unwrap_err().contains("are allowed"));
        assert!(parse_headers(&[field("a", &"b".repeat(HEADER_BYTES))]).unwrap_err().contains("are allowed"));
    }

    #[test]
    fn a_url_is_read_one_way_or_refused() {
        for bad in [
            "",
            "/path",
            "ftp://x.com/",
            "https://u:p@x.com/",
            "https://x.com/#f",
            "https://x.com/a b",
            "https://x.com\\@evil.com/",
            "https://x.com/a\r\nb",
            "file:///etc/passwd",
            "https://",
        ] {
            assert!(parse_url(bad).is_err(), "{bad:?}");
        }
        assert!(parse_url(&format!("https://x.com/{}", "a".repeat(URL_BYTES))).is_err());
        assert_eq!(parse_url("https://0x7f.1/x").unwrap().host_str(), Some("127.0.0.1"));
    }
}
