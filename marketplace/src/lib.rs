//! What may be published, and what an install would allow.
//!
//! A package is one file: a component with its manifest inside, so one digest covers both. Everything in it is an
//! author's word and is checked here before anything else in the host believes it.

pub mod change;
mod descriptor;
pub mod dsse;
pub mod gate;
pub mod grant;
pub mod index;
mod json;
pub mod key;
mod moment;
pub mod names;
pub mod oci;
mod package;
mod plan;
pub mod publisher;
mod schema;
pub mod signing;
pub mod upgrade;

pub use descriptor::{DescriptorError, SkillSpec, check_descriptors};
pub use json::read_json;
pub use package::{Package, PackageError, embed, read, settings_schema};
pub use plan::{Choice, Narrowing, Plan, PlanError, SecretPlan, consent, plan, put_back};
pub use schema::{Mismatch, Schema, SchemaError};
