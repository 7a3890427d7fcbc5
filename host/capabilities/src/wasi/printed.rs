//! What a guest prints: lines of the run's log, under the same limits as lines that it logs.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use clawhold_tenancy::RunLimits;
use tokio::io::{AsyncWrite, sink};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::audit::cut;
use crate::{Journal, lock};

/// Bytes of one write. More is written in several, which programs' libraries do by themselves.
const WRITE_BYTES: usize = 4096;

/// One of the guest's two outputs. All streams that the guest opens on it write to the same line.
#[derive(Clone)]
pub(crate) struct Printed {
    level: &'static str,
    journal: Arc<Mutex<Journal>>,
    lines: u32,
    bytes: usize,
    line: Arc<Mutex<Line>>,
}

/// The line that has no end yet. It is in the journal from its first byte, so nothing is lost with the run.
#[derive(Default)]
struct Line {
    at: Place,
    /// The beginning of a character whose end is still to come.
    rest: Vec<u8>,
}

#[derive(Default, Clone, Copy)]
enum Place {
    #[default]
    None,
    Kept(usize),
    Counted,
}

impl Printed {
    pub(crate) fn new(level: &'static str, journal: &Arc<Mutex<Journal>>, limits: &RunLimits) -> Self {
        Self {
            level,
            journal: Arc::clone(journal),
            lines: limits.log_lines,
            bytes: limits.log_line_bytes as usize,
            line: Arc::default(),
        }
    }

    fn print(&self, bytes: &[u8]) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let mut journal = lock(&self.journal);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            if let Place::None = line.at {
                line.at = if journal.log.len() < self.lines as usize {
                    Place::Kept(journal.log.len())
                } else {
                    Place::Counted
                };
                journal.line(self.lines, format!("{} ", self.level));
            }
            if let Place::Kept(at) = line.at
                && let Some(kept) = journal.log.get_mut(at)
            {
                self.add(kept, &mut line.rest, text, ends);
            }
            if ends {
                *line = Line::default();
            }
        }
    }

    /// Adds text to a line, as much as it may still have.
    fn add(&self, kept: &mut String, rest: &mut Vec<u8>, text: &[u8], ends: bool) {
        let most = self.level.len() + 1 + self.bytes;
        rest.extend_from_slice(&text[..text.len().min(most)]);
        let bytes = std::mem::take(rest);
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            kept.push_str(cut(chunk.valid(), most - kept.len()));
            let cut_off = str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
            if cut_off && !ends && chunks.peek().is_none() {
                *rest = chunk.invalid().to_vec();
            } else if !chunk.invalid().is_empty() && kept.len() + 3 <= most {
                kept.push(char::REPLACEMENT_CHARACTER);
            }
        }
        if ends && kept.ends_with('\r') {
            kept.pop();
        }
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    /// For versions of WASI that are not served.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl OutputStream for Printed {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BYTES {
            return Err(StreamError::trap("more was written at once than check-write allows"));
        }
        self.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

#[async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(limits: &RunLimits, writes: &[&[u8]], expected: &[&str], dropped: u64) {
        let journal = Arc::default();
        let lines = Printed::new("info", &journal, limits);
        for bytes in writes {
            lines.print(bytes);
        }
        let journal = lock(&journal);
        assert_eq!(
            (journal.log.iter().map(String::as_str).collect::<Vec<_>>(), journal.log_dropped),
            (expected.to_vec(), dropped)
        );
    }

    #[test]
    fn writes_become_lines_wherever_they_are_cut() {
        let limits = RunLimits::default();
        check(&limits, &[b"one\ntwo\n"], &["info one", "info two"], 0);
        check(&limits, &[b"o", b"ne\r\n", b"\n", b"two"], &["info one", "info ", "info two"], 0);
        check(&limits, &["gr\u{fc}n".as_bytes()], &["info gr\u{fc}n"], 0);
        check(&limits, &[b"gr\xc3", b"\xbcn\n"], &["info gr\u{fc}n"], 0);
        check(&limits, &[b"a\xffb\xc3\n\xbc"], &["info a\u{fffd}b\u{fffd}", "info \u{fffd}"], 0);
    }

    #[test]
    fn a_line_without_end_and_lines_without_end_are_bounded() {
        let limits = RunLimits { log_lines: 2, log_line_bytes: 4, ..RunLimits::default() };
        check(&limits, &[b"abcdefgh", b"ijkl", b"\nx"], &["info abcd", "info x"], 0);
        check(&limits, &[b"abc\xc3", b"\xbcd\n"], &["info abc"], 0);
        check(&limits, &[b"1\n2\n3\n4", b"4", b"4\n5"], &["info 1", "info 2"], 3);
        check(&limits, &[[b'x'; 4096].as_slice(); 100], &["info xxxx"], 0);
    }
}
