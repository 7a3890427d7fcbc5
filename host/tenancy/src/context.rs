//! Who is asking, for which tenant.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Publisher, RequestId, SkillName, TenantId, TokenId, TraceId};

/// What a token may do. Which role may do which action is one table: [`crate::permit::TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Runs the host: creates tenants, publishers and their first tokens.
    Operator,
    /// Runs one tenant: its tokens, secrets and installs.
    Admin,
    /// Reads one tenant's runs and audit log.
    Auditor,
    /// Calls one tenant's skills.
    Caller,
    /// Publishes one publisher's packages.
    Publisher,
}

impl Role {
    /// Every role, in the order of the matrix.
    pub const ALL: [Self; 5] = [Self::Operator, Self::Admin, Self::Auditor, Self::Caller, Self::Publisher];

    /// The role's name, as tokens and the API carry it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::Caller => "caller",
            Self::Publisher => "publisher",
        }
    }
}

impl Role {
    /// Whether a token of this scope may have this role. Any other that the database holds was put there by somebody else than us.
    pub const fn fits(self, scope: &Scope) -> bool {
        match scope {
            Scope::Host => matches!(self, Self::Operator),
            Scope::Publisher(_) => matches!(self, Self::Publisher),
            Scope::Tenant(_) => matches!(self, Self::Admin | Self::Auditor | Self::Caller),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("{text:?} is no role: use operator, admin, auditor, caller or publisher"))
    }
}

/// What a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The host itself.
    Host,
    /// One tenant.
    Tenant(TenantId),
    /// One publisher.
    Publisher(Publisher),
}

/// Who acts, as the audit log names them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Actor {
    /// A token, by its id and the name it was given.
    Token {
        /// The public half of the token.
        id: TokenId,
        /// What its maker called it.
        name: String,
    },
    /// The host, for what it does of itself (start-up, expiry). Carries the reason.
    Host(&'static str),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { id, name } => write!(f, "token:{name}#{id}"),
            Self::Host(reason) => write!(f, "host:{reason}"),
        }
    }
}

/// One authenticated request: the first argument of every use-case.
#[derive(Debug, Clone)]
pub struct Context {
    /// Who acts.
    pub actor: Actor,
    /// What the token belongs to.
    pub scope: Scope,
    /// What the token may do.
    pub role: Role,
    /// The skills that the token may call; `None` is all of the tenant's.
    pub skills: Option<Arc<[SkillName]>>,
    /// This request.
    pub request: RequestId,
    /// The caller's trace, or a new one.
    pub trace: TraceId,
    /// How many runs the request has come through, each called by the one before: 0 from outside.
    pub depth: u8,
}

/// The header field by which a run's request says [`Context::depth`] to the host that it may lead back to. The host sets it
/// on each request that leaves, and a guest cannot. Who leaves it out of a call of their own is outside.
pub const DEPTH_HEADER: &str = "clawhold-depth";

/// Runs that may call one another through the API. 4: an agent's skill that calls a skill is two, and each holds a slot and
/// its memory until the innermost has answered.
pub const CALL_DEPTH: u8 = 4;

impl Context {
    /// The host itself acts, for this reason, and for nobody's request.
    pub fn of_host(reason: &'static str, scope: Scope, role: Role) -> Self {
        Self {
            actor: Actor::Host(reason),
            scope,
            role,
            skills: None,
            request: RequestId::now(),
            trace: TraceId::random(),
            depth: 0,
        }
    }

    /// Whether the token's list of skills, if it has one, holds this skill.
    pub fn may_call(&self, skill: &SkillName) -> bool {
        self.skills.as_ref().is_none_or(|listed| listed.contains(skill))
    }
}
