//! `wasi:http/outgoing-handler`: a request of the guest's own making, judged and sent as any other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use clawhold_sandbox::contract::clawhold::skill::http::{Error, Rule};
use clawhold_tenancy::RunLimits;
use clawhold_tenancy::policy::Method;
use http::{HeaderName, Request, Response, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;
use wasmtime_wasi_http::{Error as Code, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks};

use crate::audit::cut;
use crate::exits::{Exits, Told, Wanted, is_reserved, refuse, send};
use crate::http::{Bounds, Incoming, Outgoing};
use crate::{Authority, Journal, lock};

/// Requests and unread answers at a time. The host holds each of them whole, and that memory is not in the run's cap.
const AT_A_TIME: usize = 4;

/// Bytes of a request's body that the host takes at once, before anybody has asked it to send the request.
const CHUNK_BYTES: usize = 64 * 1024;

type Io = Box<dyn Future<Output = Result<(), Code>> + Send>;
type Answer = Box<dyn Future<Output = Result<(Response<WasiBody>, Io), Code>> + Send>;

/// What the engine's implementation of `wasi:http` asks.
pub(crate) struct Hooks {
    authority: Option<Authority>,
    limits: RunLimits,
    journal: Arc<Mutex<Journal>>,
    places: Arc<Semaphore>,
}

impl Hooks {
    pub(crate) fn new(authority: Option<Authority>, limits: &RunLimits, journal: &Arc<Mutex<Journal>>) -> Self {
        Self {
            authority,
            limits: limits.clone(),
            journal: Arc::clone(journal),
            places: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    fn vet(&self, request: &Request<WasiBody>, told: &Told, asked: Option<Duration>) -> Result<Exchange, Error> {
        let exits = Exits { authority: self.authority.as_ref(), limits: &self.limits, journal: &self.journal };
        let Some(method) = method(request.method()) else {
            return refuse(Rule::InvalidRequest, "the method is none of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        };
        let fields = request.headers().iter().filter(|(name, _)| *name != header::CONTENT_LENGTH);
        let wanted = Wanted {
            method,
            url: &request.uri().to_string(),
            fields: fields.map(|(name, value)| (name.as_str(), value.as_bytes())).collect(),
            body: Bytes::new(),
        };
        let (authority, outgoing) = exits.vet(wanted, &[], told)?;
        let bounds = exits.bounds(&authority, asked);
        Ok(Exchange {
            authority,
            outgoing,
            bounds,
            most: self.limits.http_request_bytes,
            places: Arc::clone(&self.places),
        })
    }

    /// A refusal's words have no place in an error code: they are told to the author in the run's log.
    fn explain(journal: &Mutex<Journal>, limits: &RunLimits, error: &Error) {
        if matches!(error.rule, Rule::Policy | Rule::Credential | Rule::Address) {
            return;
        }
        let line = format!("warn wasi:http: {}", cut(&error.message, limits.log_line_bytes as usize));
        lock(journal).line(limits.log_lines, line);
    }
}

impl WasiHttpHooks for Hooks {
    /// A guest may say how long its body is, as HTTP libraries do: the engine holds it to that, and the field that is
    /// sent is the host's own.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    fn send_request(&mut self, request: Request<WasiBody>, options: Option<RequestOptions>, _: Io) -> Answer {
        let exits = Exits { authority: self.authority.as_ref(), limits: &self.limits, journal: &self.journal };
        let told = exits.begin(cut(request.method().as_str(), 16));
        // There is one time for the whole exchange: what the guest would wait for its beginning.
        let asked = options.and_then(|o| Some(o.first_byte_timeout? + o.connect_timeout.unwrap_or_default()));
        let vetted = self.vet(&request, &told, asked);
        let (limits, journal) = (self.limits.clone(), Arc::clone(&self.journal));
        Box::new(async move {
            let answer = match vetted {
                Ok(exchange) => exchange.run(request.into_body(), &told).await,
                Err(error) => Err(error),
            };
            let (answer, place) = match answer {
                Ok((incoming, place)) => (Ok(incoming), Some(place)),
                Err(error) => (Err(error), None),
            };
            match told.ended(answer) {
                Ok(incoming) => Ok((response(incoming, place), Box::new(async { Ok(()) }) as Io)),
                Err(error) => {
                    Self::explain(&journal, &limits, &error);
                    Err(code(&error))
                }
            }
        })
    }
}

fn is_forbidden(name: &HeaderName) -> bool {
    is_reserved(name) && *name != header::CONTENT_LENGTH
}

/// A request that may be sent, and whose body the guest is still writing.
struct Exchange {
    authority: Authority,
    outgoing: Outgoing,
    bounds: Bounds,
    most: u64,
    places: Arc<Semaphore>,
}

impl Exchange {
    async fn run(mut self, body: WasiBody, told: &Told) -> Result<(Incoming, OwnedSemaphorePermit), Error> {
        let deadline = self.bounds.deadline.into();
        let Ok(place) = timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await else {
            return refuse(
                Rule::Budget,
                format!("{AT_A_TIME} requests at a time; read or drop an answer before the next request"),
            );
        };
        let place = place.expect("the semaphore is never closed");
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        let Ok(whole) = timeout_at(deadline, Limited::new(body, most).collect()).await else {
            return refuse(Rule::Deadline, "the time for the request was over before its body was written");
        };
        self.outgoing.body = match whole {
            Ok(whole) => whole.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return refuse(Rule::Size, format!("the body has more than the {most} bytes that are allowed"));
            }
            Err(error) => return refuse(Rule::InvalidRequest, format!("the body was not finished: {error}")),
        };
        let answer = send(&self.authority, self.outgoing, self.bounds, told).await?;
        Ok((answer, place))
    }
}

/// An answer's bytes, and the place that they take.
struct Held {
    bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn response(incoming: Incoming, place: Option<OwnedSemaphorePermit>) -> Response<WasiBody> {
    let body = Full::new(Bytes::from_owner(Held { bytes: incoming.body, _place: place }));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(incoming.status).unwrap_or_default();
    *response.headers_mut() = incoming.headers;
    response
}

fn method(method: &http::Method) -> Option<Method> {
    Some(match *method {
        http::Method::GET => Method::Get,
        http::Method::HEAD => Method::Head,
        http::Method::POST => Method::Post,
        http::Method::PUT => Method::Put,
        http::Method::PATCH => Method::Patch,
        http::Method::DELETE => Method::Delete,
        http::Method::OPTIONS => Method::Options,
        _ => return None,
    })
}

/// The rule in the words of `wasi:http`.
fn code(error: &Error) -> Code {
    match error.rule {
        Rule::InvalidRequest => Code::HttpRequestUriInvalid,
        Rule::Policy | Rule::Credential => Code::HttpRequestDenied,
        Rule::Address => Code::DestinationIpProhibited,
        Rule::Dns => Code::DnsError { rcode: None, info_code: None },
        Rule::Connect => Code::ConnectionRefused,
        Rule::Tls => Code::TlsProtocolError,
        Rule::Protocol => Code::HttpProtocolError,
        Rule::Size if error.sent => Code::HttpResponseBodySize(None),
        Rule::Size => Code::HttpRequestBodySize(None),
        Rule::Deadline => Code::HttpResponseTimeout,
        Rule::Budget => Code::ConnectionLimitReached,
        Rule::Unavailable => Code::InternalError(Some(error.message.clone())),
    }
}
