//! The description of the API as OpenAPI 3.1, made from the table of routes and from the types that handlers read
//! and answer with.

use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use clawhold_tenancy::{Publisher, SecretName, SkillName, TenantId, TokenId};
use http::header::CONTENT_TYPE;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::gate::Face;
use crate::lines::LINES;
use crate::problem::{self, PROBLEM, TypeView};
use crate::routes::Row;

/// A place for a type's schema in a document.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a route is for, what it takes and what it gives.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    id: &'static str,
    summary: &'static str,
    query: Option<SchemaOf>,
    takes: Option<(&'static str, SchemaOf)>,
    gives: Vec<(u16, &'static str, Option<SchemaOf>)>,
    conditional: bool,
    fields: Vec<(&'static str, &'static str)>,
    also: Vec<u16>,
    pub(crate) face: Face,
}

impl Operation {
    /// `id` is what generated clients call it.
    pub(crate) const fn new(id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            summary,
            query: None,
            takes: None,
            gives: Vec::new(),
            conditional: false,
            fields: Vec::new(),
            also: Vec::new(),
            face: Face::Api,
        }
    }

    /// One of the OCI registry, whose contract is not ours to describe.
    pub(crate) const fn of_registry() -> Self {
        let mut operation = Self::new("", "");
        operation.face = Face::Registry;
        operation
    }

    /// Its query has the fields of `Q`, and no others.
    pub(crate) fn query<Q: JsonSchema>(self) -> Self {
        Self { query: Some(SchemaGenerator::root_schema_for::<Q>), ..self }
    }

    /// Its body is JSON of this form.
    pub(crate) fn takes<T: JsonSchema>(self) -> Self {
        Self { takes: Some(("application/json", SchemaGenerator::subschema_for::<T>)), ..self }
    }

    /// Its body is a WebAssembly component.
    pub(crate) fn takes_wasm(self) -> Self {
        Self { takes: Some(("application/wasm", |_| Schema::default())), ..self }
    }

    /// It answers with JSON of this form.
    pub(crate) fn gives<T: JsonSchema>(mut self, status: u16) -> Self {
        self.gives.push((status, "application/json", Some(SchemaGenerator::subschema_for::<T>)));
        self
    }

    /// It answers with lines of JSON.
    pub(crate) fn gives_lines(mut self, status: u16) -> Self {
        self.gives.push((status, LINES, Some(|_| schemars::json_schema!({ "type": "string" }))));
        self
    }

    /// It has nothing to say.
    pub(crate) fn gives_nothing(mut self) -> Self {
        self.gives.push((204, "", None));
        self
    }

    /// It heeds `If-Match`.
    pub(crate) fn conditional(self) -> Self {
        Self { conditional: true, ..self }
    }

    /// Its answer has this header field.
    pub(crate) fn field(mut self, name: &'static str, text: &'static str) -> Self {
        self.fields.push((name, text));
        self
    }

    /// It may also be refused with this status.
    pub(crate) fn or(mut self, status: u16) -> Self {
        self.also.push(status);
        self
    }

    /// The keys that its query may have.
    pub(crate) fn keys(&self) -> Vec<String> {
        let schema = self.query.map(|of| of(&mut generator(false)));
        let properties = schema.as_ref().and_then(|schema| schema.get("properties")).and_then(Value::as_object);
        properties.map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
    }
}

/// The document, as it is sent.
#[derive(Clone)]
pub(crate) struct Document(Bytes);

impl Document {
    pub(crate) fn of(rows: &[Row]) -> Self {
        Self(document(rows).to_string().into())
    }
}

/// `GET /v1/openapi.json`
pub(crate) async fn show(State(Document(text)): State<Document>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], text)
}

