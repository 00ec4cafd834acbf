//! The routes of access reviews.
//!
//! Not here: what an answer says ([`super`]).

use super::AccessQuestion;
use super::campaign::{Deciding, Page};
use crate::scope::{Asked, Misasked, asked};
use crate::state::QueryState;
use access::body::read;
use access::openapi::{self, Content, Operation, Parameter, json_of};
use access::registry::change::{ReviewFact, ReviewerRule, Verdict};
use access::registry::names::{FactId, Malformed, PrincipalId, When};
use access::{Caller, Problem, ProblemKind, Recording, Routes};
use axum::Json;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use bytes::Bytes;
use ledger::TenantId;
use serde::Deserialize;
use serde_json::{Value, json};

/// The kind of report that is signed.
const KIND: &str = "access-review";
const ANSWER: &[Content] = &[json_of(openapi::object)];
/// What a question can come to besides.
const REFUSALS: &[ProblemKind] = &[
    ProblemKind::NotFound,
    ProblemKind::Conflict,
    ProblemKind::TooLarge,
    ProblemKind::Unprocessable,
    ProblemKind::QueryTooExpensive,
];

const ENTITLEMENTS: Operation = Operation {
    summary: "who has access to what, since when, approved by whom, how it is used, and what is wrong with it",
    parameters: &[],
    body: &[json_of(question_schema)],
    answer: ANSWER,
    problems: REFUSALS,
};

const CHANGES: Operation = Operation {
    summary: "who came, who went and who changed roles from one snapshot to the next, and whether events say the same",
    ..ENTITLEMENTS
};

const REVIEW: &[Parameter] = &[Parameter { name: "review", place: "path", what: "its id", schema: openapi::text }];
const ITEMS: &[Parameter] = &[
    REVIEW[0],
    Parameter {
        name: "from",
        place: "query",
        what: "the number of the first item; 0 when left out",
        schema: openapi::text,
    },
    Parameter { name: "limit", place: "query", what: "1 to 5,000; 200 when left out", schema: openapi::text },
    Parameter { name: "mine", place: "query", what: "true: only what is yours to decide on", schema: openapi::text },
    Parameter { name: "open", place: "query", what: "true: only what nothing is decided on", schema: openapi::text },
];

const fn of_review(summary: &'static str, parameters: &'static [Parameter], body: &'static [Content]) -> Operation {
    Operation { summary, parameters, body, answer: ANSWER, problems: REFUSALS }
}

const OPEN: Operation = of_review(
    "open a review: who has what now is frozen, and each item gets somebody to decide on it",
    &[],
    &[json_of(open_schema)],
);
const SHOW: Operation = of_review("how a review stands", REVIEW, &[]);
const PAGE: Operation = of_review("items of a review, with what was decided on them", ITEMS, &[]);
const DECIDE: Operation = of_review(
    "decide on items: without covers it is shown what that would cover, with it decided",
    REVIEW,
    &[json_of(decide_schema)],
);
const CLOSE: Operation = of_review("close a review with its report, which is signed", REVIEW, &[json_of(close_schema)]);
const REPORT: Operation = of_review("what a review came to, or comes to so far; signed", REVIEW, &[]);

fn open_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["title", "due_at", "question"],
        "properties": {
            "title": {"type": "string"}, "due_at": openapi::time(), "question": question_schema(),
            "tenant": openapi::tenant(), "owner": {"type": "string"}, "escalate_to": {"type": "string"},
            "reviewers": {"type": "array"}, "remind_days": {"type": "array", "items": {"type": "integer"}},
        },
    })
}

fn decide_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["decision", "reason"],
        "properties": {
            "select": {"type": "object"}, "decision": {"type": "string", "enum": Verdict::ALL}, "reason": {"type": "string"},
            "delegate": {"type": "string"}, "to": {}, "covers": {"type": "string"},
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

fn question_schema() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "tenants": {"type": "array", "items": openapi::tenant()}, "subtree": openapi::tenant(),
            "as_of": openapi::time(), "since": openapi::time(),
            "sources": texts, "subjects": texts, "roles": texts, "targets": texts,
            "rules": {"type": "object"}, "heads": {"type": "array", "items": {"type": "object"}},
        },
    })
}

