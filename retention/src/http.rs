//! The routes of retention.
//!
//! Not here: what a plan is ([`crate::plan`]). Invariant: nothing goes by a route but what was planned and looked at.

use crate::run::{Order, Question, Retention};
use access::body::read;
use access::openapi::{self, Operation, json_of};
use access::{Caller, Door, Problem, ProblemKind, Recording, Route, Routes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
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

/// The routes of this crate, and the table of them.
pub fn router(retention: Retention, door: Door) -> (Router, Vec<Route>) {
    Routes::new(door)
        .route("POST", "/v1/retention/plans", Recording::Each, PLAN, post(plan))
        .route("POST", "/v1/retention/held", Recording::Each, HELD, post(held))
        .route("POST", "/v1/retention/runs", Recording::Each, RUN, post(run))
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
