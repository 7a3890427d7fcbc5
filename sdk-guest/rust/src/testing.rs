//! Runs skill functions natively, against scripted secrets and HTTP.
//!
//! ```
//! use clawhold_skill::testing::{Credential, Exchange, Host};
//! use clawhold_skill::{Context, Error, http, secret, skill};
//! use serde_json::json;
//!
//! /// Counts the tenant's open tickets.
//! #[skill(name = "desk.count_open")]
//! fn count_open(cx: &Context) -> Result<usize, Error> {
//!     let url = format!("https://desk.example/{}/tickets", cx.tenant_id());
//!     let tickets: Vec<serde_json::Value> = http::get(url).bearer(&secret("desk")?).send()?.json()?;
//!     Ok(tickets.len())
//! }
//!
//! let host = Host::new()
//!     .tenant("acme-corp")
//!     .secret("desk", "test-token")
//!     .respond(Exchange::get("https://desk.example/acme-corp/tickets").json(200, json!([{"id": 1}])));
//!
//! // As a function, or the way the host calls it, through JSON:
//! assert_eq!(host.run(|cx| count_open(cx)).unwrap(), 1);
//! assert_eq!(host.call("desk.count_open", json!({})).unwrap(), json!(1));
//! assert_eq!(host.requests()[0].credential, Some(Credential::Bearer("desk".into())));
//! ```
//!
//! It has no policy of its own: which hosts, secrets and actions the manifest allows is the real sandbox's affair,
//! and `clawhold skill test` asks it. Schemas are not enforced here either. Each host belongs to its thread, so tests
//! run in parallel.

mod exchange;
mod observed;
pub(crate) mod state;

use std::rc::Rc;

use serde_json::Value;

pub use self::exchange::{Exchange, Reply};
pub use self::observed::{AuditEntry, Credential, LogLine, SentRequest, SkillDescription};
use self::state::State;
use crate::{Context, Error, registry};

/// A host for one test: what the skill will find, and afterwards what it did.
#[derive(Debug)]
pub struct Host {
    context: Context,
    state: Rc<State>,
}

impl Host {
    /// A host with no secrets, no settings and no answers. The run begins at 2026-01-01T00:00:00Z and may take ten
    /// seconds; the tenant is `test-tenant` and the caller `test`.
    pub fn new() -> Self {
        const NOW_MS: u64 = 1_767_225_600_000;
        let context = Context {
            tenant_id: "test-tenant".to_owned(),
            run_id: "019b76da-a800-7000-8000-000000000001".to_owned(),
            trace_id: "0af7651916cd43dd8448eb211c80319c".to_owned(),
            caller: "test".to_owned(),
            skill: String::new(),
            now_ms: NOW_MS,
            deadline_ms: NOW_MS + 10_000,
            settings: "{}".to_owned(),
        };
        Self { context, state: Rc::default() }
    }

    /// The tenant that the run is for.
    #[must_use]
    pub fn tenant(mut self, tenant_id: &str) -> Self {
        tenant_id.clone_into(&mut self.context.tenant_id);
        self
    }

    /// Who calls.
    #[must_use]
    pub fn caller(mut self, caller: &str) -> Self {
        caller.clone_into(&mut self.context.caller);
        self
    }

    /// When the run begins, in milliseconds since 1970-01-01T00:00:00Z. The time that the run may take stays.
    #[must_use]
    pub fn now_ms(mut self, now_ms: u64) -> Self {
        let left = self.context.deadline_ms - self.context.now_ms;
        self.context.now_ms = now_ms;
        self.context.deadline_ms = now_ms.saturating_add(left);
        self
    }

    /// What the tenant's admin set for the install: a JSON object.
    #[must_use]
    pub fn settings(mut self, settings: Value) -> Self {
        self.context.settings = settings.to_string();
        self
    }

    /// Stores a secret: a plain string, or the text of a flat JSON object when the skill asks for fields.
    #[must_use]
    pub fn secret(self, name: &str, value: &str) -> Self {
        self.state.store_secret(name, value);
        self
    }

    /// Grants the permission to read a secret's value, which nothing has at first.
    #[must_use]
    pub fn allow_reveal(self, name: &str) -> Self {
        self.state.allow_reveal(name);
        self
    }

    /// Scripts an answer. Of several that fit a request, the first one that is not used up gives the answer.
    #[must_use]
    pub fn respond(self, reply: Reply) -> Self {
        self.state.script(reply);
        self
    }

    /// Runs `f` with this host in the place of the real one.
    pub fn run<T>(&self, f: impl FnOnce(&Context) -> T) -> T {
        let _running = state::enter(Rc::clone(&self.state));
        f(&self.context)
    }

    /// Calls a skill of this package the way the host does, through JSON.
    pub fn call(&self, skill: &str, input: Value) -> Result<Value, Error> {
        let cx = Context { skill: skill.to_owned(), ..self.context.clone() };
        let answer = self.run(|_| registry::handle(&cx, &input.to_string()))?;
        Ok(serde_json::from_str(&answer).expect("the SDK writes JSON"))
    }

    /// The requests that were sent, in order.
    pub fn requests(&self) -> Vec<SentRequest> {
        self.state.requests()
    }

    /// The audit entries that were written, in order.
    pub fn audits(&self) -> Vec<AuditEntry> {
        self.state.audits()
    }

    /// The log lines that were written, in order.
    pub fn logs(&self) -> Vec<LogLine> {
        self.state.logs()
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

/// The skills of this package as the marketplace will show them, by name. Panics when two have one name.
pub fn skills() -> Vec<SkillDescription> {
    let parse = |schema: &str| serde_json::from_str(schema).expect("the SDK writes JSON");
    let description = |skill: registry::Descriptor| SkillDescription {
        name: skill.name.to_owned(),
        description: skill.description.to_owned(),
        input_schema: parse(&skill.input_schema),
        output_schema: parse(&skill.output_schema),
    };
    registry::describe().into_iter().map(description).collect()
}
