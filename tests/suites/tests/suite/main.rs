//! A whole host, asked over HTTP. One binary: linking the engine costs more than all of these tests.

mod bad_input;
mod capabilities;
mod hostile;
mod isolation;
mod roles;
mod stop;
mod support;
mod warm;
