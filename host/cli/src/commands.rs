//! The commands, one module for each noun. All but `db` are clients of the API.

pub(crate) mod audit;
pub(crate) mod db;
pub(crate) mod doctor;
pub(crate) mod install;
pub(crate) mod keys;
pub(crate) mod market;
pub(crate) mod policy;
pub(crate) mod publisher;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod tenant;
pub(crate) mod token;
pub(crate) mod usage;
