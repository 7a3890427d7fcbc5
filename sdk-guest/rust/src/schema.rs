//! The JSON Schemas (draft 2020-12) that agents see.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

use crate::registry::Parameter;

/// A function that gives the schema of one type, so that the registry can hold it.
pub(crate) type OfType = fn(&mut SchemaGenerator) -> Schema;

/// The schema of `T`, or a reference to its definition in the generator.
pub fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// An object with one property for each parameter and nothing else: a misspelt name must not pass unseen.
pub(crate) fn input(parameters: &[Parameter]) -> String {
    let mut generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut properties = Map::new();
    let mut required = Vec::new();
    for parameter in parameters {
        let mut schema = (parameter.schema)(&mut generator);
        if !parameter.description.is_empty() {
            schema.insert("description".to_owned(), parameter.description.into());
        }
        properties.insert(parameter.name.to_owned(), schema.to_value());
        if parameter.required {
            required.push(Value::from(parameter.name));
        }
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("required".to_owned(), required.into());
    schema.insert("additionalProperties".to_owned(), false.into());
    written(schema, &mut generator)
}

/// The schema of what a skill gives back.
pub(crate) fn output(of_type: OfType) -> String {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let schema = match of_type(&mut generator).to_value() {
        Value::Object(schema) => schema,
        // `true`, which allows everything, says the same as an object without rules.
        _ => Map::new(),
    };
    written(schema, &mut generator)
}

/// Adds the dialect, and the definitions that the schema refers to.
fn written(mut schema: Map<String, Value>, generator: &mut SchemaGenerator) -> String {
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    let definitions = generator.take_definitions(true);
    if !definitions.is_empty() {
        schema.insert("$defs".to_owned(), definitions.into());
    }
    serde_json::to_string(&schema).expect("a schema has string keys only")
}
