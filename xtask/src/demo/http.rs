//! Calls over HTTP, as any program would make them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Longer than any run may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// An answer, whatever its status.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: String,
    pub(super) body: Value,
}

pub(super) fn get(url: &str, token: &str) -> Result<Answer> {
    let request = agent().get(url).header("authorization", format!("Bearer {token}"));
    answer(request.call().with_context(|| format!("GET {url}"))?)
}

pub(super) fn post(url: &str, token: &str, body: &Value) -> Result<Answer> {
    let request = agent().post(url).header("authorization", format!("Bearer {token}"));
    answer(request.send_json(body).with_context(|| format!("POST {url}"))?)
}

pub(super) fn put(url: &str, token: &str, body: &Value) -> Result<Answer> {
    let request = agent().put(url).header("authorization", format!("Bearer {token}"));
    answer(request.send_json(body).with_context(|| format!("PUT {url}"))?)
}

impl Answer {
    /// The body of an answer that is a success.
    pub(super) fn ok(self) -> Result<Value> {
        if self.status == 200 { Ok(self.body) } else { bail!("{} {}", self.status, self.problem()) }
    }

    /// What a problem document says, in a line.
    pub(super) fn problem(&self) -> String {
        let text = |key: &str| self.body[key].as_str();
        match (text("title"), text("detail")) {
            (Some(title), Some(detail)) => format!("{title}: {detail}"),
            _ => self.body.to_string(),
        }
    }
}

/// Without the system's proxy: everything here is on the loopback address.
fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder();
    config.http_status_as_error(false).proxy(None).timeout_global(Some(PATIENCE)).build().into()
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let header = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = header.unwrap_or_default().to_owned();
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().context("read the answer")?;
    let body = serde_json::from_str(&text).with_context(|| format!("the answer ({status}) is not JSON: {text}"))?;
    Ok(Answer { status, content_type, body })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_says_its_title_and_detail() {
        let body = json!({"title": "Not found", "detail": "skill does not exist", "status": 404});
        let answer = Answer { status: 404, content_type: "application/problem+json".into(), body };
        assert_eq!(answer.problem(), "Not found: skill does not exist");
        assert_eq!(answer.ok().unwrap_err().to_string(), "404 Not found: skill does not exist");
    }
}
