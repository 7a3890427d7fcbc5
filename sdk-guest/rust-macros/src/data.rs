//! `#[data]`: the derives that carry a type between Rust and JSON.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::Item;
use syn::spanned::Spanned;

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if !arguments.is_empty() {
        return refuse(&arguments, "`#[data]` takes no arguments; write `#[serde(…)]` attributes below it");
    }
    match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Struct(_) | Item::Enum(_)) => quote! {
            #[derive(
                ::clawhold_skill::__private::serde::Serialize,
                ::clawhold_skill::__private::serde::Deserialize,
                ::clawhold_skill::__private::schemars::JsonSchema,
            )]
            #[serde(crate = "::clawhold_skill::__private::serde")]
            #[schemars(crate = "::clawhold_skill::__private::schemars")]
            #item
        },
        Ok(other) => refuse(&other, "`#[data]` belongs on a struct or an enum"),
        Err(error) => error.into_compile_error(),
    }
}

fn refuse(at: &impl Spanned, message: &str) -> TokenStream {
    quote_spanned! { at.span() => ::core::compile_error!(#message); }
}
