//! An answer's body: decoded while it comes, and cut off where a bound is reached.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZstdDecoder};
use bytes::{Bytes, BytesMut};
use clawhold_sandbox::contract::clawhold::skill::http::Rule;
use futures_util::TryStreamExt as _;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt as _, BufReader, ReadBuf};
use tokio_util::io::StreamReader;

use super::fail;
use crate::http::TransportError;

/// How much larger than what came a body may become. 200: what text without any sense can reach; more is made to be.
const RATIO: u64 = 200;
/// Below this the ratio says nothing.
const SMALL: u64 = 64 * 1024;
/// Codings one over the other. Two is what misconfigured proxies make.
const CODINGS: usize = 2;
/// What is read at a time.
const CHUNK: usize = 16 * 1024;
/// The largest window that a zstd frame may ask for, as a power of two: 8 MiB, which RFC 9659 sets for HTTP.
const ZSTD_WINDOW: u32 = 23;

/// A body as the guest gets it.
pub(super) struct Decoded {
    pub(super) body: Bytes,
    /// Bytes of it that came over the wire.
    pub(super) wire: u64,
}

/// What the peer will be told that it may use.
pub(super) const ACCEPTED: &str = "gzip, br, zstd";

/// Reads a body to its end, at most `most` bytes of it decoded. What was decoded is no longer said to be coded.
pub(super) async fn read(
    headers: &mut HeaderMap,
    body: Incoming,
    most: u64,
    decodes: bool,
) -> Result<Decoded, TransportError> {
    let codings = if decodes { codings(headers)? } else { Vec::new() };
    if !codings.is_empty() {
        headers.remove(header::CONTENT_ENCODING);
        headers.remove(header::CONTENT_LENGTH);
    }
    let wire = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&wire);
    // Also what makes no output is bounded: empty blocks, comments, a layer that swallows the one below.
    let stream = body.into_data_stream().map_err(io::Error::other).and_then(move |data| {
        let came = counted.fetch_add(data.len() as u64, Ordering::Relaxed) + data.len() as u64;
        std::future::ready(if came > most { Err(too_large(most)) } else { Ok(data) })
    });
    let mut reader: Pin<Box<dyn AsyncBufRead + Send>> = Box::pin(StreamReader::new(stream));
    // The last one was put on last.
    for coding in codings.into_iter().rev() {
        let decoder: Pin<Box<dyn AsyncRead + Send>> = match coding {
            Coding::Gzip => Box::pin(GzipDecoder::new(reader)),
            Coding::Brotli => Box::pin(BrotliDecoder::new(reader)),
            Coding::Zstd => Box::pin(ZstdDecoder::with_params(
                reader,
                &[async_compression::zstd::DParameter::window_log_max(ZSTD_WINDOW)],
            )),
        };
        reader = Box::pin(BufReader::with_capacity(CHUNK, Bounded { inner: decoder, left: most, most }));
    }
    let mut reader = pin!(reader);
    let mut whole = BytesMut::new();
    loop {
        whole.reserve(CHUNK);
        let read = reader.read_buf(&mut whole).await.map_err(|error| broken(&error))?;
        if read == 0 {
            break;
        }
        let (came, is) = (wire.load(Ordering::Relaxed), whole.len() as u64);
        if is > most {
            return Err(fail(Rule::Size, format!("the answer is larger than {most} bytes"), true));
        }
        if is > SMALL && is > came.saturating_mul(RATIO) {
            let grew = format!("the answer grew from {came} to more than {is} bytes while it was decoded");
            return Err(fail(Rule::Size, grew, true));
        }
    }
    Ok(Decoded { body: whole.freeze(), wire: wire.load(Ordering::Relaxed) })
}

#[derive(Clone, Copy)]
enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

/// How the body is coded. What the host does not decode goes to the guest as it came.
fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, TransportError> {
    let mut all = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        for coding in value.to_str().unwrap_or("?").split(',').map(str::trim).filter(|coding| !coding.is_empty()) {
            all.push(match coding.to_ascii_lowercase().as_str() {
                "gzip" | "x-gzip" => Coding::Gzip,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                "identity" => continue,
                _ => return Ok(Vec::new()),
            });
        }
    }
    if all.len() > CODINGS {
        return Err(fail(Rule::Protocol, format!("the answer is coded more than {CODINGS} times over"), true));
    }
    Ok(all)
}

/// A layer of decoding, of which no more is taken than there may be in the end.
struct Bounded {
    inner: Pin<Box<dyn AsyncRead + Send>>,
    left: u64,
    most: u64,
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = self.inner.as_mut().poll_read(cx, into);
        let more = (into.filled().len() - before) as u64;
        match self.left.checked_sub(more) {
            Some(left) => {
                self.left = left;
                read
            }
            None => Poll::Ready(Err(too_large(self.most))),
        }
    }
}

/// There is more of the answer than may be.
#[derive(Debug, thiserror::Error)]
#[error("the answer is larger than {0} bytes")]
struct TooLarge(u64);

fn too_large(most: u64) -> io::Error {
    io::Error::other(TooLarge(most))
}

/// What happened at the bottom: the layers above say no more.
fn broken(error: &io::Error) -> TransportError {
    let mut at: &(dyn std::error::Error + 'static) = error;
    loop {
        // What an I/O error was made of is no source of its own.
        let inner = at.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(TooLarge(most)) = inner.and_then(|inner| inner.downcast_ref()) {
            return fail(Rule::Size, format!("the answer is larger than {most} bytes"), true);
        }
        match inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| at.source()) {
            Some(below) => at = below,
            None => return fail(Rule::Protocol, format!("the body broke off or does not decode: {at}"), true),
        }
    }
}
