//! What may be published, and what an install would allow.
//!
//! A package is one file: a component with its manifest inside, so one digest covers both. Everything in it is an
//! author's word and is checked here before anything else in the host believes it.

mod descriptor;
mod json;
mod package;
mod plan;
mod schema;

pub use descriptor::{DescriptorError, SkillSpec, check_descriptors};
pub use json::read_json;
pub use package::{Package, PackageError, embed, read};
pub use plan::{Plan, SecretPlan, plan};
pub use schema::{Mismatch, Schema, SchemaError};
