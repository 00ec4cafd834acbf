//! The routes of what people look at.
//!
//! Not here: what the metrics are ([`crate::Metrics`]).

use crate::Metrics;
use access::openapi::{self, Operation};
use access::{Caller, Door, Problem, Recording, Route, Routes};
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

const METRICS: Operation = Operation {
    summary: "metrics in Prometheus' text form; they name no tenant",
    parameters: &[],
    body: &[],
    answer: &[openapi::TEXT],
    problems: &[],
};

/// The routes: `GET /metrics`, in Prometheus' text form.
pub fn router(door: Door, metrics: Metrics) -> (Router, Vec<Route>) {
    Routes::new(door.clone()).route("GET", "/metrics", Recording::Counted, METRICS, get(show)).finish((door, metrics))
}

async fn show(State((door, metrics)): State<(Door, Metrics)>, caller: Caller) -> Result<impl IntoResponse, Problem> {
    door.may_see_metrics(&caller)?;
    door.observe();
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.text()))
}
