//! The route of residency reports.
//!
//! Not here: what a report says ([`super`]).

use crate::http::tenant_of;
use crate::state::QueryState;
use access::openapi::{self, Operation, json_of};
use access::{Caller, Problem, ProblemKind, Recording, Routes};
use axum::Json;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::Value;

const RESIDENCY: Operation = Operation {
    summary: "where a tenant's objects lie and its events were processed, held against its policy; signed",
    parameters: &[openapi::TENANT],
    body: &[],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound, ProblemKind::Unprocessable, ProblemKind::QueryTooExpensive],
};

/// The kind of report that is signed.
pub(crate) const REPORT: &str = "residency";

/// Adds the route.
pub fn routes(routes: Routes<QueryState>) -> Routes<QueryState> {
    routes.route("GET", "/v1/tenants/{tenant}/residency", Recording::Each, RESIDENCY, get(residency))
}

async fn residency(
    State(state): State<QueryState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let tenant = tenant_of(&name)?;
    let report = state.residency(&caller, &tenant).await?;
    caller.visit().count(report.crossings_count);
    Ok(Json(state.signed(&tenant, REPORT, &report)?))
}
