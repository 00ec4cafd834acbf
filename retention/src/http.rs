//! The routes of retention.
//!
//! Not here: what a plan is ([`crate::plan`]). Invariant: nothing goes by a route but what was planned and looked at.

use crate::run::{Order, Question, Retention};
use crate::subjects::SubjectQuestion;
use access::body::read;
use access::openapi::{self, Content, Operation, Parameter, json_of};
use access::registry::names::FactId;
use access::{Caller, Door, Problem, ProblemKind, Recording, Route, Routes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

fn question_schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false,
        "properties": {"tenants": {"type": "array", "items": openapi::tenant()}, "as_of": openapi::time()},
    })
}

fn order_schema() -> Value {
    let mut schema = question_schema();
    schema["properties"]["plan"] = json!({"type": "string", "description": "SHA-256 of the plan, in hexadecimal"});
    schema["required"] = json!(["plan", "as_of"]);
    schema
}

const PLAN: Operation = Operation {
    summary: "what goes and what stays of streams, and why; nothing is changed",
    parameters: &[],
    body: &[json_of(question_schema)],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound, ProblemKind::TooLarge, ProblemKind::Unprocessable],
};

const HELD: Operation = Operation {
    summary: "what is under hold, by hold and stream: how many entries and bytes, and which",
    parameters: &[],
    body: &[json_of(question_schema)],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound, ProblemKind::TooLarge, ProblemKind::Unprocessable],
};

const RUN: Operation = Operation {
    summary: "carries out a plan, named by its SHA-256, if it is still what it was",
    parameters: &[],
    body: &[json_of(order_schema)],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound, ProblemKind::Conflict, ProblemKind::TooLarge, ProblemKind::Unprocessable],
};

fn subject_schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["tenant", "identifiers"],
        "properties": {
            "tenant": openapi::tenant(), "from": openapi::time(), "until": openapi::time(),
            "identifiers": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 50},
            "streams": {"type": "array", "items": {"enum": ["audit", "telemetry", "access"]}},
            "sections": {"type": "array", "items": {"enum": ["actor", "subject", "scope", "origin", "details"]}},
        },
    })
}

fn asking_schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["question", "plan", "basis", "reason"],
        "properties": {
            "question": subject_schema(), "basis": {"type": "string"}, "reason": {"type": "string"},
            "plan": {"type": "string", "description": "SHA-256 of the plan, in hexadecimal"},
        },
    })
}

fn reason_schema() -> Value {
    json!({
        "type": "object", "additionalProperties": false, "required": ["reason"],
        "properties": {"reason": {"type": "string"}},
    })
}

const SUBJECT_PROBLEMS: &[ProblemKind] = &[ProblemKind::NotFound, ProblemKind::TooLarge, ProblemKind::Unprocessable];

const PLAN_REDACTION: Operation = Operation {
    summary: "where a person is named, what would be redacted of it, what stays and why; nothing is changed",
    parameters: &[],
    body: &[json_of(subject_schema)],
    answer: &[json_of(openapi::object)],
    problems: SUBJECT_PROBLEMS,
};

const EXPORT_SUBJECT: Operation = Operation {
    summary: "every entry in which a person is named, one JSON object a line",
    parameters: &[],
    body: &[json_of(subject_schema)],
    answer: &[Content { media: "application/x-ndjson", schema: None }],
    problems: SUBJECT_PROBLEMS,
};

const ASK_REDACTION: Operation = Operation {
    summary: "asks for a redaction that was planned, named by its SHA-256; somebody else agrees to it",
    parameters: &[],
    body: &[json_of(asking_schema)],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound, ProblemKind::Conflict, ProblemKind::TooLarge, ProblemKind::Unprocessable],
};

const REDACTION: Parameter = Parameter { name: "redaction", place: "path", what: "its id", schema: openapi::text };

const SHOW_REDACTION: Operation = Operation {
    summary: "what a redaction takes, by stream, sections and ranges of sequence numbers",
    parameters: &[REDACTION],
    body: &[],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound, ProblemKind::Unprocessable],
};

const APPROVE_REDACTION: Operation = Operation {
    summary: "agrees to a redaction that somebody else asked for, and carries it out",
    parameters: &[REDACTION],
    body: &[json_of(reason_schema)],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound, ProblemKind::Conflict, ProblemKind::TooLarge, ProblemKind::Unprocessable],
};