/// The whole description.
pub(crate) fn document(rows: &[Row]) -> Value {
    // What is read and what is answered have forms of their own, even of one type.
    let (mut read, mut answered) = (generator(true), generator(false));
    let mut paths = Map::new();
    let mut put = |method: &str, path: &str, operation: Value| {
        let at = paths.entry(path).or_insert_with(|| json!({}));
        at[method.to_lowercase()] = operation;
    };
    for row in rows.iter().filter(|row| row.operation.face == Face::Api) {
        put(row.method, row.path, operation(row, &mut read, &mut answered));
    }
    put(
        "GET",
        "/problems",
        public("listProblems", "Every type of problem", true, &answered.subschema_for::<Vec<TypeView>>().to_value()),
    );
    put(
        "GET",
        "/problems/{problem}",
        public(
            "showProblem",
            "One type of problem: what it means, and what to do",
            false,
            &answered.subschema_for::<TypeView>().to_value(),
        ),
    );
    put("GET", "/v1/openapi.json", public("describe", "This document", true, &json!({ "type": "object" })));
    let mut schemas: Map<String, Value> = answered.take_definitions(true);
    schemas.insert("Problem".to_owned(), problem::schema());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Clawhold",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Runs agents' skills for many tenants. Every call but those that describe the API needs a token. \
                What is another tenant's is answered as what does not exist.",
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": refusals(),
            "headers": headers(),
            "parameters": parameters(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "clw_<id>_<secret>" },
            },
        },
    })
}

fn generator(read: bool) -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.inline_subschemas = read;
    });
    if read { settings.for_deserialize() } else { settings.for_serialize() }.into_generator()
}

fn operation(row: &Row, read: &mut SchemaGenerator, answered: &mut SchemaGenerator) -> Value {
    let Row { method, path, operation, .. } = row;
    let safe = *method == "GET";
    let mut parameters: Vec<Value> = in_path(path).map(|name| reference("parameters", name)).collect();
    if let Some(of) = operation.query {
        parameters.extend(in_query(&of(read)));
    }
    if !safe {
        parameters.push(reference("parameters", "Idempotency-Key"));
    }
    if operation.conditional {
        parameters.push(reference("parameters", "If-Match"));
    }
    let mut fields = Map::from_iter([("Clawhold-Request".to_owned(), reference("headers", "Clawhold-Request"))]);
    if !safe {
        fields.insert("Idempotency-Replayed".to_owned(), reference("headers", "Idempotency-Replayed"));
    }
    for (name, text) in &operation.fields {
        fields.insert((*name).to_owned(), text_field(text));
    }
    let mut responses = Map::new();
    for (status, media, of) in &operation.gives {
        let response = responses
            .entry(status.to_string())
            .or_insert_with(|| json!({ "description": said(*status), "headers": fields.clone() }));
        if let Some(of) = of {
            response["content"][*media] = json!({ "schema": of(answered) });
        }
    }
    for status in statuses(row) {
        responses.insert(status.to_string(), reference("responses", &status.to_string()));
    }
    let roles: Vec<&str> = row.roles.iter().map(|role| role.as_str()).collect();
    let mut whole = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "description": format!("Action `{}`. Roles: {}.", row.action, roles.join(", ")),
        "tags": [row.action.split('.').next().unwrap_or_default()],
        "parameters": parameters,
        "responses": responses,
    });
    if let Some((media, of)) = operation.takes {
        whole["requestBody"] = json!({ "required": true, "content": { media: { "schema": of(read) } } });
    }
    whole
}

/// The statuses with which a route may refuse.
fn statuses(row: &Row) -> Vec<u16> {
    let mut all = vec![401, 403, 422, 429, 500, 503];
    if row.path.contains('{') {
        all.push(404);
    }
    if row.method != "GET" {
        all.push(409);
    }
    if row.operation.takes.is_some() {
        all.extend([408, 413]);
    }
    if row.operation.conditional {
        all.push(412);
    }
    all.extend(&row.operation.also);
    all
}

/// A route that needs no token.
fn public(id: &str, summary: &str, always: bool, schema: &Value) -> Value {
    let mut whole = json!({
        "operationId": id,
        "summary": summary,
        "tags": ["api"],
        "security": [],
        "responses": { "200": {
            "description": said(200),
            "headers": { "Clawhold-Request": reference("headers", "Clawhold-Request") },
            "content": { "application/json": { "schema": schema } },
        } },
    });
    if !always {
        whole["parameters"] = json!([reference("parameters", "problem")]);
        whole["responses"]["404"] = reference("responses", "404");
    }
    whole
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

fn text_field(text: &str) -> Value {
    json!({ "description": text, "schema": { "type": "string" } })
}

const fn said(status: u16) -> &'static str {
    match status {
        201 => "Made",
        204 => "Done",
        _ => "The answer",
    }
}

