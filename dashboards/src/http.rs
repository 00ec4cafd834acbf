//! The routes of what people look at.
//!
//! Not here: what the metrics are ([`crate::Metrics`]).

use crate::Metrics;
use access::Door;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

/// The routes: `GET /metrics`, in Prometheus' text form.
pub fn router(door: Door, metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(show)).with_state((door, metrics))
}

async fn show(State((door, metrics)): State<(Door, Metrics)>) -> impl IntoResponse {
    door.observe();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.text())
}
