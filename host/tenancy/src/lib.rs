//! What Clawhold means by *tenant*, *right*, *limit* and *audit entry*.
//!
//! Every layer above speaks these types; nothing here does I/O, keeps time or is async, so each rule can be
//! tested as a plain function. A value of a type in this crate has been checked: text is parsed once, at the edge.
//!
//! ```
//! use clawhold_tenancy::TenantId;
//! let acme: TenantId = "acme-corp".parse()?;
//! assert_eq!(acme.as_str(), "acme-corp");
//! assert!("../acme".parse::<TenantId>().is_err());
//! # Ok::<(), clawhold_tenancy::InvalidId>(())
//! ```

pub mod audit;
pub mod context;
mod id;
pub mod keep;
pub mod limits;
pub mod manifest;
pub mod permit;
pub mod policy;
pub mod quota;
pub mod run;
pub mod secret_kind;

pub use context::{Actor, CALL_DEPTH, Context, DEPTH_HEADER, Role, Scope};
pub use id::{
    Digest, InvalidId, PackageName, Publisher, RequestId, RunId, SecretName, SkillName, TenantId, TokenId, TraceId,
};
pub use limits::RunLimits;
pub use permit::{Permit, Refusal};
