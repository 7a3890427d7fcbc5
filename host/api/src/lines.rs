//! Answers that come line by line, each a JSON value (NDJSON).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde_json::Value;
use tokio::sync::mpsc;

/// The media type of such an answer.
pub(crate) const LINES: &str = "application/x-ndjson";

/// How long a reader may take for what was sent to it last. One that takes nothing for so long has gone, whatever its connection says.
pub(crate) const READER: Duration = Duration::from_secs(30);

/// The body of an answer that is still being made.
pub(crate) struct Lines(mpsc::Receiver<Bytes>);

/// Adds lines to a body.
pub(crate) struct Writer(mpsc::Sender<Bytes>);

/// Nobody reads the answer any more.
pub(crate) struct Gone;

impl Lines {
    /// A body, and who writes it. It ends when the writer is dropped.
    pub(crate) fn channel() -> (Writer, Self) {
        let (writer, reader) = mpsc::channel(4);
        (Writer(writer), Self(reader))
    }
}

impl Writer {
    /// Waits for a slow reader, within bounds.
    pub(crate) async fn send(&self, line: &Value) -> Result<(), Gone> {
        self.send_text(format!("{line}\n")).await
    }

    /// The same for whole lines that are text already.
    pub(crate) async fn send_text(&self, lines: String) -> Result<(), Gone> {
        self.send_bytes(lines.into()).await
    }

    /// The same for a body that is no text.
    pub(crate) async fn send_bytes(&self, bytes: Bytes) -> Result<(), Gone> {
        self.send_within(READER, bytes).await
    }

    pub(crate) async fn send_within(&self, time: Duration, bytes: Bytes) -> Result<(), Gone> {
        self.0.send_timeout(bytes, time).await.map_err(|_| Gone)
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
