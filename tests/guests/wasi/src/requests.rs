//! Requests through `wasi:http`.

use clawhold_skill::{data, skill};
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
};

/// One request.
#[data]
struct Wanted {
    scheme: String,
    authority: String,
    path: String,
    method: Option<String>,
    /// `name=value`.
    headers: Option<Vec<String>>,
    body_bytes: Option<usize>,
}

/// Sends all requests, then reads the answers, and says what became of each.
#[skill(name = "wasi.fetch")]
fn fetch(requests: Vec<Wanted>, read_each_first: Option<bool>) -> Vec<String> {
    let started = requests.iter().map(start);
    if read_each_first == Some(true) {
        return started.map(ended).collect();
    }
    let started: Vec<_> = started.collect();
    started.into_iter().map(ended).collect()
}

/// Sends a request and ends without looking at what became of it.
#[skill(name = "wasi.fetch_and_go")]
fn fetch_and_go(request: Wanted) -> bool {
    start(&request).is_ok()
}

/// Sends a request and never finishes its body.
#[skill(name = "wasi.fetch_unfinished")]
fn fetch_unfinished(scheme: String, authority: String, path: String) -> String {
    let request = request(&scheme, &authority, &path, Fields::new());
    request.set_method(&Method::Post).expect("it is a method");
    let _never_finished = request.body().expect("a new request has a body");
    ended(handle(request, None).map_err(|code| format!("{code:?}")))
}

/// Sends a request and waits for its answer.
pub(crate) fn ask(scheme: &str, authority: &str, path: &str) -> String {
    ended(handle(request(scheme, authority, path, Fields::new()), None).map_err(told))
}

fn request(scheme: &str, authority: &str, path: &str, fields: Fields) -> OutgoingRequest {
    let request = OutgoingRequest::new(fields);
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_scheme(Some(&scheme)).expect("it is a scheme");
    request.set_authority(Some(authority)).expect("it is an authority");
    request.set_path_with_query(Some(path)).expect("it is a path");
    request
}

fn start(wanted: &Wanted) -> Result<FutureIncomingResponse, String> {
    let fields = Fields::new();
    for header in wanted.headers.iter().flatten() {
        let (name, value) = header.split_once('=').expect("it is name=value");
        fields.append(name, value.as_bytes()).map_err(|error| format!("{error:?}"))?;
    }
    let request = request(&wanted.scheme, &wanted.authority, &wanted.path, fields);
    let method = match wanted.method.as_deref() {
        None | Some("GET") => Method::Get,
        Some("POST") => Method::Post,
        Some("DELETE") => Method::Delete,
        Some(other) => Method::Other(other.to_owned()),
    };
    request.set_method(&method).expect("it is a method");
    let Some(bytes) = wanted.body_bytes else { return handle(request, None).map_err(told) };
    let body = request.body().expect("a new request has a body");
    let answer = handle(request, None).map_err(told)?;
    let stream = body.write().expect("a new body has a stream");
    for part in vec![b'x'; bytes].chunks(4096) {
        // The host no longer takes it once it has refused the request.
        if stream.blocking_write_and_flush(part).is_err() {
            break;
        }
    }
    drop(stream);
    let _refused_or_sent = OutgoingBody::finish(body, None);
    Ok(answer)
}

fn ended(started: Result<FutureIncomingResponse, String>) -> String {
    let answer = match started {
        Ok(answer) => answer,
        Err(said) => return said,
    };
    answer.subscribe().block();
    match answer.get().expect("it is ready").expect("it is asked once") {
        Ok(response) => format!("{} {}", response.status(), text(&response)),
        Err(code) => told(code),
    }
}

fn told(code: ErrorCode) -> String {
    format!("{code:?}")
}

fn text(response: &IncomingResponse) -> String {
    let body = response.consume().expect("it is asked once");
    let stream = body.stream().expect("it is asked once");
    let mut whole = Vec::new();
    while let Ok(part) = stream.blocking_read(1 << 20) {
        whole.extend_from_slice(&part);
    }
    String::from_utf8_lossy(&whole).into_owned()
}
