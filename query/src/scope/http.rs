//! The routes of incident scope and release comparison.
//!
//! Not here: what an answer says ([`super`]).

use super::compare::CompareQuestion;
use super::{AffectedWhen, Dimension, Misasked, ScopeQuestion};
use crate::state::QueryState;
use access::openapi::{self, Operation, json_of};
use access::{Caller, Problem, ProblemKind, Recording, Routes};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::routing::post;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

const SCOPE: Operation = Operation {
    summary: "which tenants something touched or broke, since when, and whether it is contained",
    parameters: &[],
    body: &[json_of(scope_schema)],
    answer: &[json_of(openapi::object)],
    problems: &[
        ProblemKind::NotFound,
        ProblemKind::TooLarge,
        ProblemKind::Unprocessable,
        ProblemKind::QueryTooExpensive,
    ],
};

const COMPARE: Operation = Operation {
    summary: "what changed from one release to another, tenant by tenant",
    parameters: &[],
    body: &[json_of(compare_schema)],
    answer: &[json_of(openapi::object)],
    problems: &[
        ProblemKind::NotFound,
        ProblemKind::TooLarge,
        ProblemKind::Unprocessable,
        ProblemKind::QueryTooExpensive,
    ],
};

fn names() -> Value {
    json!({"type": "array", "items": openapi::tenant()})
}

fn scope_schema() -> Value {
    let values = json!({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]});
    let dimensions: Map<String, Value> =
        Dimension::ALL.iter().map(|dimension| (dimension.name().to_string(), values.clone())).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "tenants": names(), "subtree": openapi::tenant(),
            "where": {"type": "object", "additionalProperties": false, "properties": dimensions},
            "since": openapi::time(), "until": openapi::time(),
            "streams": {"type": "array", "items": {"type": "string", "enum": ["audit", "telemetry", "access"]}},
            "affected_when": {"type": "string", "enum": [AffectedWhen::Touched, AffectedWhen::Failing]},
            "heads": {"type": "array", "items": {"type": "object"}},
        },
    })
}

fn compare_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["from", "to"],
        "properties": {
            "from": {"type": "string"}, "to": {"type": "string"}, "tenants": names(), "subtree": openapi::tenant(),
            "canaries": names(), "since": openapi::time(), "until": openapi::time(),
        },
    })
}

/// Adds the routes.
pub fn routes(routes: Routes<QueryState>) -> Routes<QueryState> {
    routes.route("POST", "/v1/incidents/scope", Recording::Each, SCOPE, post(scope)).route(
        "POST",
        "/v1/releases/compare",
        Recording::Each,
        COMPARE,
        post(compare),
    )
}

impl From<Misasked> for Problem {
    fn from(wrong: Misasked) -> Self {
        Self::new(ProblemKind::Malformed, wrong.to_string())
    }
}

fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>, example: &str) -> Result<T, Problem> {
    let body = body.map_err(|e| Problem::new(ProblemKind::TooLarge, e.body_text()))?;
    serde_json::from_slice(&body)
        .map_err(|e| Problem::new(ProblemKind::Malformed, format!("the body is not {example}: {e}")))
}

async fn scope(
    State(state): State<QueryState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let example = "{\"tenants\":[…],\"where\":{\"release\":…}}";
    let question: ScopeQuestion = read(body, example)?;
    let (answer, cost) = state.scope(&caller, question).await?;
    caller.visit().count(answer.tenants.len() as u64);
    Ok(Json(asked(&caller, &answer, json!(cost))))
}

async fn compare(
    State(state): State<QueryState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let question: CompareQuestion = read(body, "{\"from\":…,\"to\":…,\"tenants\":[…]}")?;
    let answer = state.compare(&caller, question).await?;
    caller.visit().count(answer.tenants.len() as u64);
    Ok(Json(asked(&caller, &answer, Value::Null)))
}

/// An answer with who asked it, and the hash of its bytes: those of the member `answer` as it is written here.
fn asked(caller: &Caller, answer: &impl Serialize, cost: Value) -> Value {
    let answer = serde_json::to_value(answer).unwrap_or_default();
    let hash = ledger::Hash::of(answer.to_string().as_bytes());
    json!({"asked_by": caller.principal(), "cost": cost, "answer_sha256": hash.to_hex(), "answer": answer})
}
