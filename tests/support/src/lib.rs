//! What tests and the demo need around a host.
//!
//! [`crm`] is a CRM with a query API, for skills that look up a customer's data.
#![deny(missing_docs)]

pub mod crm;
