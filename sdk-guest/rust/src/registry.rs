//! The skills of the package, collected when it is linked.

use crate::input::Input;
use crate::schema::{self, OfType};
use crate::{Context, Error};

/// One `#[skill]` function.
pub struct Skill {
    /// `^[a-zA-Z0-9_.-]{1,64}$`; the macro checked it.
    pub name: &'static str,
    /// The doc comment.
    pub description: &'static str,
    /// In the order of the function's parameters, without the context.
    pub parameters: &'static [Parameter],
    /// The schema of what the function gives back.
    pub output: OfType,
    /// Reads the parameters, calls the function and writes the answer.
    pub call: fn(&Context, Input) -> Result<String, Error>,
}

/// One parameter of a skill.
pub struct Parameter {
    /// The property's name in the input.
    pub name: &'static str,
    /// The parameter's doc comment; empty when there is none.
    pub description: &'static str,
    /// Whether the input must have it.
    pub required: bool,
    /// The schema of its type.
    pub schema: OfType,
}

inventory::collect!(Skill);

/// What the contract's `describe` answers for one skill.
pub(crate) struct Descriptor {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) input_schema: String,
    pub(crate) output_schema: String,
}

/// The package's skills, by name: the order in which the linker collects them is its own affair.
pub(crate) fn describe() -> Vec<Descriptor> {
    let mut skills: Vec<&Skill> = inventory::iter::<Skill>().collect();
    skills.sort_unstable_by_key(|skill| skill.name);
    // The macro finds a name that is used twice in one module; this finds the others, when the package is published.
    if let Some(pair) = skills.windows(2).find(|pair| pair[0].name == pair[1].name) {
        panic!("two skills of this package are named `{}`: give one another name", pair[0].name);
    }
    skills.into_iter().map(Descriptor::of).collect()
}

/// Runs the skill that the context names.
pub(crate) fn handle(cx: &Context, input: &str) -> Result<String, Error> {
    let skill = inventory::iter::<Skill>()
        .find(|skill| skill.name == cx.skill)
        .ok_or_else(|| Error::failed(format!("this package has no skill `{}`", cx.skill)))?;
    (skill.call)(cx, Input::parse(input)?)
}

impl Descriptor {
    fn of(skill: &Skill) -> Self {
        Self {
            name: skill.name,
            description: skill.description,
            input_schema: schema::input(skill.parameters),
            output_schema: schema::output(skill.output),
        }
    }
}
