//! The API's client: one request, one answer, and errors that repeat what the host said to do.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::Deserialize;
use serde_json::Value;
use ureq::Agent;

use crate::Failure;

const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";

/// Longer than any run or compilation may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// An answer that comes line by line.
const LINES: &str = "application/x-ndjson";

/// Where a host is, and who asks.
pub(crate) struct Client {
    server: String,
    token: Option<String>,
    agent: Agent,
}

/// `~/.config/clawhold/profile.toml`
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    server: Option<String>,
    token: Option<String>,
}

impl Client {
    /// What was given, else what the profile says.
    pub(crate) fn new(server: Option<String>, token: Option<String>) -> Result<Self, Failure> {
        // An empty variable is one that is not set.
        let token = token.filter(|token| !token.is_empty());
        let profile = if server.is_some() && token.is_some() { Profile::default() } else { profile()? };
        let server = server.or(profile.server).unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let config =
            Agent::config_builder().http_status_as_error(false).max_redirects(0).timeout_global(Some(PATIENCE)).build();
        Ok(Self {
            server: server.trim_end_matches('/').to_owned(),
            token: token.or(profile.token),
            agent: config.new_agent(),
        })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.answer(self.agent.get(self.url(path)).header("authorization", self.bearer()?).call())
    }

    /// An answer of lines, written to `out` as it comes: as long as it may be, in little memory.
    /// A list with all its pages.
    pub(crate) fn get_all(&self, path: &str) -> Result<Value, Failure> {
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{sign}limit=200");
        let mut page = self.get(&path)?;
        let mut items = Vec::new();
        loop {
            items.extend(page["items"].as_array_mut().map(std::mem::take).unwrap_or_default());
            let Some(next) = page["next"].as_str() else { break };
            page = self.get(&format!("{path}&after={next}"))?;
        }
        Ok(serde_json::json!({ "items": items }))
    }

