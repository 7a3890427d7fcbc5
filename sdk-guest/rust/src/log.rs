//! Lines for the skill's developers, in the tenant's log.
//!
//! ```
//! use clawhold_skill::log;
//!
//! # clawhold_skill::testing::Host::new().run(|_| {
//! let pages = 3;
//! log::info!("read {pages} pages");
//! log::warn!("page {} was empty", 2);
//! # });
//! ```
//!
//! Logging never fails and never changes what a skill does. The host cuts a line at 4 KiB, keeps 256 lines a run and
//! redacts the tenant's secrets. What an auditor should find belongs into [`audit`](crate::audit).

use std::fmt;

use crate::wire;

/// How serious a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Of use while a fault is looked for.
    Debug,
    /// The normal course of things.
    Info,
    /// Something is odd, and the skill goes on.
    Warn,
    /// Something failed.
    Error,
    /// The skill ends without an answer. The SDK sends it when a skill panics.
    Fatal,
}

#[doc(inline)]
pub use crate::{__log_debug as debug, __log_error as error, __log_info as info, __log_warn as warn};

/// Writes one line; what the macros call.
#[doc(hidden)]
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    match message.as_str() {
        Some(message) => wire::log(level, message),
        None => wire::log(level, &message.to_string()),
    }
}

/// Of use while a fault is looked for. Takes the arguments of `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($message:tt)+) => {
        $crate::__private::write($crate::log::Level::Debug, ::core::format_args!($($message)+))
    };
}

/// The normal course of things. Takes the arguments of `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($message:tt)+) => {
        $crate::__private::write($crate::log::Level::Info, ::core::format_args!($($message)+))
    };
}

/// Something is odd, and the skill goes on. Takes the arguments of `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($message:tt)+) => {
        $crate::__private::write($crate::log::Level::Warn, ::core::format_args!($($message)+))
    };
}

/// Something failed. Takes the arguments of `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($message:tt)+) => {
        $crate::__private::write($crate::log::Level::Error, ::core::format_args!($($message)+))
    };
}