/// The routes of this crate, and the table of them.
pub fn router(retention: Retention, door: Door) -> (Router, Vec<Route>) {
    Routes::new(door)
        .route("POST", "/v1/retention/plans", Recording::Each, PLAN, post(plan))
        .route("POST", "/v1/retention/held", Recording::Each, HELD, post(held))
        .route("POST", "/v1/retention/runs", Recording::Each, RUN, post(run))
        .route("POST", "/v1/retention/subjects/export", Recording::Each, EXPORT_SUBJECT, post(export_subject))
        .route("POST", "/v1/retention/redactions/plans", Recording::Each, PLAN_REDACTION, post(plan_redaction))
        .route("POST", "/v1/retention/redactions", Recording::Each, ASK_REDACTION, post(ask_redaction))
        .route("GET", "/v1/retention/redactions/{redaction}", Recording::Each, SHOW_REDACTION, get(show_redaction))
        .route(
            "POST",
            "/v1/retention/redactions/{redaction}/approval",
            Recording::Each,
            APPROVE_REDACTION,
            post(approve_redaction),
        )
        .finish(retention)
}

async fn plan(
    State(retention): State<Retention>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let question: Question = read(body, "{\"tenants\":[…],\"as_of\":…}")?;
    let plan = retention.plan(&caller, &question).await?;
    caller.visit().count(plan.streams.len() as u64);
    Ok(Json(json!({"sha256": plan.sha256().to_hex(), "plan": plan})))
}

async fn held(
    State(retention): State<Retention>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let question: Question = read(body, "{\"tenants\":[…]}")?;
    if question.as_of.is_some() {
        return Err(Problem::new(ProblemKind::Unprocessable, "as_of: what is held is said as of now"));
    }
    let held = retention.held(&caller, &question).await?;
    caller.visit().count(held.len() as u64);
    Ok(Json(json!({"held": held})))
}

async fn run(
    State(retention): State<Retention>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let order: Order = read(body, "{\"plan\":…,\"as_of\":…,\"tenants\":[…]}")?;
    let report = retention.run(&caller, &order).await?;
    caller.visit().count(report.entries);
    Ok(Json(json!(report)))
}

/// What is asked for, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asking {
    question: SubjectQuestion,
    plan: String,
    basis: String,
    reason: String,
}

/// Why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    reason: String,
}

const SUBJECT: &str = "{\"tenant\":…,\"identifiers\":[…]}";

async fn export_subject(
    State(retention): State<Retention>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let question: SubjectQuestion = read(body, SUBJECT)?;
    let (count, lines) = retention.export_subject(&caller, &question).await?;
    caller.visit().count(count);
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], lines).into_response())
}

async fn plan_redaction(
    State(retention): State<Retention>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let question: SubjectQuestion = read(body, SUBJECT)?;
    let plan = retention.plan_redaction(&caller, &question).await?;
    caller.visit().count(plan.found);
    Ok(Json(json!({"sha256": plan.sha256().to_hex(), "plan": plan})))
}

async fn ask_redaction(
    State(retention): State<Retention>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let Asking { question, plan, basis, reason } =
        read(body, "{\"question\":{…},\"plan\":…,\"basis\":…,\"reason\":…}")?;
    let id = retention.ask_redaction(&caller, &question, (&plan, &basis, &reason)).await?;
    caller.visit().count(1);
    Ok(Json(json!({"redaction": id.as_str()})))
}

fn id_of(id: &str) -> Result<FactId, Problem> {
    id.parse().map_err(|_| Problem::new(ProblemKind::NotFound, "there is no such redaction"))
}

async fn show_redaction(
    State(retention): State<Retention>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let fact = retention.redaction(&caller, &id_of(&id)?)?;
    caller.visit().count(1);
    Ok(Json(json!(fact)))
}

async fn approve_redaction(
    State(retention): State<Retention>,
    caller: Caller,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let Reason { reason } = read(body, "{\"reason\":…}")?;
    let report = retention.approve_redaction(&caller, &id_of(&id)?, &reason).await?;
    caller.visit().count(report.entries);
    Ok(Json(json!(report)))
}
