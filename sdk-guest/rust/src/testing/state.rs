//! What a testing host holds while a skill runs, and which host the current thread is in.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;

use super::exchange::Answer;
use super::{AuditEntry, LogLine, Reply, SentRequest};
use crate::audit::{self, Outcome};
use crate::http::{self, Parts};
use crate::log::Level;

/// Audit entries of one run, as the contract has it.
const MOST_ENTRIES: usize = 64;
/// In bytes, from the contract's `audit.record`.
const LONGEST_ACTION: usize = 64;
const LONGEST_RESOURCE: usize = 256;
const LONGEST_DETAIL: usize = 4096;

thread_local! {
    /// The hosts that this thread is in; the last one is in charge.
    static RUNNING: RefCell<Vec<Rc<State>>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug, Default)]
pub(crate) struct State {
    secrets: RefCell<BTreeMap<String, String>>,
    revealable: RefCell<BTreeSet<String>>,
    replies: RefCell<Vec<Reply>>,
    requests: RefCell<Vec<SentRequest>>,
    audits: RefCell<Vec<AuditEntry>>,
    logs: RefCell<Vec<LogLine>>,
}

/// Keeps a host in charge of the thread until it is dropped, also when the skill panics.
pub(crate) struct Running(());

pub(crate) fn enter(state: Rc<State>) -> Running {
    RUNNING.with_borrow_mut(|running| running.push(state));
    Running(())
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.with_borrow_mut(Vec::pop);
    }
}

pub(crate) fn running() -> Option<Rc<State>> {
    RUNNING.with_borrow(|running| running.last().cloned())
}

/// The host in charge. Panics when there is none: a skill that is called without a host has nothing to talk to.
pub(crate) fn current() -> Rc<State> {
    running().expect("a skill talks to a host only inside of `clawhold_skill::testing::Host::run` or `call`")
}

impl State {
    pub(super) fn store_secret(&self, name: &str, value: &str) {
        self.secrets.borrow_mut().insert(name.to_owned(), value.to_owned());
    }

    pub(super) fn allow_reveal(&self, name: &str) {
        self.revealable.borrow_mut().insert(name.to_owned());
    }

    pub(super) fn script(&self, reply: Reply) {
        self.replies.borrow_mut().push(reply);
    }

    pub(super) fn requests(&self) -> Vec<SentRequest> {
        self.requests.borrow().clone()
    }

    pub(super) fn audits(&self) -> Vec<AuditEntry> {
        self.audits.borrow().clone()
    }

    pub(super) fn logs(&self) -> Vec<LogLine> {
        self.logs.borrow().clone()
    }

    pub(crate) fn secret(&self, name: &str) -> Option<String> {
        self.secrets.borrow().get(name).cloned()
    }

    pub(crate) fn may_reveal(&self, name: &str) -> bool {
        self.revealable.borrow().contains(name)
    }

    pub(crate) fn send(&self, request: Parts) -> Result<http::Response, http::Error> {
        let (method, url) = (request.method, request.url.clone());
        let request = SentRequest::of(request);
        self.requests.borrow_mut().push(request.clone());
        let mut replies = self.replies.borrow_mut();
        let Some(reply) = replies.iter_mut().find_map(|reply| reply.take(&request).then_some(&*reply)) else {
            let scripted: Vec<String> = replies.iter().map(|reply| format!("\n  {}", reply.says())).collect();
            // Released first: the test may catch the panic and go on with the host.
            drop(replies);
            panic!("no answer is scripted for {} {url}; scripted are:{}", method.as_str(), scripted.concat());
        };
        match reply.answer.clone() {
            Answer::Response { status, body } => {
                Ok(http::Response { method, url, status, headers: reply.headers.clone(), body })
            }
            Answer::Refusal { rule, message, sent } => Err(http::Error::NoAnswer { rule, message, sent }),
        }
    }

    pub(crate) fn record(
        &self,
        action: &str,
        resource: &str,
        outcome: Outcome,
        detail: &str,
    ) -> Result<(), audit::Error> {
        for (what, text, longest) in [
            ("action", action, LONGEST_ACTION),
            ("resource", resource, LONGEST_RESOURCE),
            ("detail", detail, LONGEST_DETAIL),
        ] {
            if text.len() > longest {
                return Err(audit::Error::Invalid(format!("the {what} has {longest} bytes at most")));
            }
        }
        let detail = if detail.is_empty() { Value::Null } else { serde_json::from_str(detail).unwrap_or_default() };
        if !detail.is_null() && !detail.is_object() {
            return Err(audit::Error::Invalid("the detail must be a JSON object".to_owned()));
        }
        let mut audits = self.audits.borrow_mut();
        if audits.len() == MOST_ENTRIES {
            return Err(audit::Error::Budget(format!("a run may write {MOST_ENTRIES} entries")));
        }
        audits.push(AuditEntry { action: action.to_owned(), resource: resource.to_owned(), outcome, detail });
        Ok(())
    }

    pub(crate) fn log(&self, level: Level, message: &str) {
        self.logs.borrow_mut().push(LogLine { level, message: message.to_owned() });
    }
}
