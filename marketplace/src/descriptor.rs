//! What a package says it offers.

use clawhold_sandbox::contract::exports::clawhold::skill::handler::Descriptor;
use clawhold_tenancy::SkillName;
use serde::{Deserialize, Serialize};

use crate::schema::Schema;

/// Skills in one package.
const SKILLS: usize = 128;
/// Bytes of a description.
const DESCRIPTION_BYTES: usize = 4096;

/// A checked skill of a package, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillSpec {
    /// The name.
    pub name: SkillName,
    /// What it does.
    pub description: String,
    /// JSON Schema of the input, as text.
    pub input_schema: String,
    /// JSON Schema of the output, as text.
    pub output_schema: String,
}

/// Why `describe`'s answer is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// None at all.
    #[error("the package describes no skill; mark at least one function with #[skill]")]
    Empty,
    /// Too many.
    #[error("the package describes {0} skills, {SKILLS} are allowed; split it")]
    TooMany(usize),
    /// A name.
    #[error("{0}")]
    Name(String),
    /// A name that stands twice.
    #[error("the package describes {0:?} twice; give one of the two another name")]
    Twice(String),
    /// A description.
    #[error("the description of {0} is empty, longer than {DESCRIPTION_BYTES} bytes, or has control characters")]
    Description(SkillName),
    /// A schema.
    #[error("the {which} schema of {skill} cannot be used: {why}")]
    Schema {
        /// `input` or `output`.
        which: &'static str,
        /// Whose.
        skill: SkillName,
        /// What is wrong with it.
        why: String,
    },
}

/// Checks what `describe` gave: names, sizes, and schemas as hostile input.
pub fn check_descriptors(described: Vec<Descriptor>) -> Result<Vec<SkillSpec>, DescriptorError> {
    if described.is_empty() {
        return Err(DescriptorError::Empty);
    }
    if described.len() > SKILLS {
        return Err(DescriptorError::TooMany(described.len()));
    }
    let mut skills: Vec<SkillSpec> = Vec::with_capacity(described.len());
    for one in described {
        let name: SkillName = one.name.parse().map_err(|e| DescriptorError::Name(format!("{e}")))?;
        if skills.iter().any(|earlier| earlier.name == name) {
            return Err(DescriptorError::Twice(name.to_string()));
        }
        let text = &one.description;
        let odd = text.chars().any(|c| c.is_control() && c != '\n' && c != '\t');
        if text.trim().is_empty() || text.len() > DESCRIPTION_BYTES || odd {
            return Err(DescriptorError::Description(name));
        }
        for (which, schema) in [("input", &one.input_schema), ("output", &one.output_schema)] {
            if let Err(why) = Schema::compile(schema) {
                return Err(DescriptorError::Schema { which, skill: name, why: why.to_string() });
            }
        }
        skills.push(SkillSpec {
            name,
            description: one.description,
            input_schema: one.input_schema,
            output_schema: one.output_schema,
        });
    }
    Ok(skills)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skill(name: &str) -> Descriptor {
        Descriptor {
            name: name.to_owned(),
            description: "Does it".to_owned(),
            input_schema: "{}".to_owned(),
            output_schema: "{}".to_owned(),
        }
    }

    #[track_caller]
    fn refused(described: Vec<Descriptor>, expected: &str) {
        let said = check_descriptors(described).expect_err("is refused").to_string();
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    }

    #[test]
    fn hostile_33_a_describe_that_lies_is_refused() {
        refused(vec![], "no skill");
        refused((0..=SKILLS).map(|i| skill(&format!("s{i}"))).collect(), "129 skills");
        refused(vec![skill("a b")], "skill name");
        refused(vec![skill(&"a".repeat(65))], "skill name");
        refused(vec![skill("a"), skill("a")], "twice");
        refused(vec![Descriptor { description: " ".to_owned(), ..skill("a") }], "description of a");
        refused(vec![Descriptor { description: "x".repeat(5000), ..skill("a") }], "description of a");
        refused(vec![Descriptor { input_schema: "[]".to_owned(), ..skill("a") }], "input schema of a");
        refused(vec![Descriptor { output_schema: "nul".to_owned(), ..skill("a") }], "output schema of a");
        assert_eq!(check_descriptors(vec![skill("a"), skill("b")]).unwrap().len(), 2);
    }
}
