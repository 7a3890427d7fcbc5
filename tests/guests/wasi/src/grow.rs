//! Whatever the host keeps for a guest, more and more of it.

use clawhold_skill::skill;
use wasip2::clocks::monotonic_clock;
use wasip2::http::types::{Fields, Method, OutgoingRequest};

/// Takes more and more of one kind until the host ends it.
#[skill(name = "wasi.hold")]
fn hold(what: String) -> u64 {
    let mut held: Vec<Box<dyn std::any::Any>> = Vec::new();
    loop {
        match what.as_str() {
            "pollables" => held.push(Box::new(monotonic_clock::subscribe_duration(u64::MAX))),
            "fields" => {
                let fields = Fields::new();
                for _ in 0..7 {
                    fields.append("a", &[b'x'; 4096]).expect("it is below the limit");
                }
                held.push(Box::new(fields));
            }
            "bodies" => {
                let request = OutgoingRequest::new(Fields::new());
                let body = request.body().expect("a new request has a body");
                let stream = body.write().expect("a new body has a stream");
                while let Ok(1..) = stream.check_write() {
                    let permitted = usize::try_from(stream.check_write().expect("just asked")).expect("is small");
                    if stream.write(&vec![b'x'; permitted.min(65_536)]).is_err() {
                        break;
                    }
                }
                held.push(Box::new((stream, body, request)));
            }
            _ => held.push(Box::new(wasip2::cli::stdout::get_stdout())),
        }
    }
}

/// Fills one set of header fields with so many values of so many bytes.
#[skill(name = "wasi.fill_fields")]
fn fill_fields(values: usize, value_bytes: usize) -> bool {
    let fields = Fields::new();
    (0..values).all(|_| fields.append("a", &vec![b'x'; value_bytes]).is_ok())
}

/// Waits for the same moment so many times in one call.
#[skill(name = "wasi.poll_list")]
fn poll_list(count: usize) -> usize {
    let now = monotonic_clock::subscribe_duration(0);
    wasip2::io::poll::poll(&vec![&now; count]).len()
}

/// Gives a request parts of so many bytes, and says which of them were taken.
#[skill(name = "wasi.long_request")]
fn long_request(bytes: usize) -> Vec<bool> {
    let request = OutgoingRequest::new(Fields::new());
    let long = "a".repeat(bytes);
    vec![
        request.set_method(&Method::Other(long.clone())).is_ok(),
        request.set_authority(Some(&long)).is_ok(),
        request.set_path_with_query(Some(&format!("/{long}"))).is_ok(),
        request.set_path_with_query(Some("/short")).is_ok(),
    ]
}
