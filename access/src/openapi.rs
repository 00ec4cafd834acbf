//! The API described for programs: an OpenAPI 3.1 document made of the very routes that are served.
//!
//! Each route says beside its handler what it takes and answers ([`Operation`]); what all guarded routes have in common
//! is added here. Not here: what a problem's status is ([`crate::problem`]). Source:
//! <https://spec.openapis.org/oas/v3.1.1.html>.
//!
//! Invariant: a route that is not described does not compile, and one that is described is served.

use crate::problem::ProblemKind;
use crate::progress::PARAMETER;
use crate::routes::Route;
use serde_json::{Map, Value, json};

/// Makes a JSON Schema.
pub type Schema = fn() -> Value;

/// A parameter of a route.
#[derive(Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// `path`, `query` or `header`.
    pub place: &'static str,
    /// What it says.
    pub what: &'static str,
    /// What it can be.
    pub schema: Schema,
}

/// A body, or an answer that went well, in one format.
#[derive(Clone, Copy)]
pub struct Content {
    /// The media type.
    pub media: &'static str,
    /// What it can be; none for bytes and text that JSON Schema says nothing of.
    pub schema: Option<Schema>,
}

/// What a route takes and answers.
#[derive(Clone, Copy)]
pub struct Operation {
    /// What it is for, in a few words.
    pub summary: &'static str,
    /// Its parameters.
    pub parameters: &'static [Parameter],
    /// The formats that it reads; none if it has no body.
    pub body: &'static [Content],
    /// The formats of an answer that went well.
    pub answer: &'static [Content],
    /// Problems beside those that every guarded route can have.
    pub problems: &'static [ProblemKind],
}

/// A JSON answer or body of this schema.
pub const fn json_of(schema: Schema) -> Content {
    Content { media: "application/json", schema: Some(schema) }
}

/// Text.
pub const TEXT: Content = Content { media: "text/plain", schema: None };

/// Any text.
pub fn text() -> Value {
    json!({"type": "string"})
}

/// A whole number that is not negative.
pub fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

/// A time.
pub fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// A tenant's name.
pub fn tenant() -> Value {
    json!({"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$", "examples": ["acme"]})
}

/// A kind of stream.
pub fn stream() -> Value {
    json!({"type": "string", "enum": ["audit", "telemetry", "access", "control"]})
}

/// Any object.
pub fn object() -> Value {
    json!({"type": "object"})
}

/// The tenant in a path.
pub const TENANT: Parameter = Parameter { name: "tenant", place: "path", what: "whose stream", schema: tenant };
/// The stream in a path.
pub const STREAM: Parameter = Parameter { name: "stream", place: "path", what: "which stream", schema: stream };

/// What every guarded route can answer besides.
const COMMON: [ProblemKind; 6] = [
    ProblemKind::Malformed,
    ProblemKind::Unauthenticated,
    ProblemKind::Forbidden,
    ProblemKind::TooManyRequests,
    ProblemKind::Internal,
    ProblemKind::Unavailable,
];

/// The document of these routes.
pub fn document(version: &str, routes: &[Route]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        // OpenAPI has no parameter that spans several segments of a path.
        let path = route.path.replace("{*", "{");
        let of_path = paths.entry(path).or_insert_with(|| json!({}));
        of_path[route.method.to_ascii_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Piperoll",
            "version": version,
            "summary": "An audit trail that a customer's auditor can check without trusting the company that keeps it",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "an API key: prl_<kind>_<id>_<secret>"},
            },
            "schemas": {"Problem": problem()},
        },
    })
}

fn operation(route: &Route) -> Value {
    let Operation { summary, parameters, body, answer, problems } = route.operation;
    let of_all = route.recording.is_some().then_some(&PARAMETER);
    let parameters: Vec<Value> = parameters
        .iter()
        .chain(of_all)
        .map(|one| {
            let schema = (one.schema)();
            json!({"name": one.name, "in": one.place, "description": one.what, "required": one.place == "path", "schema": schema})
        })
        .collect();
    let mut answers = Map::new();
    answers.insert("200".into(), json!({"description": "done", "content": contents(answer)}));
    let common: &[ProblemKind] = if route.recording.is_some() { &COMMON } else { &[] };
    for kind in common.iter().chain(problems) {
        let reference = json!({"schema": {"$ref": "#/components/schemas/Problem"}});
        let answer = json!({"description": kind.title(), "content": {"application/problem+json": reference}});
        answers.insert(kind.status().to_string(), answer);
    }
    let mut described = json!({"summary": summary, "parameters": parameters, "responses": answers});
    if !body.is_empty() {
        described["requestBody"] = json!({"required": true, "content": contents(body)});
    }
    described["security"] = if route.recording.is_some() { json!([{"key": []}]) } else { json!([]) };
    if !route.why_open.is_empty() {
        described["description"] = format!("Open to everybody: {}.", route.why_open).into();
    }
    described
}

fn contents(all: &[Content]) -> Value {
    let one = |content: &Content| {
        let schema = content.schema.map_or_else(|| json!({}), |schema| json!({"schema": schema()}));
        (content.media.to_string(), schema)
    };
    Value::Object(all.iter().map(one).collect())
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "What is wrong and what would be right (RFC 9457)",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "description": "stable: urn:piperoll:problem:…"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
    })
}
