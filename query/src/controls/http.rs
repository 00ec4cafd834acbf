//! The routes of the control map and its report.
//!
//! Not here: what a report says ([`super`]).

use super::ControlQuestion;
use crate::http::tenant_of;
use crate::state::QueryState;
use access::body::read;
use access::openapi::{self, Operation, json_of};
use access::{Caller, Problem, ProblemKind, Recording, Routes};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::{Value, json};

/// The kind of report that is signed.
pub(crate) const REPORT: &str = "controls";

const MAP: Operation = Operation {
    summary: "which questions and artefacts satisfy which control, as this service's map has it",
    parameters: &[],
    body: &[],
    answer: &[json_of(openapi::object)],
    problems: &[],
};

const ASK: Operation = Operation {
    summary: "how a framework's controls stand for a tenant: what satisfies them, how fresh it is, what is missing; signed",
    parameters: &[],
    body: &[json_of(question_schema)],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound, ProblemKind::Unprocessable],
};

fn question_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["tenant"],
        "properties": {
            "tenant": openapi::tenant(), "framework": {"type": "string"}, "from": openapi::time(), "until": openapi::time(),
        },
    })
}

/// Adds the routes.
pub fn routes(routes: Routes<QueryState>) -> Routes<QueryState> {
    routes.route("GET", "/v1/controls", Recording::Counted, MAP, get(map)).route(
        "POST",
        "/v1/controls/reports",
        Recording::Each,
        ASK,
        post(ask),
    )
}

async fn map(State(state): State<QueryState>, _caller: Caller) -> Json<Value> {
    let map = state.controls();
    Json(json!({"frameworks": map.frameworks(), "controls": map.controls, "evidence": map.evidence}))
}

async fn ask(
    State(state): State<QueryState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let question: ControlQuestion = read(body, "{\"tenant\":…,\"framework\":…}")?;
    let tenant = tenant_of(&question.tenant)?;
    let report = state.control_report(&caller, question).await?;
    caller.visit().count(report.evidence.iter().map(|found| found.rows).sum());
    Ok(Json(state.signed(&tenant, REPORT, &report)?))
}
