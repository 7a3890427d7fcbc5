//! The commands that are clients of the API, one module for each noun.

pub(crate) mod audit;
pub(crate) mod install;
pub(crate) mod market;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod tenant;
pub(crate) mod token;
