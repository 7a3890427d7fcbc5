//! HTTP as a case's script tells it: what must be asked, in order, and what is answered.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use clawhold_capabilities::{Bounds, Incoming, Outgoing, Transport, TransportError};
use clawhold_sandbox::contract::clawhold::skill::http::Rule;
use serde::Deserialize;
use serde_json::Value;

/// One request that is expected, and its answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exchange {
    method: String,
    url: String,
    /// The secret that must be on the request as a bearer token.
    bearer: Option<String>,
    status: u16,
    json: Option<Value>,
    body: Option<String>,
}

/// The rest of the script, and what did not fit it.
#[derive(Default)]
pub(crate) struct Script(Mutex<State>);

#[derive(Default)]
struct State {
    expected: VecDeque<Exchange>,
    mistakes: Vec<String>,
}

impl Script {
    pub(crate) fn begin(&self, exchanges: Vec<Exchange>) {
        *self.state() = State { expected: exchanges.into(), mistakes: Vec::new() };
    }

    /// What was asked and not expected, or expected and not asked.
    pub(crate) fn end(&self) -> Vec<String> {
        let mut state = self.state();
        let mut mistakes = std::mem::take(&mut state.mistakes);
        mistakes.extend(state.expected.drain(..).map(|e| format!("{} {} was not requested", e.method, e.url)));
        mistakes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Transport for Script {
    async fn send(&self, request: Outgoing, _: Bounds) -> Result<Incoming, TransportError> {
        let mut state = self.state();
        let asked = format!("{} {}", request.method.as_str(), request.url);
        let fail = |state: &mut State, said: String| {
            state.mistakes.push(said.clone());
            Err(TransportError { rule: Rule::Connect, message: said, sent: false, denial: None })
        };
        let Some(next) = state.expected.pop_front() else {
            return fail(&mut state, format!("{asked} is not in the script; add a [[case.http]] for it"));
        };
        let expected = format!("{} {}", next.method, next.url);
        if asked != expected {
            return fail(&mut state, format!("expected {expected}, and it asked for {asked}"));
        }
        let put_on =
            request.credential.map(|put| (put.kind, put.secrets.iter().map(ToString::to_string).collect::<Vec<_>>()));
        if let Some(bearer) = &next.bearer
            && put_on != Some(("bearer", vec![bearer.clone()]))
        {
            return fail(&mut state, format!("{asked} should carry the secret {bearer} as bearer, and has {put_on:?}"));
        }
        let body = match (&next.json, next.body) {
            (Some(json), _) => json.to_string(),
            (None, body) => body.unwrap_or_default(),
        };
        let wire_bytes = body.len() as u64;
        Ok(Incoming {
            status: next.status,
            headers: http::HeaderMap::new(),
            body: body.into_bytes().into(),
            wire_bytes,
        })
    }
}
