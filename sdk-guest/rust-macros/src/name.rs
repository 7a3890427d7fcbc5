//! Skill names: `^[a-zA-Z0-9_.-]{1,64}$`, as agents' function-calling interfaces want them.

use proc_macro2::Span;
use quote::format_ident;
use syn::Ident;

/// In bytes, from the contract's `descriptor.name`.
const LONGEST: usize = 64;

pub(crate) struct SkillName {
    text: String,
    span: Span,
}

impl SkillName {
    pub(crate) fn parse(text: String, span: Span) -> syn::Result<Self> {
        let problem = if text.is_empty() {
            "a skill's name must not be empty".to_owned()
        } else if text.len() > LONGEST {
            format!("a skill's name has {LONGEST} characters at most; this one has {}", text.len())
        } else if let Some(wrong) = text.chars().find(|&c| !allowed(c)) {
            format!(
                "a skill's name cannot contain {wrong:?}; write letters, digits, `_`, `.` and `-`, for example \
                 `crm.lookup_account`"
            )
        } else {
            return Ok(Self { text, span });
        };
        Err(syn::Error::new(span, problem))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// An identifier that two skills share exactly if their names are equal: defining it twice in a module makes the
    /// compiler say which name is taken.
    pub(crate) fn claim(&self) -> Ident {
        let spelled = self.text.replace('.', "_dot_").replace('-', "_dash_");
        format_ident!("two_skills_are_named__{spelled}", span = self.span)
    }
}

fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}
