//! `#[skill]`: reads the function, refuses what a skill cannot be, and registers the rest.

mod parameter;

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{GenericArgument, Item, ItemFn, LitStr, PathArguments, ReturnType, Type};

use self::parameter::Parameter;
use crate::docs;
use crate::name::SkillName;

/// In bytes, from the contract's `descriptor.description`.
const LONGEST_DESCRIPTION: usize = 4096;

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut function = match syn::parse2::<Item>(item) {
        Ok(Item::Fn(function)) => function,
        Ok(other) => {
            let message = "`#[skill]` belongs on a function, outside of any `impl` or `trait`";
            return syn::Error::new_spanned(other, message).into_compile_error();
        }
        Err(error) => return error.into_compile_error(),
    };
    match Skill::read(arguments, &mut function) {
        Ok(skill) => {
            let registration = skill.registration();
            quote! { #function #registration }
        }
        // Only the explanation: the function itself would add errors that follow from the same cause.
        Err(error) => error.into_compile_error(),
    }
}

struct Skill {
    function: syn::Ident,
    name: SkillName,
    description: String,
    takes_context: bool,
    parameters: Vec<Parameter>,
    output: Output,
}

/// What the function gives back.
enum Output {
    Plain(Type),
    Fallible(Type),
}

impl Skill {
    /// Reads the function and removes the doc comments on its parameters, which the language does not allow to stay.
    fn read(arguments: TokenStream, function: &mut ItemFn) -> syn::Result<Self> {
        let mut errors = Errors::default();
        errors.note(check_signature(function));
        let name = errors.note(name(arguments, function));
        let description = errors.note(description(function));
        let mut takes_context = false;
        let mut parameters = Vec::new();
        for (position, argument) in function.sig.inputs.iter_mut().enumerate() {
            if parameter::is_context(argument) {
                takes_context = true;
                if position > 0 {
                    errors.add(syn::Error::new_spanned(argument, "write `cx: &Context` as the first parameter"));
                }
            } else {
                parameters.extend(errors.note(Parameter::read(argument)));
            }
        }
        let output = Output::of(&function.sig.output);
        errors.finish()?;
        let (Some(name), Some(description)) = (name, description) else { unreachable!("both were read without error") };
        Ok(Self { function: function.sig.ident.clone(), name, description, takes_context, parameters, output })
    }

    fn registration(&self) -> TokenStream {
        let Self { function, description, .. } = self;
        let name = self.name.as_str();
        let claim = self.name.claim();
        let parameters = self.parameters.iter().map(Parameter::descriptor);
        let context = self.takes_context.then(|| quote! { __context, });
        let values = self.parameters.iter().map(Parameter::value);
        let names = self.parameters.iter().map(Parameter::name);
        let (output, answer) = match &self.output {
            Output::Plain(output) => (output, quote! { __private::answer(__output) }),
            Output::Fallible(output) => (output, quote! { __private::answer(__output?) }),
        };
        let schema = quote_spanned! { output.span() => __private::schema::<#output> };
        quote! {
            #[doc(hidden)]
            #[allow(dead_code, non_camel_case_types, non_snake_case)]
            enum #claim {}

            const _: () = {
                use ::clawhold_skill::__private;

                fn __call(
                    __context: &::clawhold_skill::Context,
                    mut __input: __private::Input,
                ) -> ::core::result::Result<::std::string::String, ::clawhold_skill::Error> {
                    __input.only(&[#(#names),*])?;
                    let __output = #function(#context #(#values),*);
                    #answer
                }

                __private::inventory::submit! {
                    __private::Skill {
                        name: #name,
                        description: #description,
                        parameters: &[#(#parameters),*],
                        output: #schema,
                        call: __call,
                    }
                }
            };
        }
    }
}

impl Output {
    /// Goes by the written name, as a macro sees no types: whatever is called `Result` is one.
    fn of(written: &ReturnType) -> Self {
        let ReturnType::Type(_, written) = written else { return Self::Plain(syn::parse_quote!(())) };
        match result_value(written) {
            Some(value) => Self::Fallible(value),
            None => Self::Plain((**written).clone()),
        }
    }
}

fn result_value(written: &Type) -> Option<Type> {
    let Type::Path(path) = written else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(value) => Some(value.clone()),
        _ => None,
    })
}

fn name(arguments: TokenStream, function: &ItemFn) -> syn::Result<SkillName> {
    let mut name = None;
    let parser = syn::meta::parser(|meta| {
        if meta.path.is_ident("name") {
            name = Some(meta.value()?.parse::<LitStr>()?);
            Ok(())
        } else {
            Err(meta.error("`#[skill]` knows only `name = \"…\"`"))
        }
    });
    syn::parse::Parser::parse2(parser, arguments)?;
    match name {
        Some(name) => SkillName::parse(name.value(), name.span()),
        None => SkillName::parse(function.sig.ident.unraw().to_string(), function.sig.ident.span()),
    }
}

fn description(function: &ItemFn) -> syn::Result<String> {
    let span = function.sig.ident.span();
    let Some(text) = docs::text(&function.attrs) else {
        let message = "a skill needs a description: write a `///` doc comment above the function that says what it \
                       does, for the person or model that must choose a skill";
        return Err(syn::Error::new(span, message));
    };
    if text.len() > LONGEST_DESCRIPTION {
        let message = format!(
            "a skill's description has {LONGEST_DESCRIPTION} bytes at most; this one has {}: move details to a `//` \
             comment",
            text.len()
        );
        return Err(syn::Error::new(span, message));
    }
    Ok(text)
}

fn check_signature(function: &ItemFn) -> syn::Result<()> {
    let signature = &function.sig;
    let refuse = |at: Span, message: &str| Err(syn::Error::new(at, message));
    if let Some(token) = &signature.asyncness {
        return refuse(token.span, "a skill is not `async`: write `fn`; `http::…send()` waits for its answer");
    }
    if !signature.generics.params.is_empty() {
        return refuse(
            signature.generics.params.span(),
            "a skill has no generic parameters: write concrete types, from which the JSON Schema is made",
        );
    }
    if let Some(token) = &signature.unsafety {
        return refuse(token.span, "a skill is not `unsafe`: write `fn`");
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi.span(), "a skill has no ABI of its own: write `fn`");
    }
    if let Some(variadic) = &signature.variadic {
        return refuse(variadic.span(), "a skill is not variadic: write a `Vec<T>` parameter");
    }
    Ok(())
}

/// Everything that is wrong with one function, so that an author sees it in one compilation.
#[derive(Default)]
struct Errors(Option<syn::Error>);

impl Errors {
    fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn note<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    fn finish(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
