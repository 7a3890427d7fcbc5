//! Clawhold over HTTP. `routes` is the table of contents; each noun has a module of thin handlers: parse, permit,
//! one use-case, render.

mod audit;
mod body;
mod gate;
mod grants;
mod host;
mod installs;
mod keys;
mod lines;
mod market;
mod oci;
mod once;
mod openapi;
mod page;
mod patience;
mod problem;
mod publishers;
mod quotas;
mod routes;
mod runs;
mod secrets;
mod server;
mod skills;
mod tenants;
mod tokens;
mod usage;

pub use routes::{Row, description, table};
pub use server::{serve, serve_operations};
