//! The attribute macros of `clawhold_skill`, which re-exports them and documents their use.
//!
//! The expansion names everything through `::clawhold_skill::__private`, so that a skill's `Cargo.toml` needs no
//! dependency besides the SDK. This crate checks what the syntax alone shows; whether a type can be read from JSON
//! is left to the compiler.
#![deny(missing_docs)]

mod data;
mod docs;
mod name;
mod skill;

use proc_macro::TokenStream;

/// Makes a plain function a skill. See `clawhold_skill` for a worked example.
///
/// `#[skill]` takes the function's own name; `#[skill(name = "crm.lookup_account")]` gives another, which must match
/// `^[a-zA-Z0-9_.-]{1,64}$`. The function may take `cx: &Context` first. Every other parameter is an owned value
/// that becomes a property of the input's JSON Schema: required, unless its type is written `Option<…>`. The doc
/// comment is the skill's description, and a doc comment on a parameter is that property's description. The answer
/// is a `T` or a `Result<T, E>` with `E: Into<Error>`.
#[proc_macro_attribute]
pub fn skill(arguments: TokenStream, item: TokenStream) -> TokenStream {
    skill::expand(arguments.into(), item.into()).into()
}

/// Lets a struct or enum cross between JSON and a skill: as a parameter, an answer, a setting or an HTTP body.
///
/// It derives `Serialize`, `Deserialize` and `JsonSchema` from the SDK's own copies of serde and schemars. `#[serde(…)]`
/// and `#[schemars(…)]` attributes work as usual, and doc comments become descriptions in the schema.
#[proc_macro_attribute]
pub fn data(arguments: TokenStream, item: TokenStream) -> TokenStream {
    data::expand(arguments.into(), item.into()).into()
}
