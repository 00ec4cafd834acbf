//! The routes of ingest. Handlers translate: extract, one call, map.
//!
//! Not here: admission itself ([`crate::admission`]), status codes of errors (`access::problem`).
//! Invariant: a body is bounded before it is read, and before it is unpacked.

use crate::admission::{Admission, Wishes};
use crate::batch::{self, Form, Packing};
use crate::limits::IDEMPOTENCY_KEY_BYTES;
use crate::wire;
use access::openapi::{self, Content, Operation, Parameter, json_of};
use access::{Caller, Problem, ProblemKind, Recording, Route, Routes};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures::StreamExt as _;
use ledger::name::{NameError, StreamKind, TenantId};
use ledger::tree::Hash;
use serde::Deserialize;
use serde_json::{Value, json};

const ATOMIC: Parameter =
    Parameter { name: "atomic", place: "query", what: "all of the events, or none", schema: truth_schema };
const KEY: Parameter = Parameter {
    name: "Idempotency-Key",
    place: "header",
    what: "a repeat of the same body with the same key gets the same answer",
    schema: key_schema,
};
const BODY: &[Content] = &[
    Content { media: "application/x-ndjson", schema: None },
    Content { media: "application/json", schema: Some(events_schema) },
];
const PROBLEMS: &[ProblemKind] = &[
    ProblemKind::NotFound,
    ProblemKind::Conflict,
    ProblemKind::TooLarge,
    ProblemKind::UnsupportedMedia,
    ProblemKind::Unprocessable,
];

const OF_ANY: Operation = Operation {
    summary: "append events; each names its tenant",
    parameters: &[ATOMIC, KEY],
    body: BODY,
    answer: &[json_of(answer_schema)],
    problems: PROBLEMS,
};

const OF_STREAM: Operation = Operation {
    summary: "append events to one stream",
    parameters: &[openapi::TENANT, openapi::STREAM, ATOMIC, KEY],
    body: BODY,
    answer: &[json_of(answer_schema)],
    problems: PROBLEMS,
};

fn truth_schema() -> Value {
    json!({"type": "boolean"})
}

fn key_schema() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_BYTES, "pattern": "^[!-~]+$"})
}

/// Events as they come: the fields by their names on the wire.
fn events_schema() -> Value {
    let event = wire::schema();
    json!({"oneOf": [{"type": "array", "minItems": 1, "items": event.clone()}, event]})
}

fn answer_schema() -> Value {
    let result = json!({
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"type": "string", "enum": ["accepted", "duplicate", "conflict", "rejected"]},
            "tenant": openapi::tenant(),
            "stream": openapi::stream(),
            "seq": openapi::count(),
            "field": {"type": "string"},
            "reason": {"type": "string"},
            "retry_after": openapi::count(),
        },
    });
    json!({
        "type": "object",
        "required": ["accepted", "duplicates", "conflicts", "rejected", "results", "receipt"],
        "properties": {
            "accepted": openapi::count(),
            "duplicates": openapi::count(),
            "conflicts": openapi::count(),
            "rejected": openapi::count(),
            "results": {"type": "array", "items": result},
            "receipt": {"type": ["string", "null"]},
            "receipts": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    })
}

/// The routes.
pub fn router(admission: Admission) -> (Router, Vec<Route>) {
    Routes::new(admission.door().clone())
        .route("POST", "/v1/events", Recording::Hourly, OF_ANY, post(events_of_any))
        .route("POST", "/v1/tenants/{tenant}/{stream}/events", Recording::Hourly, OF_STREAM, post(events_of_stream))
        .finish(admission)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(default)]
    atomic: bool,
}

type Parsed<T> = Result<T, axum::extract::rejection::QueryRejection>;

fn malformed(error: &NameError) -> Problem {
    Problem::new(ProblemKind::Malformed, error.to_string())
}

async fn events_of_any(
    State(admission): State<Admission>,
    caller: Caller,
    parameters: Parsed<Query<Parameters>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    take_in(&admission, &caller, None, parameters, &headers, body).await
}

async fn events_of_stream(
    State(admission): State<Admission>,
    caller: Caller,
    Path((tenant, stream)): Path<(String, String)>,
    parameters: Parsed<Query<Parameters>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let tenant: TenantId = tenant.parse().map_err(|error| malformed(&error))?;
    let stream: StreamKind = stream.parse().map_err(|error| malformed(&error))?;
    if !stream.is_writable_by_services() {
        let detail = format!("stream {stream} is written by Piperoll alone; services write audit and telemetry");
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    take_in(&admission, &caller, Some((&tenant, stream)), parameters, &headers, body).await
}

async fn take_in(
    admission: &Admission,
    caller: &Caller,
    address: Option<(&TenantId, StreamKind)>,
    parameters: Parsed<Query<Parameters>>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let limits = admission.limits();
    let body = read_body(headers, body, limits.body_bytes).await?;
    let Query(parameters) = parameters
        .map_err(|_| Problem::new(ProblemKind::Malformed, "the only parameter is atomic=true or atomic=false"))?;
    let form = Form::of(text_of(headers, header::CONTENT_TYPE)?)?;
    let packing = Packing::of(text_of(headers, header::CONTENT_ENCODING)?)?;
    let body = batch::unpack(body, packing, limits)?;
    let events = batch::cut(&body, form, limits)?;
    let key = idempotency_key(headers)?;
    let hash = if key.is_some() { body_hash(address, &parameters, &body) } else { Hash([0; 32]) };
    let wishes = Wishes { atomic: parameters.atomic, key };
    let admitted = admission.admit(caller, &events, address, wishes, hash).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], admitted.to_json()).into_response())
}

/// Reads a body within its bound. What comes beyond is read past for a while and dropped: a caller that is still
/// writing sees the answer, and not a broken connection.
async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let mut pieces = body.into_data_stream();
    // What is only announced costs addresses and no memory, and no more of them than the bound.
    let (mut out, mut total) = (Vec::with_capacity(announced.unwrap_or_default().min(limit)), 0usize);
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Problem::new(ProblemKind::Malformed, "the body broke off"))?;
        total += piece.len();
        if total > 4 * limit {
            break;
        }
        if total <= limit {
            out.extend_from_slice(&piece);
        }
    }
    if total > limit { Err(batch::too_large("body", limit)) } else { Ok(out.into()) }
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let text = headers.get(&name).map(|value| value.to_str()).transpose();
    text.map_err(|_| Problem::new(ProblemKind::Malformed, format!("the header {name} is not plain text")))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(key) = text_of(headers, HeaderName::from_static("idempotency-key"))? else { return Ok(None) };
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES {
        return Err(Problem::new(ProblemKind::Malformed, "Idempotency-Key must have 1 to 128 characters"));
    }
    Ok(Some(key.into()))
}

/// A key stands for a body sent to one address with the same wishes.
fn body_hash(address: Option<(&TenantId, StreamKind)>, parameters: &Parameters, body: &[u8]) -> Hash {
    let address = address.map_or(String::new(), |(tenant, kind)| format!("{tenant}/{kind}"));
    let context = format!("{address}\n{}\n", parameters.atomic);
    Hash::of(&[context.as_bytes(), Hash::of(body).as_bytes()].concat())
}