    pub(crate) fn get_lines(&self, path: &str, out: &mut dyn Write) -> Result<(), Failure> {
        let sent = self.agent.get(self.url(path)).header("authorization", self.bearer()?).call();
        let answer = match sent {
            Ok(answer) if answer.headers().get("content-type").is_some_and(|kind| kind == LINES) => answer,
            other => return self.answer(other).map(drop),
        };
        let broke_off = || format!("the answer of {} broke off; export again", self.server);
        let mut lines = BufReader::new(answer.into_body().into_with_config().limit(u64::MAX).reader());
        let mut line = Vec::new();
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line).with_context(broke_off)? == 0 {
                return Ok(());
            }
            if line.starts_with(b"{\"problem\"") {
                let said = serde_json::from_slice::<Value>(&line).ok().and_then(|l| problem(&l["problem"].to_string()));
                return Err(anyhow!(said.unwrap_or_else(broke_off)).into());
            }
            out.write_all(&line).context("the export cannot be written")?;
        }
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.answer(self.agent.delete(self.url(path)).header("authorization", self.bearer()?).call())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.post_bytes(path, "application/json", body.to_string().as_bytes())
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.agent.put(self.url(path)).header("authorization", self.bearer()?);
        self.answer(request.header("content-type", "application/json").send(body.to_string().as_bytes()))
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.agent.patch(self.url(path)).header("authorization", self.bearer()?);
        self.answer(request.header("content-type", "application/json").send(body.to_string().as_bytes()))
    }

    pub(crate) fn post_bytes(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Value, Failure> {
        let request = self.agent.post(self.url(path)).header("authorization", self.bearer()?);
        self.answer(request.header("content-type", content_type).send(body))
    }

    /// Sends bytes, tells `progress` what each line of the answer says, and gives the last one.
    pub(crate) fn post_watching(
        &self,
        path: &str,
        content_type: &str,
        field: Option<(&str, &str)>,
        body: &[u8],
        mut progress: impl FnMut(&Value),
    ) -> Result<Value, Failure> {
        let request = self.agent.post(self.url(path)).header("authorization", self.bearer()?);
        let request = request.header("content-type", content_type).header("accept", LINES);
        let request = field.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let sent = request.send(body);
        let answer = match sent {
            Ok(answer) if answer.headers().get("content-type").is_some_and(|kind| kind == LINES) => answer,
            // A refusal before anything began, or a host that gives one answer.
            other => return self.answer(other),
        };
        let lines = BufReader::new(answer.into_body().into_with_config().limit(64 << 20).reader());
        for line in lines.lines() {
            let line = line.with_context(|| format!("the answer of {} broke off", self.server))?;
            let line: Value = serde_json::from_str(&line)
                .with_context(|| format!("{} did not answer with JSON; is --server right?", self.server))?;
            if let Some(document) = line.get("problem") {
                let said = problem(&document.to_string()).unwrap_or_else(|| "the host refused".to_owned());
                let refused = document["status"].as_u64().is_some_and(|status| (400..500).contains(&status));
                return if refused { Err(Failure::Refused(said)) } else { Err(anyhow!(said).into()) };
            }
            if let Some(done) = line.get("published") {
                return Ok(done.clone());
            }
            progress(&line);
        }
        Err(anyhow!("the answer of {} broke off; publish again, it does no harm", self.server).into())
    }

    /// Whether there is a token to ask with.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.server)
    }

    fn bearer(&self) -> Result<String, Failure> {
        let token = self.token.as_ref().ok_or_else(|| {
            anyhow!("no token; set CLAWHOLD_TOKEN, or put `token = \"clw_…\"` into {}", profile_path().display())
        })?;
        Ok(format!("Bearer {token}"))
    }

    fn answer(&self, sent: Result<http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Failure> {
        let mut answer = sent.map_err(|error| {
            anyhow!("no answer from {}: {error}; is the host running, and is --server right?", self.server)
        })?;
        let status = answer.status();
        let text = answer
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_to_string()
            .with_context(|| format!("the answer of {} broke off", self.server))?;
        if status.is_success() {
            if text.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_str(&text)
                .with_context(|| format!("{} did not answer with JSON; is --server right?", self.server))
                .map_err(Failure::from);
        }
        let said = problem(&text).unwrap_or_else(|| format!("the host answered {status}"));
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(after) = after.map(Duration::from_secs)
            && matches!(status.as_u16(), 429 | 503)
        {
            return Err(Failure::Later { said, after, refused: status.is_client_error() });
        }
        if status.is_client_error() { Err(Failure::Refused(said)) } else { Err(anyhow!(said).into()) }
    }
}

/// A problem document in one or two lines.
fn problem(text: &str) -> Option<String> {
    let document: Value = serde_json::from_str(text).ok()?;
    let member = |name: &str| document.get(name).and_then(Value::as_str);
    let mut said = format!("{}: {}", member("title")?, member("detail").unwrap_or_default());
    if let Some(reason) = member("reason") {
        said = format!("{said} (reason: {reason})");
    }
    if let Some(remedy) = member("remedy").filter(|remedy| !said.contains(remedy)) {
        said = format!("{said}\nwhat helps: {remedy}");
    }
    if let Some(dimension) = member("dimension").filter(|_| document["reset"].is_u64()) {
        let of = format!("what helps: wait as long as that, or let `clawhold invoke --retry` do it; {dimension} of");
        said = format!("{said}\n{of} `clawhold usage TENANT` shows what uses it");
    }
    if let Some(kind) = member("kind") {
        said = format!("{said} ({kind})");
    }
    if let Some(run) = member("run") {
        said = format!("{said}\nrun: {run}");
    }
    Some(said)
}

fn profile_path() -> PathBuf {
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")))
        .unwrap_or_default();
    base.join("clawhold").join("profile.toml")
}

fn profile() -> anyhow::Result<Profile> {
    let path = profile_path();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Profile::default()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        anyhow::bail!("{0} holds a token and others can read it (mode {mode:03o}); run: chmod 600 {0}", path.display());
    }
    toml::from_str(&text).with_context(|| format!("cannot read {}", path.display()))
}
