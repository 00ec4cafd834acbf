//! The routes of evidence bundles.
//!
//! Not here: what is in one ([`super`]).

use super::BundleQuestion;
use crate::http::tenant_of;
use crate::state::QueryState;
use access::body::read;
use access::openapi::{self, Content, Operation, Parameter, json_of};
use access::{Caller, Problem, ProblemKind, Recording, Routes};
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::{Value, json};

const ZIP: &str = "application/zip";
const BUNDLE: Parameter = Parameter { name: "bundle", place: "path", what: "its id", schema: openapi::text };
const PROBLEMS: &[ProblemKind] = &[ProblemKind::NotFound, ProblemKind::Conflict, ProblemKind::Unprocessable];

const fn about(
    summary: &'static str,
    parameters: &'static [Parameter],
    body: &'static [Content],
    answer: &'static [Content],
) -> Operation {
    Operation { summary, parameters, body, answer, problems: PROBLEMS }
}

const OBJECT: &[Content] = &[json_of(openapi::object)];
const BEGIN: Operation = about(
    "make an evidence bundle: entries of a tenant with what proves them; it is made in the background",
    &[],
    &[json_of(bundle_schema)],
    OBJECT,
);
const ALL: Operation = about("the bundles of a tenant that you asked for", &[openapi::TENANT], &[], OBJECT);
const SHOW: Operation =
    about("how far a bundle is; one that was left goes on", &[openapi::TENANT, BUNDLE], &[], OBJECT);
const DROP: Operation = about("stop making a bundle, or take it away", &[openapi::TENANT, BUNDLE], &[], OBJECT);
const FETCH: Operation = about(
    "a bundle that is ready, as a zip archive",
    &[openapi::TENANT, BUNDLE],
    &[],
    &[Content { media: ZIP, schema: None }],
);

fn bundle_schema() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let counts = json!({"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}});
    let lists = json!({
        "type": "object",
        "additionalProperties": {"type": "array", "items": {"type": "integer", "minimum": 0}},
    });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["tenant", "audience"],
        "properties": {
            "tenant": openapi::tenant(), "audience": {"type": "string"}, "streams": texts,
            "from": openapi::time(), "until": openapi::time(), "where": {"type": "string"}, "region": {"type": "string"},
            "withhold": texts, "proofs": lists, "since": counts, "previous": {"type": "string"},
            "reports": texts,
        },
    })
}

/// Adds the routes.
pub fn routes(routes: Routes<QueryState>) -> Routes<QueryState> {
    routes
        .route("POST", "/v1/bundles", Recording::Each, BEGIN, post(begin))
        .route("GET", "/v1/bundles/{tenant}", Recording::Hourly, ALL, get(all))
        .route("GET", "/v1/bundles/{tenant}/{bundle}", Recording::Hourly, SHOW, get(show))
        .route("DELETE", "/v1/bundles/{tenant}/{bundle}", Recording::Each, DROP, axum::routing::delete(remove))
        .route("GET", "/v1/bundles/{tenant}/{bundle}/file", Recording::Each, FETCH, get(fetch))
}

async fn begin(
    State(state): State<QueryState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let question: BundleQuestion = read(body, "{\"tenant\":…,\"audience\":…}")?;
    Ok(Json(state.begin_bundle(&caller, question).await?))
}

async fn all(
    State(state): State<QueryState>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(state.bundles(&caller, &tenant_of(&tenant)?).await?))
}

async fn show(
    State(state): State<QueryState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(state.bundle(&caller, &tenant_of(&tenant)?, &id).await?))
}

async fn remove(
    State(state): State<QueryState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    state.drop_bundle(&caller, &tenant_of(&tenant)?, &id).await?;
    Ok(Json(json!({"id": id})))
}

async fn fetch(
    State(state): State<QueryState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let archive = state.fetch_bundle(&caller, &tenant_of(&tenant)?, &id).await?;
    let name = format!("attachment; filename=\"{tenant}-{id}.zip\"");
    let head =
        [(CONTENT_TYPE, ZIP.to_string()), (CONTENT_LENGTH, archive.bytes.to_string()), (CONTENT_DISPOSITION, name)];
    Ok((head, Body::from_stream(archive.pieces)).into_response())
}
