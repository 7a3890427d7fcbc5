//! What tests and the demo need around a host.
//!
//! [`crm`] is a CRM with a query API, for skills that look up a customer's data. [`guest`] makes packages that misbehave
//! out of WebAssembly text. [`python`] starts what is written in Python.
#![deny(missing_docs)]

pub mod crm;
pub mod guest;
pub mod postgres;
pub mod python;
pub mod redis;
mod shell;