/// Adds the routes.
pub fn routes(routes: Routes<QueryState>) -> Routes<QueryState> {
    routes
        .route("POST", "/v1/access/entitlements", Recording::Each, ENTITLEMENTS, post(entitlements))
        .route("POST", "/v1/access/changes", Recording::Each, CHANGES, post(changes))
        .route("POST", "/v1/access/reviews", Recording::Each, OPEN, post(open))
        .route("GET", "/v1/access/reviews/{review}", Recording::Hourly, SHOW, get(show))
        .route("GET", "/v1/access/reviews/{review}/items", Recording::Hourly, PAGE, get(items))
        .route("POST", "/v1/access/reviews/{review}/decisions", Recording::Each, DECIDE, post(decide))
        .route("POST", "/v1/access/reviews/{review}/close", Recording::Each, CLOSE, post(close))
        .route("GET", "/v1/access/reviews/{review}/report", Recording::Hourly, REPORT, get(report))
}

async fn entitlements(
    State(state): State<QueryState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Asked>, Problem> {
    let question: AccessQuestion = read(body, "{\"tenants\":[…],\"as_of\":…}")?;
    let (answer, cost) = state.entitlements(&caller, question).await?;
    caller.visit().count(answer.entitlements.len() as u64);
    asked(&caller, &answer, Some(cost))
}

async fn changes(
    State(state): State<QueryState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Asked>, Problem> {
    let question: AccessQuestion = read(body, "{\"tenants\":[…],\"since\":…}")?;
    let answer = state.access_changes(&caller, question).await?;
    caller.visit().count(answer.steps.len() as u64);
    asked(&caller, &answer, None)
}

/// A review as it is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Opening {
    title: String,
    due_at: When,
    question: AccessQuestion,
    tenant: Option<String>,
    owner: Option<PrincipalId>,
    #[serde(default)]
    reviewers: Vec<ReviewerRule>,
    escalate_to: Option<PrincipalId>,
    remind_days: Option<Vec<u32>>,
}

async fn open(
    State(state): State<QueryState>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let asked: Opening = read(body, "{\"title\":…,\"due_at\":…,\"question\":{…}}")?;
    let tenant = asked.tenant.map(|name| name.parse().map_err(|e: ledger::name::NameError| Misasked(e.to_string())));
    let Opening { title, due_at, owner, reviewers, escalate_to, remind_days, .. } = asked;
    let (review, question, heads_sha256, items, items_sha256) = (None, None, None, None, None);
    let tenant: Option<TenantId> = tenant.transpose()?;
    let fact = ReviewFact {
        review,
        tenant,
        title,
        owner,
        reviewers,
        due_at,
        remind_days,
        escalate_to,
        question,
        heads_sha256,
        items,
        items_sha256,
    };
    let (made, shown) = state.open_review(&caller, fact, asked.question).await?;
    caller.visit().count(shown["items"].as_u64().unwrap_or_default());
    Ok(Json(json!({"seq": made.seq, "made": made.change, "found": shown})))
}

async fn show(State(state): State<QueryState>, caller: Caller, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(state.review_shown(&caller, &id_of(&id)?)?))
}

async fn items(
    State(state): State<QueryState>,
    caller: Caller,
    Path(id): Path<String>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(page) = page.map_err(|e| Misasked(e.body_text()))?;
    Ok(Json(state.review_items(&caller, &id_of(&id)?, &page)?))
}

async fn decide(
    State(state): State<QueryState>,
    caller: Caller,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Problem> {
    let asked: Deciding = read(body, "{\"select\":{…},\"decision\":…,\"reason\":…}")?;
    Ok(Json(state.decide_review(&caller, &id_of(&id)?, asked).await?))
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
    let (made, report) = state.close_review(&caller, id_of(&id)?, reason).await?;
    let home = state.door().review(&caller, &id_of(&id)?)?.0.home();
    let mut shown = state.signed(&home, KIND, &report)?;
    shown["seq"] = made.seq.into();
    Ok(Json(shown))
}

async fn report(
    State(state): State<QueryState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let (home, report) = state.review_report(&caller, &id_of(&id)?)?;
    Ok(Json(state.signed(&home, KIND, &report)?))
}

fn id_of(text: &str) -> Result<FactId, Problem> {
    text.parse().map_err(|e: Malformed| Misasked(e.to_string()).into())
}
