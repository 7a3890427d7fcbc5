//! Peers that do not take their answers: a connection is closed when its peer takes less than a little of what waits for it. Without
//! this it would be held, with what is buffered for it, as long as the peer likes.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What a peer takes at the least, in bytes, of what waits for it, and in which time: 1 KiB a second.
const LEAST: usize = 30 << 10;
const WINDOW: Duration = Duration::from_secs(30);

/// A stream that is written to for as long as its peer takes what is written.
pub(crate) struct Patient<S> {
    stream: S,
    window: Duration,
    /// Since something waits: when it is looked how much was taken, and how much was taken so far.
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Patient<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, window: WINDOW, waiting: None }
    }

    /// What becomes of a write that the stream did or did not take now.
    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(bytes)) => {
                if let Some((_, taken)) = &mut self.waiting {
                    *taken += bytes;
                }
                written
            }
            Poll::Ready(Err(_)) => written,
            Poll::Pending => {
                let window = self.window;
                let (late, taken) = self.waiting.get_or_insert_with(|| (Box::pin(tokio::time::sleep(window)), 0));
                loop {
                    ready!(late.as_mut().poll(cx));
                    if *taken < LEAST {
                        let why = "the peer does not take what is sent to it";
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
                    }
                    late.as_mut().reset(Instant::now() + window);
                    *taken = 0;
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked for when all that was there is written: nothing waits any more.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.waiting = None;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn a_peer_that_takes_nothing_is_left() {
        runtime().block_on(async {
            let (near, _far) = duplex(16);
            let mut near = Patient { window: SHORT, ..Patient::new(near) };
            let error = near.write_all(&[0; 1024]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn a_peer_that_takes_a_byte_now_and_then_is_left() {
        runtime().block_on(async {
            let (near, mut far) = duplex(16);
            let mut near = Patient { window: SHORT, ..Patient::new(near) };
            let drip = async {
                while far.read_u8().await.is_ok() {
                    tokio::time::sleep(SHORT / 10).await;
                }
            };
            let part = vec![0; 1 << 20];
            let write = near.write_all(&part);
            tokio::select! {
                () = drip => panic!("it was closed by nobody"),
                written = write => assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut),
            }
        });
    }

    #[test]
    fn a_peer_that_takes_what_there_is_has_all_the_time() {
        runtime().block_on(async {
            let (near, mut far) = duplex(1 << 10);
            let mut near = Patient { window: SHORT, ..Patient::new(near) };
            let reads = tokio::spawn(async move {
                let mut all = Vec::new();
                far.read_to_end(&mut all).await.unwrap();
                all.len()
            });
            let part = vec![0; 1 << 20];
            for _ in 0..4 {
                near.write_all(&part).await.unwrap();
                near.flush().await.unwrap();
                // A long while in which nothing waits for it.
                tokio::time::sleep(SHORT * 2).await;
            }
            drop(near);
            assert_eq!(reads.await.unwrap(), 4 << 20);
        });
    }
}
