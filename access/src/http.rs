//! The routes of the registry: who am I, what stands in it, and changes of it.
//!
//! Not here: what a change needs ([`crate::authority`]). Invariants: one request's changes stand together or not at all;
//! a key is shown in the answer to its making and nowhere else.

use crate::caller::Caller;
use crate::door::Door;
use crate::openapi::{self, Operation, Parameter, json_of};
use crate::problem::{Problem, ProblemKind};
use crate::progress::PROGRESS;
use crate::record::Recording;
use crate::registry::change::Change;
use crate::registry::{MOST_CHANGES, Table};
use crate::routes::{Route, Routes};
use axum::Json;
use axum::Router;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Deserialize;
use serde_json::{Value, json};

const WHOAMI: Operation = Operation {
    summary: "who the credential belongs to, and what that principal may do",
    parameters: &[],
    body: &[],
    answer: &[json_of(openapi::object)],
    problems: &[],
};

const CHANGE: Operation = Operation {
    summary: "change the registry: all of the changes together, or none",
    parameters: &[],
    body: &[json_of(changes_schema)],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::Conflict, ProblemKind::Unprocessable, ProblemKind::TooLarge],
};

const TABLE: Operation = Operation {
    summary: "a table of the registry, now or as of a moment: the rows that the caller may see",
    parameters: &[
        Parameter { name: "table", place: "path", what: "which table", schema: table_schema },
        Parameter { name: "as_of", place: "query", what: "as it was then; now when left out", schema: openapi::time },
    ],
    body: &[],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound],
};

fn changes_schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<Changes>().to_value()
}

fn table_schema() -> Value {
    json!({"type": "string", "enum": Table::ALL.map(Table::name)})
}

/// The routes.
pub fn router(door: &Door) -> (Router, Vec<Route>) {
    Routes::new(door.clone())
        .route("GET", "/v1/whoami", Recording::Counted, WHOAMI, get(whoami))
        .route("GET", "/v1/progress/{name}", Recording::Counted, PROGRESS, get(progress))
        .route("POST", "/v1/registry", Recording::ByItself, CHANGE, post(change))
        .route("GET", "/v1/registry/{table}", Recording::Hourly, TABLE, get(table))
        .finish(door.clone())
}

async fn whoami(State(door): State<Door>, caller: Caller) -> Json<Value> {
    let registry = door.book().read();
    let rights: Vec<Value> = door.rights_of(&registry, &caller);
    Json(json!({
        "principal": caller.principal(),
        "kind": caller.kind(),
        "home": caller.home().map(|home| home.as_str()),
        "credential": caller.credential(),
        "rights": rights,
    }))
}

async fn progress(State(door): State<Door>, caller: Caller, Path(name): Path<String>) -> Result<Json<Value>, Problem> {
    door.ongoing().of(caller.principal(), name, door.now()).map(Json)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Changes {
    changes: Vec<Change>,
}

async fn change(
    State(door): State<Door>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = body.map_err(|e| Problem::new(ProblemKind::TooLarge, e.body_text()))?;
    let asked: Changes = serde_json::from_slice(&body).map_err(|e| {
        let detail = format!("the body is not {{\"changes\":[{{\"change\":\"tenant.create\",…}},…]}}: {e}");
        Problem::new(ProblemKind::Malformed, detail)
    })?;
    if !(1..=MOST_CHANGES).contains(&asked.changes.len()) {
        return Err(Problem::new(ProblemKind::Malformed, format!("changes must be 1 to {MOST_CHANGES}")));
    }
    if asked.changes.iter().any(Change::says_what_was_found) {
        let why = "what was found is the service's to say: open and close with POST /v1/incidents";
        return Err(Problem::new(ProblemKind::Unprocessable, why));
    }
    if asked.changes.iter().any(|change| matches!(change, Change::AskRedaction(_) | Change::ApproveRedaction(_))) {
        let why = "redactions have routes of their own, below /v1/retention/redactions: what goes is found there";
        return Err(Problem::new(ProblemKind::Unprocessable, why));
    }
    if asked.changes.iter().any(|change| matches!(change, Change::BeginPurge(_))) {
        let why = "a purge is begun by carrying out a plan: POST /v1/retention/runs";
        return Err(Problem::new(ProblemKind::Unprocessable, why));
    }
    if asked.changes.iter().any(Change::is_of_review) {
        let why = "reviews have routes of their own, below /v1/access/reviews: items are found, and what is taken is taken there";
        return Err(Problem::new(ProblemKind::Unprocessable, why));
    }
    let is_asked_again = |change: &Change| match change {
        Change::CloseIncident(fact) => {
            door.book().read().incident(&fact.id).is_some_and(|incident| incident.fact.question.is_some())
        }
        _ => false,
    };
    if asked.changes.iter().any(is_asked_again) {
        let why = "its scope is asked again when it is closed: POST /v1/incidents/{incident}/close";
        return Err(Problem::new(ProblemKind::Unprocessable, why));
    }
    let made = door.change(&caller, asked.changes).await?;
    let made: Vec<Value> = made
        .into_iter()
        .map(|one| {
            let mut shown = json!({"seq": one.seq, "made": one.change});
            if let Some(key) = one.key {
                shown["key"] = key.into();
            }
            shown
        })
        .collect();
    Ok(Json(json!({"changes": made})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableQuery {
    as_of: Option<String>,
}

async fn table(
    State(door): State<Door>,
    caller: Caller,
    Path(name): Path<String>,
    given: Result<Query<TableQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(given) = given.map_err(|e| Problem::new(ProblemKind::Malformed, e.body_text()))?;
    let Some(table) = Table::ALL.into_iter().find(|table| table.name() == name) else {
        let all: Vec<&str> = Table::ALL.iter().map(|table| table.name()).collect();
        return Err(Problem::new(ProblemKind::NotFound, format!("the registry's tables are {}", all.join(", "))));
    };
    let as_of = given.as_of.map(|text| {
        let wrong = |e| Problem::new(ProblemKind::Malformed, format!("as_of is {e}"));
        ledger::time::parse_micros(&text).map_err(wrong)
    });
    let rows = door.table(&caller, table, as_of.transpose()?).await?;
    caller.visit().count(rows.len() as u64);
    Ok(Json(json!({"columns": table.columns(), "rows": rows})).into_response())
}
