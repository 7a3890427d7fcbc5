//! From the caller's JSON to a skill's parameters, and from its answer back to JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Error;

/// The input of one call. Every error names the parameter that it is about.
pub struct Input(Map<String, Value>);

impl Input {
    pub(crate) fn parse(json: &str) -> Result<Self, Error> {
        match serde_json::from_str(json) {
            Ok(Value::Object(parameters)) => Ok(Self(parameters)),
            Ok(_) => Err(Error::invalid_input("the input must be a JSON object with one member for each parameter")),
            Err(error) => Err(Error::invalid_input(format!("the input is not JSON: {error}"))),
        }
    }

    /// Refuses a parameter that is not among `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), Error> {
        let Some(unknown) = self.0.keys().find(|name| !known.contains(&name.as_str())) else { return Ok(()) };
        let known = match known {
            [] => "takes no parameters".to_owned(),
            known => format!("takes `{}`", known.join("`, `")),
        };
        Err(Error::invalid_input(format!("there is no parameter `{unknown}`: this skill {known}")))
    }

    /// Takes out a parameter that must be there.
    pub fn required<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Error> {
        let value = self.0.remove(name).ok_or_else(|| Error::invalid_input(format!("`{name}` is missing")))?;
        read(name, value)
    }

    /// Takes out a parameter that may be absent, which reads like `null`.
    pub fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Error> {
        read(name, self.0.remove(name).unwrap_or_default())
    }
}

/// A skill's answer as JSON.
pub fn answer(value: impl Serialize) -> Result<String, Error> {
    serde_json::to_string(&value)
        .map_err(|error| Error::failed(format!("the skill's answer cannot be written as JSON: {error}")))
}

fn read<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| Error::invalid_input(format!("`{name}`: {error}")))
}
