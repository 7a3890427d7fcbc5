//! A real Redis for tests: private servers on free ports of loopback that keep nothing on disk and end with this process, however that
//! ends.

use std::net::TcpListener;
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell::Shell;

/// Started by a shell that waits for the end of its input, which is the end of this process.
const SCRIPT: &str = r#"
port=$1 cluster=$2
start() {
    redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --daemonize no --logfile '' \
        --cluster-enabled "$cluster" --cluster-config-file "$T/nodes.conf" --dir "$T" >"$T/log" 2>&1 </dev/null &
    pid=$!
    until redis-cli -p "$port" ping 2>/dev/null | grep -q PONG; do
        kill -0 $pid 2>/dev/null || { cat "$T/log"; exit 1; }
        sleep 0.02
    done
    if [ "$cluster" = yes ]; then
        redis-cli -p "$port" cluster addslotsrange 0 16383 >/dev/null
        until redis-cli -p "$port" cluster info | grep -q cluster_state:ok; do sleep 0.02; done
    fi
}
T=$(mktemp -d)
start
echo ready
while read -r word; do
    case $word in
        stop) kill -KILL $pid; wait $pid 2>/dev/null ;;
        start) start ;;
        hang) kill -STOP $pid ;;
        go) kill -CONT $pid ;;
    esac
    echo done
done
kill -KILL $pid 2>/dev/null
rm -rf "$T"
"#;

/// A server of a test's own.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    shell: Shell,
}

impl Redis {
    /// Starts one that is alone.
    ///
    /// # Errors
    ///
    /// When Redis is not installed: the error says how to get it.
    pub fn start() -> Result<Self> {
        Self::begin("no")
    }

    /// Starts one that is a whole cluster, and refuses what a cluster of several would.
    ///
    /// # Errors
    ///
    /// As [`Redis::start`].
    pub fn start_as_cluster() -> Result<Self> {
        Self::begin("yes")
    }

    fn begin(cluster: &str) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("redis-server").exists()) {
            bail!("no redis-server; install the Debian package redis-server (`cargo xtask test` does, as root)");
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (shell, _) = Shell::begin(SCRIPT, &[&port.to_string(), cluster])?;
        Ok(Self { port, shell })
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// `stop`, `start`, `hang` (it stands still, its connections stay) or `go`, and waits until it is so.
    ///
    /// # Errors
    ///
    /// When the server does not start again.
    pub fn tell(&mut self, word: &str) -> Result<()> {
        self.shell.tell(word)
    }

    /// What `redis-cli` says to a command.
    ///
    /// # Errors
    ///
    /// When it cannot be run.
    pub fn ask(&self, command: &[&str]) -> Result<String> {
        let said = Command::new("redis-cli").arg("-p").arg(self.port.to_string()).args(command).output()?;
        Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
    }
}
