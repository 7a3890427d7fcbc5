//! One parameter of a skill: a property of its input.

use proc_macro2::TokenStream;
use quote::{ToTokens as _, quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{FnArg, Pat, Type, TypeReference};

use crate::docs;

pub(super) struct Parameter {
    name: String,
    description: Option<String>,
    written: Type,
    required: bool,
}

impl Parameter {
    /// Reads a parameter and takes the doc comments off it.
    pub(super) fn read(argument: &mut FnArg) -> syn::Result<Self> {
        let typed = match argument {
            FnArg::Typed(typed) => typed,
            FnArg::Receiver(receiver) => {
                let message = "a skill is a free function and has no `self`: write `cx: &Context` if it needs to know \
                               who calls";
                return Err(syn::Error::new_spanned(receiver, message));
            }
        };
        let description = docs::text(&typed.attrs);
        typed.attrs.retain(|attribute| !attribute.path().is_ident("doc"));
        let Pat::Ident(pattern) = &*typed.pat else {
            let message = "a skill's parameter needs a name, which becomes the property's name in the input: write \
                           `name: Type` and take the value apart in the body";
            return Err(syn::Error::new_spanned(&typed.pat, message));
        };
        if let Some(by) = &pattern.by_ref {
            return Err(syn::Error::new(by.span(), "a skill's parameter is an owned value: write it without `ref`"));
        }
        check_type(&typed.ty)?;
        Ok(Self {
            name: pattern.ident.unraw().to_string(),
            description,
            required: !is_option(&typed.ty),
            written: (*typed.ty).clone(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The registry's entry, from which the input schema is made.
    pub(super) fn descriptor(&self) -> TokenStream {
        let Self { name, written, required, .. } = self;
        let description = self.description.as_deref().unwrap_or_default();
        let schema = quote_spanned! { written.span() => __private::schema::<#written> };
        quote! {
            __private::Parameter {
                name: #name,
                description: #description,
                required: #required,
                schema: #schema,
            }
        }
    }

    /// The expression that takes the value out of the input.
    pub(super) fn value(&self) -> TokenStream {
        let Self { name, written, required, .. } = self;
        let take = if *required { quote!(required) } else { quote!(optional) };
        quote_spanned! { written.span() => __input.#take::<#written>(#name)? }
    }
}

/// `cx: &Context`, under whatever path `Context` is known.
pub(super) fn is_context(argument: &FnArg) -> bool {
    let FnArg::Typed(typed) = argument else { return false };
    let Type::Reference(TypeReference { elem, mutability: None, .. }) = &*typed.ty else { return false };
    last_segment_is(elem, "Context")
}

fn is_option(written: &Type) -> bool {
    last_segment_is(written, "Option")
}

fn last_segment_is(written: &Type, name: &str) -> bool {
    matches!(written, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == name))
}

fn check_type(written: &Type) -> syn::Result<()> {
    let message = match written {
        Type::Reference(reference) => match owned(&reference.elem) {
            Some(owned) => format!("a skill's parameter is an owned value: write `{owned}`"),
            None => "a skill's parameter is an owned value: write the type without `&`".to_owned(),
        },
        Type::ImplTrait(_) | Type::TraitObject(_) => {
            "a skill's parameter needs one concrete type, from which the JSON Schema is made: write a struct or enum \
             with `#[clawhold_skill::data]`"
                .to_owned()
        }
        Type::Path(path) if path.path.is_ident("Context") => "write `cx: &Context`".to_owned(),
        Type::Ptr(_) | Type::BareFn(_) | Type::Never(_) | Type::Infer(_) => {
            "this type has no JSON form: write a struct, an enum, a `Vec`, a `String`, a number or a `bool`".to_owned()
        }
        _ => return Ok(()),
    };
    Err(syn::Error::new_spanned(written, message))
}

/// What to write instead of a reference to `borrowed`.
fn owned(borrowed: &Type) -> Option<String> {
    match borrowed {
        Type::Path(path) if path.path.is_ident("str") => Some("String".to_owned()),
        Type::Slice(slice) => Some(format!("Vec<{}>", compact(&slice.elem))),
        Type::Path(_) => Some(compact(borrowed)),
        _ => None,
    }
}

/// The type as an author would write it: token streams print `Vec < u8 >`.
fn compact(written: &Type) -> String {
    let mut text = written.to_token_stream().to_string();
    for (spaced, tight) in [(" < ", "<"), (" >", ">"), (" :: ", "::"), (" ,", ",")] {
        text = text.replace(spaced, tight);
    }
    text
}
