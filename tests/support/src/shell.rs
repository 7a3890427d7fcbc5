//! A shell that looks after a server: it starts it, does what it is told, and ends it when its own input ends, which is the end of this
//! process at the latest.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// A server's shell.
#[derive(Debug)]
pub(crate) struct Shell {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Shell {
    /// Runs a script until it says `ready`; gives what it said before that.
    pub(crate) fn begin(script: &str, arguments: &[&str]) -> Result<(Self, String)> {
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("a shell cannot be started")?;
        let mut lines = BufReader::new(child.stdout.take().context("the shell has no output")?);
        let mut said = String::new();
        while lines.read_line(&mut said)? > 0 {
            if said.ends_with("ready\n") {
                return Ok((Self { child, said: lines }, said));
            }
        }
        bail!("the server did not start: {said}")
    }

    /// Says a word and waits until it is done.
    pub(crate) fn tell(&mut self, word: &str) -> Result<()> {
        let to = self.child.stdin.as_mut().context("the shell has no input")?;
        writeln!(to, "{word}")?;
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        if line != "done\n" {
            bail!("{word}: {line}");
        }
        Ok(())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _either_way = self.child.wait();
    }
}
