//! The routes of jobs.
//!
//! Not here: running ([`super::running`]). Invariant: whoever runs a job by hand needs the right to what it does.

use super::Jobs;
use access::openapi::{self, Operation, Parameter, json_of};
use access::{Action, Caller, Door, Problem, ProblemKind, Recording, Route, Routes};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

const JOBS: Operation = Operation {
    summary: "the service's jobs: when each is due, and what became of its newest run",
    parameters: &[],
    body: &[],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound],
};

const RUN: Operation = Operation {
    summary: "runs a job now, and answers when it is done",
    parameters: &[Parameter { name: "job", place: "path", what: "which job", schema: openapi::text }],
    body: &[],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound, ProblemKind::Conflict],
};

/// The routes, and the table of them.
pub fn router(jobs: Jobs, door: Door) -> (Router, Vec<Route>) {
    Routes::new(door)
        .route("GET", "/v1/jobs", Recording::Hourly, JOBS, get(list))
        .route("POST", "/v1/jobs/{job}/runs", Recording::Each, RUN, post(run))
        .finish(jobs)
}

async fn list(State(jobs): State<Jobs>, caller: Caller) -> Result<Json<Value>, Problem> {
    jobs.0.door.may_with_jobs(&caller, Action::ReadJobs)?;
    let list = jobs.list();
    caller.visit().count(list.len() as u64);
    Ok(Json(json!({"jobs": list})))
}

async fn run(State(jobs): State<Jobs>, caller: Caller, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    caller.visit().note("job", name.as_str());
    Ok(Json(json!(jobs.run(&caller, &name).await?)))
}