/// The names in a path's braces.
fn in_path(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

/// The fields of a query's type, as parameters.
fn in_query(schema: &Schema) -> Vec<Value> {
    let fields = schema.get("properties").and_then(Value::as_object);
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        // A key that may be left out is never sent as nothing.
        if let Some([kind, _]) = schema["type"].as_array().map(Vec::as_slice) {
            schema["type"] = kind.clone();
        }
        json!({ "name": name, "in": "query", "description": description, "schema": schema })
    };
    fields.map(|fields| fields.iter().map(parameter).collect()).unwrap_or_default()
}

/// What stands in paths and in requests' header fields.
fn parameters() -> Value {
    let mut generator = generator(true);
    let mut schema = |of: SchemaOf| of(&mut generator).to_value();
    let in_path = [
        ("tenant", "The tenant", schema(SchemaGenerator::subschema_for::<TenantId>)),
        ("token", "The token's id, its public half", schema(SchemaGenerator::subschema_for::<TokenId>)),
        ("secret", "The secret's name", schema(SchemaGenerator::subschema_for::<SecretName>)),
        ("skill", "The skill's name", schema(SchemaGenerator::subschema_for::<SkillName>)),
        ("publisher", "Who publishes the package", schema(SchemaGenerator::subschema_for::<Publisher>)),
        ("name", "The package's name behind the slash", schema(SchemaGenerator::subschema_for::<Publisher>)),
        ("version", "The package's version", json!({ "type": "string" })),
        ("grantee", "`tenant:` and a tenant's id, or `tier:` and a tier's name", json!({ "type": "string" })),
        ("key", "The key's id", json!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })),
        ("run", "The run's id", json!({ "type": "string", "format": "uuid" })),
        ("problem", "The type's name", json!({ "type": "string" })),
    ];
    let mut all: Map<String, Value> = in_path
        .into_iter()
        .map(|(name, text, schema)| {
            (
                name.to_owned(),
                json!({ "name": name, "in": "path", "required": true, "description": text, "schema": schema }),
            )
        })
        .collect();
    for (name, text, pattern) in [
        (
            "Idempotency-Key",
            "A key of the caller's, new for each thing that is to be done: a repeat with it gets the first answer.",
            "^[!-~]{1,255}$",
        ),
        (
            "If-Match",
            "The `ETag` that the resource had when it was read: refused if it has changed since.",
            "^\"[0-9]{1,18}\"$",
        ),
    ] {
        let schema = json!({ "type": "string", "pattern": pattern });
        all.insert(name.to_owned(), json!({ "name": name, "in": "header", "description": text, "schema": schema }));
    }
    Value::Object(all)
}

/// Header fields of many answers.
fn headers() -> Value {
    json!({
        "Clawhold-Request": text_field("The request's id, which the log and the audit entry carry too"),
        "Idempotency-Replayed": text_field("`true` on the kept answer of an earlier request with the same `Idempotency-Key`"),
        "RateLimit": text_field("The quota, what is left of it, and the seconds until there is more: draft-ietf-httpapi-ratelimit-headers"),
        "RateLimit-Policy": text_field("The quota, what it allows, and the seconds that this is for"),
        "Retry-After": text_field("Seconds to wait"),
        "WWW-Authenticate": text_field("How to authenticate"),
    })
}

/// The answers with problems, by status.
fn refusals() -> Value {
    let mut all = Map::new();
    for status in problem::statuses() {
        let mut headers = json!({ "Clawhold-Request": reference("headers", "Clawhold-Request") });
        let fields: &[&str] = match status {
            401 => &["WWW-Authenticate"],
            429 => &["Retry-After", "RateLimit", "RateLimit-Policy"],
            503 => &["Retry-After"],
            _ => &[],
        };
        for field in fields {
            headers[*field] = reference("headers", field);
        }
        let response = json!({
            "description": problem::titles(status).join("; or: "),
            "headers": headers,
            "content": { PROBLEM: { "schema": reference("schemas", "Problem") } },
        });
        all.insert(status.to_string(), response);
    }
    Value::Object(all)
}
