//! Each answer that a test of these suites gets is held against the description of the API.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::Answer;

/// What the API says of itself.
pub(crate) struct Described {
    document: Value,
    /// By method, path as it stands in the document, and status.
    validators: Mutex<HashMap<(String, String, u16), Arc<Validator>>>,
}

impl Described {
    pub(crate) fn by(document: Value) -> Self {
        Self { document, validators: Mutex::default() }
    }

    /// Fails the test if the API does not say that it may answer so.
    #[track_caller]
    pub(crate) fn check(&self, method: &str, path: &str, answer: &Answer) {
        let Answer { status, headers, body } = answer;
        let status = *status;
        let path = path.split('?').next().unwrap_or_default();
        let Some(template) = self.template(path) else {
            assert_eq!(status, 404, "{path} is not described");
            return;
        };
        let operation = &self.document["paths"][&template][method.to_lowercase()];
        if operation.is_null() {
            assert_eq!(status, 405, "{method} {template} is not described");
            return;
        }
        let response = self.resolved(&operation["responses"][status.to_string()]);
        assert!(response.is_object(), "{method} {template} answered {status}, which is not described: {body}");
        for (name, _) in response["headers"].as_object().into_iter().flatten() {
            // How a quota stands is not kept with an answer, and where time alone does not help there is no time to say.
            let paced = name.starts_with("RateLimit") || name == "Retry-After";
            let unpaced = headers.contains_key("idempotency-replayed") || (status == 429 && body["reset"].is_null());
            let sometimes = name == "Idempotency-Replayed" || (paced && unpaced);
            assert!(sometimes || headers.contains_key(name.as_str()), "{method} {template} {status} without {name}");
        }
        let media = headers.get("content-type").map(|value| value.to_str().unwrap());
        let Some(media) = media else {
            assert!(response["content"].is_null(), "{method} {template} {status} has no body");
            return;
        };
        let schema = &response["content"][media]["schema"];
        assert!(schema.is_object() || schema.is_boolean(), "{method} {template} {status} as {media} is not described");
        if media == "application/x-ndjson" {
            return;
        }
        let validator = self.validator((method.to_owned(), template.clone(), status), schema);
        let faults: Vec<String> = validator.iter_errors(body).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "{method} {template} {status}: {faults:?} in {body}");
    }

    /// The path of the document that this one is an instance of; what is written out comes before what is in braces.
    fn template(&self, path: &str) -> Option<String> {
        let fits = |template: &str| {
            let (parts, named): (Vec<_>, Vec<_>) = (path.split('/').collect(), template.split('/').collect());
            parts.len() == named.len()
                && parts
                    .iter()
                    .zip(&named)
                    .all(|(part, name)| part == name || (name.starts_with('{') && !part.is_empty()))
        };
        let paths = self.document["paths"].as_object().unwrap().keys();
        paths.filter(|template| fits(template)).min_by_key(|template| template.matches('{').count()).cloned()
    }

    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let target =
            value["$ref"].as_str().and_then(|reference| self.document.pointer(reference.trim_start_matches('#')));
        target.unwrap_or(value)
    }

    fn validator(&self, key: (String, String, u16), schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap();
        let made = validators.entry(key).or_insert_with(|| {
            let root =
                json!({ "allOf": [schema], "components": { "schemas": self.document["components"]["schemas"] } });
            Arc::new(jsonschema::validator_for(&root).unwrap())
        });
        Arc::clone(made)
    }
}
