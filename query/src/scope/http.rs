//! The routes of incident scope and release comparison.
//!
//! Not here: what an answer says ([`super`]).

use super::compare::CompareQuestion;
use super::{AffectedWhen, Cost, Dimension, Misasked, ScopeQuestion};
use crate::state::QueryState;
use access::body::read;
use access::openapi::{self, Content, Operation, Parameter, json_of};
use access::registry::change::{IncidentFact, Severity};
use access::registry::names::{FactId, PrincipalId};
use access::{Caller, Problem, ProblemKind, Recording, Routes};
use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

const ANSWER: &[Content] = &[json_of(openapi::object)];
/// What a question can come to besides.
const REFUSALS: &[ProblemKind] = &[
    ProblemKind::NotFound,
    ProblemKind::Conflict,
    ProblemKind::TooLarge,
    ProblemKind::Unprocessable,
    ProblemKind::QueryTooExpensive,
];

const fn asks(summary: &'static str, parameters: &'static [Parameter], body: &'static [Content]) -> Operation {
    Operation { summary, parameters, body, answer: ANSWER, problems: REFUSALS }
}

const INCIDENT: &[Parameter] = &[Parameter { name: "incident", place: "path", what: "its id", schema: openapi::text }];

const SCOPE: Operation = asks(
    "which tenants something touched or broke, since when, and whether it is contained",
    &[],
    &[json_of(scope_schema)],
);
const OPEN: Operation =
    asks("open an incident with its scope: asked now, and kept with its heads", &[], &[json_of(open_schema)]);
const SHOW: Operation = asks("an incident with all that was found, noted and decided", INCIDENT, &[]);
const CLOSE: Operation =
    asks("close an incident: its scope is asked again, and the difference kept", INCIDENT, &[json_of(close_schema)]);
const COMPARE: Operation =
    asks("what changed from one release to another, tenant by tenant", &[], &[json_of(compare_schema)]);

fn names() -> Value {
    json!({"type": "array", "items": openapi::tenant()})
}

fn scope_schema() -> Value {
    let values = json!({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]});
    let dimensions: Map<String, Value> =
        Dimension::ALL.iter().map(|dimension| (dimension.name().to_string(), values.clone())).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "tenants": names(), "subtree": openapi::tenant(),
            "where": {"type": "object", "additionalProperties": false, "properties": dimensions},
            "since": openapi::time(), "until": openapi::time(),
            "streams": {"type": "array", "items": {"type": "string", "enum": ["audit", "telemetry", "access"]}},
            "affected_when": {"type": "string", "enum": [AffectedWhen::Touched, AffectedWhen::Failing]},
            "heads": {"type": "array", "items": {"type": "object"}},
        },
    })
}

fn open_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["title", "question"],
        "properties": {
            "title": {"type": "string"}, "severity": {"type": "string", "enum": ["low", "medium", "high", "critical"]},
            "owner": {"type": "string"}, "tenant": openapi::tenant(), "question": scope_schema(),
        },
    })
}

fn close_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["reason"],
        "properties": {"reason": {"type": "string"}},
    })
}

fn compare_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["from", "to"],
        "properties": {
            "from": {"type": "string"}, "to": {"type": "string"}, "tenants": names(), "subtree": openapi::tenant(),
            "canaries": names(), "since": openapi::time(), "until": openapi::time(),
        },
    })
}

/// Adds the routes.
pub fn routes(routes: Routes<QueryState>) -> Routes<QueryState> {
    routes
        .route("POST", "/v1/incidents/scope", Recording::Each, SCOPE, post(scope))
        .route("POST", "/v1/incidents", Recording::Each, OPEN, post(open))
        .route("GET", "/v1/incidents/{incident}", Recording::Hourly, SHOW, get(show))
        .route("POST", "/v1/incidents/{incident}/close", Recording::Each, CLOSE, post(close))
        .route("POST", "/v1/releases/compare", Recording::Each, COMPARE, post(compare))
}

impl From<Misasked> for Problem {
    fn from(wrong: Misasked) -> Self {
        Self::new(ProblemKind::Malformed, wrong.to_string())
    }
}

async fn scope(
    State(state): State<QueryState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Asked>, Problem> {
    let example = "{\"tenants\":[…],\"where\":{\"release\":…}}";
    let question: ScopeQuestion = read(body, example)?;
    let (answer, cost) = state.scope(&caller, question).await?;
    caller.visit().count(answer.tenants.len() as u64);
    asked(&caller, &answer, Some(cost))
}

async fn compare(
    State(state): State<QueryState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Asked>, Problem> {
    let question: CompareQuestion = read(body, "{\"from\":…,\"to\":…,\"tenants\":[…]}")?;
    let answer = state.compare(&caller, question).await?;
    caller.visit().count(answer.tenants.len() as u64);
    asked(&caller, &answer, None)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    title: String,
    #[serde(default)]
    severity: Severity,
    owner: Option<PrincipalId>,
    tenant: Option<String>,
    question: ScopeQuestion,
}

async fn open(
    State(state): State<QueryState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let asked: Opening = read(body, "{\"title\":…,\"severity\":…,\"question\":{…}}")?;
    let tenant = asked.tenant.map(|name| name.parse().map_err(|e: ledger::name::NameError| Misasked(e.to_string())));
    let Opening { title, severity, owner, .. } = asked;
    let (incident, question, found) = (None, None, None);
    let fact = IncidentFact { incident, tenant: tenant.transpose()?, title, severity, owner, question, found };
    let (made, answer) = state.open_incident(&caller, fact, asked.question).await?;
    Ok(Json(json!({"seq": made.seq, "made": made.change, "answer": answer})))
}

async fn show(State(state): State<QueryState>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(state.door().incident(&caller, &id_of(&id)?)?.to_json()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    reason: String,
}

async fn close(
    State(state): State<QueryState>,
    caller: Caller,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let Closing { reason } = read(body, "{\"reason\":…}")?;
    let (made, shown) = state.close_incident(&caller, id_of(&id)?, reason).await?;
    Ok(Json(json!({"seq": made.seq, "found": shown["found"], "difference": shown["difference"]})))
}

fn id_of(text: &str) -> Result<FactId, Problem> {
    text.parse().map_err(|e: access::registry::names::Malformed| Misasked(e.to_string()).into())
}

/// The hash of an answer, as it is written in one.
pub(super) fn hash_of(answer: &impl Serialize) -> String {
    ledger::Hash::of(serde_json::to_string(answer).unwrap_or_default().as_bytes()).to_hex()
}

/// An answer with who asked it, and the hash of its bytes: those of the member `answer` as it is written here.
#[derive(Serialize)]
pub(crate) struct Asked {
    asked_by: PrincipalId,
    cost: Option<Cost>,
    answer_sha256: String,
    answer: Box<RawValue>,
}

/// An answer as it is given: written once, since it may be large.
///
/// # Errors
/// It cannot be written.
pub(crate) fn asked(caller: &Caller, answer: &impl Serialize, cost: Option<Cost>) -> Result<Json<Asked>, Problem> {
    let answer =
        to_raw_value(answer).map_err(|_| Problem::new(ProblemKind::Internal, "the answer cannot be written"))?;
    let answer_sha256 = ledger::Hash::of(answer.get().as_bytes()).to_hex();
    Ok(Json(Asked { asked_by: caller.principal().clone(), cost, answer_sha256, answer }))
}
