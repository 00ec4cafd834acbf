//! The routes of access reviews.
//!
//! Not here: what an answer says ([`super`]).

use super::AccessQuestion;
use crate::scope::{asked, read};
use crate::state::QueryState;
use access::openapi::{self, Content, Operation, json_of};
use access::{Caller, Problem, ProblemKind, Recording, Routes};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::routing::post;
use bytes::Bytes;
use serde_json::{Value, json};

const ANSWER: &[Content] = &[json_of(openapi::object)];
/// What a question can come to besides.
const REFUSALS: &[ProblemKind] = &[
    ProblemKind::NotFound,
    ProblemKind::Conflict,
    ProblemKind::TooLarge,
    ProblemKind::Unprocessable,
    ProblemKind::QueryTooExpensive,
];

const ENTITLEMENTS: Operation = Operation {
    summary: "who has access to what, since when, approved by whom, how it is used, and what is wrong with it",
    parameters: &[],
    body: &[json_of(question_schema)],
    answer: ANSWER,
    problems: REFUSALS,
};

const CHANGES: Operation = Operation {
    summary: "who came, who went and who changed roles from one snapshot to the next, and whether events say the same",
    ..ENTITLEMENTS
};

fn question_schema() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "tenants": {"type": "array", "items": openapi::tenant()}, "subtree": openapi::tenant(),
            "as_of": openapi::time(), "since": openapi::time(),
            "sources": texts, "subjects": texts, "roles": texts, "targets": texts,
            "rules": {"type": "object"}, "heads": {"type": "array", "items": {"type": "object"}},
        },
    })
}

/// Adds the routes.
pub fn routes(routes: Routes<QueryState>) -> Routes<QueryState> {
    routes.route("POST", "/v1/access/entitlements", Recording::Each, ENTITLEMENTS, post(entitlements)).route(
        "POST",
        "/v1/access/changes",
        Recording::Each,
        CHANGES,
        post(changes),
    )
}

async fn entitlements(
    State(state): State<QueryState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let question: AccessQuestion = read(body, "{\"tenants\":[…],\"as_of\":…}")?;
    let (answer, cost) = state.entitlements(&caller, question).await?;
    caller.visit().count(answer.entitlements.len() as u64);
    Ok(Json(asked(&caller, &answer, json!(cost))))
}

async fn changes(
    State(state): State<QueryState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let question: AccessQuestion = read(body, "{\"tenants\":[…],\"since\":…}")?;
    let answer = state.access_changes(&caller, question).await?;
    caller.visit().count(answer.steps.len() as u64);
    Ok(Json(asked(&caller, &answer, Value::Null)))
}
